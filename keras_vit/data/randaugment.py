"""RandAugment, as in the training of the AugReg models: random operations of one magnitude.

Source of the operations, their order, magnitudes, fill and rounding: big_vision's pp/autoaugment.py, called by
`randaug(layers, magnitude)` (AugReg: arXiv:2106.10270; RandAugment: arXiv:1909.13719). Unusual properties are kept,
as the published settings were chosen with them:

- The operation that is drawn is always applied. big_vision draws probabilities between 0.2 and 0.8 but ignores them.
- Magnitude 0 changes images: equalizing and inverting have no magnitude, and the colours are nearly removed.
- Translations and the hole are in pixels, whatever the image's size. Here this holds from 224 pixels on, for which they
  were made. In a smaller image they are scaled down, as it would be all grey otherwise.
- Contrast is changed relative to the grey level `pixels / 256`, 196 at 224 x 224 pixels, not to the mean.
- The threshold of solarizing and the bits of posterizing are bytes and overflow at 256: solarizing inverts the whole
  image at magnitudes 10, 20 and 30, and half of it at 15.

Images of other channels than red, green and blue have no saturation: "Color" is not drawn for them, and all other
operations change each channel as they change red.

Sums and quotients of whole grey levels are exact here, and single-precision in big_vision: a few levels differ by one.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_vit import _compat

SIDE = 224  # pixels; the image size for which the lengths in pixels were chosen
_GREY = 128  # the grey level outside the image and in the hole
STRONGEST = 30  # magnitude; the end of the range that big_vision recommends
LEAST_SIDE = 3  # pixels; sharpening needs the neighbours of a pixel


def randaugment(image: Any, layers: int, magnitude: int, seed: Any) -> Any:
    """Applies RandAugment to an image: `layers` operations, each drawn from `OPERATIONS` with equal probability.

    Args:
        image: (height, width, channels) uint8.
        layers: number of operations.
        magnitude: of all operations, an integer from 0 to 30. AugReg has (layers, magnitude) of (2, 0), (2, 10),
            (2, 15) and (2, 20).
        seed: two integers, int32 or int64; the same seed returns the same image, eagerly and in tf.data.

    Returns:
        The same shape, uint8.

    Raises:
        TypeError: if `layers` or `magnitude` is not an integer, or the image is not uint8.
        ValueError: if they are out of range, or the image has another shape.

    Example:
        ```python
        from keras_vit.data.randaugment import randaugment

        image = np.zeros((32, 48, 3), "uint8")
        assert randaugment(image, layers=2, magnitude=15, seed=(1, 2)).shape == (32, 48, 3)
        ```
    """
    layers, magnitude = _whole("layers", layers, 1, math.inf), _whole("magnitude", magnitude, 0, STRONGEST)
    image = tf.convert_to_tensor(image)
    _check(image)
    acts = [act for act in OPERATIONS.values() if act is not color or image.shape[-1] == 3]
    for draws in tf.unstack(tf.random.stateless_uniform((layers, 4), seed)):
        chosen = tf.cast(draws[0] * len(acts), tf.int32)
        operations = [functools.partial(act, image, magnitude / 10, draws[1:]) for act in acts]
        image = tf.ensure_shape(tf.switch_case(chosen, operations), image.shape)
    return image


def _whole(name: str, value: Any, least: int, most: float) -> int:
    expected = f"Expected {name} of RandAugment to be an integer from {least}" + (
        f" to {most}" if most < math.inf else ""
    )
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{expected}. Received: {name}={value!r}")
    if not least <= operator.index(value) <= most:
        raise ValueError(f"{expected}. Received: {name}={value!r}")
    return operator.index(value)


def _check(image: Any) -> None:
    if image.dtype != tf.uint8:
        raise TypeError(f"Expected a uint8 image for RandAugment. Received: image.dtype={image.dtype}")
    shape = image.shape
    sides = [side for side in shape[:2] if side is not None] if shape.rank == 3 else []
    if shape.rank != 3 or shape[2] is None or min(sides, default=LEAST_SIDE) < LEAST_SIDE:
        raise ValueError(
            f"Expected one image for RandAugment, (height, width, channels), with sides of {LEAST_SIDE} pixels or "
            f"more. Received: image.shape={shape}"
        )


# The arguments of an operation are (image, level, draws): (height, width, channels) uint8; magnitude / 10; three
# numbers from 0 to 1, of which the first decides the sign and the others the position.


def _either_sign(value: Any, draws: Any) -> Any:
    return tf.where(draws[0] < 0.5, -value, value)


def _height_width(image: Any) -> tuple[Any, Any]:
    shape = tf.shape(image)
    return shape[0], shape[1]


def _blend(other: Any, image: Any, level: float) -> Any:
    """Blends two images of whole grey levels, float32, as Pillow does; a factor above 1 moves away from `other`."""
    return tf.cast(tf.clip_by_value(other + (1.8 * level + 0.1) * (image - other), 0.0, 255.0), tf.uint8)


def _resampled(image: Any, x: Any, y: Any) -> Any:
    """Returns the pixels nearest to `x` (to the right) and `y` (down), float32 that broadcast to (height, width)."""
    height, width = _height_width(image)
    right, bottom = (tf.cast(side, tf.float32) - 0.5 for side in (width, height))
    inside = (x > -0.5) & (x < right) & (y > -0.5) & (y < bottom)
    x, y = (tf.cast(tf.floor(coordinates + 0.5), tf.int32) for coordinates in (x, y))
    grey = tf.fill([1, image.shape[-1]], tf.constant(_GREY, tf.uint8))
    pixels = tf.concat([tf.reshape(image, (-1, image.shape[-1])), grey], axis=0)
    # 0.4 ms for 224 x 224 pixels; ImageProjectiveTransformV3, which computes the position for each channel, takes 2 ms.
    return tf.gather(pixels, tf.where(inside, y * width + x, height * width))


def _coordinates(image: Any) -> tuple[Any, Any]:
    """Returns x (1, width) and y (height, 1) of an image's pixels, float32."""
    height, width = _height_width(image)
    return tf.range(tf.cast(width, tf.float32))[tf.newaxis, :], tf.range(tf.cast(height, tf.float32))[:, tf.newaxis]


def autocontrast(image: Any, level: float, draws: Any) -> Any:
    """Stretches each channel so that its smallest and largest values become 0 and 255."""
    height, width = _height_width(image)
    least, most = (tf.cast(f(image, axis=(0, 1)), tf.float32) for f in (tf.reduce_min, tf.reduce_max))
    flat = most == least
    least, most = tf.where(flat, 0.0, least), tf.where(flat, 255.0, most)
    # As (height, 3 * width): TensorFlow broadcasts over an axis of three at a third of the speed.
    levels = tf.reshape(tf.cast(image, tf.float32), (height, width * image.shape[-1])) - tf.tile(least, [width])
    return tf.reshape(tf.cast(levels * 255 / tf.tile(most - least, [width]), tf.uint8), tf.shape(image))


def equalize(image: Any, level: float, draws: Any) -> Any:
    """Equalizes the histogram of each channel, as Pillow does."""
    height, width = _height_width(image)
    channels = image.shape[-1]
    starts = tf.tile(tf.range(channels) * 256, [width])
    bins = tf.reshape(tf.cast(image, tf.int32), (height, width * channels)) + starts
    counts = tf.reshape(_compat.bincount(tf.reshape(bins, [-1]), 256 * channels), (channels, 256))
    last = tf.gather(counts, tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.int32), batch_dims=1)
    step = (height * width - last)[:, tf.newaxis] // 255
    table = (tf.cumsum(counts, axis=1, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.cast(tf.minimum(tf.where(step > 0, table, tf.range(256)), 255), tf.uint8)
    return tf.reshape(tf.gather(tf.reshape(table, [-1]), bins), tf.shape(image))


def invert(image: Any, level: float, draws: Any) -> Any:
    """Inverts the image."""
    return 255 - image


def rotate(image: Any, level: float, draws: Any) -> Any:
    """Rotates about the middle by 30 degrees x level."""
    x, y = _coordinates(image)
    middle_x, middle_y = x[:, -1:] / 2, y[-1:] / 2
    angle = math.radians(30 * level)
    cos, sin = math.cos(angle), _either_sign(math.sin(angle), draws)
    x, y = x - middle_x, y - middle_y
    return _resampled(image, cos * x - sin * y + middle_x, sin * x + cos * y + middle_y)


def posterize(image: Any, level: float, draws: Any) -> Any:
    """Keeps the 4 x level highest bits of a byte, at least one."""
    dropped = min((8 - int(level * 4)) % 256, 7)
    return tf.bitwise.bitwise_and(image, tf.constant(0xFF << dropped & 0xFF, tf.uint8))


def solarize(image: Any, level: float, draws: Any) -> Any:
    """Inverts the pixels of 256 x level, modulo 256, or more."""
    light = image >= int(level * 256) % 256
    return tf.bitwise.bitwise_xor(image, tf.cast(light, tf.uint8) * 255)  # 255 - x is x with all bits inverted


def color(image: Any, level: float, draws: Any) -> Any:
    """Multiplies the colour saturation of an RGB image by 0.1 (level 0) to 1.9 (level 1) and more, as Pillow does."""
    pixels = tf.reshape(tf.cast(image, tf.float32), (-1, 3))
    weights = tf.repeat([[19595.0], [38470.0], [7471.0]], 3, axis=1)  # Pillow's, of ITU-R 601-2, times 65536
    grey = tf.floor(pixels @ weights / 65536 + 0.5)  # exact: below 2**24
    return tf.reshape(_blend(grey, pixels, level), tf.shape(image))


def adjust_contrast(image: Any, level: float, draws: Any) -> Any:
    """Changes the contrast relative to the grey level `pixels / 256`, by the factor of `color`."""
    height, width = _height_width(image)
    grey = tf.cast(tf.minimum(height * width // 256, 255), tf.float32)
    return _blend(grey, tf.cast(image, tf.float32), level)


def adjust_brightness(image: Any, level: float, draws: Any) -> Any:
    """Changes the brightness by the factor of `color`, as Pillow does."""
    return _blend(0.0, tf.cast(image, tf.float32), level)


def sharpness(image: Any, level: float, draws: Any) -> Any:
    """Blends with the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13, or sharpens; the edge stays."""
    channels = image.shape[-1]
    row = tf.shape(image)[1] * channels
    flat = tf.reshape(image, [-1])
    # One long row of numbers: the wrap-around affects the left and right edges alone, which stay as they are.
    levels = tf.cast(flat, tf.float32)
    three = levels[: -2 * row] + levels[row:-row] + levels[2 * row :]
    inner = levels[row + channels : -row - channels]
    smooth = tf.floor((three[: -2 * channels] + three[channels:-channels] + three[2 * channels :] + 4 * inner) / 13)
    sharp = tf.concat([flat[: row + channels], _blend(smooth, inner, level), flat[-row - channels :]], axis=0)
    return tf.concat([image[:, :1], tf.reshape(sharp, tf.shape(image))[:, 1:-1], image[:, -1:]], axis=1)


def shear_x(image: Any, level: float, draws: Any) -> Any:
    """Shifts each row by 0.3 x level of its distance from the top."""
    x, y = _coordinates(image)
    return _resampled(image, x + _either_sign(0.3 * level, draws) * y, y)


def shear_y(image: Any, level: float, draws: Any) -> Any:
    """Shifts each column by 0.3 x level of its distance from the left."""
    x, y = _coordinates(image)
    return _resampled(image, x, y + _either_sign(0.3 * level, draws) * x)


def _pixels(image: Any, length: float) -> Any:
    """Returns a length for an image of 224 pixels, scaled down for a smaller image."""
    side = tf.reduce_min(tf.shape(image)[:2])
    return tf.cast(length * tf.minimum(side / SIDE, 1.0), tf.float32)


def translate_x(image: Any, level: float, draws: Any) -> Any:
    """Shifts by 100 x level pixels to the left or right."""
    x, y = _coordinates(image)
    return _resampled(image, x + _either_sign(_pixels(image, 100 * level), draws), y)


def translate_y(image: Any, level: float, draws: Any) -> Any:
    """Shifts up or down by 100 x level pixels."""
    x, y = _coordinates(image)
    return _resampled(image, x, y + _either_sign(_pixels(image, 100 * level), draws))


def cutout(image: Any, level: float, draws: Any) -> Any:
    """Paints a grey square, 80 x level pixels wide, around a random pixel; it may cross the edge."""
    sides, half = tf.shape(image)[:2], tf.cast(_pixels(image, int(40 * level)), tf.int32)
    middle = tf.cast(draws[1:] * tf.cast(sides, tf.float32), tf.int32)
    top, left = tf.unstack(tf.maximum(middle - half, 0))
    bottom, right = tf.unstack(tf.minimum(middle + half, sides))
    hole = tf.fill([bottom - top, right - left, image.shape[-1]], tf.constant(_GREY, tf.uint8))
    band = tf.concat([image[top:bottom, :left], hole, image[top:bottom, right:]], axis=1)
    return tf.concat([image[:top], band, image[bottom:]], axis=0)


def solarize_add(image: Any, level: float, draws: Any) -> Any:
    """Adds 110 x level to pixels below 128."""
    most = tf.minimum(255 - image, tf.constant(min(int(110 * level), 255), tf.uint8))
    return image + tf.cast(image < 128, tf.uint8) * most


OPERATIONS: dict[str, Callable[[Any, float, Any], Any]] = {
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
