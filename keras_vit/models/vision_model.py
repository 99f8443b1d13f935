"""A functional model that keeps its pixel contract and the names of its classes."""

import dataclasses

import keras
import numpy as np

from keras_vit import _compat
from keras_vit.models.class_names import refuse_names
from keras_vit.models.interface import pixels_of, set_pixels
from keras_vit.preprocessing import as_pixels, preprocess_input


@keras.saving.register_keras_serializable(package="keras_vit")
class VisionModel(keras.Model):
    """A functional `keras.Model` with its pixel contract and the names of its classes, saved with it.

    The contract is kept by the layer that reads the images, `Patches` or `Stem`, so that it is still there in a clone
    or in another model around the same layers.

    Args:
        inputs, outputs, name: as in `keras.Model`.
        pixels: the `keras_vit.Pixels` of the model, or what `keras_vit.preprocessing.as_pixels` takes; by default what
            its layers say, the official code's where nothing else was said. Models that share layers share it.
        class_names: in the order of the outputs; None where they are not known.
    """

    def __init__(self, inputs, outputs, name=None, *, pixels=None, class_names=None, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.said_pixels = None
        if pixels is not None:
            self.pixels = pixels
        self.class_names = class_names

    @property
    def pixels(self):
        """The `keras_vit.Pixels`: how the images that it takes are made from RGB pixels of 0 to 255."""
        return pixels_of(self)

    @pixels.setter
    def pixels(self, pixels):
        pixels = as_pixels(pixels)
        self.said_pixels = None if set_pixels(self, pixels) else pixels

    def __setattr__(self, name, value):
        if name == "pixels":  # Keras reads an attribute before it sets it, and this one may not be told yet
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def class_names(self):
        """Names of the classes in the order of the outputs, or None."""
        return self._class_names

    @class_names.setter
    def class_names(self, names):
        if names is not None:
            if isinstance(names, str):
                raise ValueError(f"Expected class_names as a list of names. Received: class_names={names!r}")
            names = tuple(names)
            refuse_names(names)
        self._class_names = names

    def preprocess_input(self, images):
        """Makes images into what the model takes: resized and cropped where their size differs, and scaled.

        Args:
            images: (batch, height, width, channels) or (height, width, channels), pixels from 0 to 255.

        Returns:
            The images at the model's size in float32; a NumPy array for one that had that size, else a tensor.
        """
        shape = self.inputs[0].shape
        images = np.asarray(images) if isinstance(images, (list, tuple)) else images
        given = tuple(getattr(images, "shape", ()))
        if len(given) not in (3, 4) or given[-1] != shape[-1]:
            received = f"images of shape {given}" if given else f"a {type(images).__name__}"
            raise ValueError(
                f"Expected images (batch, rows, columns, {shape[-1]}) or (rows, columns, {shape[-1]}). "
                f"Received: {received}"
            )
        pixels = self.pixels.for_channels(shape[-1])
        return preprocess_input(pixels.resized(images, shape[1:3]), pixels)

    def get_layer(self, name=None, index=None):
        """Returns a layer as `keras.Model` does; of a named tower on an `input_tensor`, its own layers too."""
        if name is not None and name not in [layer.name for layer in self.layers]:
            towers = [layer for layer in self.layers if isinstance(layer, VisionModel)]
            if len(towers) == 1:
                return towers[0].get_layer(name)
        return super().get_layer(name, index)

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Saves the model as `keras.Model` does.

        Raises:
            ValueError: if it is quantized and `filepath` ends in .h5: such a file does not say how.
        """
        if str(filepath).endswith(".h5") and any(layer.quantization_mode for layer in _compat.layers_inside(self)):
            raise ValueError(
                "Expected a path that ends in .keras for a quantized model: a .h5 file does not say how its layers are "
                f"quantized. Received: filepath={str(filepath)!r}"
            )
        super().save(filepath, overwrite, zipped, **kwargs)

    def get_config(self):
        said = self.said_pixels and dataclasses.asdict(self.said_pixels)
        own = {"pixels": said, "class_names": self.class_names and list(self.class_names)}
        return {**super().get_config(), **own}


# A .h5 file has the class's name alone: without this, Keras would not find it there.
keras.saving.get_custom_objects()["VisionModel"] = VisionModel
