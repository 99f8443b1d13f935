"""Options of a `Variant`: the models that they build, and their detection from a finished model."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.config import Variant
from keras_vit.models.description import describe_model
from keras_vit.models.vision_model import VisionModel

SHAPE = (12, 20, 3)
OPTIONS = (
    {"register_tokens": 3},
    {"layer_scale": 0.1, "swiglu": True},
    {"pooling": "token+gap", "register_tokens": 2},
    {"distillation_token": True, "pooling": "token+distillation"},
    *({"positions": positions} for positions in ("none", "relative", "learned-2d", "sincos-2d")),
    *({"positions": kind, "positions_at": at} for kind in ("learned", "sincos-2d") for at in ("layers", "shared")),
    {"attention": "axial", "pooling": "gap"},
    {"attention": "axial", "positions": "learned-2d", "positions_at": "layers"},
    {"attention_window": 2},
)


def built(**options):
    return keras_vit.build(Variant(4, 16, 2, 2, 24, **options), input_shape=SHAPE, classes=7)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_finished_model_tells_its_row(options):
    model = built(**options)
    again = VisionModel.from_config(model.get_config())
    assert describe_model(model).variant == describe_model(again).variant == Variant(4, 16, 2, 2, 24, **options)
    assert model.output_shape == (None, 7)


def test_options_are_arguments_of_the_builders():
    model = keras_vit.ViT_Ti16(include_top=False, input_shape=(32, 48, 3), num_layers=1, register_tokens=3)
    row = describe_model(model).variant
    assert (row.register_tokens, row.num_layers, row.hidden_size) == (3, 1, 192)
    with pytest.raises(TypeError, match="register_token=. Nearest names: register_tokens"):
        keras_vit.ViT_Ti16(register_token=3)
    with pytest.raises(TypeError, match="Received: register_tokens="):
        keras_vit.BiT_R50x1(register_tokens=3)


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "learned-2d", "register_tokens": 2},
        {"positions": "sincos-2d", "positions_at": "layers"},
        {"positions_at": "shared"},
        {"attention": "axial", "pooling": "token+gap"},
    ],
    ids=str,
)
def test_resized_and_back(options):
    """To three times the grid and back: with corners on corners, the old points are among the new ones."""
    model = keras_vit.build(
        Variant(4, 16, 2, 2, 24, **options), include_top=False, input_shape=SHAPE, pooling=options.get("pooling")
    )
    larger = keras_vit.resize(model, (28, 52))
    assert describe_model(larger).grid == (7, 13)
    assert describe_model(larger).variant == describe_model(model).variant
    again = keras_vit.resize(larger, SHAPE[:2])
    images = np.random.default_rng(0).random((1, *SHAPE))
    np.testing.assert_allclose(again(images), model(images), atol=1e-5)


def test_relative_positions_are_not_resized():
    with pytest.raises(ValueError, match="relative_keys"):
        keras_vit.resize(built(positions="relative"), (16, 20))


def counts(**options):
    return built(**options).count_params()


def test_parameters_of_each_option():
    plain, tokens = counts(), 1 + 3 * 5
    expected = {
        "register_tokens": (3, 3 * 16),
        "layer_scale": (0.1, 2 * 2 * 16),
        "swiglu": (True, 2 * (24 * 16 + 24)),
        "distillation_token": (True, 2 * 16),
    }
    assert {name: counts(**{name: value}) - plain for name, (value, _) in expected.items()} == {
        name: more for name, (_, more) in expected.items()
    }
    table = tokens * 16
    assert counts(positions="none") == counts(positions="sincos-2d") == plain - table
    assert counts(positions="relative") == plain - table + 2 * (2 * tokens - 1) * 8
    assert counts(positions="learned-2d") == plain - table + (3 + 5) * 8 + 16
    assert counts(positions_at="shared") == plain
    assert counts(positions_at="layers") == plain + table
    assert counts(pooling="token+gap") == plain + 16 * 7
    assert counts(attention_window=2) == plain
    blocks = sum(layer.count_params() for layer in built().layers if layer.name.startswith("block"))
    assert counts(attention="axial") == plain + blocks


@pytest.mark.parametrize("positions_at, times", [("layers", 1), ("shared", 2)])
def test_positions_are_added_before_each_block(positions_at, times):
    """The blocks do nothing with factors of 0, so that what comes out is the sum of what was added."""
    model = keras_vit.build(
        Variant(4, 16, 2, 2, 24, layer_scale=1.0, positions="learned", positions_at=positions_at),
        include_top=False,
        input_shape=SHAPE,
    )
    for name in ("block_00", "block_01"):
        for scale in model.get_layer(name).scales:
            scale.gamma.assign(np.zeros(16))
    tables = [layer for layer in model.layers if "positions" in layer.name]
    assert [len(layer._inbound_nodes) for layer in tables] == [times] * (2 // times)
    inside = keras.Model(model.input, [model.get_layer("encoder").output, model.get_layer("block_01").output])
    tokens, out = inside(np.random.default_rng(0).random((1, *SHAPE)))
    added = sum(layer.values() for layer in tables) * times
    np.testing.assert_allclose(out, tokens + added, atol=1e-6)
