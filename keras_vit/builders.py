"""The builders: `ViT_B16` and its family, `build` for any architecture, and `load` for any checkpoint.

To add a size, add a row to `VARIANTS` in `models/config.py` and a line here.
"""

import contextlib
import dataclasses
import inspect
import logging
import math
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Unpack

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit._arguments import counted
from keras_vit.layers.initializers import weights_to_come
from keras_vit.layers.mlp import GELUS
from keras_vit.layers.positions import INTERPOLATIONS, PositionResize
from keras_vit.models.class_names import usable_names
from keras_vit.models.config import (
    DTYPES,
    OFFICIAL_BIT,
    OFFICIAL_VIT,
    VARIANTS,
    Dtype,
    Gelu,
    Numerics,
    Pooling,
    ResNet,
    Variant,
    VariantFields,
    get_variant,
    name_of,
    with_options,
)
from keras_vit.models.description import describe_model, keras_names, our_model, weight_path
from keras_vit.models.interface import in_dtype
from keras_vit.models.resnet import bit
from keras_vit.models.vision_model import VisionModel
from keras_vit.models.vit import vit
from keras_vit.preprocessing import OFFICIAL_PIXELS
from keras_vit.weights.architecture import Architecture
from keras_vit.weights.channels import CHANNELS
from keras_vit.weights.checkpoints import Checkpoint, checkpoints
from keras_vit.weights.formats import CheckpointFile
from keras_vit.weights.load import read_weights
from keras_vit.weights.open import OFFICIAL_FORMATS, OpenedCheckpoint, open_checkpoint

logger = logging.getLogger("keras_vit")

Channels = Literal["average", "repeat", "slice"]
Activation = str | Callable[[Any], Any] | None
_Shape = tuple[int, ...]

# Names that other libraries have for some of the arguments.
OTHER_NAMES = {
    "image_size": "input_shape=(height, width, channels)",
    "img_size": "input_shape=(height, width, channels)",
    "num_classes": "classes=",
    "pretrained": "weights=",
    "activation": "classifier_activation=",
}


def build(
    variant: str | Variant | ResNet,
    include_top: bool = True,
    weights: str | os.PathLike[str] | Checkpoint | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Sequence[int] | None = None,
    pooling: Pooling | None = None,
    classes: int | None = None,
    classifier_activation: Activation = "softmax",
    name: str | None = None,
    *,
    representation_size: int | None = None,
    dropout: float | None = None,
    attention_dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    gelu: Gelu | None = None,
    norm_epsilon: float | None = None,
    position_resize: PositionResize | None = None,
    channels: Channels | None = None,
    new_head: bool = False,
    **options: Unpack[VariantFields],
) -> VisionModel:
    """Builds a Vision Transformer, a hybrid or a BiT, with random or pretrained weights.

    The model reads images (batch, height, width, channels) as its `preprocess_input` returns them.

    Args:
        variant: name of an architecture, such as "ViT-B/16", "R50+ViT-B/16" or "BiT-R50x1", or your own
            `keras_vit.Variant` or `keras_vit.ResNet`.
        include_top: whether the model has a classification head.
        weights: None for random weights; the path of a checkpoint of the official code, big_vision, BiT, Hugging Face,
            timm or Keras; an address (https://, gs://, hf://org/name); the name of a published checkpoint (see
            `keras_vit.checkpoints`) or the `keras_vit.Checkpoint` itself; "imagenet" or "imagenet21k" for the best one
            of this variant. A checkpoint is loaded completely, or an error lists what does not fit.
        input_tensor: Keras tensor to use as the input. With a `name`, the layers are inside a nested model of that
            name, so that one graph can have several such models; without, they are layers of the graph itself.
        input_shape: (height, width, channels); by default the checkpoint's own, or (224, 224, 3); always the latter
            for "imagenet" and "imagenet21k". For a plain Vision Transformer, height and width are multiples of the
            patch size.
        pooling: input of the head, or output of a model without a head: "token" (the class token), "gap" (the mean of
            the patch tokens, or of a BiT's feature map), "map" (attention pooling), "none" (every token, without a
            class token; a BiT's feature map), "token+gap" (the first two concatenated) or "token+distillation" (DeiT's
            two tokens and heads). By default, the checkpoint's or the variant's own with a head; all tokens or the
            whole feature map without one.
        classes: number of classes of the head; by default the checkpoint's own, or 1000.
        classifier_activation: activation of the head; None for logits.
        name: name of the model.
        representation_size: units of a tanh layer between the pooled token and the head, as in pre-training; by default
            the checkpoint's own with its head, or no such layer.
        dropout: dropout rate after each dense layer and after the position embedding; by default the official
            configuration's.
        attention_dropout: dropout rate of the attention probabilities.
        stochastic_depth: rate of stochastic depth (DropPath) in the last block; it grows linearly from 0 in the first.
        gelu: "tanh" (approximate, as the official checkpoints were trained), "erf" (exact, as in the ports) or "quick"
            (OpenAI CLIP's); by default the checkpoint's own, or "tanh".
        norm_epsilon: epsilon of the layer norms; by default the checkpoint's own, or 1e-6.
        position_resize: interpolation of the position embedding to another image size: "corner" (the official code's),
            "half_pixel" (timm's for .npz files), "half_pixel_antialias" (timm's, bilinear), "antialias" (timm's,
            bicubic) or "torch" (transformers'); by default that of the project that the checkpoint comes from. The
            layer "encoder" records it.
        channels: how the first kernel is adapted to another number of channels: "average", "repeat" or "slice".
        new_head: whether the head stays new and zero-initialized where `weights` has another one.
        **options: other fields of the `keras_vit.Variant` or `keras_vit.ResNet`, such as `register_tokens=4`. With
            `patch_size`, the patch embedding of a checkpoint is resized (FlexiViT).

    Returns:
        A functional model, a `keras_vit.VisionModel`; it has `preprocess_input` and `pixels`.

    Raises:
        ValueError: if the variant is unknown, the input shape does not fit the patches, an argument is out of its
            range, or the checkpoint does not fit (all faults in one message).
        TypeError: if an argument is unknown; the message lists the nearest names.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        model = keras_vit.build(tiny, input_shape=(32, 48, 3), classes=3, register_tokens=4)
        images = np.zeros((2, 32, 48, 3), "uint8")
        assert model.predict(model.preprocess_input(images), verbose=0).shape == (2, 3)
        ```

    Source: arXiv:2010.11929; arXiv:2106.10270; arXiv:1912.11370.
    """
    row = get_variant(variant)
    fields = [field.name for field in dataclasses.fields(row) if field.name != "parameters"]
    function, known = f"keras_vit.build or a field of a {type(row).__name__}", inspect.signature(build).parameters
    checked.known_names(function, options, [*known, *fields], OTHER_NAMES)
    row = with_options(row, options)
    is_vit = isinstance(row, Variant)
    if not is_vit and (representation_size or dropout or attention_dropout or stochastic_depth):
        received = {
            "representation_size": representation_size,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "stochastic_depth": stochastic_depth,
        }
        raise ValueError(
            "Expected a BiT without representation_size, dropout, attention_dropout and stochastic_depth, as it has no "
            f"such layers. Received: {', '.join(f'{name}={value!r}' for name, value in received.items() if value)}"
        )
    settings = _Settings(
        include_top,
        pooling,
        classes,
        classifier_activation,
        name,
        representation_size,
        dropout,
        attention_dropout,
        stochastic_depth,
        gelu,
        norm_epsilon,
        position_resize,
        channels,
        new_head,
        options.get("patch_size"),
    )
    shape = _shape_of(input_tensor, input_shape)
    if shape is None and isinstance(weights, str) and weights in ("imagenet", "imagenet21k"):
        shape = (224, 224, 3)
    heads = row.num_heads if isinstance(row, Variant) else None
    with open_checkpoint(weights, name_of(row), shape, settings.uses_head_of_file, heads) as opened:
        return _assemble(row, opened, shape, input_tensor, settings)


def load(
    weights: str | os.PathLike[str] | Checkpoint,
    *,
    num_heads: int | None = None,
    input_shape: Sequence[int] | None = None,
    pooling: Pooling | None = None,
    classifier_activation: Activation = "softmax",
    name: str | None = None,
    representation_size: int | None = None,
    gelu: Gelu | None = None,
    norm_epsilon: float | None = None,
    position_resize: PositionResize | None = None,
    channels: Channels | None = None,
    patch_size: int | None = None,
    dtype: Dtype | None = None,
) -> keras.Model:
    """Loads a checkpoint of any supported format: builds its model and reads its weights.

    The format, the architecture, the image size and the number of classes are detected from the file. A file without a
    head makes a model that returns features: the class token after the last norm, or as `pooling` says.

    Args:
        weights: as in `keras_vit.build`; also a model that Keras saved (.keras or .h5).
        num_heads: attention heads, where neither shapes nor a config.json show them (Hugging Face, timm); by default as
            many as have 64 channels each.
        input_shape: (height, width, channels), where the file's grid of patches is not square, or to resize the
            position embedding; by default the checkpoint's own, or (224, 224, 3).
        pooling, classifier_activation, name, representation_size, gelu, norm_epsilon, position_resize, channels: as in
            `keras_vit.build`. `representation_size` reads the layer `pooler` of a headless Hugging Face file.
        patch_size: another patch size, pixels: the patch embedding is resized by the pseudo-inverse (FlexiViT), and the
            positions to the new grid; by default the checkpoint's own.
        dtype: "bfloat16" or "float16" to store the weights and compute in, for predictions in half the memory and, on a
            processor with such instructions, in less time; the head computes in float32. By default, Keras' dtype
            policy, or the saved model's own.

    Returns:
        A functional `keras.Model` that has `preprocess_input` and `pixels`.

    Raises:
        ValueError: if the file cannot be read or its format is unknown, its architecture cannot be detected, or it does
            not fit the architecture (all faults in one message).

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        model = keras_vit.build(tiny, input_shape=(32, 32, 3), classes=3)
        keras_vit.save_checkpoint(model, "tiny.npz")
        assert keras_vit.load("tiny.npz").output_shape == (None, 3)
        ```
    """
    if weights is None:
        raise ValueError(
            "Expected weights to be a path, an address or the name of a checkpoint. Received: weights=None. "
            "keras_vit.build(variant) builds a model with random weights."
        )
    num_heads = None if num_heads is None else checked.integer("num_heads", num_heads)
    checked.choice("dtype", dtype, DTYPES, or_none=True)
    shape = _shape_of(None, input_shape)
    settings = _Settings(
        pooling=pooling,
        classifier_activation=classifier_activation,
        name=name,
        representation_size=representation_size,
        gelu=gelu,
        norm_epsilon=norm_epsilon,
        position_resize=position_resize,
        channels=channels,
        patch_size=patch_size,
    )
    with open_checkpoint(weights, shape=shape, num_heads=num_heads, require_architecture=True) as opened:
        if opened.architecture is None:
            raise ValueError(
                f"Expected a checkpoint from which the architecture can be detected. Received: weights={weights!r}. "
                "Name the architecture: keras_vit.build(variant, weights=...)."
            )
        changes = (num_heads, shape, pooling, name, representation_size, gelu, norm_epsilon, channels, patch_size)
        if opened.model and classifier_activation == "softmax" and not any(changes):
            return in_dtype(opened.model, dtype) if dtype else opened.model
        row, headless = opened.architecture.variant, opened.architecture.classes is None
        if isinstance(row, ResNet) and representation_size:
            raise ValueError(
                "Expected a BiT without representation_size, as it has no such layer. "
                f"Received: representation_size={representation_size!r}"
            )
        if shape is None and opened.architecture.image_size is None and isinstance(row, Variant):
            raise ValueError(
                f"Expected a checkpoint with positions of a square grid of patches. Received: weights={weights!r}. "
                "Pass input_shape=(height, width, channels)."
            )
        if headless:
            own = row.pooling if isinstance(row, Variant) else "gap"
            settings = dataclasses.replace(settings, include_top=False, pooling=settings.pooling or own)
        if settings.patch_size and isinstance(row, Variant):
            row = dataclasses.replace(row, patch_size=settings.patch_size)
        model = _assemble(row, opened, shape, None, settings)
        return in_dtype(model, dtype) if dtype else model


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The arguments of `build` that do not depend on the input; they are checked and made plain Python values."""

    include_top: bool = True
    pooling: str | None = None
    classes: int | None = None
    classifier_activation: Activation = "softmax"
    name: str | None = None
    representation_size: int | None = None
    dropout: float | None = None
    attention_dropout: float = 0.0
    stochastic_depth: float = 0.0
    gelu: str | None = None
    norm_epsilon: float | None = None
    position_resize: str | None = None
    channels: str | None = None
    new_head: bool = False
    patch_size: int | None = None  # to resize the patch embedding of a checkpoint to

    def __post_init__(self) -> None:
        for name, check in (
            ("include_top", checked.flag),
            ("new_head", checked.flag),
            ("attention_dropout", checked.rate),
            ("stochastic_depth", checked.rate),
        ):
            object.__setattr__(self, name, check(name, getattr(self, name)))
        for name, check in (
            ("classes", checked.integer),
            ("representation_size", checked.integer),
            ("patch_size", checked.integer),
            ("dropout", checked.rate),
            ("norm_epsilon", _positive),
        ):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.classes is not None and not self.include_top:
            raise ValueError(
                f"Expected classes=None for a model without a head. Received: classes={self.classes}, include_top=False"
            )
        checked.choice("gelu", self.gelu, GELUS, or_none=True)
        checked.choice("position_resize", self.position_resize, INTERPOLATIONS, or_none=True)
        checked.choice("channels", self.channels, CHANNELS, or_none=True)
        if self.name is not None and not (isinstance(self.name, str) and self.name and "/" not in self.name):
            raise ValueError(f"Expected name to be a string without '/'. Received: name={self.name!r}")
        try:
            keras.activations.get(self.classifier_activation)
        except (ValueError, TypeError) as error:
            raise ValueError(
                "Expected classifier_activation to be an activation of Keras, such as 'softmax', or None. "
                f"Received: classifier_activation={self.classifier_activation!r}"
            ) from error

    @property
    def uses_head_of_file(self) -> bool:
        """Whether a checkpoint's head is loaded, if it has one."""
        return self.include_top and not self.new_head


def _positive(name: str, value: Any) -> float:
    return checked.number(name, value, "above 0", lambda value: 0 < value < math.inf)


def _assemble(
    row: Variant | ResNet,
    opened: OpenedCheckpoint,
    shape: _Shape | None,
    input_tensor: keras.KerasTensor | None,
    settings: _Settings,
) -> VisionModel:
    """Returns the model of an architecture with the weights of an opened checkpoint, or with random ones."""
    file, architecture = opened.file, opened.architecture
    published = name_of(row)
    if file and isinstance(row, Variant) and file.num_heads not in (None, row.num_heads):
        raise ValueError(
            f"Expected a checkpoint with {row.num_heads} attention heads, as the variant has. "
            f"Received: {file.path}, with {file.num_heads}"
        )
    row = _with_tokens_of(row, architecture, settings.pooling)
    kept = architecture if settings.uses_head_of_file else None
    if kept and isinstance(kept.variant, Variant) and isinstance(row, Variant) and kept.variant.unit_embedding:
        row = dataclasses.replace(row, unit_embedding=True)  # what its head reads
    shape = shape or (
        *((architecture and architecture.image_size) or (224, 224)),
        architecture.channels if architecture else 3,
    )
    # A named model inside a graph of the caller's is nested there: two of them do not mix up their layers' names.
    is_nested = input_tensor is not None and settings.name is not None
    if input_tensor is None:
        images = keras.Input(shape, name="images")
    else:
        images = keras.Input(shape, dtype=input_tensor.dtype, name="images") if is_nested else input_tensor
    numerics = _numerics(row, file, settings)
    mode = settings.position_resize or (file.position_resize if file else "corner")
    arguments: dict[str, Any] = {
        "include_top": settings.include_top,
        "pooling": settings.pooling,
        "classes": settings.classes or (kept and kept.classes) or 1000,
        "classifier_activation": settings.classifier_activation,
        "pixels": opened.pixels,
    }
    if isinstance(row, Variant):
        theirs = architecture.variant if architecture and isinstance(architecture.variant, Variant) else row
        is_resized = (
            architecture and architecture.image_size and theirs.grid(*architecture.image_size) != row.grid(*shape[:2])
        )
        arguments |= {
            "representation_size": settings.representation_size or (kept and kept.representation_size),
            "dropout": row.dropout if settings.dropout is None else settings.dropout,
            "attention_dropout": settings.attention_dropout,
            "stochastic_depth": settings.stochastic_depth,
            "position_resize": mode if is_resized else file and file.resized_with,
            # Some files are of such images, whose last pixels their project does not read: SigLIP's at 384 pixels.
            "drop_remainder": bool(
                architecture and architecture.image_size == shape[:2] and row.patch_size == theirs.patch_size
            ),
        }
    with weights_to_come() if file else contextlib.nullcontext():
        if isinstance(row, Variant):
            outputs = vit(images, row, numerics, **arguments)
        else:
            outputs = bit(images, row, numerics, **arguments)
    if file:
        # A model of our layers alone: layers of the caller's before `input_tensor` have other weights. One array after
        # another, which needs half the memory; if one of them fails, the caller gets no model.
        model = keras.Model(images, outputs)
        variables, arrays = _variables_and_arrays(model, file, row, architecture, mode, settings)
        for path, array in arrays:
            variables[path].assign(array)
    names = file.class_names if file and settings.uses_head_of_file else None
    names = usable_names(names) if names and len(names) == arguments["classes"] else None
    facts: dict[str, Any] = {"class_names": names, "license": opened.license}
    if is_nested:
        outputs = VisionModel(images, outputs, name=settings.name, **facts)(input_tensor)
    sources = [images] if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    name = settings.name or (_function_name(published) if published else "ViT" if isinstance(row, Variant) else "BiT")
    return VisionModel(sources[0] if len(sources) == 1 else sources, outputs, name=name, **facts)


def _shape_of(input_tensor: keras.KerasTensor | None, input_shape: Sequence[int] | None) -> _Shape | None:
    """Returns the (height, width, channels) that the caller asked for, or None."""
    shape = None if input_shape is None else checked.shape("input_shape", input_shape)
    if input_tensor is None:
        return shape  # type: ignore[return-value]  # a None in it is refused by `Patches`
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            "Expected input_tensor to be a Keras tensor, the output of keras.Input or of a layer. "
            f"Received: input_tensor of type {type(input_tensor).__name__}"
        )
    if shape is not None and shape != tuple(input_tensor.shape[1:]):
        raise ValueError(
            "Expected input_shape to be the shape of input_tensor, or None. "
            f"Received: input_shape={shape}, input_tensor of {tuple(input_tensor.shape[1:])}"
        )
    return tuple(input_tensor.shape[1:])


def _with_tokens_of(row: Variant | ResNet, architecture: Architecture | None, pooling: str | None) -> Variant | ResNet:
    """Returns an architecture with the options that a checkpoint has, where the caller does not set them."""
    if not (architecture and isinstance(architecture.variant, Variant) and isinstance(row, Variant)):
        return row
    theirs: Any = architecture.variant.pooling
    if pooling or (theirs == "gap" and row.pooling == "none"):  # the same weights: no file tells these two apart
        theirs = pooling or row.pooling
    if theirs != row.pooling and not pooling:
        logger.info("pooling is %r, as in the checkpoint", theirs)
    own = (
        *("distillation_token", "register_tokens", "layer_scale", "swiglu", "swiglu_norm", "rotary", "relative_bias"),
        *("class_token", "pre_norm", "pooling_heads", "pooling_mlp_dim", "projection_size"),
    )
    fields: dict[str, Any] = {name: getattr(row, name) or getattr(architecture.variant, name) for name in own}
    plain = Variant(1, 1, 1, 1, 1)
    for name in ("positions", "norm_at", "patch_bias", "qkv_bias"):
        if getattr(row, name) == getattr(plain, name):
            fields[name] = getattr(architecture.variant, name)
    return dataclasses.replace(row, pooling=theirs, **fields)


def _numerics(row: Variant | ResNet, file: CheckpointFile | None, settings: _Settings) -> Numerics:
    """Returns the numerical details of a checkpoint, or the official code's, with those that the caller sets."""
    numerics = file.numerics if file else (OFFICIAL_VIT if isinstance(row, Variant) else OFFICIAL_BIT)
    chosen: dict[str, Any] = {"gelu": settings.gelu, "norm_epsilon": settings.norm_epsilon}
    return dataclasses.replace(numerics, **{name: value for name, value in chosen.items() if value is not None})


_P = ParamSpec("_P")


def _builder(function: Callable[Concatenate[str, _P], VisionModel], variant: str) -> Callable[_P, VisionModel]:
    """Returns `build` for one variant, with its signature, its documentation and an example."""

    def builder(*args: _P.args, **kwargs: _P.kwargs) -> VisionModel:
        return function(variant, *args, **kwargs)

    signature = inspect.signature(function)
    vars(builder)["__signature__"] = signature.replace(parameters=[*signature.parameters.values()][1:])
    builder.__name__ = builder.__qualname__ = _function_name(variant)
    builder.__doc__ = _documentation(variant, inspect.getdoc(function) or "")
    return builder


def _function_name(variant: str) -> str:
    return variant.replace("-", "_").replace("+", "_").replace("/", "")


def _documentation(variant: str, documentation: str) -> str:
    """Returns the docstring of a builder: that of `build` without `variant`, and an example of its own."""
    arguments = documentation[documentation.find("    include_top:") : documentation.find("Example:")]
    row, name, published = VARIANTS[variant], _function_name(variant), [row.name for row in checkpoints(variant)]
    pretrained = f'; pretrained ones: weights="{published[0]}"' if published else ""
    return f"""Builds {variant}: {_summary(row)}.

{row.parameters:,} parameters at 224 x 224 pixels with 1,000 classes.

{textwrap.fill(f"Published checkpoints: {', '.join(published) or 'none'}.", 112)}

Args:
{arguments}Example:
    ```python
    model = keras_vit.{name}(classes=10)  # random weights{pretrained}
    assert model.input_shape == (None, 224, 224, 3) and model.output_shape == (None, 10)
    ```
"""


def _summary(row: Variant | ResNet) -> str:
    if isinstance(row, ResNet):
        return f"a ResNet with {row.units} bottleneck units in its stages and {row.widths[-1]} output channels"
    blocks = f"{row.num_layers} transformer blocks, hidden size {row.hidden_size}, {row.num_heads} heads"
    return f"{blocks}, on a ResNet with {row.stem.units} units" if row.stem else blocks


ViT_Ti16 = _builder(build, "ViT-Ti/16")
ViT_S8 = _builder(build, "ViT-S/8")
ViT_S14 = _builder(build, "ViT-S/14")
ViT_S16 = _builder(build, "ViT-S/16")
ViT_S32 = _builder(build, "ViT-S/32")
ViT_B8 = _builder(build, "ViT-B/8")
ViT_B16 = _builder(build, "ViT-B/16")
ViT_B32 = _builder(build, "ViT-B/32")
ViT_L14 = _builder(build, "ViT-L/14")
ViT_L16 = _builder(build, "ViT-L/16")
ViT_L32 = _builder(build, "ViT-L/32")
ViT_H14 = _builder(build, "ViT-H/14")
ViT_g14 = _builder(build, "ViT-g/14")
ViT_G14 = _builder(build, "ViT-G/14")
R_ViT_Ti16 = _builder(build, "R+ViT-Ti/16")
R26_ViT_S32 = _builder(build, "R26+ViT-S/32")
R26_ViT_B32 = _builder(build, "R26+ViT-B/32")
R50_ViT_B16 = _builder(build, "R50+ViT-B/16")
R50_ViT_B32 = _builder(build, "R50+ViT-B/32")
R50_ViT_L16 = _builder(build, "R50+ViT-L/16")
R50_ViT_L32 = _builder(build, "R50+ViT-L/32")
BiT_R50x1 = _builder(build, "BiT-R50x1")
BiT_R50x2 = _builder(build, "BiT-R50x2")
BiT_R50x3 = _builder(build, "BiT-R50x3")
BiT_R101x1 = _builder(build, "BiT-R101x1")
BiT_R101x3 = _builder(build, "BiT-R101x3")
BiT_R152x1 = _builder(build, "BiT-R152x1")
BiT_R152x2 = _builder(build, "BiT-R152x2")
BiT_R152x4 = _builder(build, "BiT-R152x4")
BiT_R200x3 = _builder(build, "BiT-R200x3")


def load_weights(
    model: keras.Model,
    weights: str | os.PathLike[str] | Checkpoint,
    *,
    new_head: bool = False,
    position_resize: PositionResize | None = None,
    channels: Channels | None = None,
) -> None:
    """Loads the weights of a checkpoint into a model: completely, or an error lists what does not fit.

    The GELU and the epsilons stay those of the model; a log line says where the checkpoint's differ. The pixel contract
    becomes the checkpoint's.

    Args:
        model: a functional model with layers of keras_vit, from `keras_vit.build` or composed around it.
        weights, new_head, position_resize, channels: as in `keras_vit.build`.

    Raises:
        ValueError: if the model has no layers of keras_vit, or the checkpoint does not fit (all faults in one message).

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        keras_vit.save_checkpoint(keras_vit.build(tiny, input_shape=(32, 32, 3), classes=3), "tiny.npz")
        model = keras_vit.build(tiny, input_shape=(64, 64, 3), classes=5)
        keras_vit.load_weights(model, "tiny.npz", new_head=True)  # 3 classes in the file, 5 in the model
        ```
    """
    settings = _Settings(position_resize=position_resize, channels=channels, new_head=new_head)
    inner, description = our_model(model), describe_model(model)
    has_head = description.classes is not None
    settings = dataclasses.replace(settings, include_top=has_head)
    heads = getattr(description.variant, "num_heads", None)
    with open_checkpoint(
        weights, description.name, description.input_shape, settings.uses_head_of_file, heads
    ) as opened:
        file, pixels = opened.file, opened.pixels
        if file is None:
            raise ValueError("Expected weights to be a path, an address or a checkpoint's name. Received: weights=None")
        if file.numerics != description.numerics:
            logger.info("%s was trained with %s, the model has %s", file.path, file.numerics, description.numerics)
        mode = settings.position_resize or file.position_resize
        variables, iterator = _variables_and_arrays(
            inner, file, description.variant, opened.architecture, mode, settings
        )
        arrays = dict(iterator)
        pixels = pixels or (OFFICIAL_PIXELS if file.format in OFFICIAL_FORMATS else description.pixels)
    for name in list(arrays):
        variables[name].assign(arrays.pop(name))
    if pixels != description.pixels:
        logger.info("pixels are read as the checkpoint's: %s", pixels.description)
        description.reader.pixels = pixels


def _variables_and_arrays(
    model: keras.Model,
    file: CheckpointFile,
    row: Variant | ResNet,
    architecture: Architecture | None,
    mode: str,
    settings: _Settings,
) -> tuple[dict[str, keras.Variable], Iterator[tuple[str, np.ndarray]]]:
    """Returns the model's variables by their paths, and an iterator of (path, array of the file)."""
    variables = {weight_path(layer, variable): variable for layer in model.layers for variable in layer.weights}
    arrays = read_weights(
        file,
        {name: tuple(variable.shape) for name, variable in variables.items()},
        row,
        grid=row.grid(*model.input_shape[1:3]) if isinstance(row, Variant) else None,
        include_top=settings.include_top,
        new_head=settings.new_head,
        mode=mode,
        channels=_adaptation(architecture, model.input_shape[1:], settings.channels),
        patch_size=_patch_size_of_file(row, architecture, settings.patch_size),
        names=keras_names(model) if file.is_keras_weights else None,
    )
    return variables, arrays


def _patch_size_of_file(row: Variant | ResNet, architecture: Architecture | None, asked: int | None) -> int | None:
    """Returns the patch size of a checkpoint, if the patch embedding is to be resized, else None."""
    theirs = getattr(architecture and architecture.variant, "patch_size", None)
    if asked is None or theirs in (None, asked):
        return None
    if not isinstance(row, Variant) or row.stem:
        raise ValueError(f"Expected patch_size for a Vision Transformer without a stem. Received: patch_size={asked}")
    logger.info("the checkpoint has patches of %d pixels and the model %d: its embedding is resized", theirs, asked)
    return theirs


def _adaptation(architecture: Architecture | None, shape: _Shape, channels: str | None) -> tuple[int, int, str] | None:
    """Returns (channels of the file's images, of the model's, how the kernel is adapted), or None if they agree."""
    if architecture is None or architecture.channels == shape[2]:
        return None
    if channels is None:
        raise ValueError(
            f"Expected images with {counted(architecture.channels, 'channel')}, as the checkpoint reads. Received: "
            f"input_shape={tuple(shape)}. Pass channels='average', 'repeat' or 'slice' to adapt the first kernel."
        )
    logger.info(
        "the checkpoint reads %d channels and the model %d: its first kernel is adapted (%s)",
        architecture.channels,
        shape[2],
        channels,
    )
    return architecture.channels, shape[2], channels
