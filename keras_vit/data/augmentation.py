"""Random changes to training images: what is wished for, and the affine ones, on whole batches."""

import ast
import dataclasses
import difflib
import math

import tensorflow as tf

from keras_vit import _compat
from keras_vit.data.crop import CROPS


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Describes how far an image may be changed; each image of a batch draws its own.

    Args:
        rotate: largest angle to either side, degrees.
        shift: largest shift to either side, part of the image's side.
        zoom: largest change of size either way, part of the size.
        shear: largest shear to either side, part of the image's side.
        flip: whether half of the images are mirrored left to right.
        crop: "resize", the whole image; "inception", a window of 5 to 100 % of its area and a ratio of sides of
            0.75 to 1.33; "random", a window of the model's size out of the image made a little larger.
        crop_from: side that the image is brought to for "random", pixels; None is an eighth or so more than the
            model's.
        randaugment: (layers, magnitude), or None for none.
        mixup: parameter of the Beta distribution that the ratio of two blended images comes from; 0 for none.
        cutmix: the same for the share of an image that is replaced by a part of another; 0 for none.
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
        """Whether images are resampled after the crop: turned, moved, scaled or sheared."""
        return bool(self.rotate or self.shift or self.zoom or self.shear)

    @property
    def mixes(self):
        """Whether images are mixed with one another."""
        return bool(self.mixup or self.cutmix)


def augment(images, augmentation, seed, rows=None, batch_size=None):
    """Returns the images turned, moved, scaled, sheared and mirrored by chance, in one bilinear resampling.

    What comes in from outside the image repeats its edge.

    Args:
        images: (batch, rows, columns, channels) float.
        augmentation: an `Augmentation`.
        seed: two whole numbers; the same seed gives the same images.
        rows, batch_size: which rows of a batch of that many these images are; they are changed as in the whole one.
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
    return _compat.projective_transform(
        images, transforms if rows is None else tf.gather(transforms, rows), (height, width)
    )


def coins(batch_size, seed):
    """Returns which rows of a batch `augment` mirrors, (batch_size,) bool."""
    return _draws(batch_size, seed)[6] < 0


def _draws(batch_size, seed):
    return tf.random.stateless_uniform((7, batch_size), seed, -1.0, 1.0)


_OURS = {"MixUp": "mixup=", "CutMix": "cutmix="}  # need labels, which the layers here are not given


def keras_cv_layers(names):
    """Returns a function that passes images, (batch, rows, columns, 3) of 0 to 255, through keras-cv's layers.

    It gives float32 in whole grey levels. The layers draw their own random numbers from a state of their own: unlike
    all other augmentation, theirs differs from run to run, and from part to part of a batch.

    Args:
        names: a layer each, by name ("GridMask") or with arguments that are plain values
            ("RandAugment(value_range=(0, 255), magnitude=0.4)").

    Raises:
        ImportError: if keras-cv is not installed.
        ValueError: if there is no such layer, it is not read as described, or its arguments do not fit.
    """
    calls = [_call(name) for name in names]
    try:
        import keras_cv.layers as available
    except ImportError as error:
        raise ImportError('keras_cv= needs the extra "keras-cv": pip install keras-cv') from error
    layers = [_layer(available, *call) for call in calls]

    def change(images):
        images = tf.cast(images, tf.float32)
        for layer in layers:
            images = tf.ensure_shape(layer(images, training=True), images.shape)
        return tf.clip_by_value(tf.round(tf.cast(images, tf.float32)), 0, 255)

    return change


def _call(text):
    """Reads "Name" or "Name(argument=value, ...)" into (name, arguments) without running it."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(_EXPECTED.format(text)) from error
    if not isinstance(call.func, ast.Name) or call.args or None in arguments:
        raise ValueError(_EXPECTED.format(text))
    if call.func.id in _OURS:
        raise ValueError(f"{call.func.id} is our own: set {_OURS[call.func.id]} instead. Received: keras_cv={text!r}")
    return call.func.id, arguments


_EXPECTED = (
    'Expected the name of a keras-cv layer, alone or with named arguments that are plain values, such as "GridMask" or '
    '"RandomHue(factor=0.2, value_range=(0, 255))". Received: keras_cv={!r}'
)


def _layer(available, name, arguments):
    layer = getattr(available, name, None)
    if not isinstance(layer, type) or not any("ImageAugmentationLayer" in base.__name__ for base in layer.__mro__):
        close = difflib.get_close_matches(name, dir(available), n=3)
        hint = f"; near it: {', '.join(close)}" if close else ""
        raise ValueError(f"keras-cv has no augmentation layer of that name{hint}. Received: keras_cv={name!r}")
    try:
        return layer(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} of keras-cv does not take these arguments: {error}. Received: {arguments}") from error
