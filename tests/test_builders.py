"""The arguments of `build` and the builders."""

import inspect
import math

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.config import Variant

# Primes wherever a size may be one, and all different, so that a swapped axis cannot pass.
TINY = Variant(patch_size=3, hidden_size=14, num_layers=2, num_heads=2, mlp_dim=11)
HEIGHT, WIDTH, PATCHES = 15, 21, 5 * 7


def build(variant=TINY, **arguments):
    classes = 13 if arguments.get("include_top", True) else None
    return keras_vit.build(variant, **{"input_shape": (HEIGHT, WIDTH, 3), "classes": classes, **arguments})


def made_images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape or (2, HEIGHT, WIDTH, 3)).astype(np.float32)


def paths(model):
    return [weight.path for weight in model.weights]


def test_the_signature_is_that_of_keras_applications_followed_by_keyword_arguments():
    expected = list(inspect.signature(keras.applications.ResNet50).parameters)
    for builder in (keras_vit.ViT_B16, keras_vit.ViT_G14):
        parameters = inspect.signature(builder).parameters
        assert list(parameters)[: len(expected)] == expected
        extras = [parameters[name] for name in list(parameters)[len(expected) :]]
        assert extras.pop().kind is inspect.Parameter.VAR_KEYWORD  # other fields of the row
        assert extras
        assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in extras)
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults["include_top"] is True
    assert defaults["classifier_activation"] == "softmax"
    assert all(
        defaults[name] is None for name in ("weights", "input_tensor", "input_shape", "pooling", "classes", "name")
    )
    assert list(inspect.signature(keras_vit.build).parameters) == ["variant", *parameters]


def test_arguments_reach_the_model_by_position_too():
    model = keras_vit.ViT_Ti16(True, None, None, (16, 32, 1), "gap", 7, None, "mine")
    assert (model.name, model.input_shape, model.output_shape) == ("mine", (None, 16, 32, 1), (None, 7))
    assert "encoder/class_token" not in paths(model)


def test_defaults():
    model = keras_vit.ViT_Ti16()
    assert (model.name, model.input_shape, model.output_shape) == ("ViT_Ti16", (None, 224, 224, 3), (None, 1000))
    assert len([path for path in paths(model) if path.endswith("query/kernel")]) == 12


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("height, width", [(15, 21), (33, 6)])
def test_any_grid_and_any_number_of_channels(height, width, channels):
    model = build(input_shape=(height, width, channels))
    patches = (height // 3) * (width // 3)
    assert model.get_layer("encoder").position_embedding.shape == (1, patches + 1, 14)
    assert model.get_layer("encoder").projection.kernel.shape == (9 * channels, 14)
    for batch in (1, 2):
        assert model(made_images(batch, height, width, channels)).shape == (batch, 13)


@pytest.mark.parametrize(
    "pooling, shape",
    [
        (None, (PATCHES + 1, 14)),
        ("token", (14,)),
        ("gap", (14,)),
        ("map", (14,)),
        ("none", (PATCHES, 14)),
    ],
)
def test_without_a_top(pooling, shape):
    model = build(include_top=False, pooling=pooling)
    assert model.output_shape == (None, *shape)
    assert model(made_images()).shape == (2, *shape)
    assert ("encoder/class_token" in paths(model)) == (pooling in (None, "token"))
    assert ("pooling/probe" in paths(model)) == (pooling == "map")
    assert not [path for path in paths(model) if path.startswith(("head", "pre_logits"))]


@pytest.mark.parametrize("pooling, shape", [("token", ()), ("gap", ()), ("map", ()), ("none", (PATCHES,))])
def test_a_head_on_every_pooling(pooling, shape):
    assert build(pooling=pooling).output_shape == (None, *shape, 13)
    own = Variant(3, 14, 2, 2, 11, pooling=pooling)  # the variant's own, where none is asked for
    assert paths(build(own)) == paths(build(pooling=pooling))
    assert build(own).output_shape == (None, *shape, 13)


def test_pooling_reads_the_tokens_of_its_name():
    values = {}
    for pooling in ("token", "gap", None):
        keras.utils.set_random_seed(0)
        model = build(include_top=False, pooling=pooling)
        tokens = keras.Model(model.input, model.get_layer("norm").output)(made_images())
        values[pooling] = np.asarray(model(made_images())), np.asarray(tokens)
    # Not to the bit: of the last block, the model computes the class token alone.
    np.testing.assert_allclose(values["token"][0], values["token"][1][:, 0], atol=1e-6)
    np.testing.assert_allclose(values["gap"][0], values["gap"][1].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(*values[None])


@pytest.mark.parametrize("pooling", ["avg", "max", "cls", 1])
def test_unknown_poolings_raise(pooling):
    with pytest.raises(ValueError, match=f"Received: pooling={pooling!r}"):
        build(pooling=pooling)


@pytest.mark.parametrize(
    "shape, nearest",
    [
        ((223, 37, 3), "208 x 32 and 224 x 48"),
        ((37, 64, 1), "32 x 64 and 48 x 64"),
        ((225, 225, 3), "224 x 224 and 240 x 240"),
        ((5, 33, 3), "16 x 32 and 16 x 48"),
    ],
)
def test_a_shape_that_does_not_fit_raises_and_offers_the_two_nearest(shape, nearest):
    with pytest.raises(ValueError) as error:
        keras_vit.ViT_Ti16(input_shape=shape)
    assert f"Received: input_shape={shape}. The nearest that fit: {nearest} pixels" in str(error.value)


@pytest.mark.parametrize("shape", [(None, None, 3), (224, None, 3), (224, 224, None)])
def test_an_open_shape_raises(shape):
    with pytest.raises(ValueError, match="images of known size"):
        keras_vit.ViT_Ti16(input_shape=shape)


@pytest.mark.parametrize("classes", [0, -1, 2.0, "10"])
def test_classes_are_a_positive_whole_number(classes):
    with pytest.raises(ValueError, match=f"Received: classes={classes!r}"):
        build(classes=classes)


def test_unknown_gelu_raises():
    with pytest.raises(ValueError, match="Received: gelu='exact'"):
        build(gelu="exact")


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_classifier_activation(activation):
    model, logits = build(classifier_activation=activation), build(classifier_activation=None)
    kernel = np.random.default_rng(1).normal(size=(14, 13))
    weights = [*model.get_weights()[:-2], kernel, np.linspace(-1, 1, 13)]
    model.set_weights(weights)
    logits.set_weights(weights)
    x = np.asarray(logits(made_images())).astype(np.float64)
    expected = {
        None: x,
        "softmax": np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True),
        "sigmoid": 1 / (1 + np.exp(-x)),
    }[activation]
    np.testing.assert_allclose(model(made_images()), expected, atol=1e-5)


def test_a_new_model_predicts_the_same_probability_for_every_class():
    np.testing.assert_allclose(build()(made_images()), 1 / 13, atol=1e-7)


def test_the_representation_layer_is_a_tanh():
    model = build(representation_size=5, include_top=False, pooling="token")
    pooled, output = keras.Model(model.input, [model.get_layer("pooling").output, model.output])(made_images())
    kernel, bias = (np.asarray(weight) for weight in model.get_layer("pre_logits").weights)
    np.testing.assert_allclose(output, np.tanh(np.asarray(pooled) @ kernel + bias), atol=1e-6)
    assert build(representation_size=5).get_layer("head").kernel.shape == (5, 13)


def test_initial_weights():
    """Those of the official code; for the random ones their spread, on thousands of numbers."""
    keras.utils.set_random_seed(0)
    variant = Variant(patch_size=4, hidden_size=192, num_layers=1, num_heads=3, mlp_dim=768)
    model = keras_vit.build(variant, input_shape=(48, 48, 3), classes=7, representation_size=192)
    weights = {weight.path: np.asarray(weight, np.float64) for weight in model.weights}
    zeros = ["encoder/class_token", "encoder/projection/bias", "head/kernel", "head/bias", "norm/beta"]
    zeros += [f"block_00/attention/{part}/bias" for part in ("query", "key", "value", "out")]
    for path in (*zeros, "pre_logits/bias", "block_00/attention_norm/beta", "block_00/mlp_norm/beta"):
        assert not weights[path].any(), path
    for path in ("norm/gamma", "block_00/attention_norm/gamma", "block_00/mlp_norm/gamma"):
        assert (weights[path] == 1).all(), path
    for path in (
        *(f"block_00/attention/{part}/kernel" for part in ("query", "key", "value", "out")),
        *("block_00/mlp/hidden/kernel", "block_00/mlp/out/kernel"),
    ):
        limit = math.sqrt(6 / sum(weights[path].shape))  # Glorot's uniform distribution, also named Xavier's
        assert 0.99 * limit < np.abs(weights[path]).max() <= limit, path
        assert weights[path].std() == pytest.approx(limit / math.sqrt(3), rel=0.02), path
    assert weights["encoder/projection/kernel"].std() == pytest.approx(48**-0.5, rel=0.02)  # 4 * 4 * 3 inputs
    assert weights["encoder/position_embedding"].std() == pytest.approx(0.02, rel=0.02)
    assert weights["block_00/mlp/hidden/bias"].std() == pytest.approx(1e-6, rel=0.1)
    assert weights["block_00/mlp/out/bias"].std() == pytest.approx(1e-6, rel=0.2)


def test_epsilon_of_every_norm():
    model = build(pooling="map")
    norms = [model.get_layer("norm"), model.get_layer("pooling").norm]
    for i in range(2):
        norms += [model.get_layer(f"block_{i:02d}").attention_norm, model.get_layer(f"block_{i:02d}").mlp_norm]
    assert [norm.epsilon for norm in norms] == [1e-6] * 6


def test_dropout_and_stochastic_depth_reach_every_block():
    variant = Variant(3, 14, 4, 2, 11, dropout=0.3)
    model = build(variant, dropout=0.1, attention_dropout=0.2, stochastic_depth=0.6)
    assert model.get_layer("encoder").dropout.rate == 0.1
    for i, depth in enumerate((0, 0.2, 0.4, 0.6)):
        block = model.get_layer(f"block_{i:02d}")
        assert [skip.rate for skip in block.skips] == pytest.approx([depth, depth])
        assert block.attention.dropout.rate == 0.2
        inner = (block.attention_dropout, block.mlp.hidden_dropout, block.mlp.out_dropout)
        assert [layer.rate for layer in inner] == [0.1] * 3
    assert build(variant).get_layer("encoder").dropout.rate == 0.3
    assert build(variant, dropout=0.0).get_layer("block_00").attention_dropout.rate == 0
    assert build().get_layer("block_01").attention_dropout.rate == 0


def test_a_single_block_is_the_first_and_is_not_dropped():
    block = build(Variant(3, 14, 1, 2, 11), stochastic_depth=0.5).get_layer("block_00")
    assert [skip.rate for skip in block.skips] == [0, 0]


@pytest.mark.parametrize("argument", ["dropout", "attention_dropout", "stochastic_depth"])
def test_rates_act_in_training_only(argument):
    keras.utils.set_random_seed(0)
    model = build(include_top=False, pooling="token", **{argument: 0.5})
    first, second = (np.asarray(model(made_images(), training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(model(made_images()), model(made_images()))
