"""Position embeddings: the layer that adds them to tokens, and their interpolation to another grid."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_vit.layers.composite import Shape
from keras_vit.layers.initializers import initial

_KINDS = ("learned", "learned-2d", "sincos-2d")


@keras.saving.register_keras_serializable(package="keras_vit")
class Positions(keras.layers.Layer):
    """Adds a position embedding to each token.

    Input and output: (batch, tokens, hidden_size); the last tokens are those of the grid, row by row

    Args:
        kind: "learned": one row of a table for each token; "learned-2d": the patch in row r and column c has row r of
            one table and row c of another, each of half the hidden size, and each token in front has a row of its own;
            "sincos-2d": fixed sines and cosines of the column and the row, zeros for tokens in front.
        grid: (rows, columns) of patches.

    Raises:
        ValueError: if the kind is unknown or, at build time, there are fewer tokens than patches or, in two dimensions,
            the hidden size is not a multiple of 4.

    Example:
        ```python
        positions = keras_vit.layers.Positions("sincos-2d", grid=(4, 6))
        assert positions(np.zeros((1, 1 + 4 * 6, 8))).shape == (1, 25, 8)
        ```

    Source: arXiv:2010.11929, appendix D.4; the sines: arXiv:2205.01580, as in big_vision.
    """

    def __init__(self, kind: str, grid: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in _KINDS:
            raise ValueError(f"Expected kind to be one of {_KINDS}. Received: kind={kind!r}")
        self.kind, self.grid = kind, tuple(grid)

    def build(self, input_shape: Shape) -> None:
        (rows, columns), (_, tokens, width) = self.grid, input_shape
        self.width, self.extra_tokens = width, tokens - rows * columns
        if self.extra_tokens < 0 or (self.kind != "learned" and width % 4):
            raise ValueError(
                f"Expected a token for each of {rows} x {columns} patches and, in two dimensions, a hidden size that "
                f"is a multiple of 4. Received: input_shape={tuple(input_shape)}"
            )
        shapes: dict[str, dict[str, Shape]] = {
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

    def call(self, tokens: Any) -> Any:
        return tokens + ops.cast(self.values(), tokens.dtype)

    def values(self) -> Any:
        """Returns the position embeddings, (1, tokens, hidden_size)."""
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

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


def sincos(grid: Sequence[int], hidden_size: int, extra_tokens: int = 0, temperature: float = 10_000.0) -> np.ndarray:
    """Returns fixed 2-D sine-cosine position embeddings, (extra_tokens + rows * columns, hidden_size) float32.

    A quarter of the channels each: the sines and cosines of the column, then of the row. Zeros for the extra tokens.
    """
    row, column = (index.reshape(-1, 1) for index in np.mgrid[: grid[0], : grid[1]])
    frequencies = temperature ** -(np.arange(hidden_size // 4) / max(hidden_size // 4 - 1, 1))
    parts = [wave(index * frequencies) for index in (column, row) for wave in (np.sin, np.cos)]
    return np.pad(np.concatenate(parts, axis=1), [(extra_tokens, 0), (0, 0)]).astype("float32")


# Interpolation to another grid, as the projects that published checkpoints compute it.


def _triangle(x: np.ndarray) -> np.ndarray:
    """Returns the kernel of linear interpolation."""
    return np.maximum(0, 1 - np.abs(x))


def _cubic(a: float) -> Callable[[np.ndarray], np.ndarray]:
    """Returns Keys' cubic convolution kernel with the slope `a` at distance 1."""

    def kernel(x: np.ndarray) -> np.ndarray:
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0))

    return kernel


@dataclasses.dataclass(frozen=True)
class Interpolation:
    """A method of interpolation, the same along rows and columns.

    Args:
        kernel: function from the distance to a point, in points, to the weight of that point.
        corners: whether two grids coincide at their corner points, or at their borders half a point outside.
        antialias: whether the kernel widens where the grid shrinks.
    """

    kernel: Callable[[np.ndarray], np.ndarray]
    corners: bool = False
    antialias: bool = False


PositionResize = Literal["corner", "half_pixel", "half_pixel_antialias", "antialias", "torch"]
INTERPOLATIONS: dict[str, Interpolation] = {
    "corner": Interpolation(_triangle, corners=True),  # the official checkpoint.py: scipy.ndimage.zoom at order 1
    "half_pixel": Interpolation(_triangle),  # timm's .npz reader: torch's bilinear
    "half_pixel_antialias": Interpolation(_triangle, antialias=True),  # timm: bilinear
    "antialias": Interpolation(_cubic(-0.5), antialias=True),  # timm's resample_abs_pos_embed: torch's bicubic
    # transformers' interpolate_pos_encoding: torch's bicubic without antialias, which has another slope
    "torch": Interpolation(_cubic(-0.75)),
}


def square_grid(patches: int) -> tuple[int, int] | None:
    """Returns the grid (side, side) of a number of patches, or None if that is not a square number."""
    side = math.isqrt(patches)
    return (side, side) if side * side == patches else None


def resize_positions(
    table: np.ndarray, source_grid: Sequence[int], target_grid: Sequence[int], mode: str = "corner"
) -> np.ndarray:
    """Interpolates a position embedding to another grid of patches, for another image size.

    Args:
        table: position embedding (1, tokens, hidden_size): those of extra tokens, then those of the grid row by row.
        source_grid, target_grid: (rows, columns) of patches.
        mode: a key of `INTERPOLATIONS`; each computes the numbers of the project named there.

    Returns:
        (1, tokens, hidden_size) float32; the positions of the extra tokens are unchanged.

    Raises:
        ValueError: if the mode is unknown, or the table has fewer tokens than its grid.

    Example:
        ```python
        from keras_vit.layers.positions import resize_positions

        table = np.zeros((1, 1 + 14 * 14, 768), "float32")  # 224 x 224 pixels, patches of 16 x 16, a class token
        assert resize_positions(table, (14, 14), (24, 24)).shape == (1, 1 + 24 * 24, 768)
        ```

    Source: arXiv:2010.11929, section 3.2; the functions named at `INTERPOLATIONS`.
    """
    if mode not in INTERPOLATIONS:
        raise ValueError(f"Expected mode to be one of {', '.join(INTERPOLATIONS)}. Received: mode={mode!r}")
    (rows, columns), (_, tokens, width) = source_grid, table.shape
    if tokens < rows * columns:
        raise ValueError(
            f"Expected a token for each of {rows} x {columns} patches. Received: table of shape {table.shape}"
        )
    own, grid = np.split(table[0], [tokens - rows * columns])
    grid = grid.reshape(rows, columns, width).astype(np.float64)
    grid = np.einsum("ij,jkd->ikd", _matrix(rows, target_grid[0], INTERPOLATIONS[mode]), grid)
    grid = np.einsum("ij,kjd->kid", _matrix(columns, target_grid[1], INTERPOLATIONS[mode]), grid)
    return np.concatenate([own, grid.reshape(-1, width)]).astype(np.float32)[None]


def resize_patches(kernel: np.ndarray, patch_size: int, mode: str = "antialias") -> np.ndarray:
    """Resizes the kernel of a patch embedding, so that a resized patch has the same embedding as nearly as possible.

    It is multiplied by the pseudo-inverse of the matrix that resizes a patch, as in FlexiViT.

    Args:
        kernel: (height, width, channels, hidden_size).
        patch_size: the new height and width, pixels.
        mode: how the patch is resized, a key of `INTERPOLATIONS`; timm's is "antialias", FlexiViT's own "half_pixel".

    Returns:
        (patch_size, patch_size, channels, hidden_size) float32.

    Example:
        ```python
        from keras_vit.layers.positions import resize_patches

        assert resize_patches(np.ones((16, 16, 3, 8)), 32).shape == (32, 32, 3, 8)
        ```

    Source: arXiv:2212.08013, section 3.4.
    """
    kernel = kernel.astype(np.float64)
    for axis in (0, 1):
        inverse = np.linalg.pinv(_matrix(kernel.shape[axis], patch_size, INTERPOLATIONS[mode]))  # (old, new)
        kernel = np.moveaxis(np.tensordot(inverse, kernel, (0, axis)), 0, axis)
    return kernel.astype(np.float32)


def resize_bias(
    table: np.ndarray, source_grid: Sequence[int], target_grid: Sequence[int], mode: str = "corner"
) -> np.ndarray:
    """Interpolates the relative position bias of `keras_vit.layers.BiasAttention` to another grid of patches.

    Args:
        table: (distances + 3, heads), with the biases of the class token last.
        source_grid, target_grid: (rows, columns) of patches.
        mode: "torch" or "half_pixel" interpolates linearly over all distances, as transformers does. Any other mode
            places the source's distances in a geometric progression, with the small ones where they are, and
            interpolates linearly between them, as timm does.

    Returns:
        (distances + 3, heads) float32; the biases of the class token are unchanged.

    Example:
        ```python
        from keras_vit.layers.positions import resize_bias

        assert resize_bias(np.zeros((27 * 27 + 3, 12)), (14, 14), (24, 24)).shape == (47 * 47 + 3, 12)
        ```

    Source: timm's `resize_rel_pos_bias_table`; transformers' `BeitRelativePositionBias`.
    """
    old, new = ([2 * side - 1 for side in grid] for grid in (source_grid, target_grid))
    grid, own = np.split(table.astype(np.float64), [old[0] * old[1]])
    grid = grid.reshape(*old, -1)
    linear = mode in ("torch", "half_pixel")
    for axis in (0, 1):
        matrix = (
            _matrix(old[axis], new[axis], INTERPOLATIONS["half_pixel"]) if linear else _geometric(old[axis], new[axis])
        )
        grid = np.moveaxis(np.tensordot(matrix, grid, (1, axis)), 0, axis)
    return np.concatenate([grid.reshape(-1, table.shape[1]), own]).astype(np.float32)


def _geometric(source: int, target: int) -> np.ndarray:
    """Returns the weights (target, source) between distances in a geometric progression that reaches the last one."""
    if source == target:
        return np.eye(source)
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio ** (source // 2)) / (1 - ratio) > target // 2:
            high = ratio
        else:
            low = ratio
    steps = np.cumsum(ratio ** np.arange(source // 2))
    places = np.concatenate([-steps[::-1], [0], steps])
    distances = np.arange(target) - target // 2
    return np.stack([np.interp(distances, places, column) for column in np.eye(source)], axis=1)


def interpolation_matrix(source: int, target: int, mode: str) -> np.ndarray:
    """Returns the weights (target, source) that interpolate points in a line, as a key of `INTERPOLATIONS` says."""
    return _matrix(source, target, INTERPOLATIONS[mode])


def _matrix(source: int, target: int, mode: Interpolation) -> np.ndarray:
    """Returns the weights (target, source) that interpolate `source` points in a line to `target` points."""
    if mode.corners:
        centres = np.linspace(0, source - 1, target) if target > 1 else np.zeros(1)
    else:
        centres = (np.arange(target) + 0.5) * source / target - 0.5
    if mode.antialias:  # points beyond the ends are omitted
        weights = mode.kernel((np.arange(source) - centres[:, None]) / max(1, source / target))
        return weights / weights.sum(axis=1, keepdims=True)
    points = np.arange(-2, source + 2)  # points beyond the ends repeat the last ones
    nearest = np.clip(points, 0, source - 1)[:, None] == np.arange(source)
    return mode.kernel(points - centres[:, None]) @ nearest
