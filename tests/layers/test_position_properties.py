"""Properties of resizing position embeddings, for any grids, tables and modes."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_vit.layers.positions import INTERPOLATIONS, resize_positions

QUICK = settings(max_examples=200, deadline=None, derandomize=True, database=None)
GRIDS = st.tuples(st.integers(1, 9), st.integers(1, 9))
MODES = st.sampled_from(sorted(INTERPOLATIONS))


def table(grid, own, seed, width=3):
    return np.random.default_rng(seed).normal(size=(1, own + grid[0] * grid[1], width)).astype(np.float32)


@QUICK
@given(GRIDS, st.integers(0, 5), MODES, st.integers(0, 99))
def test_the_same_grid_changes_nothing(grid, own, mode, seed):
    given_table = table(grid, own, seed)
    np.testing.assert_allclose(resize_positions(given_table, grid, grid, mode), given_table, atol=1e-6)


@QUICK
@given(GRIDS, GRIDS, st.integers(0, 5), MODES, st.integers(0, 99))
def test_extra_tokens_and_constants_stay_as_they_are(source, target, own, mode, seed):
    given_table = table(source, own, seed)
    given_table[:, own:] = given_table[:, -1:]
    resized = resize_positions(given_table, source, target, mode)
    assert resized.shape == (1, own + target[0] * target[1], 3)
    np.testing.assert_array_equal(resized[:, :own], given_table[:, :own])
    np.testing.assert_allclose(resized[0, own:], np.broadcast_to(given_table[0, -1], resized[0, own:].shape), atol=1e-5)


@QUICK
@given(GRIDS, GRIDS, MODES, st.integers(0, 99))
def test_a_mirrored_table_is_resized_to_the_mirrored_result(source, target, mode, seed):
    # With aligned corners, one point takes the value of the first corner, as in the original code.
    assume(not INTERPOLATIONS[mode].corners or min(target) > 1)
    given_table = table(source, 0, seed)
    mirrored = given_table.reshape(*source, 3)[::-1, ::-1].reshape(given_table.shape)
    resized = resize_positions(given_table, source, target, mode).reshape(*target, 3)
    again = resize_positions(np.ascontiguousarray(mirrored), source, target, mode).reshape(*target, 3)
    np.testing.assert_allclose(again[::-1, ::-1], resized, atol=1e-5)
