"""Runs a SavedModel as a server does: by its signatures."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vit.runtime.exported import ExportedFile, scaling_of
from keras_vit.runtime.integrity import (
    checked_input,
    checked_names,
    checked_thresholds,
    refuse_damaged,
    short_reason,
)

_DECODED = (1, 3, 4)  # channels of images that TensorFlow decodes
_ARRAYS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x93NUMPY")  # how TIFF and .npy files begin, which it does not


class SavedModelFile(ExportedFile):
    """A SavedModel, opened as an image classifier.

    Args:
        path: of its folder, in TensorFlow Serving's layout, or of the version folder.
        version: path of the version folder.

    Raises:
        ValueError: if it lacks signatures and assets that `keras-vit export` writes.
    """

    _runtime = "TensorFlow"

    def __init__(self, path: str | os.PathLike[str], version: str | os.PathLike[str]):
        self.path, self.model_path = pathlib.Path(path), pathlib.Path(version)
        refuse_damaged(self.model_path)
        try:
            self._loaded = tf.saved_model.load(str(version))  # kept: its variables are deleted with it
            self._from_levels = self._loaded.signatures["serving_default"]
            self.class_names = tuple(self._asset("labels").split("\n")[:-1])
            facts = json.loads(self._asset("facts"))
            self.thresholds = checked_thresholds(facts.get("thresholds", []), self.class_names)
            outputs = self._from_levels.structured_outputs
            self.outputs = checked_names(facts["outputs"]) if "outputs" in facts else tuple(outputs)
            if missing := [name for name in self.outputs if name not in outputs]:
                raise ValueError(f"the outputs {missing}")
            (entry,) = self._from_levels.structured_input_signature[1].values()
            self.image_size, self.channels = checked_input(entry.shape)
            self._scaling = scaling_of(facts, self.channels)
            if self.channels in _DECODED:
                self._from_files = self._loaded.signatures["serve_jpeg"]
        except Exception as error:  # the loader can raise nearly anything for a damaged folder
            raise ValueError(
                f"Expected a SavedModel made by this version of keras_vit. Received: {path}, which lacks "
                f"{short_reason(error)}. Export the model again"
            ) from error

    def _asset(self, name: str) -> str:
        return pathlib.Path(getattr(self._loaded, name).asset_path.numpy().decode()).read_text("utf-8")

    def predict_encoded(self, images: Iterable[str | os.PathLike[str] | bytes]) -> dict[str, np.ndarray]:
        """Returns the outputs for encoded images, paths or bytes, which the SavedModel decodes where it can."""
        read = [image if isinstance(image, bytes) else pathlib.Path(image).read_bytes() for image in images]
        if self.channels not in _DECODED or any(image.startswith(_ARRAYS) for image in read):
            return super().predict_encoded(read)
        return self._in_batches(lambda batch: self._outputs(self._from_files, encoded=batch), np.array(read, object))

    def _run(self, pixels: np.ndarray) -> Sequence[Any]:
        return self._outputs(self._from_levels, images=pixels)

    def _outputs(self, run: Callable[..., Any], **batch: np.ndarray) -> Sequence[Any]:
        outputs = run(**{name: tf.constant(values) for name, values in batch.items()})
        return [outputs[name].numpy() for name in self.outputs]
