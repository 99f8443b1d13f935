"""Scales the numbers of an image, of any type, to levels of 8 bits."""

import math

import numpy as np

from keras_vit.data.decoding import RANGE_SETTING, ImageError

_AT_ONCE = 2**20  # numbers, which have 8 bytes each while they are scaled
_HALF_LEVEL = 0.5 / 255  # of the range: a number that is so little outside of it, as sums are, is rounded to its end


def range_of(kind: np.dtype, bits: int, stated: tuple[float, float] | None) -> tuple[float, float]:
    """Returns the numbers that are black and white.

    Args:
        kind: type of the numbers.
        bits: of an integer in the file.
        stated: by `keras_vit.data.decoding.value_range`.

    Raises:
        ImageError: if nothing states them.
    """
    if kind.kind in "bu" and (bits <= 8 or not stated):
        return 0, 2**bits - 1
    if stated or kind.kind == "f":
        return stated or (0, 1)
    raise ImageError(
        f"has numbers of the type {kind.name}, and nothing says which are black and white; set the environment "
        f"variable {RANGE_SETTING}=LOW,HIGH to these two"
    )


def to_levels(numbers: np.ndarray, low: float, high: float, clip: bool = False) -> np.ndarray:
    """Returns numbers as levels from 0 at `low` to 255 at `high`, rounded, uint8.

    Args:
        numbers: of any shape.
        low, high: the range.
        clip: whether numbers out of range become 0 or 255; else they are an error.

    Raises:
        ImageError: if a number is NaN or infinite, or out of range.
    """
    least, most = float(numbers.min()), float(numbers.max())  # NaN if any number is
    if not math.isfinite(least) or not math.isfinite(most):
        raise ImageError("has numbers that are NaN or infinite")
    margin = _HALF_LEVEL * (high - low)
    if not clip and (least < low - margin or most > high + margin):
        raise ImageError(
            f"has numbers from {least:g} to {most:g}, expected {low:g} to {high:g}; scale them, or set the environment "
            f"variable {RANGE_SETTING}=LOW,HIGH to those that are black and white"
        )
    levels = np.empty(numbers.shape, np.uint8)
    rows = max(1, _AT_ONCE * len(numbers) // numbers.size)
    for start in range(0, len(numbers), rows):
        part = numbers[start : start + rows].astype(np.float64).clip(low, high)
        levels[start : start + rows] = np.rint((part - low) * (255 / (high - low)))
    return levels
