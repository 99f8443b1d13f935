"""Runs a TFLite file as a phone does: LiteRT, with the file's own metadata and nothing else."""

import pathlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_vit._quiet import quiet
from keras_vit.runtime.images import CORNER, resized, upright
from keras_vit.runtime.metadata import read_description


class TFLiteFile:
    """A .tflite file as an image classifier.

    Args:
        path: the file.
        threads: LiteRT computes with.
        file: where the model lies, if `path` is the folder of a page.
        origin: the client's resize, see `resized`.

    Raises:
        ValueError: if it is no TFLite file, or does not say what it takes and what its classes are; names the file.
    """

    def __init__(self, path, threads=2, *, file=None, origin=CORNER):
        self.path, self.runs, self.origin = pathlib.Path(path), pathlib.Path(file or path), origin
        file = self.runs.read_bytes()
        try:
            self.description = read_description(file)
            with quiet():
                self.interpreter = Interpreter(model_content=file, num_threads=threads)
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"Expected an image classifier made by `keras-vit export`. Received: {path}, which {error}"
            ) from error
        (self._entry,), self._ends = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        self.class_names = self.description.class_names
        first = self.description.outputs[self.description.scores]
        self.outputs = (first, *(name for name in self.description.outputs if name != first))
        classes = self._ends[self.description.scores]["shape"][-1]
        if self.class_names and len(self.class_names) != classes:
            raise ValueError(f"{path} names {len(self.class_names)} classes and gives {classes} probabilities")

    @property
    def image_size(self):
        """(rows, columns) of the images it takes, pixels."""
        return tuple(int(side) for side in self._entry["shape"][1:3])

    def read(self, image):
        """Returns an encoded image as the pixels that a client gives the file, (rows, columns, 3) uint8."""
        return resized(upright(image), self.image_size, self.origin)

    def predict(self, pixels):
        """Returns what the file says of images, {output: (images, ...) float32}, the probabilities first.

        Args:
            pixels: (images, rows, columns, 3) uint8, of the file's size.
        """
        rows = [self._run(self._scaled(image)) for image in pixels]
        named = {name: np.stack(values) for name, values in zip(self.description.outputs, zip(*rows))}
        return {name: named[name] for name in self.outputs}

    def predict_encoded(self, images):
        """Returns the same of encoded images: paths, or bytes."""
        return self.predict(map(self.read, images))

    def _scaled(self, image):
        if self._entry["dtype"] == np.uint8:
            return image
        if self.description.mean is None:
            raise ValueError(f"{self.path} takes {self._entry['dtype'].__name__} and does not say how it is scaled")
        return (image.astype(np.float32) - np.float32(self.description.mean)) / np.float32(self.description.std)

    def _run(self, image):
        self.interpreter.set_tensor(self._entry["index"], image[None])
        self.interpreter.invoke()
        return [_plain(self.interpreter.get_tensor(end["index"])[0], end["quantization"]) for end in self._ends]


def _plain(values, quantization):
    scale, zero = quantization
    return values.astype(np.float32) if not scale else (values.astype(np.float32) - zero) * np.float32(scale)
