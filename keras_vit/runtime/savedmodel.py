"""Runs a SavedModel as a server does: by its signatures."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vit.runtime.images import CENTER, resized, upright
from keras_vit.runtime.integrity import (
    checked_image_size,
    checked_names,
    checked_outputs,
    checked_pixels,
    checked_scaling,
    refuse_damaged,
    short_reason,
)

_BATCH = 64


class SavedModelFile:
    """A SavedModel, opened as an image classifier; see `keras_vit.runtime.files.ExportedFile`.

    Args:
        path: of its folder, in TensorFlow Serving's layout, or of the version folder.
        version: path of the version folder.

    Raises:
        ValueError: if it lacks signatures and assets that `keras-vit export` writes.
    """

    precisions: tuple[str, ...] = ("float32",)

    def __init__(self, path: str | os.PathLike[str], version: str | os.PathLike[str]):
        self.path, self.model_path = pathlib.Path(path), pathlib.Path(version)
        refuse_damaged(self.model_path)
        try:
            self._loaded = tf.saved_model.load(str(version))  # kept: its variables are deleted with it
            self._from_levels = self._loaded.signatures["serving_default"]
            self._from_files = self._loaded.signatures["serve_jpeg"]
            self.class_names = tuple(self._asset("labels").split("\n")[:-1])
            facts = json.loads(self._asset("facts"))
            outputs = self._from_levels.structured_outputs
            self.outputs = checked_names(facts["outputs"]) if "outputs" in facts else tuple(outputs)
            if missing := [name for name in self.outputs if name not in outputs]:
                raise ValueError(f"the outputs {missing}")
            self._scaling: tuple[np.ndarray, np.ndarray] | None = None  # mean and std, parts of 255
            if facts["input_type"] == "scaled":
                self._scaling = checked_scaling(facts["mean"], facts["std"])
            (entry,) = self._from_levels.structured_input_signature[1].values()
            self.image_size = checked_image_size(entry.shape)
        except Exception as error:  # the loader can raise nearly anything for a damaged folder
            raise ValueError(
                f"Expected a SavedModel made by this version of keras_vit. Received: {path}, which lacks "
                f"{short_reason(error)}. Export the model again"
            ) from error

    def _asset(self, name: str) -> str:
        return pathlib.Path(getattr(self._loaded, name).asset_path.numpy().decode()).read_text("utf-8")

    def read(self, image: str | os.PathLike[str] | bytes) -> np.ndarray:
        """Decodes an image, turns it upright and resizes it, (height, width, 3) uint8."""
        return resized(upright(image), self.image_size, CENTER)

    def predict(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for images, {output: (images, ...) float32}, the probabilities first.

        Args:
            pixels: (images, height, width, 3) uint8 of the file's input size.
        """
        pixels = checked_pixels(pixels, self.image_size).astype(np.float32)
        if self._scaling:
            pixels = (pixels - self._scaling[0] * 255) / (self._scaling[1] * 255)
        return self._in_batches(self._from_levels, "images", pixels)

    def predict_encoded(self, images: Iterable[str | os.PathLike[str] | bytes]) -> dict[str, np.ndarray]:
        """Returns the outputs for encoded images, paths or bytes, which the SavedModel decodes and resizes."""
        read = [image if isinstance(image, bytes) else pathlib.Path(image).read_bytes() for image in images]
        return self._in_batches(self._from_files, "encoded", np.array(read, object))

    def _in_batches(self, run: Callable[..., Any], entry: str, values: np.ndarray) -> dict[str, np.ndarray]:
        try:
            rows = [run(**{entry: tf.constant(values[i : i + _BATCH])}) for i in range(0, len(values), _BATCH)]
        except Exception as error:  # see above
            raise ValueError(
                f"Expected a SavedModel that TensorFlow runs. Received: {self.path}, which fails: {short_reason(error)}"
            ) from error
        outputs = {name: np.concatenate([row[name].numpy() for row in rows]) for name in self.outputs}
        return checked_outputs(self.path, self.class_names, outputs)
