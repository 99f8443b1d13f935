"""Positions beside the plain Vision Transformer's own table, added to tokens wherever one likes."""

import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_vit.layers.initializers import initial

_KINDS = ("learned", "learned-2d", "sincos-2d")


@keras.saving.register_keras_serializable(package="keras_vit")
class Positions(keras.layers.Layer):
    """Adds a position to each token.

    Input and output: (batch, tokens, hidden_size); the last tokens are those of the grid, row by row

    Args:
        kind: "learned": a row a token; "learned-2d": the patch in row r and column c has row r of one table and row c
            of another side by side, half as wide each, and each token in front a row of its own; "sincos-2d": fixed
            sines and cosines of the column and the row, nothing for tokens in front.
        grid: (rows, columns) of patches.

    Raises:
        ValueError: if the kind is unknown or, at build time, a token is wanting or, in two dimensions, the hidden size
            is no multiple of 4.

    Source: arXiv:2010.11929, appendix D.4; the sines: arXiv:2205.01580, as in big_vision.
    """

    def __init__(self, kind, grid, **kwargs):
        super().__init__(**kwargs)
        if kind not in _KINDS:
            raise ValueError(f"Expected kind to be one of {_KINDS}. Received: kind={kind!r}")
        self.kind, self.grid = kind, tuple(grid)

    def build(self, input_shape):
        (rows, columns), (_, tokens, width) = self.grid, input_shape
        self.width, self.extra_tokens = width, tokens - rows * columns
        if self.extra_tokens < 0 or (self.kind != "learned" and width % 4):
            raise ValueError(
                f"Expected a token a patch of {rows} x {columns} and, in two dimensions, a hidden size that is a "
                f"multiple of 4. Received: input_shape={tuple(input_shape)}"
            )
        shapes = {
            "learned": {"table": (tokens, width)},
            "learned-2d": {
                "rows": (rows, width // 2),
                "columns": (columns, width // 2),
                **({"extra": (self.extra_tokens, width)} if self.extra_tokens else {}),
            },
            "sincos-2d": {},
        }
        normal = keras.initializers.RandomNormal(stddev=0.02)
        for name, shape in shapes[self.kind].items():
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer=initial(normal)))

    def call(self, tokens):
        return tokens + ops.cast(self.values(), tokens.dtype)

    def values(self):
        """Returns what is added, (1, tokens, hidden_size)."""
        if self.kind == "learned":
            return self.table[None]
        if self.kind == "sincos-2d":
            return sincos(self.grid, self.width, self.extra_tokens)[None]
        rows, columns = self.grid
        half = self.rows.shape[1]
        table = ops.concatenate(
            [
                ops.broadcast_to(self.rows[:, None], (rows, columns, half)),
                ops.broadcast_to(self.columns[None], (rows, columns, half)),
            ],
            axis=-1,
        )
        table = ops.reshape(table, (rows * columns, 2 * half))
        return (ops.concatenate([self.extra, table]) if self.extra_tokens else table)[None]

    def compute_output_shape(self, input_shape):
        return input_shape


def sincos(grid, width, extra_tokens=0, temperature=10_000.0):
    """Returns fixed positions of a grid, (extra_tokens + rows * columns, width) float32; zeros for tokens in front.

    A quarter of the channels each: sines and cosines of the column, then of the row.
    """
    y, x = (places.reshape(-1, 1) for places in np.mgrid[: grid[0], : grid[1]])
    frequencies = temperature ** -(np.arange(width // 4) / max(width // 4 - 1, 1))
    parts = [wave(place * frequencies) for place in (x, y) for wave in (np.sin, np.cos)]
    return np.pad(np.concatenate(parts, axis=1), [(extra_tokens, 0), (0, 0)]).astype("float32")


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
class Interpolation:
    """How numbers between the points of a grid are found; along rows and columns alike."""

    kernel: Callable  # the weight of a point, by its distance in points
    corners: bool = False  # whether the grids' corner points coincide, or the borders half a point further out
    antialias: bool = False  # whether the kernel widens where the grid shrinks


INTERPOLATIONS = {
    "corner": Interpolation(_triangle, corners=True),  # the official checkpoint.py: scipy.ndimage.zoom at order 1
    "half_pixel": Interpolation(_triangle),  # timm's .npz reader: torch's bilinear
    "half_pixel_antialias": Interpolation(_triangle, antialias=True),  # timm: bilinear
    "antialias": Interpolation(_cubic(-0.5), antialias=True),  # timm's resample_abs_pos_embed: torch's bicubic
    "torch": Interpolation(
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
    if mode not in INTERPOLATIONS:
        raise ValueError(f"Expected one of {', '.join(INTERPOLATIONS)}. Received: mode={mode!r}")
    (rows, columns), (_, tokens, width) = source_grid, table.shape
    if tokens < rows * columns:
        raise ValueError(f"Expected a token per patch of {rows} x {columns}. Received: table of shape {table.shape}")
    own, grid = np.split(table[0], [tokens - rows * columns])
    grid = grid.reshape(rows, columns, width).astype(np.float64)
    grid = np.einsum("ij,jkd->ikd", _matrix(rows, target_grid[0], INTERPOLATIONS[mode]), grid)
    grid = np.einsum("ij,kjd->kid", _matrix(columns, target_grid[1], INTERPOLATIONS[mode]), grid)
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
