"""Runs an ONNX file by onnxruntime, with the metadata inside the file."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable

import numpy as np

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


class OnnxFile:
    """An .onnx file, opened as an image classifier; see `keras_vit.runtime.files.ExportedFile`.

    Args:
        path: of the file.
        threads: number of CPU threads.

    Raises:
        ValueError: if it is not an ONNX file, or lacks the metadata of its input and classes.
        ImportError: if onnxruntime is not installed.
    """

    precisions: tuple[str, ...] = ("float32",)

    def __init__(self, path: str | os.PathLike[str], threads: int = 2):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('Running an ONNX file needs the extra "onnx": pip install onnxruntime') from error
        self.path = self.model_path = pathlib.Path(path)
        refuse_damaged(self.path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        try:
            # Without `enable_fallback`, it prints the error and tries the same provider again.
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            facts = self._session.get_modelmeta().custom_metadata_map
            self.class_names = checked_names(json.loads(facts["labels"]))
            self._scaling: tuple[np.ndarray, np.ndarray] | None = None  # mean and std, parts of 255
            if facts["input_type"] == "scaled":
                self._scaling = checked_scaling(json.loads(facts["mean"]), json.loads(facts["std"]))
            (self._input,) = self._session.get_inputs()
            self.image_size = checked_image_size(self._input.shape)
            self.outputs = tuple(end.name for end in self._session.get_outputs())
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ValueError(
                f"Expected an ONNX file made by `keras-vit export`. Received: {path}, which cannot be used: "
                f"{short_reason(error)}"
            ) from error

    def read(self, image: str | os.PathLike[str] | bytes) -> np.ndarray:
        """Decodes an image, turns it upright and resizes it, (height, width, 3) uint8."""
        return resized(upright(image), self.image_size, CENTER)

    def predict(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for images, {output: (images, ...) float32}, the probabilities first.

        Args:
            pixels: (images, height, width, 3) uint8 of the file's input size.
        """
        pixels = checked_pixels(pixels, self.image_size)
        pixels = pixels if "uint8" in self._input.type else pixels.astype(np.float32)
        if self._scaling:
            pixels = (pixels - self._scaling[0] * 255) / (self._scaling[1] * 255)
        batches = [pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH)]
        try:
            rows = [self._session.run(self.outputs, {self._input.name: batch}) for batch in batches]
        except Exception as error:  # see above
            raise ValueError(
                f"Expected a file that onnxruntime runs. Received: {self.path}, which fails: {short_reason(error)}"
            ) from error
        return checked_outputs(
            self.path, self.class_names, {name: np.concatenate(parts) for name, parts in zip(self.outputs, zip(*rows))}
        )

    def predict_encoded(self, images: Iterable[str | os.PathLike[str] | bytes]) -> dict[str, np.ndarray]:
        """Returns the outputs for encoded images, paths or bytes, as `predict` does."""
        return self.predict(np.stack([self.read(image) for image in images]))
