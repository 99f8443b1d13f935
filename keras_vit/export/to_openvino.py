"""Writes models of OpenVINO, for servers with Intel and AMD processors, with labels and scaling in their metadata."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import keras
import tensorflow as tf

from keras_vit import _compat
from keras_vit.export.checksum import write_checksums
from keras_vit.export.serving import Serving
from keras_vit.export.to_savedmodel import metadata_texts

_VERSION = "1"  # folder of the only version; a server takes the highest number
_SECTION = "keras_vit"  # of the metadata


def write_openvino(serving: Serving, path: pathlib.Path) -> None:
    """Writes a folder for OpenVINO Model Server, with model.xml and model.bin in its version folder, `1`.

    The model takes any batch size; its weights are float32. Input and outputs have the model's names. The metadata of
    model.xml (`rt_info`, section `keras_vit`) are texts: `labels`, `mean` and `std` (parts of 255) and `outputs` in
    JSON, `input_type`, `returns`, and the facts. SHA256SUMS in the version folder has the SHA-256 of both files.

    Args:
        serving: the model, on the TensorFlow backend.
        path: of the folder, which must not exist.

    Raises:
        ValueError: if Keras' backend is another, or OpenVINO lacks an operation of the model; no folder is left.
        ImportError: if the extra "openvino" is not installed.
    """
    openvino = import_openvino()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Expected Keras on the TensorFlow backend for an OpenVINO model. Received: "
            f"backend={keras.backend.backend()!r}. Start again with KERAS_BACKEND=tensorflow"
        )
    model = _in_openvino(openvino, serving)
    for name, text in metadata_texts(serving).items():
        model.set_rt_info(text, [_SECTION, name])
    version = pathlib.Path(path, _VERSION)
    version.mkdir(parents=True)
    openvino.save_model(model, version / "model.xml", compress_to_fp16=False)
    write_checksums(version)


def import_openvino() -> Any:
    """Imports OpenVINO, or raises an ImportError that names the extra."""
    try:
        return _compat.openvino_without_telemetry()
    except ImportError as error:
        raise ImportError('OpenVINO models need the extra "openvino": pip install openvino') from error


def _in_openvino(openvino: Any, serving: Serving) -> Any:
    """Returns the model in OpenVINO, its outputs in the model's order."""
    model, images = serving.model, serving.model.inputs[0]
    signature = [tf.TensorSpec((None, *images.shape[1:]), images.dtype, images.name)]
    run = tf.function(lambda images: model(images, training=False), input_signature=signature, autograph=False)
    try:
        converted = openvino.convert_model(run.get_concrete_function())
    except Exception as error:  # its errors have no class in common
        missing = re.search(r"No conversion rule found for operations: (.*)", str(error))
        raise ValueError(
            "Expected a model of operations that OpenVINO has. Received: "
            f"{missing[1] if missing else error}. Replace the layers that need them, or export a SavedModel"
        ) from error
    _subtract_means(openvino, converted)
    outputs = [converted.output(name) for name in serving.outputs]
    return openvino.Model(outputs, converted.get_parameters(), model.name)


def _subtract_means(openvino: Any, model: Any) -> None:
    """Writes `-mean * scale + beta` of Keras' layer norms as `beta - mean * scale`, of which OpenVINO fuses an MVN.

    The numbers are the same in float32. In bfloat16, an MVN computes mean and variance in float32.
    """
    for node in model.get_ordered_ops():
        product, beta = _operands(node, "Add")
        negative, scale = _operands(product, "Multiply")
        mean, factor = _operands(negative, "Multiply")
        if _operands(mean, "ReduceMean")[0] and factor.get_type_name() == "Constant" and (factor.data == -1).all():
            difference = openvino.opset8.subtract(beta, openvino.opset8.multiply(mean, scale))
            node.output(0).replace(difference.output(0))


def _operands(node: Any, kind: str) -> tuple[Any, Any]:
    """Returns the nodes that a node of a kind is computed from; (None, None) if it is of another kind."""
    if node is None or node.get_type_name() != kind:
        return None, None
    first, second = node.input_values()
    return first.get_node(), second.get_node()
