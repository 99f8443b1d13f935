"""RandAugment as the AugReg models were trained with it: so many operations by chance, all of one strength.

Source of the operations, their order, strengths, fill and rounding: big_vision's pp/autoaugment.py, reached through
`randaug(layers, magnitude)` (AugReg: arXiv:2106.10270; RandAugment: arXiv:1909.13719). What may surprise in it is
kept, for the published settings were chosen with it:

- The operation that is drawn is always carried out. Chances between 0.2 and 0.8 are drawn there and read by nobody.
- Magnitude 0 is not nothing: equalizing and inverting have no strength, and colours are all but taken away.
- Shifts and the hole are in pixels, whatever the image's size. So they are here from 224 pixels on, for which they
  were made; in a smaller image they are as much smaller, where those of 224 would leave it all grey.
- Contrast is changed about the grey level `pixels / 256`, 196 at 224 x 224 pixels, not about the mean.
- The threshold of solarizing and the bits of posterizing are bytes, and so begin again at 256: solarizing inverts
  the whole image at magnitudes 10, 20 and 30, and leaves half of it at 15.

Sums and quotients of whole grey levels are exact here, and single-precision there: a level differs now and then.
"""

import functools
import math
import operator

import tensorflow as tf

from keras_vit import _compat

SIDE = 224  # pixels; what the lengths in pixels are meant for
_GREY = 128  # comes in from outside the image, and fills the hole
STRONGEST = 30  # magnitude; the end of the range that big_vision recommends
LEAST_SIDE = 3  # pixels, for sharpening looks at a pixel's neighbours


def randaugment(image, layers, magnitude, seed):
    """Returns the image after `layers` operations, each drawn from `OPERATIONS` with equal chance.

    Args:
        image: (rows, columns, 3) uint8.
        layers: operations, one after the other.
        magnitude: strength of all of them, a whole number from 0 to 30. The AugReg settings are (2, 0), (2, 10),
            (2, 15) and (2, 20).
        seed: two whole numbers, int32 or int64; the same seed gives the same image, eagerly and in tf.data.

    Raises:
        TypeError: if `layers` or `magnitude` is no whole number, or the image is not uint8.
        ValueError: if they are out of range, or the image has another shape.
    """
    layers, magnitude = _whole("layers", layers, 1, math.inf), _whole("magnitude", magnitude, 0, STRONGEST)
    image = tf.convert_to_tensor(image)
    _check(image)
    for draws in tf.unstack(tf.random.stateless_uniform((layers, 4), seed)):
        chosen = tf.cast(draws[0] * len(OPERATIONS), tf.int32)
        operations = [functools.partial(act, image, magnitude / 10, draws[1:]) for act in OPERATIONS.values()]
        image = tf.ensure_shape(tf.switch_case(chosen, operations), image.shape)
    return image


def _whole(name, value, least, most):
    expected = f"`{name}` of RandAugment is a whole number from {least}" + (f" to {most}" if most < math.inf else "")
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{expected}. Received: {name}={value!r}")
    if not least <= operator.index(value) <= most:
        raise ValueError(f"{expected}. Received: {name}={value!r}")
    return operator.index(value)


def _check(image):
    if image.dtype != tf.uint8:
        raise TypeError(f"RandAugment needs an image in whole grey levels, uint8. Received: image.dtype={image.dtype}")
    shape = image.shape
    sides = [side for side in shape[:2] if side is not None] if shape.rank == 3 else []
    if shape.rank != 3 or shape[2] != 3 or min(sides, default=LEAST_SIDE) < LEAST_SIDE:
        raise ValueError(
            f"RandAugment needs one image of shape (rows, columns, 3), {LEAST_SIDE} pixels a side or more. "
            f"Received: image.shape={shape}"
        )


# An operation takes (image, level, draws): (rows, columns, 3) uint8; magnitude / 10; three numbers from 0 to 1, of
# which the first decides on the sign and the others on the place.


def _either_way(value, draws):
    return tf.where(draws[0] < 0.5, -value, value)


def _rows_columns(image):
    shape = tf.shape(image)
    return shape[0], shape[1]


def _blend(other, image, level):
    """Mixes two images of whole grey levels, float32; more than 1 of `image` goes away from `other`. As Pillow."""
    return tf.cast(tf.clip_by_value(other + (1.8 * level + 0.1) * (image - other), 0.0, 255.0), tf.uint8)


def _resampled(image, x, y):
    """Takes each pixel from the one nearest to column `x` and row `y`, float32 that broadcast to (rows, columns)."""
    rows, columns = _rows_columns(image)
    right, bottom = (tf.cast(side, tf.float32) - 0.5 for side in (columns, rows))
    inside = (x > -0.5) & (x < right) & (y > -0.5) & (y < bottom)
    x, y = (tf.cast(tf.floor(places + 0.5), tf.int32) for places in (x, y))
    grey = tf.fill([1, 3], tf.constant(_GREY, tf.uint8))
    pixels = tf.concat([tf.reshape(image, (-1, 3)), grey], axis=0)
    # 0.4 ms for 224 x 224 pixels; ImageProjectiveTransformV3, which finds the place for each channel anew, takes 2.
    return tf.gather(pixels, tf.where(inside, y * columns + x, rows * columns))


def _places(image):
    """Returns the columns (1, columns) and the rows (rows, 1) of an image's pixels, float32."""
    rows, columns = _rows_columns(image)
    return tf.range(tf.cast(columns, tf.float32))[tf.newaxis, :], tf.range(tf.cast(rows, tf.float32))[:, tf.newaxis]


def autocontrast(image, level, draws):
    """Stretches each channel from its least and most to 0 and 255."""
    rows, columns = _rows_columns(image)
    least, most = (tf.cast(f(image, axis=(0, 1)), tf.float32) for f in (tf.reduce_min, tf.reduce_max))
    flat = most == least
    least, most = tf.where(flat, 0.0, least), tf.where(flat, 255.0, most)
    # Rows of numbers: TensorFlow broadcasts over an axis of three at a third of the speed.
    levels = tf.reshape(tf.cast(image, tf.float32), (rows, columns * 3)) - tf.tile(least, [columns])
    return tf.reshape(tf.cast(levels * 255 / tf.tile(most - least, [columns]), tf.uint8), tf.shape(image))


def equalize(image, level, draws):
    """Makes each channel's grey levels about equally frequent. As Pillow."""
    rows, columns = _rows_columns(image)
    places = tf.reshape(tf.cast(image, tf.int32), (rows, columns * 3)) + tf.tile([0, 256, 512], [columns])
    counts = _compat.bincount(tf.reshape(places, [-1]), 768)
    counts = tf.reshape(counts, (3, 256))
    last = tf.gather(counts, tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.int32), batch_dims=1)
    step = (rows * columns - last)[:, tf.newaxis] // 255
    table = (tf.cumsum(counts, axis=1, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.cast(tf.minimum(tf.where(step > 0, table, tf.range(256)), 255), tf.uint8)
    return tf.reshape(tf.gather(tf.reshape(table, [-1]), places), tf.shape(image))


def invert(image, level, draws):
    """Turns light into dark."""
    return 255 - image


def rotate(image, level, draws):
    """Turns about the middle by 30 degrees a level."""
    x, y = _places(image)
    middle_x, middle_y = x[:, -1:] / 2, y[-1:] / 2
    angle = math.radians(30 * level)
    cos, sin = math.cos(angle), _either_way(math.sin(angle), draws)
    x, y = x - middle_x, y - middle_y
    return _resampled(image, cos * x - sin * y + middle_x, sin * x + cos * y + middle_y)


def posterize(image, level, draws):
    """Keeps the 4 x level highest bits of a byte, at least one."""
    dropped = min((8 - int(level * 4)) % 256, 7)
    return tf.bitwise.bitwise_and(image, tf.constant(0xFF << dropped & 0xFF, tf.uint8))


def solarize(image, level, draws):
    """Inverts what is lighter than 256 x level, modulo 256."""
    light = image >= int(level * 256) % 256
    return tf.bitwise.bitwise_xor(image, tf.cast(light, tf.uint8) * 255)  # 255 - x is x with all bits turned


def color(image, level, draws):
    """Takes colour away (level 0: to a tenth) or adds to it (level 1: to 1.9 times). As Pillow."""
    pixels = tf.reshape(tf.cast(image, tf.float32), (-1, 3))
    weights = tf.repeat([[19595.0], [38470.0], [7471.0]], 3, axis=1)  # Pillow's, of ITU-R 601-2, times 65536
    grey = tf.floor(pixels @ weights / 65536 + 0.5)  # exact: below 2**24
    return tf.reshape(_blend(grey, pixels, level), tf.shape(image))


def adjust_contrast(image, level, draws):
    """Moves grey levels towards `pixels / 256` or away from it, by as much as `color`."""
    rows, columns = _rows_columns(image)
    grey = tf.cast(tf.minimum(rows * columns // 256, 255), tf.float32)
    return _blend(grey, tf.cast(image, tf.float32), level)


def adjust_brightness(image, level, draws):
    """Moves grey levels towards black or away from it, by as much as `color`. As Pillow."""
    return _blend(0.0, tf.cast(image, tf.float32), level)


def sharpness(image, level, draws):
    """Moves towards the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13, or away from it; the edge stays."""
    row = tf.shape(image)[1] * 3
    flat = tf.reshape(image, [-1])
    # One long row of numbers: what wraps around falls on the left and right edges, which stay as they are.
    levels = tf.cast(flat, tf.float32)
    three = levels[: -2 * row] + levels[row:-row] + levels[2 * row :]
    inner = levels[row + 3 : -row - 3]
    smooth = tf.floor((three[:-6] + three[3:-3] + three[6:] + 4 * inner) / 13)
    sharp = tf.concat([flat[: row + 3], _blend(smooth, inner, level), flat[-row - 3 :]], axis=0)
    return tf.concat([image[:, :1], tf.reshape(sharp, tf.shape(image))[:, 1:-1], image[:, -1:]], axis=1)


def shear_x(image, level, draws):
    """Moves each row by 0.3 x level of its distance from the uppermost."""
    x, y = _places(image)
    return _resampled(image, x + _either_way(0.3 * level, draws) * y, y)


def shear_y(image, level, draws):
    """Moves each column by 0.3 x level of its distance from the leftmost."""
    x, y = _places(image)
    return _resampled(image, x, y + _either_way(0.3 * level, draws) * x)


def _pixels(image, length):
    """Returns a length that is meant for 224 pixels, or as much less as the image is smaller."""
    side = tf.reduce_min(tf.shape(image)[:2])
    return tf.cast(length * tf.minimum(side / SIDE, 1.0), tf.float32)


def translate_x(image, level, draws):
    """Moves by 100 x level pixels to either side."""
    x, y = _places(image)
    return _resampled(image, x + _either_way(_pixels(image, 100 * level), draws), y)


def translate_y(image, level, draws):
    """Moves up or down by 100 x level pixels."""
    x, y = _places(image)
    return _resampled(image, x, y + _either_way(_pixels(image, 100 * level), draws))


def cutout(image, level, draws):
    """Paints a square grey, 80 x level pixels wide, about a pixel anywhere; it may reach over the edge."""
    sides, half = tf.shape(image)[:2], tf.cast(_pixels(image, int(40 * level)), tf.int32)
    middle = tf.cast(draws[1:] * tf.cast(sides, tf.float32), tf.int32)
    top, left = tf.unstack(tf.maximum(middle - half, 0))
    bottom, right = tf.unstack(tf.minimum(middle + half, sides))
    hole = tf.fill([bottom - top, right - left, 3], tf.constant(_GREY, tf.uint8))
    band = tf.concat([image[top:bottom, :left], hole, image[top:bottom, right:]], axis=1)
    return tf.concat([image[:top], band, image[bottom:]], axis=0)


def solarize_add(image, level, draws):
    """Adds 110 x level to what is darker than 128."""
    most = tf.minimum(255 - image, tf.constant(min(int(110 * level), 255), tf.uint8))
    return image + tf.cast(image < 128, tf.uint8) * most


OPERATIONS = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "Posterize": posterize,
    "Solarize": solarize,
    "Color": color,
    "Contrast": adjust_contrast,
    "Brightness": adjust_brightness,
    "Sharpness": sharpness,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Cutout": cutout,
    "SolarizeAdd": solarize_add,
}
