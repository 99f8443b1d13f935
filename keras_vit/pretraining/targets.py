"""Targets of the pre-training tasks: the mean colour of a patch, and its normalized pixels."""

from typing import Any

import numpy as np
from keras import ops

BITS = 3  # of the mean of each channel
LEVELS = 2**BITS
STEP = 256 // LEVELS  # grey levels
EPSILON = 1e-6  # avoids a division by 0 for a patch of one colour
ROUNDING = 2e-4  # grey levels that scaled pixels lose by rounding; the means of two patches differ by more


def number_of_colours(channels: int) -> int:
    """Returns the number of mean colours: 512 for RGB, 8 for grey images.

    Raises:
        ValueError: if there are more than 4 channels, and so too many colours for a classification head.
    """
    if not 1 <= channels <= 4:
        raise ValueError(f"Expected images of 1 to 4 channels for the mean colours of patches. Received: {channels}")
    return LEVELS**channels


def mean_colours(patches: Any, pixels: Any) -> Any:
    """Returns the class of each patch's mean colour, 3 bits a channel, the first channel in the highest bits.

    Args:
        patches: (batch, patches, values), pixel by pixel, scaled.
        pixels: the `Pixels` that describe their scaling, with a mean and a std for each channel.

    Returns:
        (batch, patches) int32.
    """
    channels = len(pixels.mean)
    means = ops.mean(ops.reshape(patches, (-1, *patches.shape[1:2], patches.shape[2] // channels, channels)), axis=2)
    grey_levels = (means - pixels.offset) / pixels.scale
    levels = ops.clip(ops.floor((grey_levels + ROUNDING) / STEP), 0, LEVELS - 1)
    return ops.cast(ops.sum(levels * np.float32(_place_values(channels)), axis=-1), "int32")


def colours_of(classes: Any, channels: int) -> Any:
    """Returns the central colour of each class, (..., channels), 0 to 255."""
    levels = ops.floor_divide(classes[..., None], _place_values(channels)) % LEVELS
    return (ops.cast(levels, "float32") + 0.5) * STEP


def _place_values(channels: int) -> np.ndarray:
    return LEVELS ** np.arange(channels - 1, -1, -1, dtype="int32")


def mean_and_std(patches: Any) -> tuple[Any, Any]:
    """Returns the mean and the standard deviation of each patch's values, (batch, patches, 1) each."""
    mean = ops.mean(patches, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(variance + EPSILON)
