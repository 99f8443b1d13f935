"""Models with other tokens, positions and attention can be looked at like any other."""

import numpy as np
import pytest

import keras_vit
from keras_vit import analysis
from keras_vit.evaluation.cost import cost
from keras_vit.evaluation.occlusion import KeptTokens
from keras_vit.models.config import Variant

GRID = (3, 5)
IMAGES = np.random.default_rng(0).random((2, 12, 20, 3)).astype("float32")


def built(**options):
    return keras_vit.build(Variant(4, 16, 2, 2, 24, **options), input_shape=IMAGES.shape[1:], classes=7)


@pytest.mark.parametrize(
    "options, extra, blocks",
    [
        ({"pooling": "token+gap", "register_tokens": 3, "layer_scale": 0.1, "swiglu": True}, 4, 2),
        ({"pooling": "token+distillation", "distillation_token": True}, 2, 2),
        ({"attention": "axial", "pooling": "gap"}, 0, 4),
        ({"attention_window": 2}, 1, 2),
        ({"positions": "relative"}, 1, 2),
    ],
    ids=["dinov2", "deit", "axial", "windows", "relative"],
)
def test_all_of_them_are_looked_into(options, extra, blocks):
    model = built(**options)
    maps = analysis.attention_maps(model, IMAGES)
    assert [x.shape for x in maps] == [(2, 2, 15 + extra, 15 + extra)] * blocks
    assert analysis.attention_rollout(model, IMAGES).shape == (2, *GRID)
    assert analysis.attention_relevance(model, IMAGES).shape == (2, *GRID)
    assert analysis.patch_tokens(model, IMAGES).shape == (2, *GRID, 16)
    assert keras_vit.representation(model).predict(IMAGES, verbose=0).shape == (
        2,
        model.get_layer("head").input.shape[1],
    )
    assert cost(model).unknown == ()


def test_axial_attention_stays_within_the_row_and_then_the_column():
    along_rows, along_columns = analysis.attention_maps(built(attention="axial", pooling="gap"), IMAGES)[:2]
    rows, columns = (places.reshape(-1) for places in np.indices(GRID))
    np.testing.assert_array_equal(along_rows[0, 0] > 0, rows[:, None] == rows)
    np.testing.assert_array_equal(along_columns[0, 0] > 0, columns[:, None] == columns)


@pytest.mark.parametrize("options", [{"positions": "learned-2d"}, {"positions": "sincos-2d", "positions_at": "shared"}])
def test_positions_are_compared_wherever_they_are(options):
    similarity = analysis.position_similarity(built(**options))
    assert similarity.shape == (*GRID, *GRID)
    own = similarity.reshape(15, 15).diagonal()
    np.testing.assert_allclose(own, 1, atol=1e-6)


@pytest.mark.parametrize("positions", ["none", "relative"])
def test_nothing_is_compared_where_none_are_added(positions):
    with pytest.raises(ValueError, match="Expected a model that adds positions"):
        analysis.position_similarity(built(positions=positions))


@pytest.mark.parametrize("options", [{"attention_window": 2}, {"positions": "relative"}, {"positions_at": "layers"}])
def test_patches_are_not_dropped_where_each_token_has_its_place(options):
    with pytest.raises(ValueError, match="needs all of them"):
        KeptTokens(built(**options), 5)


def test_patches_are_dropped_between_registers():
    model = built(positions="learned-2d", register_tokens=2)
    every = np.tile(np.arange(15), (2, 1))
    np.testing.assert_allclose(
        KeptTokens(model, 15).predict_on_batch([IMAGES, every]), model.predict_on_batch(IMAGES), atol=1e-6
    )


def test_a_gated_mlp_and_two_heads_are_counted():
    plain, gated = (cost(built(swiglu=swiglu)).multiply_accumulates for swiglu in (False, True))
    assert gated - plain == (16 + 1) * 16 * 24  # the last block computes one token
    two = cost(built(pooling="token+distillation", distillation_token=True))
    one = cost(built(distillation_token=True))
    of_a_token = 2 * 16 * 16 + 2 * 16 * 24 + 2 * 17 * 16  # in the last block
    assert two.multiply_accumulates - one.multiply_accumulates == 16 * 7 + of_a_token
