"""Runs a model of OpenVINO by OpenVINO, with the metadata inside its file."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit import _compat
from keras_vit._quiet import quiet
from keras_vit.runtime.exported import ExportedFile, scaling_of
from keras_vit.runtime.integrity import (
    checked_input,
    checked_names,
    checked_thresholds,
    refuse_damaged,
    short_reason,
)

_FACTS = ("labels", "outputs", "input_type", "mean", "std")
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOFile(ExportedFile):
    """A model.xml and its model.bin, opened as an image classifier.

    Args:
        path: of model.xml, or of the folder that `keras-vit export` wrote.
        xml: of model.xml.
        threads: number of CPU threads.
        precision: in which OpenVINO computes, out of `precisions`; its own default is the last of them.

    Raises:
        ValueError: if it is not a model of OpenVINO, or lacks the metadata of its input and classes.
        ImportError: if OpenVINO is not installed.
    """

    _runtime = "OpenVINO"
    _reason = -1  # the lines before it name places in OpenVINO's own code

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
            with quiet():  # what its readers of other formats say of a file that is none of theirs
                model = core.read_model(self.model_path)
            if missing := [name for name in _FACTS if not model.has_rt_info(["keras_vit", name])]:
                raise ValueError(f"it lacks the metadata {', '.join(missing)}")
            texts = {name: model.get_rt_info(["keras_vit", name]).astype(str) for name in _FACTS}
            facts = texts | {name: json.loads(texts[name]) for name in _FACTS if name != "input_type"}
            self.class_names, self.outputs = checked_names(facts["labels"]), checked_names(facts["outputs"])
            if model.has_rt_info(["keras_vit", "thresholds"]):
                text = model.get_rt_info(["keras_vit", "thresholds"]).astype(str)
                self.thresholds = checked_thresholds(json.loads(text), self.class_names)
            (entry,) = model.inputs
            axes = entry.partial_shape
            sides = [None if axis.is_dynamic else axis.get_length() for axis in axes]
            self.image_size, self.channels = checked_input(sides)
            self._scaling = scaling_of(facts, self.channels)
            self._dtype = entry.element_type.to_dtype()
            self._model = core.compile_model(model, "CPU", options)
            if len(self._model.outputs) != len(self.outputs):
                raise ValueError(f"it names {len(self.outputs)} outputs of {len(self._model.outputs)}")
        except Exception as error:  # OpenVINO's errors have no class in common
            raise ValueError(
                f"Expected an OpenVINO model made by `keras-vit export`. Received: {path}, which cannot be used: "
                f"{short_reason(error, self._reason)}"
            ) from error

    def _run(self, pixels: np.ndarray) -> Sequence[Any]:
        return self._model(pixels).to_tuple()
