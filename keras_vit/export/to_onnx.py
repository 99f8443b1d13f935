"""Writes ONNX files that onnxruntime runs, with labels and scaling in their metadata."""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vit.export.checksum import PROPERTY, with_checksum
from keras_vit.export.serving import Serving
from keras_vit.export.to_savedmodel import metadata_texts

OPSET = 18
MAX_WEIGHT_BYTES = 2**31 - 2**24  # a file may have 2 GiB in all
_IMAGES = 3  # on which the file and the model are compared
_MAX_DIFFERENCE = 1e-3  # in parts of an output's largest number, or of 1


def write_onnx(serving: Serving, path: pathlib.Path) -> None:
    """Writes an ONNX file for any batch size, and compares it in onnxruntime with the model.

    Input and outputs have the model's names. The metadata of the file are texts: `labels`, `mean` and `std` (parts of
    255) in JSON, `input_type`, the facts, and the `sha256` of all bytes of the file before it, by which the runtime
    refuses a damaged file.

    Args:
        serving: the model, on the TensorFlow backend.
        path: of the file, which must not exist.

    Raises:
        ValueError: if Keras' backend is another, the weights do not fit into one file, or onnxruntime cannot run the
            file or returns other outputs than the model; no file is left.
        ImportError: if the extra "onnx" is not installed.
    """
    onnx, onnxruntime, tf2onnx = import_onnx()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Expected Keras on the TensorFlow backend for an ONNX file. Received: "
            f"backend={keras.backend.backend()!r}. Start again with KERAS_BACKEND=tensorflow"
        )
    weights = 4 * serving.model.count_params()
    if weights > MAX_WEIGHT_BYTES:
        raise ValueError(
            f"Expected weights of up to {MAX_WEIGHT_BYTES:,} bytes for an ONNX file. Received: {weights:,}"
        )
    with _silenced("tf2onnx"):  # it prints the operators that it cannot convert, and goes on
        file = _converted(serving.model, onnx, tf2onnx)
    _refuse_unknown(onnx, file)
    _name_outputs_and_write_metadata(onnx, file, serving)
    encoded = with_checksum(file.SerializeToString(), PROPERTY)
    _refuse_if_different(_session(onnxruntime, encoded), serving)
    path.write_bytes(encoded)


def import_onnx() -> tuple[Any, Any, Any]:
    """Imports onnx, onnxruntime and tf2onnx, or raises an ImportError that names the extra."""
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError('ONNX files need the extra "onnx": pip install tf2onnx onnx onnxruntime') from error
    return onnx, onnxruntime, tf2onnx


def _converted(model: keras.Model, onnx: Any, tf2onnx: Any) -> Any:
    """Returns the ONNX model.

    The weights are inputs during the conversion and become constants afterwards: the converter copies constants at
    every step, which took 5 GB for a ViT-S/16.
    """
    trained, others = model.trainable_variables, model.non_trainable_variables

    def run(images: Any, *weights: Any) -> Any:
        return model.stateless_call(weights[: len(trained)], weights[len(trained) :], images, training=False)[0]

    images = model.inputs[0]
    weights = {f"weight_{i}": variable for i, variable in enumerate((*trained, *others))}
    signature = [tf.TensorSpec((None, *images.shape[1:]), images.dtype, images.name)]
    signature += [tf.TensorSpec(variable.shape, variable.dtype, name) for name, variable in weights.items()]
    run = tf.function(run, input_signature=signature, autograph=False)
    file, _ = tf2onnx.convert.from_function(run, signature, opset=OPSET)
    entries = {entry.name: entry for entry in file.graph.input}
    del file.graph.input[:]
    file.graph.input.append(entries.pop(images.name))
    file.graph.initializer.extend(onnx.numpy_helper.from_array(weights[name].numpy(), name) for name in entries)
    return file


@contextlib.contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keeps a logger silent."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _refuse_unknown(onnx: Any, file: Any) -> None:
    """Raises a ValueError for operators that ONNX does not have."""
    unknown = {node.op_type for node in file.graph.node if not onnx.defs.has(node.op_type, OPSET, node.domain)}
    if unknown:
        raise ValueError(
            f"Expected a model of operators that ONNX has (opset {OPSET}). Received: {', '.join(sorted(unknown))}. "
            "Replace the layers that need them (the exact GELU of Keras needs Erfc: write "
            "0.5 * x * (1 + keras.ops.erf(x / 2**0.5)) instead), or export a SavedModel or a TFLite file"
        )


def _name_outputs_and_write_metadata(onnx: Any, file: Any, serving: Serving) -> None:
    """Puts the outputs into the model's order, names the batch axis, and writes the metadata."""
    ends = sorted(file.graph.output, key=lambda end: serving.outputs.index(end.name))
    del file.graph.output[:]
    file.graph.output.extend(ends)
    for end in (*file.graph.input, *file.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(file, metadata_texts(serving))


def _session(onnxruntime: Any, encoded: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it logs errors alone, which it raises, too
    try:
        return onnxruntime.InferenceSession(encoded, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise ValueError(
            f"Expected a file that onnxruntime runs. Received: {error}. Export a SavedModel or a TFLite file instead"
        ) from error


def _refuse_if_different(session: Any, serving: Serving) -> None:
    """Raises a ValueError if onnxruntime returns other outputs than the model."""
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, *serving.image_size, serving.channels), np.uint8)
    images = serving.client_inputs(pixels)
    expected = serving.model.predict_on_batch(images)
    actual = dict(zip(serving.outputs, session.run(serving.outputs, {session.get_inputs()[0].name: images})))
    differences = {
        name: np.abs(actual[name] - value).max() / max(1, np.abs(value).max()) for name, value in expected.items()
    }
    # NaN is refused, too.
    wrong = [f"{name} by {part:.1e}" for name, part in differences.items() if not part <= _MAX_DIFFERENCE]
    if wrong:
        raise ValueError(
            f"Expected outputs that differ from the model's by at most {_MAX_DIFFERENCE}, in parts of the largest "
            f"number. Received: from onnxruntime, on {_IMAGES} images, {', '.join(wrong)}. Export a SavedModel or a "
            "TFLite file instead"
        )
