"""Resizes a table of position embeddings to another grid of patches."""

import math

import numpy as np


def square_grid(patches):
    """Returns the grid (side, side) of so many patches, or None if they make no square."""
    side = math.isqrt(patches)
    return (side, side) if side * side == patches else None


def resize_positions(table, source_grid, target_grid):
    """Returns the position table of another grid, interpolated linearly with the corners in place.

    Args:
        table: (1, tokens, hidden_size); tokens is the grid's or, with a class token in front, one more.
        source_grid, target_grid: (rows, columns) of patches.

    Returns:
        (1, tokens, hidden_size) float32; the class token's own position as it was.

    Source: the official `checkpoint.py`, which zooms with `scipy.ndimage` at order 1.
    """
    (rows, columns), width = source_grid, table.shape[-1]
    own, grid = np.split(table[0], [table.shape[1] - rows * columns])
    grid = grid.reshape(rows, columns, width).astype(np.float64)
    grid = np.einsum("ij,jkd->ikd", _linear(rows, target_grid[0]), grid)
    grid = np.einsum("ij,kjd->kid", _linear(columns, target_grid[1]), grid)
    return np.concatenate([own, grid.reshape(-1, width)]).astype(np.float32)[None]


def _linear(source, target):
    """Returns the (target, source) matrix of linear interpolation between `source` points, ends on ends."""
    at = np.linspace(0, source - 1, target) if target > 1 else np.zeros(1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(source)))
