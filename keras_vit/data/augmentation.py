"""Random changes to training pictures: what is wished for, and the affine ones, on whole batches."""

import dataclasses
import math

import tensorflow as tf

from keras_vit.data.crop import CROPS


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Describes how far a picture may be changed; each picture of a batch draws its own.

    Args:
        rotate: largest angle to either side, degrees.
        shift: largest shift to either side, part of the picture's side.
        zoom: largest change of size either way, part of the size.
        shear: largest shear to either side, part of the picture's side.
        flip: whether half of the pictures are mirrored left to right.
        crop: "resize", the whole picture; "inception", a window of 5 to 100 % of its area and a ratio of sides of
            0.75 to 1.33; "random", a window of the model's size out of the picture made a little larger.
        crop_from: side that the picture is brought to for "random", pixels; None is an eighth or so more than the
            model's.
        randaugment: (layers, magnitude), or None for none.
        mixup: parameter of the Beta distribution that the ratio of two blended pictures comes from; 0 for none.
        cutmix: the same for the share of a picture that is replaced by a part of another; 0 for none.
        keras_cv: keras-cv's layers, by name ("GridMask") or with arguments ("RandomHue(factor=0.2)").

    Raises:
        ValueError: if there is no such crop, `randaugment` is no pair of numbers, or mixup or cutmix is negative.
    """

    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    flip: bool = False
    crop: str = "resize"
    crop_from: int | None = None
    randaugment: tuple[int, int] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    keras_cv: tuple[str, ...] = ()

    def __post_init__(self):
        if self.randaugment is not None:
            object.__setattr__(self, "randaugment", tuple(self.randaugment))  # lists come from JSON
        names = (self.keras_cv,) if isinstance(self.keras_cv, str) else tuple(self.keras_cv)
        object.__setattr__(self, "keras_cv", names)
        pair = self.randaugment is None or len(self.randaugment) == 2
        if self.crop not in ("resize", *CROPS) or not pair or min(self.mixup, self.cutmix) < 0:
            raise ValueError(
                f"Expected a crop out of resize, {', '.join(CROPS)}, randaugment as (layers, magnitude), and mixup "
                f"and cutmix of 0 or more. Received: {self}"
            )

    @property
    def moves(self):
        """Whether pictures are resampled after the crop: turned, moved, scaled or sheared."""
        return bool(self.rotate or self.shift or self.zoom or self.shear)

    @property
    def mixes(self):
        """Whether pictures are mixed with one another."""
        return bool(self.mixup or self.cutmix)


def augment(images, augmentation, seed, rows=None, batch_size=None):
    """Returns the pictures turned, moved, scaled, sheared and mirrored by chance, in one bilinear resampling.

    What comes in from outside the picture repeats its edge.

    Args:
        images: (batch, rows, columns, channels) float.
        augmentation: an `Augmentation`.
        seed: two whole numbers; the same seed gives the same pictures.
        rows, batch_size: which rows of a batch of that many these pictures are; they are changed as in the whole one.
    """
    batch, (height, width) = batch_size or tf.shape(images)[0], images.shape[1:3]
    draws = _draws(batch, seed)
    angle = draws[0] * (augmentation.rotate * math.pi / 180)
    # In logarithms, so that larger and smaller are equally likely.
    scale_x, scale_y = (tf.exp(draws[i] * math.log1p(augmentation.zoom)) for i in (1, 2))
    shear = draws[3] * augmentation.shear
    shift_x, shift_y = draws[4] * augmentation.shift * width, draws[5] * augmentation.shift * height
    mirror = tf.where(draws[6] < 0, -1.0, 1.0) if augmentation.flip else tf.ones(batch)

    # Each pixel of the result asks where it comes from: (x, y) -> (a x + b y + c, d x + e y + f), about the middle.
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = mirror * scale_x * (cos + shear * sin), scale_x * (shear * cos - sin)
    d, e = mirror * scale_y * sin, scale_y * cos
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    c = middle_x + shift_x - a * middle_x - b * middle_y
    f = middle_y + shift_y - d * middle_x - e * middle_y
    zero = tf.zeros(batch)
    transforms = tf.stack([a, b, c, d, e, f, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms if rows is None else tf.gather(transforms, rows),
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def coins(batch_size, seed):
    """Returns which rows of a batch `augment` mirrors, (batch_size,) bool."""
    return _draws(batch_size, seed)[6] < 0


def _draws(batch_size, seed):
    return tf.random.stateless_uniform((7, batch_size), seed, -1.0, 1.0)
