"""Adapts the kernel that reads the image to another number of channels."""

import numpy as np

CHANNELS = ("average", "repeat", "slice")


def adapt_channels(kernel, channels, how):
    """Returns the kernel of a first convolution for images of other channels.

    Args:
        kernel: (rows, columns, channels of the file, filters).
        channels: those of the images, 1 or more. As many as the file's change nothing.
        how: "average" gives every channel the mean of the file's, "repeat" the file's in turn (RGBRGB...), both
            times the file's number over `channels`, so that the response keeps its size: with "average", a grey
            image in all channels gives the same one. "slice" takes the file's first channels as they are; those
            that the file does not have start at zero.

    Returns:
        (rows, columns, channels, filters) float32.

    Raises:
        ValueError: if `how` is none of `CHANNELS`, `channels` is below 1, or the kernel has other than four axes.

    Source: "repeat" is timm's `adapt_input_conv`, as is the sum that "average" is for one channel.
    """
    if how not in CHANNELS:
        raise ValueError(f"Expected one of {', '.join(CHANNELS)}. Received: how={how!r}")
    if channels < 1 or kernel.ndim != 4:
        raise ValueError(
            "Expected a kernel (rows, columns, channels, filters) and channels of 1 or more. "
            f"Received: kernel of shape {kernel.shape}, channels={channels}"
        )
    given = kernel.shape[2]
    kernel = kernel.astype(np.float32, copy=False)
    if channels == given:
        return kernel
    if how == "average":
        return np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)
    if how == "repeat":
        return kernel[:, :, np.arange(channels) % given] * (given / channels)
    return np.pad(kernel[:, :, :channels], [(0, 0), (0, 0), (0, max(0, channels - given)), (0, 0)])
