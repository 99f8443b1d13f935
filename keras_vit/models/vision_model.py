"""`VisionModel`: a functional model with its pixel contract, class names, thresholds of labels, reject and licence."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_vit import _compat
from keras_vit._finite import refuse_model_not_finite
from keras_vit.models.class_names import refuse_names
from keras_vit.models.interface import pixels_of, set_pixels
from keras_vit.models.lean import LeanModel
from keras_vit.models.license import License, as_license
from keras_vit.models.reject import Reject, as_reject
from keras_vit.preprocessing import Pixels, PixelsLike, as_pixels, preprocess_input


@keras.saving.register_keras_serializable(package="keras_vit")
class VisionModel(LeanModel):
    """A functional `keras.Model` with its pixel contract, class names and thresholds, which are saved with it.

    The layer that reads the images, `Patches` or `Stem`, stores the pixel contract, so that a clone or another model
    around the same layers has it, too.

    Args:
        inputs, outputs, name: as in `keras.Model`.
        pixels: the model's pixel contract: a `keras_vit.Pixels`, its fields as a dictionary, "raw", "0..1", "-1..1",
            "imagenet", or "MEAN/STD"; by default that of its layers. Models that share layers share it.
        class_names: class names in the order of the outputs; None if unknown.
        thresholds: of labels that are scored independently, in the order of the outputs: an image has a label if its
            score is at least this, 0 to 1; None for other models.
        reject: when an image is none of the classes: a `keras_vit.evaluation.Reject`, or its fields as a dictionary;
            None if it is not known.
        license: of the checkpoint that the model is made from, with what states it: a `License`, or its fields "name"
            and "origin" as a dictionary; None for a model from random weights. Exported files name it.

    Raises:
        ValueError: if `pixels` is unknown, two class names are equal or one is blank, or a threshold is not from 0
            to 1.

    Example:
        ```python
        images = keras.Input((32, 32, 3))
        x = keras_vit.layers.Patches(patch_size=8)(images)
        outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(x))
        model = keras_vit.VisionModel(images, outputs, pixels="imagenet", class_names=["cat", "dog"])
        assert model.preprocess_input(np.zeros((1, 64, 48, 3))).shape == (1, 32, 32, 3)
        ```
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        pixels: PixelsLike | None = None,
        class_names: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
        reject: Reject | Mapping[str, float] | None = None,
        license: License | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.own_pixels: Pixels | None = None  # the contract, where no layer can store it
        if pixels is not None:
            self.pixels = pixels
        self.class_names = class_names
        self.thresholds = thresholds
        self.reject = as_reject(reject)
        self.license = as_license(license)

    @property
    def pixels(self) -> Pixels:
        """The pixel contract: how the model's input is made from RGB pixels of 0 to 255."""
        return pixels_of(self)

    @pixels.setter
    def pixels(self, pixels: PixelsLike) -> None:
        contract = as_pixels(pixels)
        self.own_pixels = None if set_pixels(self, contract) else contract

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "pixels":  # Keras reads an attribute before it sets it, and this one may be unknown yet
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names in the order of the outputs, or None."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence[str] | None) -> None:
        if names is not None:
            if isinstance(names, str):
                raise ValueError(f"Expected class_names to be a list of strings. Received: class_names={names!r}")
            names = tuple(names)
            refuse_names(names)
        self._class_names = names

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The least score of each label with which an image has it, in the order of the outputs, or None."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Sequence[float] | None) -> None:
        if thresholds is not None:
            thresholds = tuple(map(float, thresholds))
            if not all(0 <= threshold <= 1 for threshold in thresholds):
                raise ValueError(f"Expected thresholds from 0 to 1. Received: thresholds={thresholds}")
        self._thresholds = thresholds

    def preprocess_input(self, images: Any) -> Any:
        """Resizes and scales images to the model's input, by its pixel contract.

        Args:
            images: (batch, height, width, channels) or (height, width, channels), pixels from 0 to 255.

        Returns:
            The images at the model's size in float32: a NumPy array where an array had that size, else a tensor.

        Raises:
            ValueError: if `images` have another number of axes or channels.
        """
        expected = self.inputs[0].shape
        images = np.asarray(images) if isinstance(images, (list, tuple)) else images
        shape = tuple(getattr(images, "shape", ()))
        if len(shape) not in (3, 4) or shape[-1] != expected[-1]:
            received = f"images of shape {shape}" if shape else f"images={type(images).__name__}"
            raise ValueError(
                f"Expected images (batch, height, width, {expected[-1]}) or (height, width, {expected[-1]}). "
                f"Received: {received}"
            )
        pixels = self.pixels.for_channels(expected[-1])
        return preprocess_input(pixels.resized(images, expected[1:3]), pixels)

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.layers.Layer:
        """Returns a layer as `keras.Model` does; if it contains one nested `VisionModel`, the layers inside, too."""
        if name is not None and name not in [layer.name for layer in self.layers]:
            nested = [layer for layer in self.layers if isinstance(layer, VisionModel)]
            if len(nested) == 1:
                return nested[0].get_layer(name)
        return super().get_layer(name, index)

    def save(
        self, filepath: str | os.PathLike[str], overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Saves the model as `keras.Model` does.

        Raises:
            ValueError: if a weight is NaN or infinite, or the model is quantized and `filepath` ends in .h5, which does
                not store the quantization.
        """
        if str(filepath).endswith(".h5") and any(layer.quantization_mode for layer in _compat.layers_inside(self)):
            raise ValueError(
                "Expected filepath to end in .keras for a quantized model, as a .h5 file does not store quantization. "
                f"Received: filepath={str(filepath)!r}"
            )
        refuse_model_not_finite(self)
        super().save(filepath, overwrite, zipped, **kwargs)

    def get_config(self) -> dict[str, Any]:
        pixels = self.own_pixels and dataclasses.asdict(self.own_pixels)
        own: dict[str, Any] = {"pixels": pixels, "class_names": self.class_names and list(self.class_names)}
        if self.thresholds:
            own["thresholds"] = list(self.thresholds)
        if self.reject:
            own["reject"] = dataclasses.asdict(self.reject)
        if self.license:
            own["license"] = dataclasses.asdict(self.license)
        return {**super().get_config(), **own}


# A .h5 file has the class's name without the package; without this, Keras does not find the class.
keras.saving.get_custom_objects()["VisionModel"] = VisionModel
