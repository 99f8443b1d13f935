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

_BATCH = 64


class SavedModelFile:
    """A SavedModel, opened as an image classifier; see `keras_vit.runtime.files.ExportedFile`.

    Args:
        path: of its folder, in TensorFlow Serving's layout, or of the version folder.
        version: path of the version folder.

    Raises:
        ValueError: if it lacks signatures and assets that `keras-vit export` writes.
    """

    def __init__(self, path: str | os.PathLike[str], version: str | os.PathLike[str]):
        self.path, self.model_path = pathlib.Path(path), pathlib.Path(version)
        try:
            self._loaded = tf.saved_model.load(str(version))  # kept: its variables are deleted with it
            self._from_levels = self._loaded.signatures["serving_default"]
            self._from_files = self._loaded.signatures["serve_jpeg"]
            self.class_names = tuple(self._asset("labels").split("\n")[:-1])
            facts = json.loads(self._asset("facts"))
            is_scaled = facts["input_type"] == "scaled"
        except (KeyError, AttributeError, OSError, ValueError, RecursionError, tf.errors.OpError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"Expected a SavedModel made by this version of keras_vit. Received: {path}, which lacks {reason}. "
                "Export the model again"
            ) from error
        self.outputs = tuple(facts["outputs"]) if "outputs" in facts else tuple(self._from_levels.structured_outputs)
        self._scaling: tuple[np.ndarray, np.ndarray] | None = None  # mean and std, in grey levels
        if is_scaled:
            self._scaling = np.array(facts["mean"], np.float32) * 255, np.array(facts["std"], np.float32) * 255
        (entry,) = self._from_levels.structured_input_signature[1].values()
        height, width = entry.shape[1:3]
        self.image_size: tuple[int, int] = height, width

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
        pixels = np.asarray(pixels, np.float32)
        if self._scaling:
            pixels = (pixels - self._scaling[0]) / self._scaling[1]
        return self._in_batches(self._from_levels, "images", pixels)

    def predict_encoded(self, images: Iterable[str | os.PathLike[str] | bytes]) -> dict[str, np.ndarray]:
        """Returns the outputs for encoded images, paths or bytes, which the SavedModel decodes and resizes."""
        read = [image if isinstance(image, bytes) else pathlib.Path(image).read_bytes() for image in images]
        return self._in_batches(self._from_files, "encoded", np.array(read, object))

    def _in_batches(self, run: Callable[..., Any], entry: str, values: np.ndarray) -> dict[str, np.ndarray]:
        rows = [run(**{entry: tf.constant(values[i : i + _BATCH])}) for i in range(0, len(values), _BATCH)]
        return {name: np.concatenate([row[name].numpy() for row in rows]) for name in self.outputs}
