"""Converts models to TFLite files, in every mode."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vit import _compat
from keras_vit._quiet import quiet
from keras_vit.data.crop import PROTOCOLS
from keras_vit.export.serving import Serving
from keras_vit.export.tflite.flatbuffer import packed
from keras_vit.export.tflite.integer import in_integers
from keras_vit.export.tflite.metadata import add_metadata
from keras_vit.export.tflite.precision import store_in_8_bits, store_in_16_bits
from keras_vit.export.tflite.quantization import Calibrated, quantized
from keras_vit.export.tflite.simplification import simplify
from keras_vit.export.tflite.smoothing import smoothed
from keras_vit.preprocessing import preprocess_input

# By mode, what stores the weights in fewer bits.
MODES: dict[str, Callable[[Any], None] | None] = {
    "float32": None,
    "float16": store_in_16_bits,
    "int8": store_in_8_bits,
}

# By mode, the mode of `quantization` for files that calibration images quantize from a float32 file. "int8" is not
# among them: `store_in_8_bits` needs no extra package, a tenth of the time, and no images.
QUANTIZED = {"rounded-int8": "int8", "static-int8": "static-int8", "int4": "int4"}
NPU = "npu"  # the mode of `in_integers`, which needs calibration images, too
USED_IMAGES = {"int4": 256}  # the most that a mode uses, by mode: more make no other mode better


def converted(
    model: keras.Model, mode: str = "float32", fold_norms: bool = True, *, scale_norms: bool = False
) -> bytes:
    """Converts a model to the bytes of a TFLite file, without metadata.

    Args:
        model: the `model` of a `Serving`.
        mode: one of `MODES`.
        fold_norms, scale_norms: see `simplify`.

    Raises:
        ValueError: if the model has an operator that TFLite does not have, which the message names, or if Keras'
            backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Expected Keras on the TensorFlow backend for a TFLite file. Received: "
            f"backend={keras.backend.backend()!r}. Start again with KERAS_BACKEND=tensorflow"
        )
    kernels = _kernels(model)
    with quiet():  # a dozen notes on the stages of the conversion
        parsed = _compat.read_flatbuffer(_without_kernels(model, kernels))
    simplify(
        parsed, {name: np.asarray(kernel) for name, kernel in kernels.items()}, fold_norms, scale_norms=scale_norms
    )
    if store := MODES[mode]:
        store(parsed)
    return packed(parsed)


def _kernels(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the kernels of a model's dense layers, {a name that is no other input's: kernel}."""
    layers = [layer for layer in _compat.layers_inside(model) if isinstance(layer, keras.layers.Dense)]
    kernels = {id(layer.kernel): layer.kernel for layer in layers if isinstance(layer.kernel, keras.Variable)}
    return {f"kernel_{i}": kernel for i, kernel in enumerate(kernels.values()) if kernel.dtype == "float32"}


def _without_kernels(model: keras.Model, kernels: Mapping[str, keras.Variable]) -> bytes:
    """Returns a float32 TFLite file whose inputs are the images and the kernels, see `simplification`."""
    (images,) = model.inputs

    def run(images: Any, *values: Any) -> Any:
        with keras.StatelessScope(zip(kernels.values(), values)):
            return model(images, training=False)

    # A fixed batch of 1: the delegates of phones refuse unknown dimensions.
    signature = [tf.TensorSpec((1, *images.shape[1:]), images.dtype, "images")]
    signature += [tf.TensorSpec(kernel.shape, kernel.dtype, name) for name, kernel in kernels.items()]
    module = tf.Module()  # Keras' own export takes twice as long for a ViT-S/16
    module.run = tf.function(run, signature, autograph=False)
    known = {id(kernel) for kernel in kernels.values()}
    module.weights = [variable.value for variable in model.variables if id(variable) not in known]
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(
            module, folder, signatures={"serving_default": module.run}, options=_compat.without_gradients()
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # TFLite's own operators alone: a phone's runtime has no others.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # the converter's errors have no class in common
            raise ValueError(f"{model.name} does not convert to TFLite: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    operators = [line for line in lines if "Ops:" in line or "custom op" in line or line.startswith("tf.")]
    return "; ".join(operators[:3]) or (lines or [type(error).__name__])[0]


def calibrated(serving: Serving, mode: str, scale_norms: bool = False) -> tuple[bytes, np.ndarray]:
    """Returns a float32 file that is ready for quantization, and the calibration images as its inputs.

    Scale is moved from activations into weights, which changes no output. Raises as `write_tflite`.
    """
    if serving.calibration is None or not len(serving.calibration):
        raise ValueError(f"Expected calibration images for {mode}. Received: none. Pass some (--data)")
    count = len(serving.calibration)
    some = np.linspace(0, count - 1, min(count, USED_IMAGES.get(mode, 64))).astype(int)
    images = serving.calibration[some]
    size = serving.inner.input_shape[1:3]
    pixels = np.stack([PROTOCOLS["official"](image, size) for image in images])
    smooth = serving.with_changes(model=smoothed(serving.inner, preprocess_input(pixels, serving.pixels)))
    # The norms keep the scale that was moved into them.
    file = converted(smooth.model, fold_norms=False, scale_norms=scale_norms)
    return file, serving.client_inputs(images)


def exported(serving: Serving, mode: str, in_float: Sequence[str] = (), scale_norms: bool = False) -> bytes:
    """Returns the bytes of a .tflite file with metadata; for arguments and errors see `write_tflite`."""
    if mode in QUANTIZED:
        file, images = calibrated(serving, mode, scale_norms)
        file = quantized(file, QUANTIZED[mode], images, input_type=serving.input_type, in_float=in_float)
    elif mode == NPU:
        file, images = calibrated(serving, mode)
        file = in_integers(Calibrated(file, images, input_type=serving.input_type))
    else:
        file = converted(serving.model, mode, scale_norms=scale_norms)
    return with_metadata(file, serving)


def with_metadata(model: bytes, serving: Serving) -> bytes:
    """Returns the bytes of a TFLite file with the metadata and labels of a `Serving` inside."""
    return add_metadata(
        model,
        serving.class_names,
        image_size=serving.image_size,
        channels=serving.channels,
        facts=serving.facts,
        input_type=serving.input_type,
        mean=serving.client_scaling.mean,
        std=serving.client_scaling.std,
        outputs=serving.outputs,
        thresholds=serving.thresholds,
    )


def write_tflite(
    serving: Serving,
    path: str | os.PathLike[str],
    mode: str = "float32",
    in_float: Sequence[str] = (),
    scale_norms: bool = False,
) -> None:
    """Writes a `Serving` as a .tflite file.

    Args:
        serving: the model; the modes in `QUANTIZED` and `NPU` need its `calibration` images.
        path: of the file.
        mode: one of `MODES` or `QUANTIZED`, or `NPU`.
        in_float: layers that stay in float32 in a mode of `QUANTIZED`, see `keras_vit.export.sensitivity`.
        scale_norms: whether layer norms keep in the range of float16, see `simplify`; not in the mode `NPU`.

    Raises:
        ValueError: if the model does not convert, or the calibration images do not suit it.
        ImportError: if a mode in `QUANTIZED` needs an extra that is not installed.
    """
    pathlib.Path(path).write_bytes(exported(serving, mode, in_float, scale_norms))
