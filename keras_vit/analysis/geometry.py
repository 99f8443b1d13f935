"""What a patch or a stage covers of the image, and whether a model can be looked into at all."""

import dataclasses

import keras
import numpy as np

from keras_vit.layers import Bottleneck, PatchEncoder, Patches, Stem, TransformerBlock
from keras_vit.models.hooks import layers_of

_WORDS = {TransformerBlock: "transformer blocks", Stem: "convolutions", (Patches, Stem): "layers"}
ANY = object()  # no images, to ask about the model alone


@dataclasses.dataclass(frozen=True)
class Field:
    """What one value of a map depends on, in pixels of the image, to either side.

    Args:
        name: "stem", "stage1" to "stage4", or "patches".
        stride: from one value to the next.
        size: the receptive field: what can change the value at all.
    """

    name: str
    stride: int
    size: int


def require_layers(model, images=ANY, kind=TransformerBlock):
    """Returns images as an array, where a model takes them.

    Raises:
        ValueError: if the model has no layer of a kind of ours or more than one encoder, or the images do not fit it.
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
            f"Expected images (images, rows, columns, channels) as {model.name!r} takes them, "
            f"{tuple(wanted[1:])}, one at least. Received: images of shape {shape}. "
            "`keras_vit.resize` makes the model one for another size, `model.preprocess_input` the images."
        )
    return images


def grid_of(model):
    """Returns (rows, columns) of the patches."""
    return tuple(layers_of(model, Patches)[0].grid)


def receptive_fields(model):
    """Returns the `Field` of each stage of a model's convolutions, and of its patches, in order.

    Raises:
        ValueError: if the model has no layers of ours.
    """
    require_layers(model, kind=(Patches, Stem))
    fields, stride, size = {}, 1, 1
    if layers_of(model, Stem):
        size, stride = 7 + 2 * 2, 4  # 7 x 7 with stride 2, then a pooling of 3 x 3 with stride 2
        fields["stem"] = Field("stem", stride, size)
    for unit in layers_of(model, Bottleneck):
        size, stride = size + 2 * stride, stride * unit.strides  # its 3 x 3, which has the stride too
        name = stage_of(unit)
        fields[name] = Field(name, stride, size)
    for patches in layers_of(model, Patches):
        last = patches.patch_size
        fields["patches"] = Field("patches", stride * last, size + (last - 1) * stride)
    return list(fields.values())


def stage_of(unit):
    """Returns the name of a `Bottleneck`'s stage, "stage1" and on."""
    return unit.name.partition("_")[0]


def token_stride(model):
    """Returns how many pixels of the image a step from one patch to the next is, to either side."""
    return receptive_fields(model)[-1].stride
