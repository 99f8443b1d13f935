"""Adapts the first kernel to images with another number of channels."""

import numpy as np

CHANNELS = ("average", "repeat", "slice")


def adapt_channels(kernel: np.ndarray, channels: int, how: str) -> np.ndarray:
    """Returns the kernel of a first convolution for images with another number of channels.

    Args:
        kernel: (height, width, channels of the file, filters).
        channels: channels of the images, 1 or more. The file's own number returns the kernel as it is.
        how: "average" sets every channel to the mean of the file's channels. "repeat" repeats the file's channels
            (RGBRGB...). Both multiply by the file's number of channels over `channels`, so that the response keeps its
            size: with "average", a grey image in all channels has the same response. "slice" copies the file's first
            channels; further channels start at zero.

    Returns:
        (height, width, channels, filters) float32.

    Raises:
        ValueError: if `how` is unknown, `channels` is below 1, or the kernel does not have four axes.

    Example:
        ```python
        from keras_vit.weights.channels import adapt_channels

        assert adapt_channels(np.ones((16, 16, 3, 8)), 1, "average").shape == (16, 16, 1, 8)
        ```

    Source: "repeat" is timm's `adapt_input_conv`, and so is "average" for one channel.
    """
    if how not in CHANNELS:
        raise ValueError(f"Expected how to be one of {', '.join(CHANNELS)}. Received: how={how!r}")
    if channels < 1 or kernel.ndim != 4:
        raise ValueError(
            "Expected a kernel (height, width, channels, filters) and channels of 1 or more. "
            f"Received: kernel of shape {kernel.shape}, channels={channels}"
        )
    in_file = kernel.shape[2]
    kernel = kernel.astype(np.float32, copy=False)
    if channels == in_file:
        return kernel
    if how == "average":
        return np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)
    if how == "repeat":
        return kernel[:, :, np.arange(channels) % in_file] * (in_file / channels)
    return np.pad(kernel[:, :, :channels], [(0, 0), (0, 0), (0, max(0, channels - in_file)), (0, 0)])
