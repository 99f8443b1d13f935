"""Runs an ONNX file, with the file's own metadata and nothing else."""

import json
import pathlib

import numpy as np

from keras_vit.runtime.images import MIDDLE, resized, upright

_BATCH = 64


class OnnxFile:
    """An .onnx file as an image classifier; see `keras_vit.runtime.files.open_exported`.

    Args:
        path: the file.
        threads: onnxruntime computes with.

    Raises:
        ValueError: if it is no such file, or does not say what it takes and what its classes are.
        ImportError: if onnxruntime is not installed.
    """

    def __init__(self, path, threads=2):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('To run an ONNX file needs the extra "onnx": pip install onnxruntime') from error
        self.path = self.runs = pathlib.Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            facts = self._session.get_modelmeta().custom_metadata_map
            self.class_names = tuple(json.loads(facts["labels"]))
            scaled = facts["input_type"] == "scaled"
            self._mean, self._std = (
                np.float32(json.loads(facts[name])) * 255 if scaled else None for name in ("mean", "std")
            )
            (self._entry,) = self._session.get_inputs()
            self.outputs = tuple(end.name for end in self._session.get_outputs())
        except Exception as error:  # onnxruntime's own kinds have no common one
            raise ValueError(
                f"Expected an ONNX file made by `keras-vit export`. Received: {path}, which cannot be used: {error}"
            ) from error
        self.image_size = tuple(self._entry.shape[1:3])

    def read(self, image):
        """Returns an encoded image as the pixels that a client gives the file, (rows, columns, 3) uint8."""
        return resized(upright(image), self.image_size, MIDDLE)

    def predict(self, pixels):
        """Returns what it says of uint8 images of its size, {output: (images, ...)}, the probabilities first."""
        pixels = pixels if "uint8" in self._entry.type else np.float32(pixels)
        if self._mean is not None:
            pixels = (pixels - self._mean) / self._std
        rows = [
            self._session.run(self.outputs, {self._entry.name: pixels[i : i + _BATCH]})
            for i in range(0, len(pixels), _BATCH)
        ]
        return {name: np.concatenate(parts) for name, parts in zip(self.outputs, zip(*rows))}

    def predict_encoded(self, images):
        """Returns the same of encoded images: paths, or bytes."""
        return self.predict(np.stack([self.read(image) for image in images]))
