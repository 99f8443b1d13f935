"""Opens any exported file."""

import pathlib

from keras_vit.runtime.images import MIDDLE
from keras_vit.runtime.tflite import TFLiteFile

_KINDS = "a .tflite or .onnx file, the folder of a SavedModel, or that of a page"


def is_exported(path):
    """Returns whether a path looks like an exported file, and not like a Keras model or the folder of a run."""
    path = pathlib.Path(path)
    folder = any((path / name).exists() for name in ("1/saved_model.pb", "saved_model.pb", "index.html"))
    return path.suffix in (".tflite", ".onnx") or folder


def open_exported(path, threads=2):
    """Opens an exported file as an image classifier.

    What it returns has `path`, what is run of it as `runs`, `class_names`, `image_size` (rows, columns) in pixels,
    `read(image)` -> the pixels that it is given of an encoded image, `predict(pixels)` and
    `predict_encoded(images)` -> {output: array}, "probabilities" first.

    Args:
        path: a .tflite or .onnx file, a SavedModel's folder (or its version folder), or a page's folder.
        threads: to compute with, where the runtime can be told.

    Raises:
        ValueError: if it is nothing of the kind, or does not say what it takes and what its classes are.
        ImportError: if its runtime is not installed; names the extra.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"Expected {_KINDS}. Received: {path}, which does not exist")
    if path.suffix == ".tflite":
        return TFLiteFile(path, threads)
    if path.suffix == ".onnx":
        from keras_vit.runtime.onnx import OnnxFile

        return OnnxFile(path, threads)
    if (path / "index.html").exists() and (path / "model.tflite").exists():
        return TFLiteFile(path, threads, file=path / "model.tflite", origin=MIDDLE)
    version = path / "1" if (path / "1").is_dir() else path
    if (version / "saved_model.pb").exists():
        from keras_vit.runtime.savedmodel import SavedModelFile

        return SavedModelFile(path, version)
    raise ValueError(f"Expected {_KINDS}. Received: {path}")
