"""The pixel contract: what a model reads of an image.

One definition for tf.data, for exported graphs and for users.
"""

import dataclasses

import keras
import numpy as np

from keras_vit import _arguments as checked


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Describes how the images of a checkpoint were made from RGB pixels of 0 to 255.

    The defaults are the official code's: from -1 (black) to 1 (white), the whole image resized.

    Args:
        mean, std: of each colour, as parts of 255; subtracted and divided by.
        interpolation: "bilinear" or "bicubic".
        antialias: whether an image that is made smaller is smoothed, as Pillow does and TensorFlow does not.
        crop: part of the resized image's side that is kept, from its middle; None keeps all.
        keep_aspect: whether the shorter side is resized before the crop, or both sides on their own.

    Raises:
        ValueError: if mean and std are not of one length, a std is not above 0, or another value is unknown.

    Source: the official `input_pipeline.py`.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: str = "bilinear"
    antialias: bool = False
    crop: float | None = None
    keep_aspect: bool = True

    def __post_init__(self):
        for field in dataclasses.fields(self):  # lists come from JSON
            object.__setattr__(self, field.name, checked.plain(getattr(self, field.name)))
        if not (
            all(isinstance(values, tuple) and all(map(checked.is_number, values)) for values in (self.mean, self.std))
            and len(self.mean) == len(self.std)
            and all(value > 0 for value in self.std)
            and self.interpolation in ("bilinear", "bicubic")
            and (self.crop is None or checked.is_number(self.crop) and 0 < self.crop <= 1)
            and isinstance(self.antialias, bool)
            and isinstance(self.keep_aspect, bool)
        ):
            raise ValueError(
                "Expected a mean and a standard deviation above 0 for each color, interpolation 'bilinear' or "
                "'bicubic', antialias and keep_aspect True or False, and a crop of None or above 0 to 1. "
                f"Received: {self}"
            )

    @property
    def scale(self):
        """What pixels are multiplied by: a number, or one a colour where they differ."""
        return _one_or_all(1 / (255 * value) for value in self.std)

    @property
    def offset(self):
        """What is added then."""
        return _one_or_all(-mean / std for mean, std in zip(self.mean, self.std))

    @property
    def words(self):
        """What a client has to do to a pixel of 0 to 255, in words."""
        scaled = {name: contract.for_channels(len(self.mean)) for name, contract in CONTRACTS.items()}
        if self.mean == self.std == (0.5,) * len(self.mean):
            return "pixel / 127.5 - 1, from -1 to 1"
        if self.scales_as(scaled["raw"]):
            return "pixel, from 0 to 255 as it is"
        if self.scales_as(scaled["0..1"]):
            return "pixel / 255, from 0 to 1"
        return f"(pixel / 255 - mean) / std, with mean {self.mean} and std {self.std}"

    def scales_as(self, other):
        """Returns whether another contract has the same mean and std."""
        return (self.mean, self.std) == (other.mean, other.std)

    def for_channels(self, channels):
        """Returns the contract for images of so many channels: other than RGB get the mean of the three."""
        if channels == len(self.mean) or channels is None:
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return dataclasses.replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def resized(self, images, size):
        """Returns images of (batch, rows, columns, channels) at a size, (rows, columns) in pixels."""
        if tuple(images.shape[-3:-1]) == tuple(size):
            return images
        images = keras.ops.cast(images, "float32")
        whole = [round(side / (self.crop or 1)) for side in size]
        if self.crop and self.keep_aspect:
            rows, columns = images.shape[-3:-1]
            factor = max(whole[0] / rows, whole[1] / columns)
            whole = [max(side, round(old * factor)) for side, old in zip(whole, (rows, columns))]
        images = keras.ops.image.resize(images, whole, self.interpolation, antialias=self.antialias)
        top, left = ((side - kept) // 2 for side, kept in zip(whole, size))
        return images[..., top : top + size[0], left : left + size[1], :]


def _one_or_all(values):
    values = tuple(values)
    return values[0] if len(set(values)) == 1 else values


OFFICIAL_PIXELS = Pixels()
# The usual contracts, by the names that `pixels=` and `--pixels` take.
CONTRACTS = {
    "raw": Pixels((0.0,) * 3, (1 / 255,) * 3),
    "0..1": Pixels((0.0,) * 3, (1.0,) * 3),
    "-1..1": OFFICIAL_PIXELS,
    "imagenet": Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
CONTRACT_WORDS = f"{', '.join(map(repr, CONTRACTS))}, MEAN/STD such as '0.5/0.5' or '0.5,0.5,0.4/0.2,0.2,0.3'"


def as_pixels(value):
    """Returns the `Pixels` that a user means.

    Args:
        value: a `Pixels`; its fields as a dictionary; a name out of `CONTRACTS`; "MEAN/STD", each one number or one a
            colour with commas between, as parts of 255; None for the official code's.

    Raises:
        ValueError: if it is none of these.
    """
    if value is None or isinstance(value, Pixels):
        return value or OFFICIAL_PIXELS
    if isinstance(value, dict):
        checked.known_names("keras_vit.Pixels", value, [field.name for field in dataclasses.fields(Pixels)])
        return Pixels(**value)
    if isinstance(value, str) and value in CONTRACTS:
        return CONTRACTS[value]
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in value.split("/"))
        several = max(len(mean), len(std), 3)
        pixels = Pixels(*(part * several if len(part) == 1 else part for part in (mean, std)))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"Expected pixels as one of {CONTRACT_WORDS}. Received: pixels={value!r}") from error
    if not all(0 <= value <= 1 for value in (*mean, *std)):
        raise ValueError(
            f"Expected mean and standard deviation as parts of 255, from 0 to 1. Received: pixels={value!r}. Divide "
            "those of pixels of 0 to 255 by 255"
        )
    return pixels


def preprocess_input(images, pixels=OFFICIAL_PIXELS):
    """Scales pixels from 0..255 to -1..1, or as a checkpoint has it.

    Args:
        images: RGB pixels from 0 to 255 of any shape and number type: a NumPy array, a tensor of the backend, a
            Keras tensor, or a TensorFlow tensor inside tf.data on any backend.
        pixels: the `Pixels` of a checkpoint, see `model.pixels`, or what `as_pixels` takes. The model's own
            `preprocess_input` resizes, too.

    Returns:
        The same shape in float32; a NumPy array for a NumPy array.
    """
    pixels = as_pixels(pixels)
    if isinstance(images, (list, tuple)):
        images = np.asarray(images)
    _check_images(images, pixels)
    if isinstance(images, np.ndarray):
        return images.astype("float32") * np.float32(pixels.scale) + np.float32(pixels.offset)
    return rescaling(pixels)(images)


def _check_images(images, pixels):
    """Raises a ValueError where images are no arrays of numbers, or have other channels than the pixels' colors."""
    if not hasattr(images, "shape") or getattr(images.dtype, "kind", "f") not in "biuf":
        received = images if images is None else f"a {type(images).__name__}"
        raise ValueError(f"Expected images to be an array of pixels from 0 to 255. Received: images={received}")
    differ = isinstance(pixels.scale, tuple) or isinstance(pixels.offset, tuple)
    if differ and (not len(images.shape) or images.shape[-1] not in (None, len(pixels.mean))):
        raise ValueError(
            f"Expected images of {len(pixels.mean)} channels, the last axis, of which each has a mean and a standard "
            f"deviation. Received: images of shape {tuple(images.shape)}"
        )


def rescaling(pixels=OFFICIAL_PIXELS, **kwargs):
    """Returns the same contract as a Keras layer, to build into a model."""
    return keras.layers.Rescaling(pixels.scale, pixels.offset, dtype="float32", **kwargs)
