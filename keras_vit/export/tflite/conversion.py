"""Writes TFLite files."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from keras_vit.data.crop import PROTOCOLS
from keras_vit.export.tflite.metadata import add_metadata
from keras_vit.export.tflite.quantization import quantized
from keras_vit.export.tflite.smoothing import smoothed
from keras_vit.preprocessing import preprocess_input

# What TensorFlow's converter may do to weights, and what types it may store them in, by mode.
CONVERTER = {
    "float32": ([], []),
    "float16": ([tf.lite.Optimize.DEFAULT], [tf.float16]),
    "int8": ([tf.lite.Optimize.DEFAULT], []),
}

# Modes that are quantized from a float32 file on calibration images, and what `quantization` calls
# them. "int8" is not among them: it needs no extra and a tenth of the time, and does without images.
QUANTIZED = {"rounded-int8": "int8", "static-int8": "static-int8", "int4": "int4"}


def converted(model, mode="float32"):
    """Returns a serving model as the bytes of a TFLite file, without metadata.

    Args:
        model: the `model` of a `Serving`.
        mode: out of `CONVERTER`.

    Raises:
        ValueError: if the model has an operator that TFLite's own do not cover, which is named, or if Keras' backend is
            not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Expected Keras on the TensorFlow backend for a TFLite file. Received: "
            f"backend={keras.backend.backend()!r}. Start again with KERAS_BACKEND=tensorflow"
        )
    (images,) = model.inputs
    # A fixed batch of 1: phones' delegates refuse open shapes.
    signature = tf.TensorSpec((1, *images.shape[1:]), images.dtype, "images")
    module = tf.Module()  # by way of Keras' own export a ViT-S/16 takes twice as long
    module.run = tf.function(lambda images: model(images, training=False), [signature], autograph=False)
    module.weights = [variable.value for variable in model.variables]
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.run})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations, converter.target_spec.supported_types = CONVERTER[mode]
        # TFLite's own operators alone: a phone's runtime has no others.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # the converter's own kinds have no common one
            raise ValueError(f"{model.name} does not convert to TFLite: {_reason(error)}") from error


def _reason(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Ops:" in line or "custom op" in line or line.startswith("tf.")]
    return "; ".join(telling[:3]) or (lines or [type(error).__name__])[0]


def calibrated(serving, mode):
    """Returns a float32 file ready to be quantized, and the calibration images as it takes them.

    Scale is moved from activations into weights, by which no answer changes. Raises as `write_tflite`.
    """
    if serving.calibration is None or not len(serving.calibration):
        raise ValueError(f"Expected images to set the ranges of {mode} by. Received: none; give some with --data")
    size = serving.inner.input_shape[1:3]
    pixels = np.stack([PROTOCOLS["official"](image, size) for image in serving.calibration])
    smooth = serving.but(model=smoothed(serving.inner, preprocess_input(pixels, serving.pixels)))
    return converted(smooth.model), serving.entries(serving.calibration)


def exported(serving, mode, in_float=()):
    """Returns the bytes of a whole .tflite file; for arguments and errors see `write_tflite`."""
    if mode in QUANTIZED:
        file, images = calibrated(serving, mode)
        file = quantized(file, QUANTIZED[mode], images, input_type=serving.input_type, in_float=in_float)
    else:
        file = converted(serving.model, mode)
    return with_metadata(file, serving)


def with_metadata(model, serving):
    """Returns a TFLite file with its metadata and labels inside, from its bytes and what was exported."""
    return add_metadata(
        model,
        serving.class_names,
        image_size=serving.image_size,
        facts=serving.facts,
        input_type=serving.input_type,
        mean=serving.scaling.mean,
        std=serving.scaling.std,
        outputs=serving.outputs,
    )


def write_tflite(serving, path, mode="float32", in_float=()):
    """Writes a `Serving` as a .tflite file.

    Args:
        serving: the `Serving`; its `calibration` images are needed for the modes of `QUANTIZED`.
        path: the file.
        mode: out of `CONVERTER` and `QUANTIZED`.
        in_float: layers that stay in float32 in a mode of `QUANTIZED`, as `keras_vit.export.sensitivity` names them.

    Raises:
        ValueError: if the model does not convert, or the calibration images do not do.
        ImportError: if a mode of `QUANTIZED` is asked for without the extra that it needs.
    """
    pathlib.Path(path).write_bytes(exported(serving, mode, in_float))
