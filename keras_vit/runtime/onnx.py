"""Runs an ONNX file by onnxruntime, with the metadata inside the file."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit.runtime.exported import ExportedFile, scaling_of
from keras_vit.runtime.integrity import (
    checked_input,
    checked_names,
    checked_thresholds,
    refuse_damaged,
    short_reason,
)


class OnnxFile(ExportedFile):
    """An .onnx file, opened as an image classifier.

    Args:
        path: of the file.
        threads: number of CPU threads.

    Raises:
        ValueError: if it is not an ONNX file, or lacks the metadata of its input and classes.
        ImportError: if onnxruntime is not installed.
    """

    _runtime = "onnxruntime"

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
            texts = self._session.get_modelmeta().custom_metadata_map
            facts = {name: json.loads(texts[name]) for name in ("labels", "mean", "std") if name in texts}
            self.class_names = checked_names(facts["labels"])
            self.thresholds = checked_thresholds(json.loads(texts.get("thresholds", "[]")), self.class_names)
            (self._input,) = self._session.get_inputs()
            self._dtype = np.uint8 if "uint8" in self._input.type else np.float32
            self.image_size, self.channels = checked_input(self._input.shape)
            self._scaling = scaling_of(facts | {"input_type": texts["input_type"]}, self.channels)
            self.outputs = tuple(end.name for end in self._session.get_outputs())
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ValueError(
                f"Expected an ONNX file made by `keras-vit export`. Received: {path}, which cannot be used: "
                f"{short_reason(error)}"
            ) from error

    def _run(self, pixels: np.ndarray) -> Sequence[Any]:
        return self._session.run(self.outputs, {self._input.name: pixels})
