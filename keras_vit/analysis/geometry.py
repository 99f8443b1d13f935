"""Receptive fields and the grid of patches, and the check that a model and images can be analysed."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_vit.layers import AttentionPooling, Bottleneck, PatchEncoder, Patches, PatchMean, Stem, TransformerBlock
from keras_vit.models.hooks import layers_of

_WORDS = {TransformerBlock: "transformer blocks", Stem: "convolutions", (Patches, Stem): "layers"}
ANY: Any = object()  # in place of images: check the model alone


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """Describes the receptive field of the values of a feature map, in pixels; height and width are equal.

    Args:
        name: "stem", "stage1" to "stage4", or "patches".
        stride: distance from one value to the next.
        size: side of the square of pixels that can change a value.
    """

    name: str
    stride: int
    size: int


def require_layers(model: keras.Model, images: Any = ANY, kind: Any = TransformerBlock) -> Any:
    """Checks that a model has the layers that an analysis needs, and returns the images as an array.

    Args:
        model: any Keras model.
        images: (images, height, width, channels); left out to check the model alone.
        kind: class of layers, a key of `_WORDS`.

    Returns:
        The images.

    Raises:
        ValueError: if the model has no such layer or more than one encoder, or reads images of another shape.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: a {type(model).__name__}")
    if not layers_of(model, kind):
        raise ValueError(f"Expected a model with keras_vit's {_WORDS[kind]}. Received: {model.name!r} without")
    if max(len(layers_of(model, one)) for one in (PatchEncoder, Stem)) > 1:
        raise ValueError(
            f"Expected a model with one encoder of keras_vit. Received: {model.name!r} with more. Pass one of them, as "
            "model.get_layer(name) returns it."
        )
    if images is ANY:
        return images
    images = np.asarray(images) if images is None or isinstance(images, (list, tuple, str)) else images
    shape, wanted = np.shape(images), getattr(model, "input_shape", (None,) * 4)
    if len(shape) != 4 or not shape[0] or any(side not in (None, got) for side, got in zip(wanted[1:], shape[1:])):
        raise ValueError(
            f"Expected at least one image, (images, height, width, channels), as {model.name!r} reads them, "
            f"{tuple(wanted[1:])}. Received: images of shape {shape}. Prepare images with `model.preprocess_input`, or "
            "resize the model with `keras_vit.resize`."
        )
    return images


def rows_read(model: keras.Model) -> slice:
    """Returns which tokens the head reads, itself or through its pooling: the class token, the patches, or all."""
    encoder = layers_of(model, PatchEncoder)[0]
    if layers_of(model, PatchMean):
        return slice(encoder.extra_tokens, None)
    return slice(0, 1) if encoder.has_class_token and not layers_of(model, AttentionPooling) else slice(None)


def grid_of(model: keras.Model) -> tuple[int, int]:
    """Returns the (rows, columns) of a model's patches."""
    return tuple(layers_of(model, Patches)[0].grid)


def receptive_fields(model: keras.Model) -> list[ReceptiveField]:
    """Computes the receptive field of each stage of convolutions and of the patches.

    Args:
        model: any Keras model that contains layers of keras_vit.

    Returns:
        One `ReceptiveField` per stage, with `name`, `stride` and `size` in pixels, in order; the patches last.

    Raises:
        ValueError: if the model has no layers of keras_vit.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        (patches,) = keras_vit.analysis.receptive_fields(model)
        assert (patches.stride, patches.size) == (8, 8)
        ```
    """
    require_layers(model, kind=(Patches, Stem))
    fields: dict[str, ReceptiveField] = {}
    stride, size = 1, 1
    if layers_of(model, Stem):
        size, stride = 7 + 2 * 2, 4  # 7 x 7 with stride 2, then a pooling of 3 x 3 with stride 2
        fields["stem"] = ReceptiveField("stem", stride, size)
    for unit in layers_of(model, Bottleneck):
        size, stride = size + 2 * stride, stride * unit.strides  # its 3 x 3, which has the stride too
        name = stage_of(unit)
        fields[name] = ReceptiveField(name, stride, size)
    for patches in layers_of(model, Patches):
        last = patches.patch_size
        fields["patches"] = ReceptiveField("patches", stride * last, size + (last - 1) * stride)
    return list(fields.values())


def stage_of(unit: keras.layers.Layer) -> str:
    """Returns the name of the stage that a `Bottleneck` belongs to: "stage1" and so on."""
    return unit.name.partition("_")[0]


def token_stride(model: keras.Model) -> int:
    """Returns the distance from one patch to the next in pixels of the image."""
    return receptive_fields(model)[-1].stride
