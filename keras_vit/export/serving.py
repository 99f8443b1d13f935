"""The model that is exported: a classifier between the pixels that a client passes and the outputs that it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit.analysis.attention import rollout_tensor
from keras_vit.export.targets import CHOSEN_OUTPUTS, EXTRA_OUTPUTS, INPUTS, KNOWN
from keras_vit.layers import TransformerBlock
from keras_vit.models.class_names import refuse_names
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import image_size_of, in_float32, numbers_of, outputs_of, pixels_of, served
from keras_vit.models.lean import LeanModel
from keras_vit.models.reject import Reject
from keras_vit.preprocessing import OFFICIAL_PIXELS, Pixels, rescaling

# What a file says about itself, in words.
FACTS = ("name", "description", "version", "author", "license")


@dataclasses.dataclass(frozen=True, eq=False)
class Serving:
    """A model as it is exported, with everything that a writer of files needs to know.

    Args:
        model: "images", as the client passes them, (batch, height, width, channels) -> {output: tensor} in the order of
            `outputs`: "probabilities" (batch, classes), or the model's own outputs where they are numbers; "features"
            (batch, hidden_size), "rollout" (batch, grid rows, grid columns), "known" (batch, 1), the margin of a
            `Reject`.
        inner: scaled float32 images -> probabilities (batch, classes), or numbers.
        input_type: one of `keras_vit.export.targets.INPUTS`.
        pixels: how the model's images are scaled.
        class_names: in the order of the probabilities; () for numbers.
        facts: {"name", "description", "version", "author", "license"}.
        output_type: type of the probabilities, "float32" or "uint8".
        calibration: (images, height, width, channels) uint8 of the client's size, which set quantization ranges; or
            None.
        kind: what the model's head returns: "probabilities" of classes, which sum to 1; "scores", each class on its
            own; "numbers" without classes.
        thresholds: of scores, the least of each label that an image has; () where the model has none.
        reject: when an image is none of the classes; None where the model does not know it.
    """

    model: keras.Model
    inner: keras.Model
    input_type: str
    pixels: Pixels
    class_names: tuple[str, ...]
    facts: dict[str, str]
    output_type: str = "float32"
    calibration: np.ndarray | None = None
    kind: str = "probabilities"
    thresholds: tuple[float, ...] = ()
    reject: Reject | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(self.model.output)

    @property
    def extra_outputs(self) -> tuple[str, ...]:
        """Names of the outputs in addition to those of the model's head."""
        return tuple(name for name in self.outputs if name in EXTRA_OUTPUTS)

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """Names of the outputs of the model's head."""
        return tuple(name for name in self.outputs if name not in EXTRA_OUTPUTS)

    @property
    def output_description(self) -> str:
        """The model's outputs in words."""
        if self.kind == "numbers":
            return f"numbers, without classes: {', '.join(self.head_outputs)}"
        return f"{self.kind} of {counted(len(self.class_names), 'class')}"

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images that the client passes, pixels."""
        height, width = self.model.inputs[0].shape[1:3]
        return height, width

    @property
    def channels(self) -> int:
        """Channels of the images: 1 for grey, 3 for RGB, 4 for RGBA, another number for bands."""
        channels: int = self.model.inputs[0].shape[3]
        return channels

    @property
    def client_scaling(self) -> Pixels:
        """How the client of a "scaled" file scales pixels."""
        return client_scaling_of(self.pixels)

    def client_inputs(self, pixels: np.ndarray) -> np.ndarray:
        """Returns uint8 images as the client passes them to the file."""
        if self.input_type != "scaled":
            return pixels.astype(self.input_type, copy=False)
        scaling = self.client_scaling
        mean, std = (255 * np.array(values, np.float32) for values in (scaling.mean, scaling.std))
        return (pixels - mean) / std

    def with_changes(self, **changes: Any) -> Serving:
        """Returns the same with some arguments of `make_serving` changed; `model` is the classifier."""
        arguments = {
            "model": self.inner,
            "class_names": self.class_names,
            "input_type": self.input_type,
            "outputs": self.kind,
            "extra_outputs": tuple(name for name in self.extra_outputs if name != KNOWN),
            "input_size": self.image_size,
            "pixels": self.pixels,
            "facts": self.facts,
            "output_type": self.output_type,
            "calibration": self.calibration,
            "thresholds": self.thresholds,
            "reject": self.reject,
        }
        return make_serving(**{**arguments, **changes})


def make_serving(
    model: keras.Model,
    class_names: Sequence[str] | None = None,
    *,
    input_type: str = "uint8",
    outputs: str | None = None,
    extra_outputs: Iterable[str] = (),
    input_size: tuple[int, int] | None = None,
    pixels: Any = None,
    facts: Mapping[str, str] | Iterable[Any] = (),
    output_type: str = "float32",
    calibration: np.ndarray | None = None,
    thresholds: Sequence[float] | None = None,
    reject: Reject | None = None,
) -> Serving:
    """Returns the `Serving` of a model: adds scaling, resizing, a softmax and extra outputs as they are needed.

    Args:
        model: a functional Keras model, scaled images (batch, height, width, channels) -> (batch, classes) or numbers
            of any shape. Logits are exported as probabilities, a binary head as the probabilities of two classes.
        class_names: in the order of its outputs; "class 0" and so on by default; two for a binary head. They are not
            used where the outputs are numbers.
        input_type: type of the file's input, one of `keras_vit.export.targets.INPUTS`; the scaling is inside the file
            except for "scaled".
        outputs: the kind of the model's outputs, one of `keras_vit.models.config.OUTPUT_KINDS`; traced by default.
        extra_outputs: names in `keras_vit.export.targets.CHOSEN_OUTPUTS`.
        input_size: (height, width) of the images that the files take, pixels; the model's by default. Other sizes are
            resized inside, bilinear, as in evaluation except that no level is rounded.
        pixels: a `Pixels`, or what `keras_vit.preprocessing.as_pixels` accepts; traced by default.
        facts: {"name": ..., "description": ..., "version": ..., "author": ..., "license": ...}, any of them.
        output_type: type of the probabilities; "uint8" are integers, 255 for 1, which a TFLite file declares.
        calibration: (images, height, width, channels) uint8 for static quantization.
        thresholds: of scores, the least of each label that an image has; those that the model stores by default.
        reject: when an image is none of the classes; that which the model stores by default. The files of a model with
            one have the output "known".

    Raises:
        ValueError: if the model does not read images, if its pixels or outputs cannot be traced, if the number of
            class names differs from its classes, or if an option is unknown or the model lacks it.
    """
    extra_outputs = extra_outputs if isinstance(extra_outputs, str) else tuple(extra_outputs)
    _check(model, input_type, extra_outputs)
    pixels = pixels_of(model, pixels)
    kind = outputs_of(model, outputs, class_names)
    inner = served(in_float32(model), kind, class_names)
    names: tuple[str, ...] = ()
    reject = reject or getattr(model, "reject", None)
    if kind == "numbers":
        if output_type != "float32":
            raise ValueError(f"Expected float32 for outputs that are numbers. Received: output_type={output_type!r}")
    else:
        kind = "scores" if kind == "scores" and inner.output_shape[-1] == model.output_shape[-1] else "probabilities"
        stored = getattr(model, "thresholds", None) if thresholds is None else thresholds
        thresholds = tuple(stored or ()) if kind == "scores" else ()
        names = class_names_or_default(class_names, inner.output_shape[-1])
    size = tuple(model.inputs[0].shape[1:3])
    shape = (*(input_size or image_size_of(model)), model.inputs[0].shape[3])
    images = keras.Input(shape, dtype="uint8" if input_type == "uint8" else "float32", name="images")
    x = images
    if None not in size and images.shape[1:3] != size:
        x = keras.ops.image.resize(keras.ops.cast(x, "float32"), size)
    x = _rescaled(x, pixels, client_scaling_of(pixels)) if input_type == "scaled" else rescaling(pixels)(x)
    heads = {"probabilities": inner.outputs[0]} if kind != "numbers" else numbers_of(inner)
    sources = {**heads, **{name: _extra_tensor(inner, name) for name in extra_outputs}}
    reject = reject if kind == "probabilities" else None
    if reject:
        sources[KNOWN] = reject.margin(inner.outputs[0])
    tensors = dict(zip(sources, LeanModel(inner.inputs, list(sources.values()))(x)))
    if output_type == "uint8":
        tensors["probabilities"] = keras.ops.cast(tensors["probabilities"] * 255 + 0.5, "uint8")
    return Serving(
        model=keras.Model(images, tensors, name=model.name),
        inner=inner,
        input_type=input_type,
        pixels=pixels,
        class_names=names,
        facts=_with_license({**dict.fromkeys(FACTS, ""), "name": model.name, **dict(facts)}, model),
        output_type=output_type,
        calibration=calibration,
        kind=kind,
        thresholds=tuple(thresholds or ()),
        reject=reject,
    )


def _with_license(facts: dict[str, str], model: keras.Model) -> dict[str, str]:
    """Adds the licence of the checkpoint that a model is made from to the licence in its facts."""
    base = getattr(model, "license", None)
    if not base or base.text in facts["license"]:  # the facts of another `Serving` of the model have it
        return facts
    return {**facts, "license": ". ".join(filter(None, (facts["license"], f"Checkpoint: {base.text}")))}


def class_names_or_default(class_names: Iterable[str] | None, count: int) -> tuple[str, ...]:
    """Returns the names of `count` classes: `class_names`, or "class 0" and so on.

    Raises:
        ValueError: if the number of names is another one, or labels.txt cannot hold them.
    """
    names = tuple(class_names) if class_names is not None else tuple(f"class {i}" for i in range(count))
    if len(names) != count:
        raise ValueError(f"Expected {count} class names, one for each output of the model. Received: {len(names)}")
    refuse_names(names)
    return names


def client_scaling_of(pixels: Pixels) -> Pixels:
    """Returns how a client scales for `Pixels`: with one mean and std for all colours, as MediaPipe knows no others.

    Where the colours differ, the client scales as the official code does, and the file does the rest.
    """
    return pixels if len({*pixels.mean}) == len({*pixels.std}) == 1 else OFFICIAL_PIXELS.for_channels(pixels.channels)


def _rescaled(x: keras.KerasTensor, pixels: Pixels, scaling: Pixels) -> keras.KerasTensor:
    """Returns images that the client scaled by `scaling` as `pixels` asks for."""
    if scaling == pixels:
        return x
    factors = [client / ours for client, ours in zip(scaling.std, pixels.std)]
    offsets = [(client - ours) / std for client, ours, std in zip(scaling.mean, pixels.mean, pixels.std)]
    return keras.layers.Rescaling(factors, offsets, dtype="float32")(x)


def has_attention(model: keras.Model) -> bool:
    """Returns whether a model has transformer blocks of keras_vit, so that there is an attention rollout."""
    return any(isinstance(layer, TransformerBlock) for layer in model.layers)


def _check(model: keras.Model, input_type: str, extra_outputs: str | tuple[str, ...]) -> None:
    shape = tuple(model.inputs[0].shape) if len(getattr(model, "inputs", None) or ()) == 1 else ()
    if len(shape) != 4 or shape[3] is None:
        entries = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
        raise ValueError(
            "Expected a functional model of images, (batch, height, width, channels). Received: a model of input "
            f"{', '.join(map(str, entries)) or 'unknown'}"
        )
    if input_type not in INPUTS:
        raise ValueError(f"Expected input_type to be one of {tuple(INPUTS)}. Received: input_type={input_type!r}")
    names = () if isinstance(extra_outputs, str) else extra_outputs
    if names != extra_outputs or not set(names) <= set(CHOSEN_OUTPUTS) or len(set(names)) < len(names):
        raise ValueError(
            f"Expected extra_outputs to be names out of {CHOSEN_OUTPUTS}, each once. "
            f"Received: extra_outputs={extra_outputs!r}"
        )


def _extra_tensor(model: keras.Model, name: str) -> keras.KerasTensor:
    return rollout_tensor(model) if name == "rollout" else features_tensor(model)


def features_tensor(model: keras.Model) -> keras.KerasTensor:
    """Returns the input of a functional model's head, (batch, hidden_size).

    Raises:
        ValueError: if it has no head, or one inside another model.
    """
    head = head_of(model)
    if head is None or not any(layer is head for layer in model.layers):
        names = [layer.name for layer in model.layers]
        raise ValueError(f"Expected a model with a Dense layer last, which reads the features. Received: {names}")
    return head.input
