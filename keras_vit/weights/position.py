"""Resizes a table of position embeddings to another grid of patches."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


def _triangle(x):
    return np.maximum(0, 1 - np.abs(x))


def _cubic(a):
    """Returns Keys' cubic convolution kernel with the slope `a` at distance 1."""

    def kernel(x):
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0))

    return kernel


@dataclasses.dataclass(frozen=True)
class Mode:
    """How numbers between the points of a grid are found; along rows and columns alike."""

    kernel: Callable  # the weight of a point, by its distance in points
    corners: bool = False  # whether the grids' corner points coincide, or the borders half a point further out
    antialias: bool = False  # whether the kernel widens where the grid shrinks


MODES = {
    "corner": Mode(_triangle, corners=True),  # the official checkpoint.py: scipy.ndimage.zoom at order 1
    "half_pixel": Mode(_triangle),  # timm's .npz reader: torch's bilinear
    "half_pixel_antialias": Mode(_triangle, antialias=True),  # timm: bilinear
    "antialias": Mode(_cubic(-0.5), antialias=True),  # timm's resample_abs_pos_embed: torch's bicubic
    "torch": Mode(
        _cubic(-0.75)
    ),  # transformers' interpolate_pos_encoding: torch's bicubic, whose slope is another here
}


def square_grid(patches):
    """Returns the grid (side, side) of so many patches, or None if they make no square."""
    side = math.isqrt(patches)
    return (side, side) if side * side == patches else None


def resize_positions(table, source_grid, target_grid, mode="corner"):
    """Returns the position table of another grid.

    Args:
        table: (1, tokens, hidden_size); tokens is the grid's and, in front, those of any class tokens.
        source_grid, target_grid: (rows, columns) of patches.
        mode: one of `MODES`; that of the code which a file comes from gives the numbers of that code.

    Returns:
        (1, tokens, hidden_size) float32; the class tokens' own positions as they were.

    Raises:
        ValueError: if there is no such mode, or the table has fewer tokens than its grid.
    """
    if mode not in MODES:
        raise ValueError(f"Expected one of {', '.join(MODES)}. Received: mode={mode!r}")
    (rows, columns), (_, tokens, width) = source_grid, table.shape
    if tokens < rows * columns:
        raise ValueError(f"Expected a token per patch of {rows} x {columns}. Received: table of shape {table.shape}")
    own, grid = np.split(table[0], [tokens - rows * columns])
    grid = grid.reshape(rows, columns, width).astype(np.float64)
    grid = np.einsum("ij,jkd->ikd", _matrix(rows, target_grid[0], MODES[mode]), grid)
    grid = np.einsum("ij,kjd->kid", _matrix(columns, target_grid[1], MODES[mode]), grid)
    return np.concatenate([own, grid.reshape(-1, width)]).astype(np.float32)[None]


def _matrix(source, target, mode):
    """Returns the (target, source) weights with which `source` points in a line make `target` points."""
    if mode.corners:
        centres = np.linspace(0, source - 1, target) if target > 1 else np.zeros(1)
    else:
        centres = (np.arange(target) + 0.5) * source / target - 0.5
    if mode.antialias:  # points beyond the ends are left out
        weights = mode.kernel((np.arange(source) - centres[:, None]) / max(1, source / target))
        return weights / weights.sum(axis=1, keepdims=True)
    points = np.arange(-2, source + 2)  # those beyond the ends repeat them
    nearest = np.clip(points, 0, source - 1)[:, None] == np.arange(source)
    return mode.kernel(points - centres[:, None]) @ nearest
