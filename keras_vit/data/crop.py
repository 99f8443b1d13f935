"""Crops: random windows of training images, and the resizing and center crops of evaluation protocols."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_vit import _compat
from keras_vit.data.decoding import ImageError, decode_with_info, read_file
from keras_vit.data.jpeg import plain_jpeg_size
from keras_vit.data.order import key

if TYPE_CHECKING:
    from keras_vit.data.sources import Examples

Size = tuple[int, int]  # (height, width), pixels

# Columns that are decoded on either side of a window and then removed: libjpeg interpolates colours, and the first and
# the last column of a window lack a neighbour (up to 43 grey levels off, observed with TensorFlow 2.21).
_MARGIN = 2


def inception_window(size: Any, seed: Any) -> Any:
    """Returns a random window of an image, (top, left, height, width): (4,) int32.

    The window has 5 to 100 % of the area and a ratio of width to height of 0.75 to 1.33. It is the whole image if 100
    attempts fail.

    Args:
        size: (height, width) of the image.
        seed: two integers; the same seed returns the same window.

    Source: the official `input_pipeline.py`; the numbers that it omits are the operation's defaults.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([size, [3]], 0),
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def whole_window(size: Any, seed: Any) -> Any:
    """Returns the window that is the whole image, (4,) int32."""
    return tf.concat([[0, 0], size], 0)


def cut(pixels: Any, window: Any) -> Any:
    """Returns a window, (top, left, height, width), of an image (height, width, channels)."""
    top, left, height, width = tf.unstack(window)
    return pixels[top : top + height, left : left + width]


def size_before_crop(image_size: Size) -> Size:
    """Returns the (height, width) to which an image is resized before a crop of the model's size.

    A side of 224 pixels is cropped from 256, a side of 384 from 448, and any other from 8/7 of it.

    Source: big_vision's configurations.
    """
    height, width = ({384: 448}.get(side, round(side * 8 / 7)) for side in image_size)
    return height, width


def random_window(pixels: Any, image_size: Size, seed: Any) -> Any:
    """Returns a window of `image_size` at a random position of an image."""
    return tf.image.stateless_random_crop(pixels, (*image_size, pixels.shape[-1]), seed)


def no_crop(pixels: Any, image_size: Size, seed: Any) -> Any:
    """Returns the image as it is."""
    return pixels


# {crop: (the window that is decoded, the size to which it is resized, the part that is kept)}
CROPS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Size], Size], Callable[[Any, Size, Any], Any]]] = {
    "inception": (inception_window, lambda image_size: (image_size[0], image_size[1]), no_crop),
    "random": (whole_window, size_before_crop, random_window),
}


def resize_pixels(pixels: Any, image_size: Size) -> Any:
    """Resizes an image to (height, width): bilinear, without antialiasing, rounded to uint8."""
    return tf.cast(tf.round(tf.image.resize(pixels, image_size)), tf.uint8)


def _official(pixels: np.ndarray, image_size: Size) -> np.ndarray:
    return pixels if pixels.shape[:2] == tuple(image_size) else resize_pixels(pixels, image_size).numpy()


def _big_vision(pixels: np.ndarray, image_size: Size) -> np.ndarray:
    # The shorter side is resized by area means, in float32 and truncated to uint8, as in big_vision.
    sides = np.array(pixels.shape[:2], np.float32)
    factor = (np.array(size_before_crop(image_size), np.float32) / sides).max()
    pixels = tf.image.resize(pixels, np.round(sides * factor).astype(int), "area")
    return _middle(tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8).numpy(), image_size, lambda space: space // 2)


def _timm(pixels: np.ndarray, image_size: Size) -> np.ndarray:
    # crop_pct is 0.9 below 384 pixels and 1 from there on. torchvision's `Resize` truncates, its `CenterCrop` rounds.
    whole = [int(side / 0.9) if side < 384 else side for side in image_size]
    sides = pixels.shape[:2]
    by = 0 if whole[0] * sides[1] >= whole[1] * sides[0] else 1
    height, width = (whole[by] * side // sides[by] for side in sides)
    # A channel on its own: Pillow has no image of 2 or 5, and multiplies RGBA by its alpha before it resizes.
    layers = [Image.fromarray(layer) for layer in np.moveaxis(pixels, -1, 0)]
    resized = np.dstack([np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) for layer in layers])
    return _middle(resized, image_size, lambda space: round(space / 2))


def _middle(pixels: np.ndarray, image_size: Size, half: Callable[[int], int]) -> np.ndarray:
    """Returns the center of an image; `half` halves the number of pixels that are left over."""
    top, left = (half(side - kept) for side, kept in zip(pixels.shape, image_size))
    return pixels[top : top + image_size[0], left : left + image_size[1]]


# How published accuracies were measured: (uint8 pixels (height, width, channels), (height, width)) -> that size, uint8.
# official: both sides resized to the model's size, bilinear, without antialiasing. big_vision: the shorter side resized
# to 8/7 by area means (256 for 224 pixels, 448 for 384), then a center crop. timm: the shorter side resized by Pillow's
# bicubic, then a center crop of 90 % (of all from 384 pixels on).
PROTOCOLS: dict[str, Callable[[np.ndarray, Size], np.ndarray]] = {
    "official": _official,
    "big_vision": _big_vision,
    "timm": _timm,
}


def cropped(
    examples: "Examples",
    image_size: Size,
    crop: str,
    seed: int,
    crop_from: int | Size | None = None,
    channels: int = 3,
) -> Callable[[dict[str, Any]], Any]:
    """Returns a function for tf.data that reads a random crop of an example's image.

    The function maps {"index": of the example, "number": of the row since the start of the run} to an image
    (height, width, channels) uint8 of `image_size`. Of a plain JPEG only the window is decoded, if it is read as RGB.

    Args:
        examples: the encoded images.
        image_size: (height, width), pixels.
        crop: "inception", a window of `inception_window`, resized; or "random", a window of `image_size` in the whole
            image resized to `size_before_crop`, as in big_vision's fine-tuning.
        seed: another seed chooses other windows.
        crop_from: (height, width) to which the whole image is resized for "random", or one number for both, pixels;
            None is `size_before_crop`.
        channels: as in `keras_vit.data.decode`.
    """
    window_of, resized, kept = CROPS[crop]
    size_before = (crop_from, crop_from) if isinstance(crop_from, int) else crop_from or resized(image_size)
    encoded = _encoded(examples)
    # Sizes of plain JPEGs, (0, 0) for other files. Each file is parsed once: Python runs one thread at a time.
    known = _compat.sizes_table()

    def parse(index: Any, data: Any) -> Any:
        size = tf.numpy_function(lambda data: np.array(plain_jpeg_size(data) or (0, 0), np.int32), [data], tf.int32)
        with tf.control_dependencies([known.insert(index, size)]):
            return tf.identity(size)

    def decode_other(index: int, data: bytes) -> np.ndarray:
        with with_name(examples, index):
            return decode_with_info(data, channels)[0]

    def image(row: dict[str, Any]) -> Any:
        index, seeds = row["index"], key(seed, row["number"])
        data = encoded(index)

        def from_any() -> Any:
            size = known.lookup(index)
            size = tf.ensure_shape(tf.cond(size[0] < 0, lambda: parse(index, data), lambda: size), 2)
            return tf.cond(size[0] > 0, lambda: decode_window(data, size, window_of(size, seeds)), from_other)

        def from_other() -> Any:
            pixels = tf.ensure_shape(tf.numpy_function(decode_other, [index, data], tf.uint8), (None, None, channels))
            return cut(pixels, window_of(tf.shape(pixels)[:2], seeds))

        pixels = resize_pixels(from_any() if channels == 3 else from_other(), size_before)
        return kept(pixels, image_size, seeds)

    return image


def _encoded(examples: "Examples") -> Callable[[Any], Any]:
    """Returns a function from an example's index to the bytes of its file, for use in a graph."""
    images: Sequence[Any] = examples.images
    if all(isinstance(image, bytes) for image in images):
        table = tf.constant(images)
        return lambda index: tf.gather(table, index)
    if all(isinstance(image, str) for image in images):
        paths = tf.constant([os.fsencode(path) for path in images])
        return lambda index: tf.io.read_file(tf.gather(paths, index))

    def read(index: int) -> bytes:
        with with_name(examples, index):
            return read_file(images[index])

    return lambda index: tf.ensure_shape(tf.numpy_function(read, [index], tf.string), ())


@contextlib.contextmanager
def with_name(examples: "Examples", index: int) -> Iterator[None]:
    """Adds the name of an example to an `ImageError`."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{examples.names[index]}: {error}") from error


def decode_window(data: Any, size: Any, window: Any) -> Any:
    """Decodes a window of a plain JPEG, with the same pixels as `decode` and `cut`: (height, width, 3) uint8.

    Args:
        data: the encoded image.
        size: (height, width) of the image.
        window: (top, left, height, width).
    """
    top, left, height, width = tf.unstack(window)
    first, end = tf.maximum(left - _MARGIN, 0), tf.minimum(left + width + _MARGIN, size[1])
    pixels = tf.image.decode_and_crop_jpeg(
        data, tf.stack([top, first, height, end - first]), channels=3, dct_method="INTEGER_ACCURATE"
    )
    return pixels[:, left - first : left - first + width]
