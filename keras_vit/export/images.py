"""The images that a proof is made on."""

import numpy as np

from keras_vit.data.pipeline import read_all


def pixels_of_any(images, size, protocol, name):
    """Returns images as (images, rows, columns, 3) uint8 of a size: encoded ones are read, pixels are checked.

    Args:
        images: paths or bytes of encoded images, or an array.
        size: (rows, columns), pixels.
        protocol: see `keras_vit.data.pipeline.read_pixels`.
        name: what they are called in an error.

    Raises:
        ValueError: if an array is of another kind or size: the usual mistake is pixels that are scaled already.
    """
    if isinstance(images, list | tuple):
        return read_all(images, size, protocol)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != (*size, 3):
        inside = f"from {images.min():.3g} to {images.max():.3g}" if images.size else "none"
        raise ValueError(
            f"Expected {name} as pixels of 0 to 255, uint8 (images, {size[0]}, {size[1]}, 3). "
            f"Received: {images.dtype} {images.shape}, {inside}"
        )
    return images


def made_up(size, images=64):
    """Returns smooth random images, (images, rows, columns, 3) uint8."""
    rows, columns = size
    waves = np.random.default_rng(0).normal(size=(images, 3, 4, 4))
    y, x = (np.cos(np.pi * np.arange(4)[:, None] * (np.arange(side) + 0.5) / side) for side in (rows, columns))
    smooth = np.einsum("nckl,kr,lq->nrqc", waves, y, x)
    return np.clip(127.5 + 40 * smooth, 0, 255).astype(np.uint8)
