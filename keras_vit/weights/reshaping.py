"""Reshapers between the arrays of weight files and ours, and the weights of each kind of layer."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

ArrayShape = tuple[int, ...]
# Which words end the names of a layer's weights: Flax' (kernel, scale), Keras' (kernel, gamma) or PyTorch's (weight).
NameFamily = Literal["flax", "keras", "torch"]


class Reshaper(NamedTuple):
    """Converts an array between the shape that a file has and ours.

    Args:
        shapes: (our shape, variant) -> the shapes that a file may have; the first one is written.
        from_file: (the file's array, our shape, variant) -> our array.
        to_file: (our array, the file's shape, variant) -> the file's array.
    """

    shapes: Callable[[ArrayShape, Any], tuple[ArrayShape, ...]]
    from_file: Callable[[np.ndarray, ArrayShape, Any], np.ndarray]
    to_file: Callable[[np.ndarray, ArrayShape, Any], np.ndarray]


class Cell(NamedTuple):
    """A cell of the name table: the array of a file that holds one weight of ours.

    Args:
        name: of the array.
        reshaper: converts the array; None where it has our shape.
        part: (index, count) of the part of the array's rows, where several weights of ours lie in one array; else None.
        second: name of another array with the second half of the rows, where one weight of ours lies in two.
    """

    name: str
    reshaper: Reshaper | None = None
    part: tuple[int, int] | None = None
    second: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arrays."""
        return (self.name, self.second) if self.second else (self.name,)

    def shapes(self, ours: ArrayShape, variant: Any) -> tuple[ArrayShape, ...]:
        """Returns the shapes that the file's array, or each of the two, may have.

        Args:
            ours: shape of our weight.
            variant: the model's `Variant` or `ResNet`.
        """
        shapes = self.reshaper.shapes(ours, variant) if self.reshaper else (ours,)
        if self.second:
            return tuple((rows // 2, *rest) for rows, *rest in shapes)
        return shapes if self.part is None else tuple((self.part[1] * rows, *rest) for rows, *rest in shapes)


def _reshape(array: np.ndarray, shape: ArrayShape, variant: Any) -> np.ndarray:
    return array.reshape(shape)


def _transpose(array: np.ndarray, shape: ArrayShape, variant: Any) -> np.ndarray:
    return array.T


def _patch_shape(ours: ArrayShape, variant: Any) -> ArrayShape:
    """Returns the (height, width, channels in, channels out) of the convolution with our flat kernel."""
    values, hidden_size = ours
    p = variant.patch_size
    return p, p, values // p**2, hidden_size


def _heads(hidden_size: int, variant: Any) -> ArrayShape:
    return variant.num_heads, hidden_size // variant.num_heads


def _torch(shape: ArrayShape) -> ArrayShape:
    """Returns the shape of a kernel in PyTorch: (channels out, channels in, height, width)."""
    return (shape[3], shape[2], shape[0], shape[1])


def _from_torch(array: np.ndarray, shape: ArrayShape, variant: Any) -> np.ndarray:
    return array.transpose(2, 3, 1, 0).reshape(shape)


def _patch_to_torch(array: np.ndarray, shape: ArrayShape, variant: Any) -> np.ndarray:
    out, channels, height, width = shape
    return array.reshape(height, width, channels, out).transpose(3, 2, 0, 1)


def _are_side_by_side(variant: Any) -> bool:
    """Returns whether files hold the two channels that are rotated together side by side, as EVA-02's and PE's do.

    Ours are in two halves, as DINOv3's are.
    """
    return getattr(variant, "rotary", None) is not None and variant.rotary.reference is not None


def _in_halves(array: np.ndarray, variant: Any, back: bool = False) -> np.ndarray:
    """Orders the rows of queries or keys, (hidden_size, ...), by halves instead of pairs; or back."""
    if not _are_side_by_side(variant):
        return array
    heads, head_dim = _heads(len(array), variant)
    sides = (head_dim // 2, 2), (2, head_dim // 2)
    parts = array.reshape(heads, *sides[back], *array.shape[1:])
    return parts.swapaxes(1, 2).reshape(array.shape)


def _patches_only(ours: ArrayShape, variant: Any) -> ArrayShape:
    """Returns the shape of a position embedding without the rows of the class and the distillation token."""
    return ours[0], ours[1] - variant.has_class_token - variant.distillation_token, ours[2]


def _with_class_row(array: np.ndarray, shape: ArrayShape, variant: Any) -> np.ndarray:
    """Returns the position embedding with rows of zeros in front, for tokens that have no position in the file."""
    return np.pad(array, ((0, 0), (shape[1] - array.shape[1], 0), (0, 0)))


def _without_class_row(array: np.ndarray, shape: ArrayShape, variant: Any) -> np.ndarray:
    own = array.shape[1] - shape[1]
    if array[:, :own].any():
        raise ValueError(
            "Expected a position embedding that is zero for the class token: files of this format have no position for "
            "it. Received: other values there."
        )
    return array[:, own:]


TO_HEADS = Reshaper(lambda ours, variant: ((ours[0], *_heads(ours[1], variant)),), _reshape, _reshape)
FROM_HEADS = Reshaper(lambda ours, variant: ((*_heads(ours[0], variant), ours[1]),), _reshape, _reshape)
HEADS_BIAS = Reshaper(lambda ours, variant: (_heads(ours[0], variant),), _reshape, _reshape)
PATCH = Reshaper(lambda ours, variant: (_patch_shape(ours, variant),), _reshape, _reshape)
# Files of the old flax.nn have four axes.
GROUP = Reshaper(lambda ours, variant: ((1, 1, 1, *ours), ours), _reshape, _reshape)
POINTWISE = Reshaper(lambda ours, variant: ((1, 1, *ours),), _reshape, _reshape)
FLAT = Reshaper(lambda ours, variant: (ours[-1:],), _reshape, _reshape)
TABLE = Reshaper(lambda ours, variant: (ours[1:],), _reshape, _reshape)
ONE_TABLE = Reshaper(lambda ours, variant: ((1, *ours),), _reshape, _reshape)
TORCH = Reshaper(lambda ours, variant: (ours[::-1],), _transpose, _transpose)
# Queries and keys, which may be rotated.
TORCH_ROTATED = Reshaper(
    lambda ours, variant: (ours[::-1],),
    lambda array, shape, variant: _in_halves(array, variant).T,
    lambda array, shape, variant: _in_halves(array.T, variant, back=True),
)
ROTATED_BIAS = Reshaper(
    lambda ours, variant: (ours,),
    lambda array, shape, variant: _in_halves(array, variant),
    lambda array, shape, variant: _in_halves(array, variant, back=True),
)
TORCH_CONV = Reshaper(
    lambda ours, variant: (_torch(ours),), _from_torch, lambda array, shape, variant: array.transpose(3, 2, 0, 1)
)
TORCH_PATCH = Reshaper(lambda ours, variant: (_torch(_patch_shape(ours, variant)),), _from_torch, _patch_to_torch)
# A convolution, or as in NaFlex' files a dense layer of the values of a patch in our order, row by row.
TORCH_PATCH_OR_ROWS = Reshaper(
    lambda ours, variant: (_torch(_patch_shape(ours, variant)), ours[::-1]),
    lambda array, shape, variant: array.T if array.ndim == 2 else _from_torch(array, shape, variant),
    lambda array, shape, variant: array.T if len(shape) == 2 else _patch_to_torch(array, shape, variant),
)
TORCH_POINTWISE = Reshaper(
    lambda ours, variant: ((*ours[::-1], 1, 1),),
    lambda array, shape, variant: array.reshape(shape[::-1]).T,
    lambda array, shape, variant: array.T.reshape(shape),
)
NO_CLASS_ROW = Reshaper(lambda ours, variant: (_patches_only(ours, variant),), _with_class_row, _without_class_row)
# timm has files with and without the row; those with registers are without it.
ANY_CLASS_ROW = Reshaper(
    lambda ours, variant: (ours, _patches_only(ours, variant))[bool(variant.register_tokens) :],
    _with_class_row,
    _without_class_row,
)

# {kind of layer: {our weight: {family: (end of the name, reshaper)}}}
KINDS: dict[str, dict[str, dict[NameFamily, tuple[str, Reshaper | None]]]] = {
    "array": {"": {"flax": ("", None), "torch": ("", None)}},
    "flat": {"": {"torch": ("", FLAT)}},
    "table": {"": {"torch": ("", TABLE)}},
    "one table": {"": {"flax": ("", ONE_TABLE), "torch": ("", ONE_TABLE)}},
    "rotated bias": {"": {"torch": ("", ROTATED_BIAS)}},
    "matrix": {"/kernel": {"torch": ("", None)}},
    "kernel": {"/kernel": {"torch": (".weight", TORCH)}},
    "positions": {"": {"flax": ("", NO_CLASS_ROW), "torch": ("", ANY_CLASS_ROW)}},
    "dense": {
        "/kernel": {"flax": ("/kernel", None), "torch": (".weight", TORCH)},
        "/bias": {"flax": ("/bias", None), "torch": (".bias", None)},
    },
    "norm": {
        "/gamma": {"flax": ("/scale", None), "torch": (".weight", None)},
        "/beta": {"flax": ("/bias", None), "torch": (".bias", None)},
    },
    "patches": {
        "/kernel": {"flax": ("/kernel", PATCH), "torch": (".weight", TORCH_PATCH)},
        "/bias": {"flax": ("/bias", None), "torch": (".bias", None)},
    },
    "patches or rows": {
        "/kernel": {"torch": (".weight", TORCH_PATCH_OR_ROWS)},
        "/bias": {"torch": (".bias", None)},
    },
    "to heads": {
        "/kernel": {"flax": ("/kernel", TO_HEADS), "torch": (".weight", TORCH)},
        "/bias": {"flax": ("/bias", HEADS_BIAS), "torch": (".bias", None)},
    },
    "to rotated heads": {
        "/kernel": {"flax": ("/kernel", TO_HEADS), "torch": (".weight", TORCH_ROTATED)},
        "/bias": {"flax": ("/bias", HEADS_BIAS), "torch": (".bias", ROTATED_BIAS)},
    },
    # PyTorch's MultiheadAttention
    "joined heads": {
        "/kernel": {"torch": ("_weight", TORCH)},
        "/bias": {"torch": ("_bias", None)},
    },
    "from heads": {
        "/kernel": {"flax": ("/kernel", FROM_HEADS), "torch": (".weight", TORCH)},
        "/bias": {"flax": ("/bias", None), "torch": (".bias", None)},
    },
    "conv": {
        "/kernel": {"flax": ("/kernel", None), "keras": ("/kernel", None), "torch": (".weight", TORCH_CONV)},
    },
    "group norm": {
        "/gamma": {"flax": ("/scale", GROUP), "keras": ("/gamma", None), "torch": (".weight", None)},
        "/beta": {"flax": ("/bias", GROUP), "keras": ("/beta", None), "torch": (".bias", None)},
    },
    "pointwise": {
        "/kernel": {"keras": ("/kernel", POINTWISE), "torch": (".weight", TORCH_POINTWISE)},
        "/bias": {"keras": ("/bias", None), "torch": (".bias", None)},
    },
}
