"""Turns a JPEG upright by its EXIF orientation inside a TensorFlow graph, for a server that runs no Python."""

from typing import Any

import tensorflow as tf

_SEGMENT = 2**16  # bytes; a segment of a JPEG has fewer
_EXIF_SEGMENT, _SCAN = 0xE1, 0xDA
_MARK = tuple(b"Exif\0\0")
_ORIENTATION_TAG, _SHORT = 0x0112, 3
_FLIPPED = (
    (3, 4, 6, 7),
    (2, 3, 7, 8),
)  # orientations that flip each axis; those from 5 on then transpose


def turn_upright(pixels: Any, jpeg: Any) -> Any:
    """Returns the upright image of a JPEG, (height, width, channels); height and width may change places.

    Args:
        pixels: (height, width, channels), as the file stores them.
        jpeg: the file's bytes, a scalar string tensor.
    """
    orientation = jpeg_orientation(jpeg)

    def turned() -> Any:
        flipped = tf.boolean_mask([0, 1], tf.reduce_any(tf.equal(_FLIPPED, orientation), axis=1))
        return tf.transpose(tf.reverse(pixels, flipped), tf.where(orientation < 5, [0, 1, 2], [1, 0, 2]))

    return tf.cond(orientation == 1, lambda: pixels, turned)


def jpeg_orientation(jpeg: Any) -> Any:
    """Reads a JPEG's EXIF orientation, scalar int32; 1, upright, where it is absent, damaged or out of range.

    Args:
        jpeg: the file's bytes, a scalar string tensor.

    Source: ITU T.81, annex B (segments); TIFF 6.0, section 2 (byte order, directory).
    """
    block = _exif_block(jpeg)
    size = tf.size(block)
    tiff = tf.pad(block, [[0, _SEGMENT - size]])  # an offset that points behind the block reads no entries
    little, big = (tf.reduce_all(tiff[:2] == ord(letter)) for letter in "IM")

    def words(part: Any) -> Any:  # each two bytes as a number
        return tf.tensordot(tf.reshape(part, [-1, 2]), tf.where(little, [1, 256], [256, 1]), 1)

    def low_first(pair: Any) -> Any:
        return tf.where(little, pair, pair[::-1])

    low, high = tf.unstack(low_first(words(tiff[4:8])), 2)
    start = tf.where(high == 0, tf.minimum(low, _SEGMENT - 2), _SEGMENT - 2)
    # The count has 2 bytes and an entry 12, whose last 2 are not read: no more entries than the block holds.
    entries = tf.clip_by_value(words(tiff[start : start + 2])[0], 0, tf.maximum((size - start) // 12, 0))
    table = tf.reshape(words(tiff[start + 2 : start + 2 + 12 * entries]), [-1, 6])  # tag, kind, count, value: words
    first = tf.concat([table[table[:, 0] == _ORIENTATION_TAG], tf.zeros([1, 6], tf.int32)], 0)[0]
    is_one_short = (first[1] == _SHORT) & tf.reduce_all(low_first(first[2:4]) == [1, 0])
    is_known = (little | big) & is_one_short & (first[4] >= 1) & (first[4] <= 8)
    return tf.where(is_known, first[4], 1)


def _exif_block(jpeg: Any) -> Any:
    """Returns the bytes of a JPEG's first EXIF segment, int32; empty without one."""
    size = tf.strings.length(jpeg)
    data = tf.pad(tf.io.decode_raw(jpeg, tf.uint8), [[0, 2 * _SEGMENT]])  # so that no step or slice leaves it

    def is_exif(at: Any) -> Any:
        return (data[at + 1] == _EXIF_SEGMENT) & tf.reduce_all(data[at + 4 : at + 10] == _MARK)

    def length(at: Any) -> Any:
        return tf.tensordot(tf.cast(data[at + 2 : at + 4], tf.int32), [256, 1], 1)

    def goes_on(at: Any) -> Any:
        return (at < size) & (data[at] == 0xFF) & (data[at + 1] != _SCAN) & ~is_exif(at)

    def following(at: Any) -> list[Any]:
        return [at + tf.where(data[at + 1] == 0xFF, 1, 2 + length(at))]  # a marker may have more than one 0xFF

    (at,) = tf.while_loop(goes_on, following, [tf.constant(2)])
    end = tf.where((data[at] == 0xFF) & is_exif(at), at + 2 + length(at), 0)
    return tf.cast(data[at + 10 : tf.minimum(end, size)], tf.int32)
