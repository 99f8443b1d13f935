"""From an encoded image to the pixels that a file takes, as clients do it."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageOps

# Where in an image the first of the pixels asked for lies, in parts of a pixel. MediaPipe's warp begins with the
# corner of the image; TensorFlow's resize, Pillow's, Android's and a browser's with the middle of a pixel.
CORNER, MIDDLE = 0.0, 0.5


def upright(image):
    """Returns a image as (rows, columns, 3) uint8 RGB, turned upright by its EXIF orientation, on white.

    Args:
        image: a path, or the bytes of an encoded file.

    Raises:
        ValueError: if it is no image that Pillow reads; names the file.
    """
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            opened = ImageOps.exif_transpose(opened)
            if opened.mode.startswith("I"):
                # 16-bit grey, of which Pillow's own conversion would cut off all that is brighter than 255.
                opened = Image.fromarray((np.asarray(opened).clip(0, 65535) / 257).round().astype(np.uint8))
            if opened.has_transparency_data:
                opened = opened.convert("RGBA")
                opened = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened)
            return np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        name = "the bytes given" if isinstance(image, bytes) else image
        raise ValueError(f"Expected an image. Received: {name}, which cannot be read: {error}") from error


def upright_size(image):
    """Returns (rows, columns) of an encoded image that is turned upright, pixels; reads its header alone."""
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
        on_its_side = opened.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return opened.size if on_its_side else opened.size[::-1]


def resized(pixels, size, origin=CORNER):
    """Returns an image at a size by bilinear interpolation, both sides on their own, in whole grey levels.

    Args:
        pixels: (rows, columns, 3) uint8.
        size: (rows, columns).
        origin: `CORNER` or `MIDDLE`.

    Source: MediaPipe's image_to_tensor_converter_opencv.cc for `CORNER`: exact, but for sides that 64 divides,
    where a place may lie just between two that OpenCV knows.
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    for axis, wanted in enumerate(size):
        given = pixels.shape[axis]
        at = (np.arange(wanted, dtype=np.float32) + origin) * np.float32(given / wanted) - origin
        if origin == CORNER:  # OpenCV knows places to 1/32 of a pixel
            at = np.rint(np.arange(wanted) * (32 * given / wanted)) / 32
        at = at.clip(0, given - 1)
        low = at.astype(int)
        part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = pixels.take(low, axis) * (1 - part) + pixels.take(np.minimum(low + 1, given - 1), axis) * part
    # OpenCV rounds halves up, the others to the even level.
    return (np.floor(pixels + 0.5) if origin == CORNER else np.rint(pixels)).astype(np.uint8)
