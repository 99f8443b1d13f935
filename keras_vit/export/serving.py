"""What is exported: a classifier, put between the pixels that a client gives and the outputs that it reads."""

import dataclasses

import keras
import numpy as np

from keras_vit.analysis.attention import rollout_tensor
from keras_vit.layers import TransformerBlock
from keras_vit.preprocessing import OFFICIAL, Pixels, pixels_of, rescaling

INPUTS = {
    "uint8": "RGB pixels, whole numbers from 0 to 255",
    "float32": "RGB pixels, numbers from 0 to 255",
    "scaled": "RGB pixels scaled by the client",
}
OUTPUTS = ("probabilities", "features", "rollout")
FACTS = ("name", "description", "version", "author", "license")


@dataclasses.dataclass(frozen=True, eq=False)
class Serving:
    """Holds what a writer of files needs to know.

    Args:
        model: "images", as the client gives them, (batch, rows, columns, 3) -> {output: tensor} in the order of
            `outputs`: "probabilities" (batch, classes), "features" (batch, width), "rollout" (batch, grid rows, grid
            columns).
        inner: the classifier, scaled float32 pictures -> (batch, classes) probabilities.
        takes: out of `INPUTS`.
        pixels: how the classifier's pictures are scaled.
        class_names: in the order of the probabilities.
        facts: {"name", "description", "version", "author", "license"}.
        gives: type of the probabilities, "float32" or "uint8".
        calibration: (pictures, rows, columns, 3) uint8 to set ranges by, of the client's size; or None.
    """

    model: keras.Model
    inner: keras.Model
    takes: str
    pixels: Pixels
    class_names: tuple[str, ...]
    facts: dict
    gives: str = "float32"
    calibration: np.ndarray | None = None

    @property
    def outputs(self):
        """Names of what the model gives."""
        return tuple(self.model.output)

    @property
    def image_size(self):
        """(rows, columns) of the pictures that the client gives, pixels."""
        return tuple(self.model.inputs[0].shape[1:3])

    @property
    def scaling(self):
        """How the client of a "scaled" file scales."""
        return scaling_of(self.pixels)

    def entries(self, pixels):
        """Returns uint8 pictures as the client gives them to the file."""
        if self.takes != "scaled":
            return pixels.astype(self.takes, copy=False)
        mean, std = (255 * np.float32(values) for values in (self.scaling.mean, self.scaling.std))
        return (pixels - mean) / std

    def but(self, **changes):
        """Returns the same with some arguments of `serving` changed; `model` is the classifier."""
        arguments = {
            "model": self.inner,
            "class_names": self.class_names,
            "takes": self.takes,
            "outputs": self.outputs,
            "picture_size": self.image_size,
            "pixels": self.pixels,
            "facts": self.facts,
            "gives": self.gives,
            "calibration": self.calibration,
        }
        return serving(**{**arguments, **changes})


def serving(
    model,
    class_names,
    *,
    takes="uint8",
    outputs=("probabilities",),
    picture_size=None,
    pixels=None,
    facts=(),
    gives="float32",
    calibration=None,
):
    """Returns the `Serving` of a classifier.

    Args:
        model: a functional Keras model, scaled RGB pictures (batch, rows, columns, 3) -> (batch, classes). One that
            ends without an activation gets a softmax: clients show scores as probabilities.
        class_names: in the order of its outputs.
        takes: what the files take, out of `INPUTS`; the scaling is inside except for "scaled".
        outputs: names out of `OUTPUTS`.
        picture_size: (rows, columns) of the pictures that the files take, pixels; the model's by default. Other ones
            are resized inside, bilinear, as in evaluation but that no level is rounded.
        pixels: the `Pixels`; the model's own by default.
        facts: {"name": ..., "description": ..., "version": ..., "author": ..., "license": ...}, any of them.
        gives: type of the probabilities; "uint8" are whole numbers, 255 for 1, as a TFLite file says of itself.
        calibration: (pictures, rows, columns, 3) uint8 for static quantization.

    Raises:
        ValueError: if the model is no classifier of RGB pictures, has another number of classes than there are names,
            or something is asked for that is unknown or that the model does not have.
    """
    _check(model, class_names, takes, outputs)
    pixels = pixels or pixels_of(model)
    model = _giving_probabilities(model)
    size = model.input_shape[1:3]
    images = keras.Input((*(picture_size or size), 3), dtype="uint8" if takes == "uint8" else "float32", name="images")
    x = images
    if images.shape[1:3] != size:
        x = keras.ops.image.resize(keras.ops.cast(x, "float32"), size)
    x = _scaled(x, pixels, scaling_of(pixels)) if takes == "scaled" else rescaling(pixels)(x)
    tensors = dict(zip(outputs, keras.Model(model.inputs, [_tensor(model, name) for name in outputs])(x)))
    if gives == "uint8":
        tensors["probabilities"] = keras.ops.cast(tensors["probabilities"] * 255 + 0.5, "uint8")
    return Serving(
        model=keras.Model(images, tensors, name=model.name),
        inner=model,
        takes=takes,
        pixels=pixels,
        class_names=tuple(class_names),
        facts={**dict.fromkeys(FACTS, ""), "name": model.name, **dict(facts)},
        gives=gives,
        calibration=calibration,
    )


def scaling_of(pixels):
    """Returns how a client scales for `Pixels`: by one mean and std for all colours, for MediaPipe knows no others.

    Where they differ, the official code's are taken, and the rest is done inside the file.
    """
    return pixels if len({*pixels.mean}) == len({*pixels.std}) == 1 else OFFICIAL


def _scaled(x, pixels, scaling):
    """Returns pictures that the client has scaled as `pixels` asks for."""
    if scaling == pixels:
        return x
    factors = [theirs / ours for theirs, ours in zip(scaling.std, pixels.std)]
    offsets = [(theirs - ours) / std for theirs, ours, std in zip(scaling.mean, pixels.mean, pixels.std)]
    return keras.layers.Rescaling(factors, offsets, dtype="float32")(x)


def has_blocks(model):
    """Returns whether a model has transformer blocks of ours, so that there is attention to look at."""
    return any(isinstance(layer, TransformerBlock) for layer in model.layers)


def _check(model, class_names, takes, outputs):
    shape, classes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] != 3 or None in shape[1:]:
        raise ValueError(f"Expected a functional model of RGB pictures of known size. Received: one of input {shape}")
    if not isinstance(classes, tuple) or len(classes) != 2:
        raise ValueError(f"Expected a classifier, (batch, classes). Received: one of output {classes}")
    if len(class_names) != classes[1] or len(set(class_names)) != len(class_names):
        raise ValueError(
            f"Expected {classes[1]} different class names, one an output of the model. Received: {len(class_names)} "
            f"names, {len(set(class_names))} of them different"
        )
    if broken := [name for name in class_names if not name.strip() or "\n" in name or "\r" in name]:
        raise ValueError(f"Expected class names of one line. Received: {', '.join(map(repr, broken))}")
    if takes not in INPUTS:
        raise ValueError(f"Expected the input to be one of {tuple(INPUTS)}. Received: {takes!r}")
    if not outputs or outputs[0] != OUTPUTS[0] or not set(outputs) <= set(OUTPUTS) or len(set(outputs)) < len(outputs):
        raise ValueError(f"Expected outputs out of {OUTPUTS}, probabilities first. Received: {tuple(outputs)}")


def _giving_probabilities(model):
    """Returns the model, with a softmax behind it if it ends in a layer without an activation."""
    last = model.layers[-1]
    is_linear = isinstance(last, keras.layers.Dense) and last.activation in (None, keras.activations.linear)
    return (
        keras.Model(model.inputs, keras.layers.Softmax(name="softmax")(model.output), name=model.name)
        if is_linear
        else model
    )


def _tensor(model, name):
    if name == "rollout":
        return rollout_tensor(model)
    if name == "probabilities":
        return model.output
    names = [layer.name for layer in model.layers]
    if "head" not in names:
        raise ValueError(f"Expected a model with a layer called head, which reads the features. Received: {names}")
    return model.get_layer("head").input
