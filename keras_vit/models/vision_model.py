"""A functional model that knows what it reads of a picture."""

import dataclasses

import keras

from keras_vit.preprocessing import OFFICIAL, Pixels, preprocess_input


@keras.saving.register_keras_serializable(package="keras_vit")
class VisionModel(keras.Model):
    """A functional `keras.Model` with the pixel contract of its checkpoint, saved with it.

    Args:
        inputs, outputs, name: as in `keras.Model`.
        pixels: the `keras_vit.Pixels` of the checkpoint, or their fields; the official code's by default.
    """

    def __init__(self, inputs, outputs, name=None, *, pixels=None, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.pixels = Pixels(**pixels) if isinstance(pixels, dict) else pixels or OFFICIAL

    def preprocess_input(self, images):
        """Makes pictures into what the model takes: resized and cropped where their size differs, and scaled.

        Args:
            images: (batch, rows, columns, channels) or (rows, columns, channels), pixels from 0 to 255.

        Returns:
            The pictures at the model's size in float32; a NumPy array for one that had that size, else a tensor.
        """
        shape = self.inputs[0].shape
        pixels = self.pixels.for_channels(shape[-1])
        return preprocess_input(pixels.resized(images, shape[1:3]), pixels)

    def get_config(self):
        return {**super().get_config(), "pixels": dataclasses.asdict(self.pixels)}
