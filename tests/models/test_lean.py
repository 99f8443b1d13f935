"""What a `LeanModel` does not compute: the tokens of the last block that the head does not read."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import layers
from keras_vit.evaluation import cost
from keras_vit.export.serving import make_serving
from keras_vit.models.lean import LeanModel
from keras_vit.training.fine_tuning import rematerialize

TINY = keras_vit.Variant(patch_size=4, hidden_size=12, num_layers=2, num_heads=3, mlp_dim=20)
SHAPE = (12, 20, 3)  # 15 patches
IMAGES = np.random.default_rng(0).uniform(-1, 1, (5, *SHAPE)).astype("float32")
TARGETS = np.eye(7, dtype="float32")[[3, 0, 6, 1, 1]]


def built(**options):
    keras.utils.set_random_seed(0)
    model = keras_vit.build(dataclasses.replace(TINY, **options), input_shape=SHAPE, classes=7)
    draw = np.random.default_rng(1)
    model.set_weights([weight + draw.normal(0, 0.2, weight.shape) for weight in model.get_weights()])
    return model


def plain(model):
    """Returns a model of the same layers that computes everything."""
    return keras.Model(model.input, model.output)


def predicted(model):
    return keras.ops.convert_to_numpy(model(IMAGES, training=False))


def saved(model):
    return cost(plain(model)).multiply_accumulates - cost(model).multiply_accumulates


def of_a_token(model, tokens):
    """Returns the multiply-accumulates of the last block for one token: query, output and MLP, and two products."""
    block = [layer for layer in model.layers if isinstance(layer, layers.TransformerBlock)][-1]
    matrices = 3 if isinstance(block.mlp, layers.SwiGLU) else 2
    distances = 2 * tokens - 1 if isinstance(block, layers.RelativeBlock) else 0
    return 2 * 12 * 12 + matrices * 12 * 20 + 2 * 12 * tokens + 12 * distances


@pytest.mark.parametrize(
    "options, read, front",
    [
        ({}, 1, 1),
        ({"pooling": "token+distillation", "distillation_token": True}, 2, 2),
        ({"register_tokens": 3, "layer_scale": 0.5, "swiglu": True}, 1, 4),
        ({"positions": "relative"}, 1, 1),
        ({"rotary": keras_vit.Rotary(), "positions": "none", "register_tokens": 3, "qkv_bias": "qv"}, 1, 4),
        ({"relative_bias": True, "norm_at": "pooled"}, 1, 1),
        ({"pre_norm": True, "patch_bias": False}, 1, 1),
    ],
    ids=["token", "two tokens", "registers", "relative", "rotary", "bias", "norm before"],
)
def test_the_numbers_are_the_same_and_the_work_is_less(options, read, front):
    model, tokens = built(**options), 15 + front
    np.testing.assert_allclose(predicted(model), predicted(plain(model)), atol=1e-6)  # sums of other shapes
    assert saved(model) == (tokens - read) * of_a_token(model, tokens)


@pytest.mark.parametrize("options", [{"attention_window": 2}, {"attention": "axial"}], ids=["windows", "axial"])
def test_within_windows_the_class_token_still_attends_to_all_tokens(options):
    model = built(**options)
    np.testing.assert_allclose(predicted(model), predicted(plain(model)), atol=1e-6)
    pairs = 6 * 4 * (1 + 4) if options == {"attention_window": 2} else 5 * 3 * (1 + 3)  # of patches, padded windows too
    assert saved(model) == 15 * (2 * 12 * 12 + 2 * 12 * 20) + pairs * 2 * 12


@pytest.mark.parametrize("pooling", ["gap", "map", "token+gap", "none"])
def test_a_head_that_reads_all_tokens_gets_them(pooling):
    top = {"include_top": False} if pooling == "none" else {"classes": 7}
    model = keras_vit.build(TINY, input_shape=SHAPE, pooling=pooling, **top)
    assert saved(model) == 0


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="tests record no gradients on PyTorch")
def test_a_gradient_is_the_same():
    """Also where the block is computed again for the gradient, after the model's call."""
    weights = []
    for make in (lambda model: model, rematerialized, plain):
        model = make(built())
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
        model.train_on_batch(IMAGES, TARGETS)
        weights.append(model.get_weights())
    for lean, again, whole in zip(*weights):
        np.testing.assert_allclose(lean, whole, atol=1e-6)
        np.testing.assert_allclose(again, whole, atol=1e-6)


def rematerialized(model):
    rematerialize(model)
    return model


def test_dropout_in_the_last_block_keeps_its_rate():
    """The head reads one token, of which as many channels are dropped as of all."""
    tokens = keras.Input((16, 2000))
    block = layers.TransformerBlock(2, 8, dropout=0.25, name="block")
    model = LeanModel(tokens, layers.ClassToken()(block(tokens)))
    block.attention.out.set_weights([np.zeros((2000, 2000)), np.ones(2000)])
    block.mlp.out.set_weights([np.zeros((8, 2000)), np.zeros(2000)])
    added = keras.ops.convert_to_numpy(model(np.zeros((1, 16, 2000), "float32"), training=True))
    assert set(np.unique(added.round(4))) == {0, np.float32(1.3333)}
    assert np.mean(added == 0) == pytest.approx(0.25, abs=0.04)


def test_the_graph_keeps_all_tokens():
    model = built()
    norm = model.get_layer("norm").output
    assert norm.shape == (None, 16, 12)
    both = LeanModel(model.input, [norm, model.output])
    every, classes = (keras.ops.convert_to_numpy(x) for x in both(IMAGES))
    assert every.shape == (5, 16, 12) and saved(both) == 0
    np.testing.assert_allclose(classes, predicted(model), atol=1e-6)


def test_a_block_that_another_model_runs_too_passes_it_all_tokens():
    model = built()
    tokens = keras.Model(model.input, model.get_layer("norm").output)
    both = LeanModel(model.input, [model.output, keras.layers.GlobalAveragePooling1D()(tokens(model.input))])
    classes, mean = (keras.ops.convert_to_numpy(x) for x in both(IMAGES))
    np.testing.assert_allclose(classes, predicted(model), atol=1e-6)
    np.testing.assert_allclose(mean, keras.ops.convert_to_numpy(tokens(IMAGES)).mean(axis=1), atol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Centred(layers.TransformerBlock):
    """A block of a user's that reads all of its own tokens."""

    def call(self, x, training=None):
        x = super().call(x, training=training)
        return x - keras.ops.mean(x, axis=1, keepdims=True)


def test_a_users_block_with_a_call_of_its_own_computes_all_tokens():
    tokens = keras.Input((5, 8))
    model = LeanModel(tokens, layers.ClassToken()(Centred(2, 16)(tokens)))
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(one(x)) for one in (model, plain(model))), atol=1e-6)


@pytest.mark.parametrize("around", ["clone", "nested", "sequential", "file"])
def test_however_a_model_is_composed(around, tmp_path):
    model, expected = built(), saved(built())
    if around == "clone":
        other = keras.models.clone_model(model)
        other.set_weights(model.get_weights())
    elif around == "file":
        model.save(tmp_path / "model.keras")
        other = keras.models.load_model(tmp_path / "model.keras")
    else:
        images = keras.Input(SHAPE)
        other = keras.Sequential([images, model]) if around == "sequential" else keras.Model(images, model(images))
    np.testing.assert_allclose(predicted(other), predicted(model), atol=1e-6)
    assert cost(plain(model)).multiply_accumulates - cost(other).multiply_accumulates == expected > 0


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is exported from PyTorch")
def test_an_exported_file_and_a_feature_vector_compute_no_more():
    model = built()
    least, whole = cost(model).multiply_accumulates, cost(plain(model)).multiply_accumulates
    assert cost(make_serving(model).model).multiply_accumulates == least
    assert cost(make_serving(model, extra_outputs=["features"]).model).multiply_accumulates == least
    logits = keras_vit.build(TINY, input_shape=SHAPE, classes=7, classifier_activation=None)
    assert cost(make_serving(logits).model).multiply_accumulates == least
    assert cost(keras_vit.representation(model), SHAPE).multiply_accumulates == least
    assert cost(make_serving(model, extra_outputs=["rollout"]).model).multiply_accumulates >= whole
