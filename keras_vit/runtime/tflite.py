"""Runs a TFLite file as a phone does: by LiteRT, with the metadata inside the file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_vit._quiet import quiet
from keras_vit.runtime.images import CORNER, resized, upright
from keras_vit.runtime.integrity import (
    checked_image_size,
    checked_pixels,
    checked_scaling,
    refuse_damaged,
    short_reason,
)
from keras_vit.runtime.metadata import MetadataError, read_description
from keras_vit.runtime.operators import refuse_huge

_EXPECTED = "Expected an image classifier made by `keras-vit export`"


class TFLiteFile:
    """A .tflite file, opened as an image classifier; see `keras_vit.runtime.files.ExportedFile`.

    Args:
        path: of the file.
        threads: number of CPU threads.
        model_path: of the model, if `path` is the folder of a page.
        resize_origin: of the client's resize, see `resized`.

    Raises:
        ValueError: if it is not a TFLite file, or lacks the metadata of its input and classes; names the file.
    """

    precisions: tuple[str, ...] = ("float32",)

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int = 2,
        *,
        model_path: str | os.PathLike[str] | None = None,
        resize_origin: float = CORNER,
    ):
        self.path, self.model_path = pathlib.Path(path), pathlib.Path(model_path or path)
        self.resize_origin = resize_origin
        refuse_damaged(self.model_path)
        content = self.model_path.read_bytes()
        try:
            self.description = read_description(content)
            refuse_huge(content)
            with quiet():
                self.interpreter = Interpreter(model_content=content, num_threads=threads)
                self.interpreter.allocate_tensors()
            (self._input,), self._outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
            self.image_size = checked_image_size(self._input["shape"])
            names = self.description.outputs
            if len(self._outputs) != len(names) or any(not end["shape"].all() for end in self._outputs):
                raise ValueError(f"names {len(names)} outputs of {len(self._outputs)}")
            self._scaling = None  # mean and std, grey levels
            if self.description.mean is not None:
                self._scaling = checked_scaling(self.description.mean, self.description.std)
        except MetadataError as error:
            raise ValueError(f"{_EXPECTED}. Received: {path}, which {error}") from error
        except Exception as error:  # LiteRT's errors have no class in common
            raise ValueError(f"{_EXPECTED}. Received: {path}, which cannot be used: {short_reason(error)}") from error
        self.class_names = self.description.class_names
        first = names[self.description.scores_index]
        self.outputs = (first, *(name for name in names if name != first))
        classes = self._outputs[self.description.scores_index]["shape"][-1]
        if self.class_names and len(self.class_names) != classes:
            raise ValueError(
                f"Expected a class name for each probability. Received: {path}, of {len(self.class_names)} class names "
                f"and {classes} probabilities"
            )

    def read(self, image: str | os.PathLike[str] | bytes) -> np.ndarray:
        """Decodes an image, turns it upright and resizes it, (height, width, 3) uint8."""
        return resized(upright(image), self.image_size, self.resize_origin)

    def predict(self, pixels: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs for images, {output: (images, ...) float32}, the probabilities first.

        Args:
            pixels: (images, height, width, 3) uint8 of the file's input size.
        """
        rows = [self._run(self._scaled(checked_pixels(image[None], self.image_size)[0])) for image in pixels]
        named = {name: np.stack(values) for name, values in zip(self.description.outputs, zip(*rows))}
        return {name: named[name] for name in self.outputs}

    def predict_encoded(self, images: Iterable[str | os.PathLike[str] | bytes]) -> dict[str, np.ndarray]:
        """Returns the outputs for encoded images, paths or bytes, as `predict` does."""
        return self.predict(map(self.read, images))

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        if self._input["dtype"] == np.uint8:
            return image
        if self._scaling is None:
            raise ValueError(
                f"Expected metadata with the mean and std of a {self._input['dtype'].__name__} input. "
                f"Received: {self.path}, of mean={self.description.mean}"
            )
        mean, std = self._scaling
        return (image.astype(np.float32) - mean) / std

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        try:
            self.interpreter.set_tensor(self._input["index"], image[None])
            self.interpreter.invoke()
            return [
                _dequantized(self.interpreter.get_tensor(end["index"])[0], end["quantization"]) for end in self._outputs
            ]
        except Exception as error:  # see above
            raise ValueError(
                f"Expected a file that LiteRT runs. Received: {self.path}, which fails: {short_reason(error)}"
            ) from error


def _dequantized(values: Any, quantization: tuple[float, int]) -> np.ndarray:
    scale, zero = quantization
    return values.astype(np.float32) if not scale else (values.astype(np.float32) - zero) * np.float32(scale)
