"""Runs a model of OpenVINO by OpenVINO, with the metadata inside its file."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from keras_vit import _compat
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
_REASON = -1  # the line of an error's message; those before it name places in OpenVINO's own code
_FACTS = ("labels", "outputs", "input_type", "mean", "std")
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOFile:
    """A model.xml and its model.bin, opened as an image classifier; see `keras_vit.runtime.files.ExportedFile`.

    Args:
        path: of model.xml, or of the folder that `keras-vit export` wrote.
        xml: of model.xml.
        threads: number of CPU threads.
        precision: in which OpenVINO computes, out of `precisions`; its own default is the last of them.

    Raises:
        ValueError: if it is not a model of OpenVINO, or lacks the metadata of its input and classes.
        ImportError: if OpenVINO is not installed.
    """

    precisions: tuple[str, ...] = ("float32",)

    def __init__(
        self,
        path: str | os.PathLike[str],
        xml: str | os.PathLike[str],
        threads: int = 2,
        precision: str = "float32",
    ):
        try:
            openvino = _compat.openvino_without_telemetry()
        except ImportError as error:
            raise ImportError('Running an OpenVINO model needs the extra "openvino": pip install openvino') from error
        self.path, self.model_path = pathlib.Path(path), pathlib.Path(xml)
        refuse_damaged(self.model_path.parent)
        core = openvino.Core()
        if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            self.precisions = ("float32", "bfloat16")
        options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads}
        try:
            model = core.read_model(self.model_path)
            if missing := [name for name in _FACTS if not model.has_rt_info(["keras_vit", name])]:
                raise ValueError(f"it lacks the metadata {', '.join(missing)}")
            facts = {name: model.get_rt_info(["keras_vit", name]).astype(str) for name in _FACTS}
            self.class_names = checked_names(json.loads(facts["labels"]))
            self.outputs = checked_names(json.loads(facts["outputs"]))
            self._scaling: tuple[np.ndarray, np.ndarray] | None = None  # mean and std, parts of 255
            if facts["input_type"] == "scaled":
                self._scaling = checked_scaling(json.loads(facts["mean"]), json.loads(facts["std"]))
            (entry,) = model.inputs
            axes = entry.partial_shape
            self.image_size = checked_image_size([None if axis.is_dynamic else axis.get_length() for axis in axes])
            self._type = entry.element_type.to_dtype()
            self._run = core.compile_model(model, "CPU", options)
            if len(self._run.outputs) != len(self.outputs):
                raise ValueError(f"it names {len(self.outputs)} outputs of {len(self._run.outputs)}")
        except Exception as error:  # OpenVINO's errors have no class in common
            raise ValueError(
                f"Expected an OpenVINO model made by `keras-vit export`. Received: {path}, which cannot be used: "
                f"{short_reason(error, _REASON)}"
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
        if self._scaling:
            pixels = (pixels - self._scaling[0] * 255) / (self._scaling[1] * 255)
        pixels = pixels.astype(self._type, copy=False)
        try:
            rows = [self._run(pixels[i : i + _BATCH]).to_tuple() for i in range(0, len(pixels), _BATCH)]
        except Exception as error:  # see above
            raise ValueError(
                f"Expected a file that OpenVINO runs. Received: {self.path}, which fails: "
                f"{short_reason(error, _REASON)}"
            ) from error
        return checked_outputs(
            self.path, self.class_names, {name: np.concatenate(parts) for name, parts in zip(self.outputs, zip(*rows))}
        )

    def predict_encoded(self, images: Iterable[str | os.PathLike[str] | bytes]) -> dict[str, np.ndarray]:
        """Returns the outputs for encoded images, paths or bytes, as `predict` does."""
        return self.predict(np.stack([self.read(image) for image in images]))
