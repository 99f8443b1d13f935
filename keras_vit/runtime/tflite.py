"""Runs a TFLite file as a phone does: by LiteRT, with the metadata inside the file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_vit._quiet import quiet
from keras_vit.runtime.exported import ExportedFile
from keras_vit.runtime.half import in_half_precision
from keras_vit.runtime.images import CORNER
from keras_vit.runtime.integrity import checked_input, checked_scaling, refuse_damaged, short_reason
from keras_vit.runtime.metadata import MetadataError, read_description
from keras_vit.runtime.operators import refuse_huge

_EXPECTED = "Expected an image classifier made by `keras-vit export`"


class TFLiteFile(ExportedFile):
    """A .tflite file, opened as an image classifier.

    Args:
        path: of the file.
        threads: number of CPU threads.
        model_path: of the model, if `path` is the folder of a page.
        resize_origin: of the client's resize, see `resized`.
        precision: "float16" to compute as a GPU does in half precision, see `keras_vit.runtime.half`.

    Raises:
        ValueError: if it is not a TFLite file, or lacks the metadata of its input and classes; names the file.
    """

    _runtime = "LiteRT"
    _batch_size = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int = 2,
        *,
        model_path: str | os.PathLike[str] | None = None,
        resize_origin: float = CORNER,
        precision: str = "float32",
    ):
        self.path, self.model_path = pathlib.Path(path), pathlib.Path(model_path or path)
        self.resize_origin = resize_origin
        refuse_damaged(self.model_path)
        content = self.model_path.read_bytes()
        try:
            self.description = read_description(content)
            refuse_huge(content)
            if precision == "float16":
                content = in_half_precision(content)
            with quiet():
                self.interpreter = Interpreter(model_content=content, num_threads=threads)
                self.interpreter.allocate_tensors()
            (self._input,), ends = self.interpreter.get_input_details(), self.interpreter.get_output_details()
            (self.image_size, self.channels), self._dtype = checked_input(self._input["shape"]), self._input["dtype"]
            names, first = self.description.outputs, self.description.scores_index
            if len(ends) != len(names) or any(not end["shape"].all() for end in ends):
                raise ValueError(f"names {len(names)} outputs of {len(ends)}")
            if self._dtype != np.uint8:
                mean, std = self.description.mean, self.description.std
                self._scaling = checked_scaling(mean, std, self.channels)  # grey levels
        except MetadataError as error:
            raise ValueError(f"{_EXPECTED}. Received: {path}, which {error}") from error
        except Exception as error:  # LiteRT's errors have no class in common
            raise ValueError(f"{_EXPECTED}. Received: {path}, which cannot be used: {short_reason(error)}") from error
        self.class_names, self.thresholds = self.description.class_names, self.description.thresholds
        order = [first, *(i for i in range(len(names)) if i != first)]
        self.outputs, self._ends = tuple(names[i] for i in order), [ends[i] for i in order]
        classes = ends[first]["shape"][-1]
        if self.class_names and len(self.class_names) != classes:
            raise ValueError(
                f"Expected a class name for each probability. Received: {path}, of {len(self.class_names)} class names "
                f"and {classes} probabilities"
            )

    def _run(self, pixels: np.ndarray) -> Sequence[Any]:
        self.interpreter.set_tensor(self._input["index"], pixels)
        self.interpreter.invoke()
        return [_dequantized(self.interpreter.get_tensor(end["index"]), end["quantization"]) for end in self._ends]


def _dequantized(values: Any, quantization: tuple[float, int]) -> np.ndarray:
    scale, zero = quantization
    return values.astype(np.float32) if not scale else (values.astype(np.float32) - zero) * np.float32(scale)
