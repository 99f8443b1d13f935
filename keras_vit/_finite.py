"""The one check for weights that are NaN or infinite, on every way into and out of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit import _arguments as checked

if TYPE_CHECKING:
    import keras

_CHUNK = 1 << 16  # numbers at a time; their booleans stay in the processor's cache


def refuse_not_finite(owner: object, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Raises a ValueError that names the arrays that hold NaN or infinity.

    Args:
        owner: what the arrays belong to, such as a file, for the message.
        arrays: (name, array) pairs; of arrays of other kinds than floating point, all values are finite.
    """
    if faulty := [name for name, array in arrays if not _is_finite(array)]:
        hold = "holds" if len(faulty) == 1 else "hold"
        raise ValueError(f"{owner}: {checked.first_few(faulty)} {hold} NaN or infinity. Expected finite weights")


def refuse_model_not_finite(model: keras.Model, owner: object = None) -> None:
    """Raises a ValueError that names the weights of a model that hold NaN or infinity.

    Args:
        model: any built model of Keras.
        owner: what the weights belong to, for the message; the model by default.
    """
    import keras

    weights = ((weight.path, keras.ops.convert_to_numpy(weight)) for weight in model.weights)
    refuse_not_finite(owner or model.name, weights)


def _is_finite(array: Any) -> bool:
    if array.dtype.kind in "iubSUO":
        return True
    flat = array.reshape(-1)
    return all(np.isfinite(flat[i : i + _CHUNK]).all() for i in range(0, flat.size, _CHUNK))
