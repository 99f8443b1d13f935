import numpy as np
import pytest
from scipy import ndimage

from keras_vit.weights.position import resize_positions, square_grid

# SciPy interpolates in float64, too; only the rounding to float32 differs.
ATOL = 1e-6

# (source grid, target grid, class tokens): as in the official checkpoint.py and, not square, in vit-keras.
REFERENCES = (
    ((14, 14), (24, 24), 1),
    ((14, 14), (24, 24), 0),
    ((24, 24), (14, 14), 1),
    ((7, 7), (12, 12), 1),
    ((14, 14), (24, 12), 1),
    ((14, 14), (12, 24), 1),
    ((14, 14), (7, 20), 1),
)


@pytest.mark.parametrize("source, target, own", REFERENCES)
def test_the_reference(oracle, source, target, own):
    name = f"{source[0]}x{source[1]}_to_{target[0]}x{target[1]}" + "_cls" * own
    expected = oracle.numbers("positions")[name]  # the first of 16 columns
    key = f"posembed_resize/{source[0]}x{source[1]}_{'cls' if own else 'gap'}/pos_embedding"
    table = oracle.tensor(key, (1, source[0] * source[1] + own, 16))
    resized = resize_positions(table, source, target)
    assert resized.dtype == np.float32
    assert resized.shape == (1, target[0] * target[1] + own, 16)
    np.testing.assert_allclose(resized[..., : expected.shape[-1]], expected, rtol=0, atol=ATOL)


def test_every_reference_is_tested(oracle):
    assert len(oracle.numbers("positions")) == len(REFERENCES)


@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize(
    "source, target",
    [((3, 5), (7, 2)), ((5, 3), (2, 11)), ((7, 7), (1, 13)), ((7, 3), (13, 1)), ((1, 1), (3, 2)), ((2, 1), (5, 3))],
)
def test_it_is_scipys_zoom_of_order_1(source, target, own):
    rng = np.random.default_rng(0)
    table = rng.standard_normal((1, source[0] * source[1] + own, 6)).astype(np.float32)
    zoom = (target[0] / source[0], target[1] / source[1], 1)
    grid = ndimage.zoom(table[0, own:].reshape(*source, 6), zoom, order=1)
    expected = np.concatenate([table[0, :own], grid.reshape(-1, 6)])[None]
    np.testing.assert_allclose(resize_positions(table, source, target), expected, rtol=0, atol=ATOL)


def test_the_same_grid_changes_nothing():
    table = np.random.default_rng(0).standard_normal((1, 16, 6)).astype(np.float32)
    np.testing.assert_array_equal(resize_positions(table, (3, 5), (3, 5)), table)


@pytest.mark.parametrize("patches, grid", [(1, (1, 1)), (196, (14, 14)), (195, None), (2, None), (577, None)])
def test_square_grid(patches, grid):
    assert square_grid(patches) == grid
