"""What is exported: a model, put between the pixels that a client gives and the outputs that it reads."""

import dataclasses

import keras
import numpy as np

from keras_vit.analysis.attention import rollout_tensor
from keras_vit.export.targets import ALSO, INPUTS
from keras_vit.layers import TransformerBlock
from keras_vit.models.class_names import refuse_names
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import image_size_of, in_float32, numbers_of, outputs_of, pixels_of, served
from keras_vit.preprocessing import OFFICIAL_PIXELS, Pixels, rescaling

FACTS = ("name", "description", "version", "author", "license")


@dataclasses.dataclass(frozen=True, eq=False)
class Serving:
    """Holds what a writer of files needs to know.

    Args:
        model: "images", as the client gives them, (batch, height, width, 3) -> {output: tensor} in the order of
            `outputs`: "probabilities" (batch, classes), or the model's own outputs where they are numbers; "features"
            (batch, hidden_size), "rollout" (batch, grid rows, grid columns).
        inner: scaled float32 images -> probabilities (batch, classes), or numbers.
        kind: what the model's head returns: "probabilities" of classes, together 1; "scores", each class by itself;
            "numbers" without classes.
        input_type: out of `INPUTS`.
        pixels: how the model's images are scaled.
        class_names: in the order of the probabilities; () for numbers.
        facts: {"name", "description", "version", "author", "license"}.
        output_type: type of the probabilities, "float32" or "uint8".
        calibration: (images, height, width, 3) uint8 to set ranges by, of the client's size; or None.
    """

    model: keras.Model
    inner: keras.Model
    input_type: str
    pixels: Pixels
    class_names: tuple[str, ...]
    facts: dict
    output_type: str = "float32"
    calibration: np.ndarray | None = None
    kind: str = "probabilities"

    @property
    def outputs(self):
        """Names of what the model gives."""
        return tuple(self.model.output)

    @property
    def also(self):
        """Names out of `ALSO` of the outputs beside those of the model's head."""
        return tuple(name for name in self.outputs if name in ALSO)

    @property
    def words(self):
        """What the model returns, in words."""
        if self.kind == "numbers":
            return f"numbers, without classes: {', '.join(name for name in self.outputs if name not in ALSO)}"
        return f"{self.kind} of {len(self.class_names):,} classes"

    @property
    def image_size(self):
        """(height, width) of the images that the client output_type, pixels."""
        return tuple(self.model.inputs[0].shape[1:3])

    @property
    def scaling(self):
        """How the client of a "scaled" file scales."""
        return scaling_of(self.pixels)

    def entries(self, pixels):
        """Returns uint8 images as the client gives them to the file."""
        if self.input_type != "scaled":
            return pixels.astype(self.input_type, copy=False)
        mean, std = (255 * np.float32(values) for values in (self.scaling.mean, self.scaling.std))
        return (pixels - mean) / std

    def but(self, **changes):
        """Returns the same with some arguments of `serving` changed; `model` is the classifier."""
        arguments = {
            "model": self.inner,
            "class_names": self.class_names,
            "input_type": self.input_type,
            "outputs": self.kind,
            "also": self.also,
            "input_size": self.image_size,
            "pixels": self.pixels,
            "facts": self.facts,
            "output_type": self.output_type,
            "calibration": self.calibration,
        }
        return serving(**{**arguments, **changes})


def serving(
    model,
    class_names=None,
    *,
    input_type="uint8",
    outputs=None,
    also=(),
    input_size=None,
    pixels=None,
    facts=(),
    output_type="float32",
    calibration=None,
):
    """Returns the `Serving` of a model.

    Args:
        model: a functional Keras model, scaled RGB images (batch, height, width, 3) -> (batch, classes) or numbers of
            any shape. Logits are exported as probabilities, a binary head as the probabilities of two classes.
        class_names: in the order of its outputs; "class 0" and so on by default; two for a binary head. They are not
            used where the outputs are numbers.
        input_type: what the files take, out of `INPUTS`; the scaling is inside except for "scaled".
        outputs: the kind of the model's outputs, out of `keras_vit.models.config.OUTPUT_KINDS`; traced by default.
        also: names out of `ALSO`, outputs beside it.
        input_size: (height, width) of the images that the files take, pixels; the model's by default. Other ones
            are resized inside, bilinear, as in evaluation but that no level is rounded.
        pixels: the `Pixels`, or what `keras_vit.preprocessing.as_pixels` takes; traced by default.
        facts: {"name": ..., "description": ..., "version": ..., "author": ..., "license": ...}, any of them.
        output_type: type of the probabilities; "uint8" are whole numbers, 255 for 1, as a TFLite file says of itself.
        calibration: (images, height, width, 3) uint8 for static quantization.

    Raises:
        ValueError: if the model does not read RGB images, does not tell its pixels or outputs, has another number of
            classes than there are names, or something is asked for that is unknown or that the model does not have.
    """
    _check(model, input_type, also)
    pixels = pixels_of(model, pixels)
    kind = outputs_of(model, outputs, class_names)
    inner = served(in_float32(model), kind, class_names)
    if kind == "numbers":
        class_names = ()
        if output_type != "float32":
            raise ValueError(f"Expected float32 for outputs that are numbers. Received: {output_type}")
    else:
        kind = "scores" if kind == "scores" and inner.output_shape[-1] == model.output_shape[-1] else "probabilities"
        class_names = named(class_names, inner.output_shape[-1])
    size = tuple(model.inputs[0].shape[1:3])
    images = keras.Input(
        (*(input_size or image_size_of(model)), 3), dtype="uint8" if input_type == "uint8" else "float32", name="images"
    )
    x = images
    if None not in size and images.shape[1:3] != size:
        x = keras.ops.image.resize(keras.ops.cast(x, "float32"), size)
    x = _scaled(x, pixels, scaling_of(pixels)) if input_type == "scaled" else rescaling(pixels)(x)
    heads = {"probabilities": inner.outputs[0]} if kind != "numbers" else numbers_of(inner)
    found = {**heads, **{name: _tensor(inner, name) for name in also}}
    tensors = dict(zip(found, keras.Model(inner.inputs, list(found.values()))(x)))
    if output_type == "uint8":
        tensors["probabilities"] = keras.ops.cast(tensors["probabilities"] * 255 + 0.5, "uint8")
    return Serving(
        model=keras.Model(images, tensors, name=model.name),
        inner=inner,
        input_type=input_type,
        pixels=pixels,
        class_names=class_names,
        facts={**dict.fromkeys(FACTS, ""), "name": model.name, **dict(facts)},
        output_type=output_type,
        calibration=calibration,
        kind=kind,
    )


def named(class_names, count):
    """Returns names for so many classes: those given, or "class 0" and so on.

    Raises:
        ValueError: if there are not as many, or a labels.txt cannot hold them.
    """
    names = tuple(class_names) if class_names is not None else tuple(f"class {i}" for i in range(count))
    if len(names) != count:
        raise ValueError(f"Expected {count} class names, one an output of the model. Received: {len(names)} names")
    refuse_names(names)
    return names


def scaling_of(pixels):
    """Returns how a client scales for `Pixels`: by one mean and std for all colours, for MediaPipe knows no others.

    Where they differ, the official code's are taken, and the rest is done inside the file.
    """
    return pixels if len({*pixels.mean}) == len({*pixels.std}) == 1 else OFFICIAL_PIXELS


def _scaled(x, pixels, scaling):
    """Returns images that the client has scaled as `pixels` asks for."""
    if scaling == pixels:
        return x
    factors = [theirs / ours for theirs, ours in zip(scaling.std, pixels.std)]
    offsets = [(theirs - ours) / std for theirs, ours, std in zip(scaling.mean, pixels.mean, pixels.std)]
    return keras.layers.Rescaling(factors, offsets, dtype="float32")(x)


def has_blocks(model):
    """Returns whether a model has transformer blocks of ours, so that there is attention to look at."""
    return any(isinstance(layer, TransformerBlock) for layer in model.layers)


def _check(model, input_type, also):
    shape = tuple(model.inputs[0].shape) if len(getattr(model, "inputs", None) or ()) == 1 else ()
    if len(shape) != 4 or shape[3] != 3:
        entries = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
        raise ValueError(
            "Expected a functional model of RGB images, (batch, height, width, 3). Received: one of input "
            f"{', '.join(map(str, entries)) or 'unknown'}"
        )
    if input_type not in INPUTS:
        raise ValueError(f"Expected the input to be one of {tuple(INPUTS)}. Received: {input_type!r}")
    if isinstance(also, str) or not set(also) <= set(ALSO) or len(set(also)) < len(also):
        raise ValueError(f"Expected also= to hold names out of {ALSO}, each once. Received: also={also!r}")


def _tensor(model, name):
    if name == "rollout":
        return rollout_tensor(model)
    return features_tensor(model)


def features_tensor(model):
    """Returns what the head of a functional model reads, (batch, hidden_size).

    Raises:
        ValueError: if it has no head, or one inside another model.
    """
    head = head_of(model)
    if not any(layer is head for layer in model.layers):
        names = [layer.name for layer in model.layers]
        raise ValueError(f"Expected a model with a Dense layer last, which reads the features. Received: {names}")
    return head.input
