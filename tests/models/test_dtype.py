"""Models whose weights and values are loaded in 16 bits."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_vit
from keras_vit.commands.predict import predict
from keras_vit.evaluation import extract_features
from keras_vit.models.interface import in_dtype

TINY, SHAPE = keras_vit.Variant(5, 12, 2, 2, 28), (10, 15, 3)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, *SHAPE)).astype("float32")
KINDS = {
    "token": {},
    "map": {"pooling": "map"},
    "distillation": {"pooling": "token+distillation", "distillation_token": True},
    "swiglu": {"swiglu": True, "layer_scale": 0.1, "register_tokens": 3},
}


def model_of(kind="token", classes=7):
    keras.utils.set_random_seed(0)
    model = keras_vit.build(TINY, input_shape=SHAPE, classes=classes, classifier_activation=None, **KINDS[kind])
    for weight in model.get_layer("head").weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    return model


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_model_that_the_policy_builds(kind, dtype, policy, tmp_path):
    model = model_of(kind)
    model.save(tmp_path / "model.keras")
    loaded = keras_vit.load(tmp_path / "model.keras", dtype=dtype, classifier_activation=None)
    policy(dtype)
    built = model_of(kind)
    built.set_weights(model.get_weights())
    assert [weight.dtype for weight in loaded.weights] == [weight.dtype for weight in built.weights]
    assert [layer.compute_dtype for layer in loaded.layers[1:]] == [layer.compute_dtype for layer in built.layers[1:]]
    assert {weight.dtype for weight in loaded.get_layer("head").weights} == {"float32"}
    logits = loaded(IMAGES)
    np.testing.assert_array_equal(logits, built(IMAGES))
    error = {"bfloat16": 2**-8, "float16": 2**-11}[dtype]  # of one rounding; the blocks add up a few of them
    np.testing.assert_allclose(logits, model(IMAGES), atol=8 * error * np.abs(np.asarray(model(IMAGES))).max())


def test_a_checkpoint_is_loaded_in_bfloat16_and_saved_again(tmp_path):
    keras_vit.save_checkpoint(model_of(), tmp_path / "one.npz")
    loaded = keras_vit.load(tmp_path / "one.npz", input_shape=SHAPE, dtype="bfloat16")
    assert {weight.dtype for weight in loaded.get_layer("block_01").weights} == {"bfloat16"}
    loaded.save(tmp_path / "two.keras")
    again = keras_vit.load(tmp_path / "two.keras")
    assert [weight.dtype for weight in again.weights] == [weight.dtype for weight in loaded.weights]
    np.testing.assert_array_equal(again(IMAGES), loaded(IMAGES))
    back = keras_vit.load(tmp_path / "two.keras", dtype="float32")
    for new, old in zip(back.get_weights(), loaded.get_weights()):
        assert new.dtype == np.float32
        np.testing.assert_array_equal(new, old.astype(np.float32))


def test_a_model_around_ours_keeps_its_names_and_its_head_in_float32():
    vit = keras_vit.build(TINY, include_top=False, pooling="token", input_shape=SHAPE)
    outputs = layers.Softmax(dtype="float32")(layers.Dense(2, name="classes")(vit.output))
    model = keras_vit.VisionModel(vit.input, outputs, pixels="imagenet", class_names=["cat", "dog"])
    loaded = in_dtype(model, "bfloat16")
    assert (loaded.class_names, loaded.pixels) == (model.class_names, model.pixels)
    assert loaded.get_layer("classes").compute_dtype == "float32"


def test_features_are_float32_numbers():
    vit = in_dtype(keras_vit.build(TINY, include_top=False, pooling="token", input_shape=SHAPE), "bfloat16")
    features, _ = extract_features(vit, [(IMAGES, np.arange(3))])
    assert features.dtype == np.float32 and features.shape == (3, 12)


def test_predict_computes_in_the_dtype(tmp_path):
    model_of(classes=3).save(tmp_path / "model.keras")
    keras.utils.save_img(tmp_path / "image.png", IMAGES[0])
    (full,), (half,) = (
        predict(tmp_path / "model.keras", [tmp_path / "image.png"], outputs="logits", dtype=dtype)
        for dtype in (None, "bfloat16")
    )
    assert dict(half).keys() == dict(full).keys()
    differences = [abs(dict(half)[name] - value) for name, value in full]
    assert 0 < max(differences) < 0.05


def test_what_cannot_change_its_dtype_is_refused(tmp_path):
    model = model_of()
    for name in ("block_00", "block_01"):
        model.get_layer(name).mlp.hidden.quantize("int8")
    with pytest.raises(ValueError, match="quantization.*dtype='bfloat16'"):
        in_dtype(model, "bfloat16")
    with pytest.raises(ValueError, match="dtype='int8'"):
        keras_vit.load(tmp_path / "none.npz", dtype="int8")
    (tmp_path / "model.tflite").write_bytes(b"")
    with pytest.raises(ValueError, match="dtype"):
        predict(tmp_path / "model.tflite", [], dtype="bfloat16")
