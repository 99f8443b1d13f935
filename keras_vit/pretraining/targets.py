"""What is to be guessed of a patch: its mean colour, or its pixels."""

import numpy as np
from keras import ops

BITS = 3  # of each channel's mean
LEVELS = 2**BITS
STEP = 256 // LEVELS  # grey levels
EPSILON = 1e-6  # keeps a patch of one colour from dividing by 0
ROUNDING = 2e-4  # grey levels by which scaled pixels come back too low; a mean's own steps are larger


def number_of_colours(channels):
    """Returns how many mean colours there are: 512 for RGB, 8 for grey.

    Raises:
        ValueError: if there are more than 4 channels, and so more colours than a head can tell apart.
    """
    if not 1 <= channels <= 4:
        raise ValueError(f"Expected images of 1 to 4 channels, for the colours of patches. Received: {channels}")
    return LEVELS**channels


def mean_colours(patches, pixels):
    """Returns the class of each patch's mean colour, 3 bits a channel, the first channel's the highest.

    Args:
        patches: (batch, patches, values), pixel by pixel, scaled.
        pixels: the `Pixels` they were scaled by, a mean and a std a channel.

    Returns:
        (batch, patches) int32.
    """
    channels = len(pixels.mean)
    means = ops.mean(ops.reshape(patches, (-1, *patches.shape[1:2], patches.shape[2] // channels, channels)), axis=2)
    grey_levels = (means - pixels.offset) / pixels.scale
    levels = ops.clip(ops.floor((grey_levels + ROUNDING) / STEP), 0, LEVELS - 1)
    return ops.cast(ops.sum(levels * np.float32(_places(channels)), axis=-1), "int32")


def colours_of(classes, channels):
    """Returns the middle of each class of colours, (..., channels), 0 to 255."""
    levels = ops.floor_divide(classes[..., None], _places(channels)) % LEVELS
    return (ops.cast(levels, "float32") + 0.5) * STEP


def _places(channels):
    return LEVELS ** np.arange(channels - 1, -1, -1, dtype="int32")


def moments(patches):
    """Returns the mean and the standard deviation of each patch's values, (batch, patches, 1) each."""
    mean = ops.mean(patches, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(variance + EPSILON)
