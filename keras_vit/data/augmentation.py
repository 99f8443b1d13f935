"""Random changes to training pictures, on whole batches."""

import dataclasses
import math

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Describes how far a picture may be changed; each picture of a batch draws its own.

    Args:
        rotate: largest angle to either side, degrees.
        shift: largest shift to either side, part of the picture's side.
        zoom: largest change of size either way, part of the size.
        shear: largest shear to either side, part of the picture's side.
        flip: whether half of the pictures are mirrored left to right.
    """

    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    flip: bool = False


def augment(images, augmentation, seed):
    """Returns the pictures turned, moved, scaled, sheared and mirrored by chance, in one bilinear resampling.

    What comes in from outside the picture repeats its edge.

    Args:
        images: (batch, rows, columns, channels) float.
        augmentation: an `Augmentation`.
        seed: two whole numbers; the same seed gives the same pictures.
    """
    batch, (rows, columns) = tf.shape(images)[0], images.shape[1:3]
    draws = tf.random.stateless_uniform((7, batch), seed, -1.0, 1.0)
    angle = draws[0] * (augmentation.rotate * math.pi / 180)
    # In logarithms, so that larger and smaller are equally likely.
    scale_x, scale_y = (tf.exp(draws[i] * math.log1p(augmentation.zoom)) for i in (1, 2))
    shear = draws[3] * augmentation.shear
    shift_x, shift_y = draws[4] * augmentation.shift * columns, draws[5] * augmentation.shift * rows
    mirror = tf.where(draws[6] < 0, -1.0, 1.0) if augmentation.flip else tf.ones(batch)

    # Each pixel of the result asks where it comes from: (x, y) -> (a x + b y + c, d x + e y + f), about the middle.
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = mirror * scale_x * (cos + shear * sin), scale_x * (shear * cos - sin)
    d, e = mirror * scale_y * sin, scale_y * cos
    middle_x, middle_y = (columns - 1) / 2, (rows - 1) / 2
    c = middle_x + shift_x - a * middle_x - b * middle_y
    f = middle_y + shift_y - d * middle_x - e * middle_y
    zero = tf.zeros(batch)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=(rows, columns),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
