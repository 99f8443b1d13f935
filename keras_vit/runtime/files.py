"""Opens any exported file as an image classifier."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_vit.runtime.exported import ExportedFile

_PRECISIONS = ("float32", "bfloat16", "float16")
_KINDS = "a .tflite, .onnx or .xml file, or the folder of a SavedModel, an OpenVINO model or a page"


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path looks like an exported file, in contrast to a Keras model or the folder of a run.

    Args:
        path: of a file or folder, which need not exist.

    Returns:
        True for names of .tflite, .onnx and .xml files, and for folders with a SavedModel, an OpenVINO model or a page.

    Example:
        ```python
        assert keras_vit.runtime.is_exported("model_int8.tflite")
        assert not keras_vit.runtime.is_exported("model.keras")
        ```
    """
    path = pathlib.Path(path)
    named = path.suffix in (".tflite", ".onnx", ".xml") or (path / "index.html").exists()
    return named or (_version(path) / "model.xml").exists() or is_saved_model(path)


def is_saved_model(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is the folder of a SavedModel: the one exported file that TensorFlow runs.

    Args:
        path: of a file or folder, which need not exist.
    """
    return (_version(pathlib.Path(path)) / "saved_model.pb").exists()


def _version(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the newest version, as a server chooses it: the largest number; without any, the path."""
    numbers = [int(folder.name) for folder in path.glob("[0-9]*/") if folder.name.isdecimal()]
    return path / str(max(numbers)) if numbers else path


def open_exported(path: str | os.PathLike[str], threads: int = 2, *, precision: str = "float32") -> ExportedFile:
    """Opens an exported file as an image classifier.

    Args:
        path: of a .tflite or .onnx file, of the .xml file of an OpenVINO model, or of the folder of an OpenVINO model,
            a SavedModel (either's version folder, too) or a page. Of several versions, the largest number is opened.
        threads: number of CPU threads, where the runtime has such an option.
        precision: "bfloat16" for an OpenVINO model to compute as it does by default on a CPU that has this type;
            "float16" for a .tflite file or a page to compute as a GPU does in half precision, see
            `keras_vit.runtime.half`.

    Returns:
        An `ExportedFile`.

    Raises:
        ValueError: if the file is of another kind, or lacks the metadata of its input and classes.
        ImportError: if its runtime is not installed; names the extra.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        keras_vit.export.tflite(model, "model.tflite", class_names=["ash", "elm", "fir"])
        file = keras_vit.runtime.open_exported("model.tflite")
        outputs = file.predict(np.zeros((2, *file.image_size, 3), "uint8"))
        assert file.class_names == ("ash", "elm", "fir") and outputs["probabilities"].shape == (2, 3)
        ```
    """
    path = pathlib.Path(path)
    if precision not in _PRECISIONS:
        raise ValueError(f"Expected precision to be one of {_PRECISIONS}. Received: precision={precision!r}")
    if not path.exists():
        raise ValueError(f"Expected {_KINDS}. Received: {path}, which does not exist")
    if path.suffix == ".tflite":
        from keras_vit.runtime.tflite import TFLiteFile

        return TFLiteFile(path, threads, precision=precision)
    is_page = (path / "index.html").exists() and (path / "model.tflite").exists()
    if precision == "float16" and not is_page:
        raise ValueError(f"Expected a .tflite file or a page for precision='float16'. Received: {path}")
    if path.suffix == ".onnx":
        from keras_vit.runtime.onnx import OnnxFile

        return OnnxFile(path, threads)
    if is_page:
        from keras_vit.runtime.images import CENTER
        from keras_vit.runtime.tflite import TFLiteFile

        model_path = path / "model.tflite"
        return TFLiteFile(path, threads, model_path=model_path, resize_origin=CENTER, precision=precision)
    version = _version(path)
    if (version / "saved_model.pb").exists():
        from keras_vit.runtime.savedmodel import SavedModelFile

        return SavedModelFile(path, version)
    xml = path if path.suffix == ".xml" else version / "model.xml"
    if xml.exists():
        from keras_vit.runtime.openvino import OpenVINOFile

        return OpenVINOFile(xml.parents[1] if xml.parent.name.isdecimal() else path, xml, threads, precision)
    raise ValueError(f"Expected {_KINDS}. Received: {path}")
