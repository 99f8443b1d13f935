"""Images that exported files are compared on: read and checked, or synthetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_vit.data.pipeline import read_all


def read_or_check_pixels(images: Any, size: tuple[int, int], channels: int, protocol: str, name: str) -> np.ndarray:
    """Returns images as (images, height, width, channels) uint8 of a size: reads encoded images, checks pixels.

    Args:
        images: paths or bytes of encoded images, or an array of pixels.
        size: (height, width) in pixels.
        channels: as in `keras_vit.data.decode`.
        protocol: see `keras_vit.data.pipeline.read_pixels`.
        name: of the argument, for the error.

    Raises:
        ValueError: if an array has another type or size; the usual mistake is pixels that are already scaled.
    """
    if isinstance(images, list | tuple):
        return read_all(images, size, protocol, channels)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != (*size, channels):
        values = f"values from {images.min():.3g} to {images.max():.3g}" if images.size else "no values"
        raise ValueError(
            f"Expected {name} to be pixels of 0 to 255, uint8 (images, {size[0]}, {size[1]}, {channels}). "
            f"Received: {images.dtype} {images.shape}, {values}"
        )
    return images


def synthetic_images(size: tuple[int, int], channels: int = 3, images: int = 64) -> np.ndarray:
    """Returns smooth random images, (images, height, width, channels) uint8."""
    height, width = size
    waves = np.random.default_rng(0).normal(size=(images, channels, 4, 4))
    y, x = (np.cos(np.pi * np.arange(4)[:, None] * (np.arange(side) + 0.5) / side) for side in (height, width))
    smooth = np.einsum("nckl,kr,lq->nrqc", waves, y, x)
    return np.clip(127.5 + 40 * smooth, 0, 255).astype(np.uint8)
