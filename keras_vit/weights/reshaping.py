"""How the numbers of an array lie in a file, and what the weights of a layer are called there, by family of sources."""

from typing import NamedTuple

import numpy as np


class Arrangement(NamedTuple):
    """Describes how an array of a file lies, by the shape of ours.

    Args:
        shapes: from our shape and the variant, the shapes that a file may have; the first one is written.
        to_ours: from the file's array and our shape, our array.
        to_theirs: from our array and the file's shape, the file's array.
    """

    shapes: callable
    to_ours: callable
    to_theirs: callable


class Cell(NamedTuple):
    """Says where a weight of ours lies in a file.

    Args:
        name: of the array.
        arrangement: of its numbers, or None.
        part: which third of the array's rows it is, where query, key and value lie in one; else None.
    """

    name: str
    arrangement: Arrangement | None = None
    part: int | None = None

    def shapes(self, ours, variant):
        """Returns the shapes that the file's array may have."""
        shapes = self.arrangement.shapes(ours, variant) if self.arrangement else (ours,)
        return shapes if self.part is None else tuple((3 * rows, *rest) for rows, *rest in shapes)


def _reshape(array, shape):
    return array.reshape(shape)


def _transpose(array, shape):
    return array.T


def _patch_shape(ours, variant):
    """Returns the (rows, columns, channels in, channels out) of the convolution whose kernel is our flat one."""
    values, width = ours
    p = variant.patch_size
    return p, p, values // p**2, width


def _heads(width, variant):
    return variant.num_heads, width // variant.num_heads


def _torch(shape):
    """Returns a kernel's shape as PyTorch has it: channels out, channels in, then the sides."""
    return (shape[3], shape[2], shape[0], shape[1])


def _from_torch(array, shape):
    return array.transpose(2, 3, 1, 0).reshape(shape)


def _patch_to_torch(array, shape):
    out, channels, rows, columns = shape
    return array.reshape(rows, columns, channels, out).transpose(3, 2, 0, 1)


def _without_own_rows(ours, variant):
    """Returns the shape of positions that the patches alone have."""
    return ours[0], ours[1] - variant.has_class_token - variant.distillation_token, ours[2]


def _with_class_row(array, shape):
    """Returns the positions with first rows of zeros, of tokens that are put in front after the positions."""
    return np.pad(array, ((0, 0), (shape[1] - array.shape[1], 0), (0, 0)))


def _without_class_row(array, shape):
    own = array.shape[1] - shape[1]
    if array[:, :own].any():
        raise ValueError("Expected positions that are zero for the class token: these files have none for it.")
    return array[:, own:]


TO_HEADS = Arrangement(lambda ours, variant: ((ours[0], *_heads(ours[1], variant)),), _reshape, _reshape)
FROM_HEADS = Arrangement(lambda ours, variant: ((*_heads(ours[0], variant), ours[1]),), _reshape, _reshape)
HEADS_BIAS = Arrangement(lambda ours, variant: (_heads(ours[0], variant),), _reshape, _reshape)
PATCH = Arrangement(lambda ours, variant: (_patch_shape(ours, variant),), _reshape, _reshape)
# Files of the old flax.nn have four axes.
GROUP = Arrangement(lambda ours, variant: ((1, 1, 1, *ours), ours), _reshape, _reshape)
POINTWISE = Arrangement(lambda ours, variant: ((1, 1, *ours),), _reshape, _reshape)
TORCH = Arrangement(lambda ours, variant: (ours[::-1],), _transpose, _transpose)
TORCH_CONV = Arrangement(
    lambda ours, variant: (_torch(ours),), _from_torch, lambda array, shape: array.transpose(3, 2, 0, 1)
)
TORCH_PATCH = Arrangement(lambda ours, variant: (_torch(_patch_shape(ours, variant)),), _from_torch, _patch_to_torch)
TORCH_POINTWISE = Arrangement(
    lambda ours, variant: ((*ours[::-1], 1, 1),),
    lambda array, shape: array.reshape(shape[::-1]).T,
    lambda array, shape: array.T.reshape(shape),
)
NO_CLASS_ROW = Arrangement(
    lambda ours, variant: (_without_own_rows(ours, variant),), _with_class_row, _without_class_row
)
# timm has files with and without the row; those with registers have none.
ANY_CLASS_ROW = Arrangement(
    lambda ours, variant: (ours, _without_own_rows(ours, variant))[bool(variant.register_tokens) :],
    _with_class_row,
    _without_class_row,
)

# kind: {our weight: {family: (the end of the name, arrangement)}}
KINDS = {
    "array": {"": {"flax": ("", None), "torch": ("", None)}},
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
    "to heads": {
        "/kernel": {"flax": ("/kernel", TO_HEADS), "torch": (".weight", TORCH)},
        "/bias": {"flax": ("/bias", HEADS_BIAS), "torch": (".bias", None)},
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
