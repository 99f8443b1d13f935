"""An ONNX file that onnxruntime is known to take, with what a client has to know in its metadata."""

import contextlib
import json
import logging

import keras
import numpy as np
import tensorflow as tf

from keras_vit.export.to_savedmodel import savedmodel_metadata

OPSET = 18
LARGEST = 2**31 - 2**24  # bytes of weights: a file may have 2 GiB in all
_IMAGES = 3  # that the file and the model are compared on
_BOUND = 1e-3  # in parts of an output's largest number, or of 1


def write_onnx(serving, path):
    """Writes an ONNX file of any batch, and compares it in onnxruntime with the model.

    Input and outputs have the model's names. The metadata of the file are texts: `labels`, `mean` and `std` (parts of
    255) in JSON, `input_type`, and the facts.

    Args:
        serving: the `Serving`; its model on the TensorFlow backend.
        path: file; must not exist.

    Raises:
        ValueError: if the backend is another, the weights do not go into one file, onnxruntime does not take the file,
            or it answers otherwise; no file is left.
        ImportError: if the extra "onnx" is not installed.
    """
    onnx, onnxruntime, tf2onnx = import_onnx()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Expected Keras on the TensorFlow backend for an ONNX file. Received: "
            f"backend={keras.backend.backend()!r}. Start again with KERAS_BACKEND=tensorflow"
        )
    weights = 4 * serving.model.count_params()
    if weights > LARGEST:
        raise ValueError(f"Expected weights of up to {LARGEST:,} bytes for an ONNX file. Received: {weights:,}")
    with _silenced("tf2onnx"):  # it tells of what it cannot convert on the screen, and goes on
        file = _converted(serving.model, onnx, tf2onnx)
    _refuse_unknown(onnx, file)
    _name(onnx, file, serving)
    encoded = file.SerializeToString()
    _refuse_if_different(_session(onnxruntime, encoded), serving)
    path.write_bytes(encoded)


def import_onnx():
    """Returns the packages onnx, onnxruntime and tf2onnx; raises an ImportError that names the extra."""
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError('ONNX files need the extra "onnx": pip install tf2onnx onnx onnxruntime') from error
    return onnx, onnxruntime, tf2onnx


def _converted(model, onnx, tf2onnx):
    """Returns the file of a model.

    The weights are inputs while it is converted and are put in afterwards: the converter copies constants at every
    step, which took 5 GB for a ViT-S/16.
    """
    trained, others = model.trainable_variables, model.non_trainable_variables

    def run(images, *weights):
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
def _silenced(name):
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _refuse_unknown(onnx, file):
    unknown = {node.op_type for node in file.graph.node if not onnx.defs.has(node.op_type, OPSET, node.domain)}
    if unknown:
        raise ValueError(
            f"Expected a model of operators that ONNX has (opset {OPSET}). Received: {', '.join(sorted(unknown))}. "
            "Replace the layers that need them (an exact GELU of Keras' is Erfc: write "
            "0.5 * x * (1 + keras.ops.erf(x / 2**0.5)) instead), or export a SavedModel or a TFLite file"
        )


def _name(onnx, file, serving):
    """Puts the outputs into the model's order, names the batch, and writes the metadata."""
    ends = sorted(file.graph.output, key=lambda end: serving.outputs.index(end.name))
    del file.graph.output[:]
    file.graph.output.extend(ends)
    for end in (*file.graph.input, *file.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    facts = {"labels": serving.class_names, **savedmodel_metadata(serving)}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    onnx.helper.set_model_props(file, texts)


def _session(onnxruntime, encoded):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it raises them, too
    try:
        return onnxruntime.InferenceSession(encoded, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise ValueError(
            f"onnxruntime does not take the file ({error}). Export a SavedModel or a TFLite file"
        ) from error


def _refuse_if_different(session, serving):
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, *serving.image_size, 3), np.uint8)
    images = serving.entries(pixels)
    expected = serving.model.predict_on_batch(images)
    actual = dict(zip(serving.outputs, session.run(serving.outputs, {session.get_inputs()[0].name: images})))
    off = {name: np.abs(actual[name] - value).max() / max(1, np.abs(value).max()) for name, value in expected.items()}
    wrong = [f"{name} by {part:.1e}" for name, part in off.items() if not part <= _BOUND]  # a NaN is refused too
    if wrong:
        raise ValueError(
            f"onnxruntime answers otherwise than the model on {_IMAGES} images: {', '.join(wrong)}, in parts of the "
            f"largest number; expected at most {_BOUND}. Export a SavedModel or a TFLite file instead"
        )
