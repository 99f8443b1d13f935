"""The one table of what a model can be exported to, and how each file is made and run again."""

import warnings
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vit.preprocessing import pixels_of, rescaling

INPUTS = {
    "uint8": "RGB pixels, whole numbers from 0 to 255",
    "float32": "RGB pixels, numbers from 0 to 255",
    "scaled": "RGB pixels scaled by the client",
}


def with_pixels(model, takes):
    """Returns the model with its input as the client gives it; the scaling is inside except for "scaled".

    Raises:
        ValueError: if `takes` is none of `INPUTS`.
    """
    if takes not in INPUTS:
        raise ValueError(f"Expected the input to be one of {tuple(INPUTS)}. Received: {takes!r}")
    images = keras.Input(model.input_shape[1:], dtype="uint8" if takes == "uint8" else "float32", name="images")
    return keras.Model(
        images, model(images if takes == "scaled" else rescaling(pixels_of(model))(images)), name=model.name
    )


def _signature(model, batch):
    return [keras.layers.InputSpec(shape=(batch, *model.input_shape[1:]), dtype=model.inputs[0].dtype)]


def _write_savedmodel(model, path):
    model.export(path, format="tf_saved_model", input_signature=_signature(model, None), verbose=False)


def _write_tflite(model, path, **settings):
    # A fixed batch of 1: phones' delegates refuse open shapes.
    model.export(path, format="litert", input_signature=_signature(model, 1), verbose=False, **settings)


def _run_savedmodel(path, images):
    loaded = tf.saved_model.load(str(path))  # held in a name: its variables die with it
    return np.concatenate([loaded.serve(images[i : i + 64]).numpy() for i in range(0, len(images), 64)])


def _run_tflite(path, images):
    with warnings.catch_warnings():
        # Deprecated in favour of ai_edge_litert, the same interpreter in a package that is an extra here.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        interpreter = tf.lite.Interpreter(str(path), num_threads=2)
    interpreter.allocate_tensors()
    (entry,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in images:
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(out["index"])[0])
    return np.stack(outputs)


class Target(NamedTuple):
    """Describes one kind of exported file.

    Args:
        file: its name.
        write: from a model and a path, the file.
        run: from a path and pictures as the file takes them, its outputs.
        bounds: {name of a figure of `Agreement`: (least, most)} that the file must keep.
        tie: difference between two outputs of the model up to which it does not matter which comes first.
    """

    file: str
    write: callable
    run: callable
    bounds: dict
    tie: float


def _int8(model, path):
    _write_tflite(model, path, optimizations=[tf.lite.Optimize.DEFAULT])


# Between float32 files only the order of additions differs: 3e-6 in a probability is usual.
EXACT = {"largest_difference": (0.0, 1e-4), "top1_or_tie": (1.0, 1.0)}
# Weights rounded to 8 bits move a probability by some hundredths, where the model itself is undecided.
ROUNDED = {"top1_or_tie": (0.99, 1.0)}
TARGETS = {
    "savedmodel": Target("saved_model", _write_savedmodel, _run_savedmodel, EXACT, 1e-4),
    "tflite-float32": Target("model_float32.tflite", _write_tflite, _run_tflite, EXACT, 1e-4),
    "tflite-int8": Target("model_int8.tflite", _int8, _run_tflite, ROUNDED, 0.05),
}
