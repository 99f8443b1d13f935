"""What the exported files of all runtimes have in common, opened as image classifiers."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_vit.runtime.images import CENTER, resized, upright
from keras_vit.runtime.integrity import checked_pixels, checked_scaling, short_reason


class ExportedFile:
    """An exported file, opened as an image classifier. A subclass opens it, and runs it in `_run`.

    Attributes:
        path: of the file or folder.
        model_path: of the model in it: the .tflite file of a page, the version folder of a SavedModel, the .xml file
            of an OpenVINO model.
        class_names: in the order of the probabilities; () where the outputs are numbers.
        thresholds: of labels that are scored independently, the least score of each that an image has; () otherwise.
        outputs: names of the outputs, "probabilities" first; "known", (images, 1), is below 0 for an image that is none
            of the classes.
        image_size: (height, width) of the input, pixels.
        channels: of the input: 1 for grey, 3 for RGB, 4 for RGBA, another number for that of the bands in an image.
        precisions: types in which its runtime can compute on this machine; "float32", which is proven, first.
    """

    path: pathlib.Path
    model_path: pathlib.Path
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...] = ()
    outputs: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    precisions: tuple[str, ...] = ("float32",)
    resize_origin = CENTER  # of the client's resize, see `resized`

    _runtime: str  # its name in messages
    _reason = 0  # the line of its errors' messages that has the reason
    _batch_size = 64
    _dtype: Any = np.float32  # of the input
    _scaling: tuple[np.ndarray, np.ndarray] | None = None  # mean and std, grey levels

    def read(self, image: str | os.PathLike[str] | bytes) -> np.ndarray:
        """Decodes an image, turns it upright and resizes it, (height, width, channels) uint8."""
        return resized(upright(image, self.channels), self.image_size, self.resize_origin)

    def predict(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for images, {output: (images, ...) float32}, the probabilities first.

        Args:
            pixels: (images, height, width, channels) uint8 of the file's input size.
        """
        pixels = checked_pixels(pixels, self.image_size, self.channels)
        return self._in_batches(lambda batch: self._run(self._scaled(batch)), pixels)

    def predict_encoded(self, images: Iterable[str | os.PathLike[str] | bytes]) -> dict[str, np.ndarray]:
        """Returns the outputs for encoded images, paths or bytes, as `predict` does."""
        return self.predict(np.stack([self.read(image) for image in images]))

    def _run(self, pixels: np.ndarray) -> Sequence[Any]:
        """Returns the outputs of a batch of images, as the file's input has them, in the order of `outputs`."""
        raise NotImplementedError

    def _scaled(self, pixels: np.ndarray) -> np.ndarray:
        pixels = pixels.astype(self._dtype, copy=False)
        return pixels if self._scaling is None else (pixels - self._scaling[0]) / self._scaling[1]

    def _in_batches(self, run: Callable[[np.ndarray], Sequence[Any]], values: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs of a function of batches, for images or what encodes them."""
        size = self._batch_size
        try:
            rows = [run(values[i : i + size]) for i in range(0, len(values), size)]
        except Exception as error:  # the errors of the runtimes have no class in common
            reason = short_reason(error, self._reason)
            raise ValueError(
                f"Expected a file that {self._runtime} runs. Received: {self.path}, which fails: {reason}"
            ) from error
        outputs = {name: np.concatenate(parts) for name, parts in zip(self.outputs, zip(*rows))}
        first = next(iter(outputs.values()), None)
        if self.class_names and first is not None and first.shape[1:] != (len(self.class_names),):
            raise ValueError(
                f"Expected a class name for each probability. Received: {self.path}, of {len(self.class_names)} class "
                f"names and probabilities of shape {first.shape[1:]}"
            )
        return outputs


def scaling_of(facts: dict[str, Any], channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the mean and the std of an input, grey levels, by the facts of a file; None if it reads grey levels.

    Args:
        facts: with "input_type", "mean" and "std"; these two are parts of 255.
        channels: of the input.
    """
    if facts["input_type"] != "scaled":
        return None
    mean, std = checked_scaling(facts["mean"], facts["std"], channels)
    return mean * 255, std * 255
