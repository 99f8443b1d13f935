"""Options of a row: what is built of them, and that a finished model tells them."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.description import describe_model
from keras_vit.models.vision_model import VisionModel
from keras_vit.variants import Variant

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


def counts(**options):
    return built(**options).count_params()


def test_parameters_of_each_option():
    plain, tokens, patches = counts(), 16, 15
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
    block = (
        plain
        - built().layers[-1].count_params()
        - sum(built().get_layer(name).count_params() for name in ("encoder", "norm", "head"))
    )
    assert counts(attention="axial") == plain + block
    assert patches + 1 == tokens


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
