"""Writes a SavedModel in TensorFlow Serving's layout, with signatures for pixels and for encoded images."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_vit import _compat
from keras_vit.data.crop import resize_pixels
from keras_vit.export.checksum import write_checksums
from keras_vit.export.exif import turn_upright
from keras_vit.export.serving import Serving
from keras_vit.layers import StdConv

_VERSION = "1"  # folder of the only version; a server takes the highest number


def write_savedmodel(serving: Serving, path: str | os.PathLike[str]) -> None:
    """Writes a folder for TensorFlow Serving, with the model in its version folder, `1`.

    Signatures, each with the outputs of the model by name:

    - serving_default: images, (batch, height, width, channels) float32, pixels of 0 to 255, or scaled by the client
      where `serving.input_type` says so.
    - serve_uint8: images, (batch, any, any, channels) uint8, which are resized as in
      `keras_vit.data.pipeline.read_pixels`.
    - serve_jpeg: encoded, (batch,) strings, for images of 1 (grey), 3 (RGB) or 4 (RGBA) channels alone: JPEG, turned
      upright by EXIF, PNG (transparent pixels show white, but for RGBA), GIF (the first image) or WebP. EXIF is read in
      JPEG files alone, transparent pixels of a GIF keep their colour, colour profiles are not applied, and 16 bits are
      cut to 8.

    Assets, attributes of the loaded object: `labels` (labels.txt, one a line) and `facts` (facts.json, see
    `savedmodel_metadata`).

    SHA256SUMS in the version folder has the SHA-256 of each of its files.

    Args:
        serving: the model.
        path: of the folder, which must not exist.
    """
    model = _with_float_input(_with_folded_kernels(serving).model)
    module = tf.Module()
    module.run, module.weights = _in_tensorflow(model)
    with tempfile.TemporaryDirectory() as folder:
        module.labels = _asset(folder, "labels.txt", "".join(f"{name}\n" for name in serving.class_names))
        module.facts = _asset(
            folder, "facts.json", json.dumps(savedmodel_metadata(serving), indent=2, ensure_ascii=False)
        )
        tf.saved_model.save(
            module,
            str(pathlib.Path(path, _VERSION)),
            signatures=_signatures(module.run, serving),
            options=_compat.without_gradients(),
        )
    write_checksums(pathlib.Path(path, _VERSION))


def metadata_texts(serving: Serving) -> dict[str, str]:
    """Returns the labels and `savedmodel_metadata` as texts, JSON where they are none, for an ONNX or OpenVINO file."""
    facts = {"labels": serving.class_names, **savedmodel_metadata(serving)}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


def savedmodel_metadata(serving: Serving) -> dict[str, Any]:
    """Returns the metadata of an exported file: its scaling, its outputs, and the facts.

    `input_type` is one of `keras_vit.export.targets.INPUTS`; `mean` and `std` are parts of 255; `returns` is
    "probabilities", "scores" or "numbers"; `outputs` are the names, in order; `thresholds`, where the
    model has them, are the least scores of the labels that an image has; `reject`, where it has one, are the fields
    of its `Reject`.
    """
    return {
        "input_type": serving.input_type,
        "mean": serving.client_scaling.mean,
        "std": serving.client_scaling.std,
        "returns": serving.kind,
        "outputs": serving.outputs,
        **({"thresholds": serving.thresholds} if serving.thresholds else {}),
        **({"reject": dataclasses.asdict(serving.reject)} if serving.reject else {}),
        **serving.facts,
    }


def _asset(folder: str, name: str, text: str) -> Any:
    path = pathlib.Path(folder, name)
    path.write_text(text, "utf-8")
    return tf.saved_model.Asset(str(path))


def _signatures(run: Callable[..., Any], serving: Serving) -> dict[str, Any]:
    size = serving.image_size
    channels = serving.channels
    shape = (*size, channels)

    def from_levels(images: Any) -> Any:
        if serving.input_type == "scaled":
            images = images * tf.constant(serving.client_scaling.scale) + tf.constant(serving.client_scaling.offset)
        return run(images)

    def from_pixels(images: Any) -> Any:
        return from_levels(tf.cast(resize_pixels(images, size), tf.float32))

    def from_files(encoded: Any) -> Any:
        pixels = tf.map_fn(
            lambda one: resize_pixels(_decode(one, channels), size),
            encoded,
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )
        return from_levels(tf.cast(pixels, tf.float32))

    signatures = {
        "serving_default": _function(run, (None, *shape), tf.float32, "images"),
        "serve_uint8": _function(from_pixels, (None, None, None, channels), tf.uint8, "images"),
    }
    if channels in (1, 3, 4):
        signatures["serve_jpeg"] = _function(from_files, (None,), tf.string, "encoded")
    return signatures


def _function(function: Callable[..., Any], shape: tuple[Any, ...], dtype: Any, name: str) -> Any:
    return tf.function(function, input_signature=[tf.TensorSpec(shape, dtype, name)], autograph=False)


def _decode(encoded: Any, channels: int) -> Any:
    """Decodes an image as `keras_vit.data.decode` does: (height, width, channels) uint8, of 1, 3 or 4 channels."""
    # The decoder's faster default is up to 3 levels off Pillow's pixels.
    exact = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}
    colours, alpha = tf.cond(
        tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff",
        lambda: _divided(turn_upright(tf.io.decode_jpeg(encoded, **exact), encoded)),
        lambda: _divided(_decode_other(encoded)),
    )
    if channels == 4:
        return tf.cast(tf.concat([tf.where(alpha > 0, colours, 0), alpha], axis=-1), tf.uint8)
    shown = (colours * alpha + 255 * (255 - alpha) + 127) // 255
    if channels == 1:  # as in Pillow
        shown = (tf.reduce_sum(shown * [19595, 38470, 7471], axis=-1, keepdims=True) + 32768) // 65536
    return tf.cast(shown, tf.uint8)


def _decode_other(encoded: Any) -> Any:
    # TensorFlow returns the palette numbers of a BMP as colours, without an error.
    is_bmp = tf.strings.substr(encoded, 0, 2) == b"BM"
    with tf.control_dependencies([tf.debugging.Assert(~is_bmp, ["Expected a JPEG, PNG, GIF or WebP, not a BMP."])]):
        pixels = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    return tf.ensure_shape(pixels, (None, None, None))


def _divided(pixels: Any) -> tuple[Any, Any]:
    """Returns RGB and alpha, int32, of an image of 1 (grey), 2 (grey, alpha), 3 or 4 channels."""
    height, width, channels = tf.unstack(tf.shape(pixels))
    has_alpha = channels % 2 == 0
    colours = tf.cast(pixels[..., : channels - tf.cast(has_alpha, tf.int32)], tf.int32)
    alpha = tf.cond(has_alpha, lambda: tf.cast(pixels[..., -1:], tf.int32), lambda: tf.constant(255, shape=(1, 1, 1)))
    return tf.broadcast_to(colours, [height, width, 3]), tf.broadcast_to(alpha, [height, width, 1])


def _with_float_input(model: keras.Model) -> keras.Model:
    """Returns the model with a float32 input, sharing its weights: a client may send fractions of a level."""
    if model.inputs[0].dtype == "float32":
        return model
    images = keras.Input(model.input_shape[1:], dtype="float32", name="images")
    return keras.models.clone_model(model, input_tensors=images, clone_function=lambda layer: layer)


def _with_folded_kernels(serving: Serving) -> Serving:
    """Returns the same with standardized kernels, which are otherwise standardized again for every batch."""
    if not any(isinstance(layer, StdConv) for layer in _compat.layers_inside(serving.inner)):
        return serving
    folded = keras.models.clone_model(serving.inner)
    folded.set_weights(serving.inner.get_weights())
    for layer in _compat.layers_inside(folded):
        if isinstance(layer, StdConv):
            layer.fold()
    return serving.with_changes(model=folded)


def _in_tensorflow(model: keras.Model) -> tuple[Any, list[Any]]:
    """Returns a model as a tf.function of a float32 batch, and its weights as TensorFlow variables."""
    signature = ((None, *model.input_shape[1:]), tf.float32, "images")
    if keras.backend.backend() == "tensorflow":
        run = _function(lambda images: model(images, training=False), *signature)
        return run, [variable.value for variable in model.variables]
    if keras.backend.backend() != "jax":
        raise ValueError(
            "Expected Keras on the TensorFlow or JAX backend for a SavedModel. Received: "
            f"backend={keras.backend.backend()!r}. Start again with KERAS_BACKEND=tensorflow"
        )

    def run_stateless(values: Any, images: Any) -> Any:
        trained, others = values[: len(model.trainable_variables)], values[len(model.trainable_variables) :]
        return model.stateless_call(trained, others, images, training=False)[0]

    of_both = [*model.trainable_variables, *model.non_trainable_variables]
    weights = [tf.Variable(variable.numpy()) for variable in of_both]
    shapes = [None, f"(batch, {', '.join(map(str, model.input_shape[1:]))})"]
    converted = _compat.jax_in_tensorflow(run_stateless, shapes)
    return _function(lambda images: converted(weights, images), *signature), weights
