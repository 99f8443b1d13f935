"""Decodes, turns upright and resizes an encoded image to the pixels of a file's input, as clients do."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image, ImageOps

# Where a resize samples the first pixel, in parts of a pixel: MediaPipe's warp at the corner of the image; TensorFlow,
# Pillow, Android and browsers at the center of a pixel.
CORNER, CENTER = 0.0, 0.5


def upright(image: str | os.PathLike[str] | bytes) -> np.ndarray:
    """Decodes an image as (height, width, 3) uint8 RGB, turned upright by its EXIF orientation, on white.

    Args:
        image: a path, or the bytes of an encoded file.

    Raises:
        ValueError: if Pillow cannot read it; names the file.
    """
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            turned: Image.Image = ImageOps.exif_transpose(opened)
            if turned.mode.startswith("I"):
                # 16-bit grey; Pillow's own conversion would clip levels above 255.
                turned = Image.fromarray((np.asarray(turned).clip(0, 65535) / 257).round().astype(np.uint8))
            if turned.has_transparency_data:
                turned = turned.convert("RGBA")
                turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
            return np.asarray(turned.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        name = f"{len(image)} bytes" if isinstance(image, bytes) else image
        raise ValueError(f"Expected an image. Received: {name}, which cannot be read: {error}") from error


def upright_size(image: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """Returns the upright (height, width) of an encoded image in pixels; reads its header alone."""
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
        on_its_side = opened.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        width, height = opened.size
        return (width, height) if on_its_side else (height, width)


def resized(pixels: np.ndarray, size: Sequence[int], origin: float = CORNER) -> np.ndarray:
    """Resizes an image by bilinear interpolation, both sides on their own, to whole grey levels.

    Args:
        pixels: (height, width, 3) uint8.
        size: (height, width) in pixels.
        origin: `CORNER` or `CENTER`.

    Source: MediaPipe's image_to_tensor_converter_opencv.cc for `CORNER`: exact, except for sides that 64 divides,
    where a position may lie exactly between two that OpenCV represents.
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    for axis, new in enumerate(size):
        old = pixels.shape[axis]
        at = (np.arange(new, dtype=np.float32) + origin) * np.float32(old / new) - origin
        if origin == CORNER:  # OpenCV represents positions to 1/32 of a pixel
            at = np.rint(np.arange(new) * (32 * old / new)) / 32
        at = at.clip(0, old - 1)
        low = at.astype(int)
        part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = pixels.take(low, axis) * (1 - part) + pixels.take(np.minimum(low + 1, old - 1), axis) * part
    # OpenCV rounds halves up, the others to the even level.
    return (np.floor(pixels + 0.5) if origin == CORNER else np.rint(pixels)).astype(np.uint8)
