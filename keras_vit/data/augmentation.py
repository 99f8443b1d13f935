"""Data augmentation: its settings, random rotation, shift, zoom, shear and flip of a batch, and keras-cv's layers.

The crop is in `crop`, RandAugment in `randaugment`, mixup and CutMix are in `mixing`.
"""

import ast
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from keras_vit import _compat
from keras_vit.data.crop import CROPS


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Settings of the data augmentation. Each image of a batch is changed by random amounts of its own.

    Args:
        rotate: largest rotation to either side, degrees.
        shift: largest shift to either side, a fraction of the image's side.
        zoom: largest change of size either way, a fraction of the size.
        shear: largest shear to either side, a fraction of the image's side.
        flip: whether half of the images are mirrored left to right.
        crop: "resize", the whole image; "inception", a random window of 5 to 100 % of the area and a ratio of sides of
            0.75 to 1.33; "random", a random window of the model's size in a slightly larger image.
        crop_from: (height, width) to which the image is resized for "random", or one number for both, pixels; None is
            about 8/7 of the model's.
        randaugment: (layers, magnitude) of RandAugment, or None for none.
        mixup: parameter of mixup's Beta distribution, from which the ratio of two images is drawn; 0 for none.
        cutmix: parameter of CutMix's Beta distribution, from which the area of the pasted box is drawn; 0 for none.
        keras_cv: keras-cv's layers, by name ("GridMask") or with arguments ("RandomHue(factor=0.2)").

    Raises:
        ValueError: if the crop is unknown, `randaugment` is not a pair of numbers, or mixup or cutmix is negative.

    Example:
        ```python
        augmentation = keras_vit.data.Augmentation(crop="inception", flip=True, randaugment=(2, 15), mixup=0.5)
        assert augmentation.mixes and not augmentation.moves
        ```
    """

    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    flip: bool = False
    crop: str = "resize"
    crop_from: int | tuple[int, int] | None = None
    randaugment: tuple[int, int] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    keras_cv: tuple[str, ...] = ()

    def __post_init__(self) -> None:
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
    def moves(self) -> bool:
        """Whether images are resampled after the crop: rotated, shifted, zoomed or sheared."""
        return bool(self.rotate or self.shift or self.zoom or self.shear)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed by mixup or CutMix."""
        return bool(self.mixup or self.cutmix)


def random_affine(
    images: Any, augmentation: Augmentation, seed: Any, rows: Any = None, batch_size: int | None = None
) -> Any:
    """Returns the images randomly rotated, shifted, zoomed, sheared and mirrored, in one bilinear resampling.

    Pixels from outside the image repeat its edge.

    Args:
        images: (batch, height, width, channels) float.
        augmentation: the largest changes.
        seed: two integers; the same seed returns the same images.
        rows, batch_size: indices of these images in a batch of `batch_size`; they change as in the whole batch.
    """
    batch, (height, width) = batch_size or tf.shape(images)[0], images.shape[1:3]
    draws = _draws(batch, seed)
    angle = draws[0] * (augmentation.rotate * math.pi / 180)
    # In logarithms, so that larger and smaller are equally likely.
    scale_x, scale_y = (tf.exp(draws[i] * math.log1p(augmentation.zoom)) for i in (1, 2))
    shear = draws[3] * augmentation.shear
    shift_x, shift_y = draws[4] * augmentation.shift * width, draws[5] * augmentation.shift * height
    mirror = tf.where(draws[6] < 0, -1.0, 1.0) if augmentation.flip else tf.ones(batch)

    # (x, y) of the result -> (a x + b y + c, d x + e y + f) of the image, relative to the middle.
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


def random_flips(batch_size: int, seed: Any) -> Any:
    """Returns whether `random_affine` mirrors each image of a batch, (batch_size,) bool."""
    return _draws(batch_size, seed)[6] < 0


def _draws(batch_size: Any, seed: Any) -> Any:
    return tf.random.stateless_uniform((7, batch_size), seed, -1.0, 1.0)


_OURS = {"MixUp": "mixup=", "CutMix": "cutmix="}  # these need labels, which keras-cv's layers do not receive here
_EXPECTED = (
    'Expected the name of a keras-cv layer, alone or with named arguments that are plain values, such as "GridMask" or '
    '"RandomHue(factor=0.2, value_range=(0, 255))". Received: keras_cv={!r}'
)


def keras_cv_layers(names: Iterable[str]) -> Callable[[Any], Any]:
    """Returns a function that applies keras-cv's augmentation layers to a batch of images.

    The layers have their own random state: unlike all other augmentation, theirs differs between runs, and between
    parts of a batch.

    Args:
        names: a layer each, by name ("GridMask") or with arguments that are plain values
            ("RandAugment(value_range=(0, 255), magnitude=0.4)").

    Returns:
        A function from (batch, height, width, 3) of 0 to 255 to float32 of the same shape, in whole grey levels.

    Raises:
        ImportError: if keras-cv is not installed.
        ValueError: if a layer is unknown, a name has another form, or the arguments do not fit.

    Example:
        ```python
        import importlib.util

        if importlib.util.find_spec("keras_cv"):  # pip install keras-cv
            change = keras_vit.data.keras_cv_layers(["GridMask"])
            assert change(np.zeros((2, 8, 8, 3), "uint8")).shape == (2, 8, 8, 3)
        ```
    """
    calls = [_call(name) for name in names]
    try:
        import keras_cv.layers as available
    except ImportError as error:
        raise ImportError('keras_cv= needs the extra "keras-cv": pip install keras-cv') from error
    layers = [_layer(available, *call) for call in calls]

    def change(images: Any) -> Any:
        images = tf.cast(images, tf.float32)
        for layer in layers:
            images = tf.ensure_shape(layer(images, training=True), images.shape)
        return tf.clip_by_value(tf.round(tf.cast(images, tf.float32)), 0, 255)

    return change


def _call(text: str) -> tuple[str, dict[str, Any]]:
    """Parses "Name" or "Name(argument=value, ...)" into (name, arguments) without running it."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        arguments = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(_EXPECTED.format(text)) from error
    if not isinstance(call.func, ast.Name) or call.args or "" in arguments:
        raise ValueError(_EXPECTED.format(text))
    if call.func.id in _OURS:
        raise ValueError(
            f"Expected a layer of keras-cv. Received: keras_cv={text!r}, which is built in: set {_OURS[call.func.id]}"
        )
    return call.func.id, arguments


def _layer(available: Any, name: str, arguments: dict[str, Any]) -> Any:
    layer = getattr(available, name, None)
    if not isinstance(layer, type) or not any("ImageAugmentationLayer" in base.__name__ for base in layer.__mro__):
        close = difflib.get_close_matches(name, dir(available), n=3)
        hint = f"; near it: {', '.join(close)}" if close else ""
        raise ValueError(f"keras-cv has no augmentation layer of that name{hint}. Received: keras_cv={name!r}")
    try:
        return layer(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} of keras-cv does not accept its arguments: {error}. Received: {arguments}") from error
