"""Preprocessing: how images are resized and scaled for a model, the same in tf.data and in exported graphs."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_vit import _arguments as checked


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How a model's input is made from RGB pixels of 0 to 255: mean and std, and how images are resized.

    The defaults are the official code's: pixels from -1 (black) to 1 (white), the whole image resized.

    Args:
        mean, std: mean and standard deviation of each channel, for pixels from 0 to 1.
        interpolation: "bilinear" or "bicubic".
        antialias: whether an image is smoothed when it is made smaller, as Pillow does and TensorFlow does not.
        crop: share of the resized image's height and width that the central crop keeps; None for no crop.
        keep_aspect: with `crop`, whether the image is resized with its aspect ratio, or height and width independently.

    Raises:
        ValueError: if mean and std differ in length, a std is not above 0, or another value is unknown.

    Example:
        ```python
        pixels = keras_vit.Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        images = np.zeros((2, 32, 32, 3), "uint8")
        assert np.allclose(keras_vit.preprocess_input(images, pixels)[0, 0, 0], -np.divide(pixels.mean, pixels.std))
        ```

    Source: the official `input_pipeline.py`; the central crop: timm's `data/transforms_factory.py`.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: str = "bilinear"
    antialias: bool = False
    crop: float | None = None
    keep_aspect: bool = True

    def __post_init__(self) -> None:
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
                "Expected a mean and a standard deviation above 0 for each channel, interpolation='bilinear' or "
                "'bicubic', antialias and keep_aspect True or False, and crop None or above 0 and at most 1. "
                f"Received: {self}"
            )

    @property
    def channels(self) -> int:
        """Number of channels that are scaled."""
        return len(self.mean)

    @property
    def scale(self) -> float | tuple[float, ...]:
        """Factor of pixels from 0 to 255: one number, or one for each channel where they differ."""
        return _one_or_all(1 / (255 * value) for value in self.std)

    @property
    def offset(self) -> float | tuple[float, ...]:
        """Number that is added to the scaled pixels: one, or one for each channel where they differ."""
        return _one_or_all(-mean / std for mean, std in zip(self.mean, self.std))

    @property
    def description(self) -> str:
        """The formula for a pixel of 0 to 255, such as "pixel / 127.5 - 1, from -1 to 1"."""
        scaled = {name: contract.for_channels(len(self.mean)) for name, contract in CONTRACTS.items()}
        if self.mean == self.std == (0.5,) * len(self.mean):
            return "pixel / 127.5 - 1, from -1 to 1"
        if self.scales_as(scaled["raw"]):
            return "pixel, from 0 to 255 as it is"
        if self.scales_as(scaled["0..1"]):
            return "pixel / 255, from 0 to 1"
        return f"(pixel / 255 - mean) / std, with mean {self.mean} and std {self.std}"

    def scales_as(self, other: "Pixels") -> bool:
        """Returns whether another contract has the same mean and std."""
        return (self.mean, self.std) == (other.mean, other.std)

    def for_channels(self, channels: int | None) -> "Pixels":
        """Returns the contract for images with another number of channels: each has the average mean and std."""
        if channels == len(self.mean) or channels is None:
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return dataclasses.replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def resized(self, images: Any, size: tuple[int, int]) -> Any:
        """Returns images (batch, height, width, channels) at a size, (height, width) in pixels."""
        if tuple(images.shape[-3:-1]) == tuple(size):
            return images
        images = keras.ops.cast(images, "float32")
        uncropped = [round(side / (self.crop or 1)) for side in size]
        if self.crop and self.keep_aspect:
            height, width = images.shape[-3:-1]
            factor = max(uncropped[0] / height, uncropped[1] / width)
            uncropped = [max(side, round(old * factor)) for side, old in zip(uncropped, (height, width))]
        images = keras.ops.image.resize(images, uncropped, self.interpolation, antialias=self.antialias)
        top, left = ((side - kept) // 2 for side, kept in zip(uncropped, size))
        return images[..., top : top + size[0], left : left + size[1], :]


# What `pixels=` accepts, see `as_pixels`.
PixelsLike = Pixels | str | Mapping[str, Any]


def _one_or_all(values: Iterable[float]) -> float | tuple[float, ...]:
    values = tuple(values)
    return values[0] if len(set(values)) == 1 else values


OFFICIAL_PIXELS = Pixels()
# The usual contracts, by their names in `pixels=` and `--pixels`.
CONTRACTS = {
    "raw": Pixels((0.0,) * 3, (1 / 255,) * 3),
    "0..1": Pixels((0.0,) * 3, (1.0,) * 3),
    "-1..1": OFFICIAL_PIXELS,
    "imagenet": Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
CONTRACT_WORDS = f"{', '.join(map(repr, CONTRACTS))}, MEAN/STD such as '0.5/0.5' or '0.5,0.5,0.4/0.2,0.2,0.3'"


def as_pixels(value: PixelsLike | None) -> Pixels:
    """Returns the `Pixels` of a `pixels=` argument.

    Args:
        value: a `Pixels`; its fields as a dictionary; a name out of `CONTRACTS`; "MEAN/STD" for pixels from 0 to 1,
            each one number or one for each channel with commas between; None for the official code's.

    Raises:
        ValueError: if it is neither of these.
    """
    if value is None or isinstance(value, Pixels):
        return value or OFFICIAL_PIXELS
    if isinstance(value, Mapping):
        checked.known_names("keras_vit.Pixels", value, [field.name for field in dataclasses.fields(Pixels)])
        return Pixels(**value)
    if isinstance(value, str) and value in CONTRACTS:
        return CONTRACTS[value]
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in value.split("/"))
        channels = max(len(mean), len(std), 3)
        mean, std = (part * channels if len(part) == 1 else part for part in (mean, std))
        pixels = Pixels(mean, std)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"Expected pixels to be one of {CONTRACT_WORDS}. Received: pixels={value!r}") from error
    if not all(0 <= number <= 1 for number in (*mean, *std)):
        raise ValueError(
            f"Expected mean and standard deviation of pixels from 0 to 1. Received: pixels={value!r}. Divide those of "
            "pixels from 0 to 255 by 255."
        )
    return pixels


def preprocess_input(images: Any, pixels: PixelsLike | None = OFFICIAL_PIXELS) -> Any:
    """Scales pixels from 0..255 to the range of a model, -1..1 by default.

    Images keep their size. A model's own `preprocess_input` also resizes them and uses the model's pixel contract.

    Args:
        images: RGB pixels from 0 to 255 of any shape and number type: a NumPy array, a tensor of the backend, a
            Keras tensor, or a TensorFlow tensor inside tf.data on any backend.
        pixels: the pixel contract of a checkpoint, such as `model.pixels`: a `keras_vit.Pixels`, its fields as a
            dictionary, "raw", "0..1", "-1..1", "imagenet", or "MEAN/STD".

    Returns:
        The same shape in float32; a NumPy array for a NumPy array.

    Raises:
        ValueError: if `images` is not an array of numbers, or its channels do not fit `pixels`.

    Example:
        ```python
        images = np.array([[[0, 0, 0], [255, 255, 255]]], "uint8")
        assert keras_vit.preprocess_input(images).tolist() == [[[-1, -1, -1], [1, 1, 1]]]
        assert keras_vit.preprocess_input(images, "0..1").max() == 1
        ```

    Source: the official `input_pipeline.py`.
    """
    pixels = as_pixels(pixels)
    if isinstance(images, (list, tuple)):
        images = np.asarray(images)
    _check_images(images, pixels)
    if isinstance(images, np.ndarray):
        return images.astype("float32") * np.asarray(pixels.scale, "float32") + np.asarray(pixels.offset, "float32")
    return rescaling(pixels)(images)


def _check_images(images: Any, pixels: Pixels) -> None:
    """Raises a ValueError if images are not an array of numbers, or have other channels than `pixels`."""
    if not hasattr(images, "shape") or getattr(images.dtype, "kind", "f") not in "biuf":
        received = images if images is None else f"a {type(images).__name__}"
        raise ValueError(f"Expected images to be an array of pixels from 0 to 255. Received: images={received}")
    differ = isinstance(pixels.scale, tuple) or isinstance(pixels.offset, tuple)
    if differ and (not len(images.shape) or images.shape[-1] not in (None, len(pixels.mean))):
        raise ValueError(
            f"Expected images with {len(pixels.mean)} channels as the last axis, one for each mean and standard "
            f"deviation of pixels. Received: images of shape {tuple(images.shape)}"
        )


def rescaling(pixels: Pixels = OFFICIAL_PIXELS, **kwargs: Any) -> keras.layers.Rescaling:
    """Returns a Keras layer that scales pixels by a contract; `**kwargs` are those of `keras.layers.Rescaling`."""
    return keras.layers.Rescaling(pixels.scale, pixels.offset, dtype="float32", **kwargs)
