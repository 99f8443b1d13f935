"""Detects the architecture of a finished model from its layers."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_vit import _compat, layers
from keras_vit.models.config import Numerics, ResNet, Rotary, Variant, name_of
from keras_vit.preprocessing import Pixels


@dataclasses.dataclass(frozen=True, eq=False)
class ModelDescription:
    """The architecture of a model, its options and its weights.

    Args:
        variant: the architecture.
        name: name of the published architecture of the same sizes, or None.
        numerics: form of the GELU, and epsilons.
        weights: {path: variable}.
        input_shape: (height, width, channels).
        grid: (rows, columns) of patches; None for a BiT.
        classes: number of classes of the head; None without a head.
        representation_size: units of the layer before the head; None without one.
        position_resize: how its positions were interpolated to another image size, if they were.
        reader: the layer that reads the images and stores the pixel contract.
    """

    variant: Variant | ResNet
    name: str | None
    numerics: Numerics
    weights: dict[str, keras.Variable]
    input_shape: tuple[int, ...]
    grid: tuple[int, int] | None
    classes: int | None
    representation_size: int | None
    position_resize: str | None
    reader: layers.Patches | layers.Stem

    @property
    def pixels(self) -> Pixels:
        """The pixel contract of `reader`; other layers in front of it are not included."""
        return self.reader.pixels


def describe_model(model: keras.Model) -> ModelDescription:
    """Returns the architecture of a model of `keras_vit.build`, also of a fine-tuned or a reloaded one.

    If the model contains such a model as a layer, the inner one is described.

    Raises:
        ValueError: if the model has no layers of keras_vit.

    Example:
        ```python
        from keras_vit.models.description import describe_model

        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        model = keras_vit.build(tiny, input_shape=(32, 48, 3), classes=3)
        assert describe_model(model).variant == tiny and describe_model(model).grid == (4, 6)
        ```
    """
    inner = our_model(model)
    named = {layer.name: layer for layer in inner.layers}
    units = {name: layer for name, layer in named.items() if isinstance(layer, layers.Bottleneck)}
    blocks = [layer for layer in inner.layers if isinstance(layer, layers.TransformerBlock)]
    stem = _resnet(named["stem"], units) if "stem" in named else None
    numerics, grid = Numerics(), None
    row: Any = stem
    if stem:
        layer = named["stem"]
        numerics = Numerics("tanh", 1e-6, layer.group_norm_epsilon, layer.conv_epsilon, layer.conv_epsilon_inside)
    if blocks:
        row, grid = _transformer(named, blocks, stem)
        epsilon = blocks[0].mlp_norm.epsilon
        numerics = dataclasses.replace(numerics, gelu=blocks[0].mlp.gelu, norm_epsilon=epsilon)
    pre_logits, head = named.get("pre_logits"), named.get("head")
    return ModelDescription(
        row,
        name_of(row),
        numerics,
        {weight_path(layer, variable): variable for layer in inner.layers for variable in layer.weights},
        tuple(inner.inputs[0].shape[1:]),
        grid,
        head.units if head else None,
        pre_logits.units if pre_logits else None,
        named["encoder"].position_resize if blocks else None,
        named["stem" if stem else "patches"],
    )


def our_model(model: keras.Model) -> keras.Model:
    """Returns the functional model that directly contains layers of keras_vit: the model itself, or one inside it.

    Raises:
        ValueError: if there is none, or more than one.
    """
    of_ours = (layers.PatchEncoder, layers.Stem)
    inside = getattr(model, "layers", ())
    candidates = [model] if any(isinstance(layer, of_ours) for layer in inside) else []
    candidates += [
        layer
        for layer in inside
        if isinstance(layer, keras.Model) and any(isinstance(one, of_ours) for one in _compat.layers_inside(layer))
    ]
    if not candidates:
        received = repr(model.name) if isinstance(model, keras.Model) else f"a {type(model).__name__}"
        raise ValueError(f"Expected a model with keras_vit's layers. Received: {received} without")
    if len(candidates) > 1:
        names = [candidate.name for candidate in candidates]
        raise ValueError(
            f"Expected a model with one encoder of keras_vit. Received: {model.name!r} with {len(names)}, "
            f"{', '.join(names)}. Pass one of them, such as model.get_layer({names[-1]!r})."
        )
    return model if candidates[0] is model else our_model(candidates[0])


def weight_path(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    """Returns the path of a weight from its layer on, as "block_00/attention/query/kernel"."""
    within = f"/{variable.path}".rsplit(f"/{layer.name}/", 1)[-1]
    return f"{layer.name}/{within}"


def keras_names(model: keras.Model) -> dict[str, str]:
    """Returns {path: name in a .weights.h5 file} of a model's weights; Keras names layers there after their class."""
    names: dict[str, str] = {}
    layers_of: dict[str, int] = {}
    variables_of: dict[str, int] = {}
    for layer in model.layers:
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
        number = layers_of[kind] = layers_of.get(kind, -1) + 1
        for variable in layer.weights:
            path = weight_path(layer, variable)
            inside = path.split("/")[1:-1]
            group = "/".join(["layers", f"{kind}_{number}" if number else kind, *inside, "vars"])
            index = variables_of[group] = variables_of.get(group, -1) + 1
            names[path] = f"{group}/{index}"
    return names


def _resnet(stem: layers.Stem, units: Mapping[str, layers.Bottleneck]) -> ResNet:
    count: dict[int, int] = {}
    widths: dict[int, int] = {}
    for name, unit in units.items():
        stage = int(name.removeprefix("stage").partition("_")[0])
        count[stage] = count.get(stage, 0) + 1
        widths[stage] = unit.width
    stages = sorted(count)
    return ResNet(tuple(count[stage] for stage in stages), tuple(widths[stage] for stage in stages), stem.width)


def _transformer(
    named: Mapping[str, Any], blocks: Sequence[layers.TransformerBlock], stem: ResNet | None
) -> tuple[Variant, tuple[int, int]]:
    """Returns the architecture of a Vision Transformer, and its (rows, columns) of patches."""
    patches, encoder, pooling = named["patches"], named["encoder"], named.get("pooling")
    kinds = {
        layers.ClassToken: "token",
        keras.layers.GlobalAveragePooling1D: "gap",
        layers.PatchMean: "gap",
        layers.AttentionPooling: "map",
        layers.ClassAndMean: "token+gap",
        layers.ClassAndDistillation: "token+distillation",
    }
    own = "token" if encoder.has_class_token else "none"
    attention: Any = blocks[0].attention
    is_axial = blocks[0].name.endswith("_rows")
    is_windowed = isinstance(attention, layers.WindowAttention) and not is_axial
    pooled: Any = kinds.get(type(pooling), own)
    positions, positions_at = _positions(named, encoder, blocks[0])
    row = Variant(
        patches.patch_size,
        encoder.hidden_size,
        len(blocks) // 2 if is_axial else len(blocks),
        attention.num_heads,
        blocks[0].mlp.mlp_dim,
        stem,
        pooled,
        encoder.has_distillation_token,
        encoder.num_registers,
        blocks[0].layer_scale,
        isinstance(blocks[0].mlp, layers.SwiGLU),
        positions,
        positions_at,
        "axial" if is_axial else "full",
        attention.window[0] if is_windowed else None,
        blocks[0].mlp.hidden_dropout.rate,
        norm_at="tokens" if "norm" in named else "pooled" if "pooled_norm" in named else "none",
        pre_norm="pre_norm" in named,
        patch_bias=encoder.projection.use_bias,
        qkv_bias=attention.qkv_bias,
        rotary=_rotary(attention),
        relative_bias=isinstance(attention, layers.BiasAttention),
        swiglu_norm=getattr(blocks[0].mlp, "norm", None) is not None,
        projection_size=named["projection"].units if "projection" in named else None,
        unit_embedding="unit_embedding" in named,
        **_class_token(encoder, pooled),
        **_attention_pooling(pooling, attention, blocks[0].mlp),
    )
    height, width = patches.input.shape[1:3]
    return row, (height // row.patch_size, width // row.patch_size)


def _rotary(attention: Any) -> Rotary | None:
    if not isinstance(attention, layers.RotaryAttention):
        return None
    reference: Any = attention.reference
    return Rotary(attention.theta, reference, attention.offset, attention.columns_first)


def _class_token(encoder: layers.PatchEncoder, pooling: str) -> dict[str, Any]:
    """Returns the field class_token where the pooling does not imply it."""
    has = encoder.has_class_token
    return {} if has == pooling.startswith("token") else {"class_token": has}


def _attention_pooling(pooling: Any, attention: layers.Attention, mlp: layers.MLP) -> dict[str, Any]:
    """Returns the fields of the attention pooling that are not those of the blocks."""
    if not isinstance(pooling, layers.AttentionPooling):
        return {}
    heads, mlp_dim = pooling.attention.num_heads, pooling.mlp.mlp_dim
    fields = {"pooling_heads": (heads, attention.num_heads), "pooling_mlp_dim": (mlp_dim, mlp.mlp_dim)}
    return {name: own for name, (own, of_blocks) in fields.items() if own != of_blocks}


def _positions(named: Mapping[str, Any], encoder: layers.PatchEncoder, block: layers.TransformerBlock) -> Any:
    """Returns (kind of the positions, where they are added)."""
    if isinstance(block, layers.RelativeBlock):
        return "relative", "stem"
    for name, where in (("positions", "shared"), (f"{block.name.removesuffix('_rows')}_positions", "layers")):
        if name in named:
            return named[name].kind, where
    if encoder.has_position_table:
        return "learned", "stem"
    return encoder.positions.kind if encoder.positions else "none", "stem"
