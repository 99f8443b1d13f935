import pathlib

import jax
import numpy as np
import pytest
from scipy import ndimage

from keras_vit.layers.positions import INTERPOLATIONS, resize_positions, square_grid

# The references interpolate in float64 (SciPy) or in float32, there with positions of the usual size of 0.02.
ATOL = 1e-6

# "mode/RxC_to_RxC_cls": every fourth column of what the official checkpoint.py ("corner"; vit-keras for grids that are
# not square) and timm's resample_abs_pos_embed (the other modes; "torch" is its bicubic without antialias) make.
with np.load(pathlib.Path(__file__).with_name("position.npz")) as file:
    REFERENCES = {name: file[name] for name in file.files}

SIZES = [((3, 5), (7, 2)), ((5, 3), (2, 11)), ((7, 7), (1, 13)), ((7, 3), (13, 1)), ((1, 1), (3, 2)), ((2, 1), (5, 3))]


def positions(tokens, width=6):
    return np.random.default_rng(0).standard_normal((1, tokens, width)).astype(np.float32)


def grid(text):
    rows, columns = text.split("x")
    return int(rows), int(columns)


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference(oracle, name):
    mode, case = name.split("/")
    source, _, target, own = case.split("_")
    rows, columns = grid(source)
    table = oracle.tensor(f"posembed_resize/{source}_{own}/pos_embedding", (1, rows * columns + (own == "cls"), 16))
    resized = resize_positions(table, (rows, columns), grid(target), mode)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized[..., ::4], REFERENCES[name], rtol=0, atol=ATOL)


def test_every_mode_has_references():
    modes = [name.split("/")[0] for name in REFERENCES]
    assert {mode: modes.count(mode) for mode in INTERPOLATIONS} == {
        "corner": 8,
        "half_pixel": 3,
        "half_pixel_antialias": 3,
        "antialias": 3,
        "torch": 3,
    }
    assert len(modes) == 20


@pytest.mark.parametrize("own", [0, 1, 2])
@pytest.mark.parametrize("source, target", SIZES)
def test_corner_is_scipys_zoom_of_order_1(source, target, own):
    table = positions(source[0] * source[1] + own)
    zoom = (target[0] / source[0], target[1] / source[1], 1)
    grid = ndimage.zoom(table[0, own:].reshape(*source, 6), zoom, order=1)
    expected = np.concatenate([table[0, :own], grid.reshape(-1, 6)])[None]
    np.testing.assert_allclose(resize_positions(table, source, target), expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("source, target", SIZES[:2])
@pytest.mark.parametrize(
    "mode, method, antialias",
    [("half_pixel", "linear", False), ("half_pixel_antialias", "linear", True), ("antialias", "cubic", True)],
)
def test_it_is_jaxs_resize(mode, method, antialias, source, target):
    table = positions(source[0] * source[1]) * np.float32(0.02)
    expected = jax.image.resize(table.reshape(*source, 6), (*target, 6), method, antialias=antialias)
    resized = resize_positions(table, source, target, mode)
    np.testing.assert_allclose(resized, np.reshape(expected, (1, -1, 6)), rtol=0, atol=ATOL)


def test_torchs_bicubic_by_hand():
    """Halfway between points its weights are -3/32, 19/32, 19/32, -3/32; beyond the ends the ends repeat."""
    points = np.float32([1, 5, 7, 11, 13, 2])
    resized = resize_positions(points.reshape(1, 6, 1), (1, 6), (1, 3), "torch").ravel() * 32
    weights = [-3, 19, 19, -3]
    expected = [np.dot(weights, four) for four in ([1, 1, 5, 7], [5, 7, 11, 13], [11, 13, 2, 2])]
    np.testing.assert_allclose(resized, expected, rtol=1e-6)


@pytest.mark.parametrize("mode", INTERPOLATIONS)
def test_the_same_grid_changes_nothing(mode):
    np.testing.assert_array_equal(resize_positions(positions(16), (3, 5), (3, 5), mode), positions(16))


@pytest.mark.parametrize("mode", INTERPOLATIONS)
@pytest.mark.parametrize("source, target", SIZES)
def test_rows_and_columns_are_treated_alike(mode, source, target):
    table = positions(source[0] * source[1])
    turned = table.reshape(*source, 6).swapaxes(0, 1).reshape(1, -1, 6)
    expected = resize_positions(table, source, target, mode).reshape(*target, 6).swapaxes(0, 1)
    resized = resize_positions(turned, source[::-1], target[::-1], mode).reshape(*target[::-1], 6)
    np.testing.assert_allclose(resized, expected, rtol=0, atol=ATOL)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="corner, half_pixel.*mode='nearest'"):
        resize_positions(positions(15), (3, 5), (2, 7), "nearest")


def test_a_table_that_is_too_short_for_its_grid():
    with pytest.raises(ValueError, match=r"3 x 5.*\(1, 13, 6\)"):
        resize_positions(positions(13), (3, 5), (2, 7))


@pytest.mark.parametrize("patches, grid", [(1, (1, 1)), (196, (14, 14)), (195, None), (2, None), (577, None)])
def test_square_grid(patches, grid):
    assert square_grid(patches) == grid
