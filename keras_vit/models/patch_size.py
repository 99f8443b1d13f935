"""Another patch size for as long as a context lasts, from the weights of a model as they are (FlexiViT)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit import layers
from keras_vit.layers.positions import interpolation_matrix
from keras_vit.models.hooks import around_calls, changed, layers_of

_NEED_GRID: tuple[type, ...] = (layers.Stem, layers.Positions, layers.RotaryAttention, layers.BiasAttention)
_NEED_GRID += (layers.RelativeAttention, layers.WindowAttention, layers.TokenMap)


def check_patch_sizes(model: keras.Model, patch_sizes: Sequence[int]) -> None:
    """Raises a ValueError if `patch_size_of` cannot cut the images of a model into patches of these sizes."""
    unsuitable = sorted({type(layer).__name__ for layer in layers_of(model, _NEED_GRID)})
    sides = model.input_shape[1:3]
    remainders = [size for size in patch_sizes if any(side % size for side in sides)]
    if unsuitable or remainders:
        raise ValueError(
            "Expected patch sizes that divide height and width, and a Vision Transformer whose only positions are a "
            f"learned table at the stem. Received: patch_sizes={tuple(patch_sizes)} for images of {sides[0]} x "
            f"{sides[1]} pixels, {model.name!r} with layers {unsuitable}"
        )


@contextlib.contextmanager
def patch_size_of(model: keras.Model, patch_size: int) -> Iterator[None]:
    """Lets a model cut images into patches of another size, in this thread and as long as the context lasts.

    The images keep their size. The kernel of the patch embedding is resized by the pseudo-inverse, and the positions to
    the new grid, as `keras_vit.load` does with `patch_size=`. Both are products with fixed matrices, so that gradients
    reach the weights of the model.

    Args:
        model: a functional model of `keras_vit.build` that `check_patch_sizes` accepts.
        patch_size: pixels.

    Example:
        ```python
        from keras_vit.models.patch_size import patch_size_of

        variant = keras_vit.Variant(8, 32, 1, 2, 64)
        model = keras_vit.build(variant, input_shape=(32, 48, 3), classes=3)
        with patch_size_of(model, 16):
            assert model(np.zeros((1, 32, 48, 3))).shape == (1, 3)  # of 2 x 3 patches
        ```

    Source: arXiv:2212.08013, section 3.4.
    """
    patches, encoder = model.get_layer("patches"), model.get_layer("encoder")
    old, own = patches.patch_size, layers.Patches(patch_size)
    # (new, old) each: of the sides of a patch, and of the rows and columns of the grid.
    side = np.linalg.pinv(interpolation_matrix(old, patch_size, "antialias")).T
    rows, columns = (interpolation_matrix(length, length * old // patch_size, "corner") for length in patches.grid)

    def cut(layer: Any, call: Callable[..., Any], images: Any) -> Any:
        return own.call(images)

    def embed(layer: Any, call: Callable[..., Any], x: Any, training: bool | None = None) -> Any:
        dense = layer.projection
        kernel = ops.reshape(ops.cast(dense.kernel, x.dtype), (old, old, -1))
        kernel = ops.reshape(_along_both(kernel, side, side), (-1, layer.hidden_size))
        x = ops.matmul(x, kernel)
        return layer.assemble(x + ops.cast(dense.bias, x.dtype) if dense.use_bias else x, training=training)

    def place(layer: Any, table: Any) -> Any:
        front = table.shape[1] - len(rows[0]) * len(columns[0])
        grid = ops.reshape(table[0, front:], (len(rows[0]), len(columns[0]), -1))
        grid = ops.reshape(_along_both(grid, rows, columns), (1, -1, layer.hidden_size))
        return ops.concatenate([table[:, :front], grid], axis=1)

    with around_calls([patches], cut), around_calls([encoder], embed), changed([encoder], "positions", place):
        yield


def _along_both(x: Any, first: np.ndarray, second: np.ndarray) -> Any:
    """Returns (rows, columns, values) with both sides multiplied by a matrix."""
    first, second = (ops.cast(matrix, x.dtype) for matrix in (first, second))
    return ops.einsum("ai,bj,ijk->abk", first, second, x)
