"""Reads images inside tf.data, each time in another window."""

import contextlib
import os

import numpy as np
import tensorflow as tf

from keras_vit import _compat
from keras_vit.data.crop import CROPS, cut, resize_pixels
from keras_vit.data.decoding import ImageError, examine, read_file
from keras_vit.data.jpeg import plain_jpeg
from keras_vit.data.order import key

# Columns that are decoded on either side of a window and thrown away: libjpeg interpolates colours, and those of a
# window's first and last column lack a neighbour (up to 43 grey levels off, seen with TensorFlow 2.21).
_MARGIN = 2


def cropped(examples, image_size, crop, seed, crop_from=None):
    """Returns a function that reads the image of a row anew, in a window of its own.

    It takes {"index": of the example, "number": of the row, counted from the start of the run} and gives
    (rows, columns, 3) uint8 of `image_size`. Of a plain JPEG no more than the window is decoded.

    Args:
        examples: the `Examples`.
        image_size: (rows, columns), pixels.
        crop: "inception", a window as `inception_window` draws it, resized; or "random", a window of the model's
            size out of the whole image at a `larger` one, as big_vision fine-tunes.
        seed: another seed draws other windows.
        crop_from: side that the whole image is brought to for "random", pixels; None is `larger`'s.
    """
    window_of, size_before, part_of = CROPS[crop]
    size_before = (crop_from, crop_from) if crop_from else size_before(image_size)
    encoded = _encoded(examples)
    # Sizes of plain JPEGs, (0, 0) for other files. Each is judged once: Python does one thing at a time.
    known = _compat.sizes_table()

    def judge(index, data):
        size = tf.numpy_function(lambda data: np.array(plain_jpeg(data) or (0, 0), np.int32), [data], tf.int32)
        with tf.control_dependencies([known.insert(index, size)]):
            return tf.identity(size)

    def decode_other(index, data):
        with naming(examples, index):
            return examine(data)[0]

    def image(row):
        index, seeds = row["index"], key(seed, row["number"])
        data = encoded(index)
        size = known.lookup(index)
        size = tf.ensure_shape(tf.cond(size[0] < 0, lambda: judge(index, data), lambda: size), 2)

        def from_jpeg():
            return decode_window(data, size, window_of(size, seeds))

        def from_other():
            pixels = tf.ensure_shape(tf.numpy_function(decode_other, [index, data], tf.uint8), (None, None, 3))
            return cut(pixels, window_of(tf.shape(pixels)[:2], seeds))

        pixels = resize_pixels(tf.cond(size[0] > 0, from_jpeg, from_other), size_before)
        return part_of(pixels, image_size, seeds)

    return image


def _encoded(examples):
    """Returns a function from an example's index to the bytes of its file, inside a graph."""
    images = examples.images
    if all(isinstance(image, bytes) for image in images):
        table = tf.constant(images)
        return lambda index: tf.gather(table, index)
    if all(isinstance(image, str) for image in images):
        paths = tf.constant([os.fsencode(path) for path in images])
        return lambda index: tf.io.read_file(tf.gather(paths, index))

    def read(index):
        with naming(examples, index):
            return read_file(images[index])

    return lambda index: tf.ensure_shape(tf.numpy_function(read, [index], tf.string), ())


@contextlib.contextmanager
def naming(examples, index):
    """Says of which example it is that an image cannot be read."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{examples.names[index]}: {error}") from error


def decode_window(data, size, window):
    """Decodes a window of a plain JPEG of `size` alone: (rows, columns, 3) uint8, as `decode` and `cut`."""
    top, left, rows, columns = tf.unstack(window)
    first, end = tf.maximum(left - _MARGIN, 0), tf.minimum(left + columns + _MARGIN, size[1])
    pixels = tf.image.decode_and_crop_jpeg(
        data, tf.stack([top, first, rows, end - first]), channels=3, dct_method="INTEGER_ACCURATE"
    )
    return pixels[:, left - first : left - first + columns]
