"""What is trained of a model, and how fast: frozen layers, LoRA, and the decay of the learning rate by layer."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.training.fine_tuning import add_lora, freeze, layer_scales, lora_layers, rematerialize

SHAPE = (12, 20, 3)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (5, *SHAPE)).astype("float32")
CLASSES = np.array([3, 0, 6, 1, 1])
FAMILIES = {
    "DINOv3": {"rotary": keras_vit.Rotary(), "positions": "none", "register_tokens": 2, "layer_scale": 0.5},
    "EVA-02": {"rotary": keras_vit.Rotary(1e4, (4, 4)), "pooling": "gap", "class_token": True, "norm_at": "pooled"},
    "BEiT": {"relative_bias": True, "pooling": "gap", "class_token": True, "norm_at": "pooled"},
    "PE spatial": {"pre_norm": True, "pooling": "gap", "class_token": True, "norm_at": "none"},
}


@pytest.fixture(params=FAMILIES)
def model(request):
    keras.utils.set_random_seed(0)
    row = keras_vit.Variant(4, 8, 2, 2, 11, **FAMILIES[request.param])
    model = keras_vit.build(row, input_shape=SHAPE, classes=7, classifier_activation=None)
    draw = np.random.default_rng(1)
    model.set_weights([weight + draw.normal(0, 0.2, weight.shape) for weight in model.get_weights()])
    return model


def step(model):
    """Trains a step, and returns {path: change of the weight}."""
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    model.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
    )
    model.train_on_batch(IMAGES, CLASSES)
    return {weight.path: keras.ops.convert_to_numpy(weight) - before[weight.path] for weight in model.weights}


def test_frozen_to_the_last_norm_the_head_alone_is_trained(model):
    freeze(model, "norm")
    assert {path for path, change in step(model).items() if change.any()} == {"head/kernel", "head/bias"}


def test_lora_trains_the_factors_and_the_head(model):
    add_lora(model, 2)
    assert len(lora_layers(model)) == 4
    moved = {path for path, change in step(model).items() if change.any()}
    assert moved == {"head/kernel", "head/bias", *(layer.lora_kernel_b.path for layer in lora_layers(model))}


def test_the_learning_rate_falls_with_the_depth(model):
    scales = layer_scales(model, 0.5)
    assert scales.keys() == {weight.path for weight in model.trainable_weights}
    expected = {"block_01": 0.5, "block_00": 0.25, "encoder": 0.125, "patches": 0.125, "pre_norm": 0.125}
    for path, scale in scales.items():
        assert scale == expected.get(path.split("/")[0], 1), path


def test_a_block_that_is_computed_again_has_the_same_gradients(model):
    start = model.get_weights()
    plain = step(model)
    model.set_weights(start)
    rematerialize(model)
    for path, change in step(model).items():
        np.testing.assert_allclose(change, plain[path], atol=1e-6, err_msg=path)
        assert change.any() or "/key/bias" in path, path  # which no softmax shows
