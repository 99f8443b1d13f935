"""Runs a SavedModel as a server does: by its signatures."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from keras_vit.runtime.images import MIDDLE, resized, upright

_BATCH = 64


class SavedModelFile:
    """A SavedModel as an image classifier; see `keras_vit.runtime.files.open_exported`.

    Args:
        path: its folder, in TensorFlow Serving's layout or the version folder itself.
        version: the version folder.

    Raises:
        ValueError: if it has not the signatures and assets that `keras-vit export` gives.
    """

    def __init__(self, path, version):
        self.path, self.runs = pathlib.Path(path), pathlib.Path(version)
        try:
            self._loaded = tf.saved_model.load(str(version))  # held in a name: its variables die with it
            self._from_levels = self._loaded.signatures["serving_default"]
            self._from_files = self._loaded.signatures["serve_jpeg"]
            self.class_names = tuple(self._asset("labels").split("\n")[:-1])
            facts = json.loads(self._asset("facts"))
        except (KeyError, AttributeError, OSError, ValueError, tf.errors.OpError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"Expected a SavedModel made by `keras-vit export`. Received: {path}, which lacks {reason}"
            ) from error
        self.outputs = tuple(facts["outputs"]) if "outputs" in facts else tuple(self._from_levels.structured_outputs)
        scaled = facts["input_type"] == "scaled"
        self._mean, self._std = (np.float32(facts[name]) * 255 if scaled else None for name in ("mean", "std"))
        (entry,) = self._from_levels.structured_input_signature[1].values()
        self.image_size = tuple(entry.shape[1:3])

    def _asset(self, name):
        return pathlib.Path(getattr(self._loaded, name).asset_path.numpy().decode()).read_text("utf-8")

    def read(self, image):
        """Returns an encoded image as the pixels that a client gives the file, (rows, columns, 3) uint8."""
        return resized(upright(image), self.image_size, MIDDLE)

    def predict(self, pixels):
        """Returns what it says of uint8 images of its size, {output: (images, ...)}, the probabilities first."""
        pixels = np.float32(pixels)
        if self._mean is not None:
            pixels = (pixels - self._mean) / self._std
        return self._all(self._from_levels, "images", pixels)

    def predict_encoded(self, images):
        """Returns the same of encoded images, paths or bytes, which it decodes and resizes itself."""
        read = [image if isinstance(image, bytes) else pathlib.Path(image).read_bytes() for image in images]
        return self._all(self._from_files, "encoded", np.array(read, object))

    def _all(self, run, entry, values):
        rows = [run(**{entry: tf.constant(values[i : i + _BATCH])}) for i in range(0, len(values), _BATCH)]
        return {name: np.concatenate([row[name].numpy() for row in rows]) for name in self.outputs}
