"""The one name table: a row for each layer of ours, a column for each format of weight files.

A row's kind (`reshaping.KINDS`) lists the weights of the layer, the ends of their names and how a file's numbers are
reshaped into ours. In a name, "{i}" is the index of the block, "{s}" and "{u}" are the indices of the stage and of the
unit in it, and "{s0}" and "{u0}" are the same counted from 0. Ours have two digits where there can be ten or more, so
that alphabetical order is their order.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from keras_vit.weights.reshaping import KINDS, Cell, NameFamily

Table = dict[str, tuple[str, dict[str, str]]]

_BLOCK = "Transformer/encoderblock_{i}/"
_HEADS = {"npz": _BLOCK + "MultiHeadDotProductAttention_1/", "big_vision": _BLOCK + "MultiHeadDotProductAttention_0/"}
_MAP = "MAPHead_0/"
_HF, _HF_HEADS, _TIMM = "encoder.layer.{i}.", "encoder.layer.{i}.attention.attention.", "blocks.{i}."
# "@0", "@1" and "@2" name a third of the array's rows: query, key and value lie in one array.
_QKV = _TIMM + "attn.qkv@"

# {our path: (kind, {column: name})}; a column that is absent has no such layer.
TRANSFORMER: Table = {
    "encoder/class_token": (
        "array",
        {"npz": "cls", "big_vision": "cls", "hf": "embeddings.cls_token", "timm": "cls_token"},
    ),
    "encoder/distillation_token": ("array", {"hf": "embeddings.distillation_token", "timm": "dist_token"}),
    "encoder/register_tokens": ("array", {"timm": "reg_token"}),
    "encoder/position_embedding": (
        "array",
        {"npz": "Transformer/posembed_input/pos_embedding", "hf": "embeddings.position_embeddings"},
    ),
    "encoder/projection": (
        "patches",
        {
            "npz": "embedding",
            "big_vision": "embedding",
            "hf": "embeddings.patch_embeddings.projection",
            "timm": "patch_embed.proj",
        },
    ),
    "block_{i:02d}/attention_norm": (
        "norm",
        {
            "npz": _BLOCK + "LayerNorm_0",
            "big_vision": _BLOCK + "LayerNorm_0",
            "hf": _HF + "layernorm_before",
            "timm": _TIMM + "norm1",
        },
    ),
    **{
        f"block_{{i:02d}}/attention/{name}": (
            "to heads",
            {column: heads + name for column, heads in _HEADS.items()}
            | {"hf": _HF_HEADS + name, "timm": f"{_QKV}{part}"},
        )
        for part, name in enumerate(("query", "key", "value"))
    },
    "block_{i:02d}/attention/out": (
        "from heads",
        {column: heads + "out" for column, heads in _HEADS.items()}
        | {"hf": _HF + "attention.output.dense", "timm": _TIMM + "attn.proj"},
    ),
    "block_{i:02d}/attention_scale/gamma": ("array", {"timm": _TIMM + "ls1.gamma"}),
    # The official code numbers all modules of a block in one sequence: norm 0, attention 1, norm 2, MLP 3.
    "block_{i:02d}/mlp_norm": (
        "norm",
        {
            "npz": _BLOCK + "LayerNorm_2",
            "big_vision": _BLOCK + "LayerNorm_1",
            "hf": _HF + "layernorm_after",
            "timm": _TIMM + "norm2",
        },
    ),
    "block_{i:02d}/mlp/hidden": (
        "dense",
        {
            "npz": _BLOCK + "MlpBlock_3/Dense_0",
            "big_vision": _BLOCK + "MlpBlock_0/Dense_0",
            "hf": _HF + "intermediate.dense",
            "timm": _TIMM + "mlp.fc1",
        },
    ),
    "block_{i:02d}/mlp/out": (
        "dense",
        {
            "npz": _BLOCK + "MlpBlock_3/Dense_1",
            "big_vision": _BLOCK + "MlpBlock_0/Dense_1",
            "hf": _HF + "output.dense",
            "timm": _TIMM + "mlp.fc2",
        },
    ),
    "block_{i:02d}/mlp_scale/gamma": ("array", {"timm": _TIMM + "ls2.gamma"}),
    "norm": (
        "norm",
        {
            "npz": "Transformer/encoder_norm",
            "big_vision": "Transformer/encoder_norm",
            "hf": "layernorm",
            "timm": "norm",
        },
    ),
    "pooling/probe": ("array", {"big_vision": _MAP + "probe"}),
    **{
        f"pooling/attention/{name}": (kind, {"big_vision": f"{_MAP}MultiHeadDotProductAttention_0/{name}"})
        for name, kind in (
            ("query", "to heads"),
            ("key", "to heads"),
            ("value", "to heads"),
            ("out", "from heads"),
        )
    },
    "pooling/norm": ("norm", {"big_vision": _MAP + "LayerNorm_0"}),
    "pooling/mlp/hidden": ("dense", {"big_vision": _MAP + "MlpBlock_0/Dense_0"}),
    "pooling/mlp/out": ("dense", {"big_vision": _MAP + "MlpBlock_0/Dense_1"}),
    "pre_logits": (
        "dense",
        {"npz": "pre_logits", "big_vision": "pre_logits", "hf": "pooler.dense", "timm": "pre_logits.fc"},
    ),
    "head": ("dense", {"npz": "head", "big_vision": "head", "hf": "classifier", "timm": "head"}),
    "head/distillation": ("dense", {"timm": "head_dist"}),
}
# The only layer of two kinds: in these columns, positions may lack the row of the class token.
_POSITIONS: Table = {"encoder/position_embedding": ("positions", {"big_vision": "pos_embedding", "timm": "pos_embed"})}
# transformers' DeiT with a distillation head.
HF_DISTILLED: Table = {
    "head": ("dense", {"hf": "cls_classifier"}),
    "head/distillation": ("dense", {"hf": "distillation_classifier"}),
}
HF_DINOV2: Table = {
    "encoder/register_tokens": ("array", {"hf": "embeddings.register_tokens"}),
    "block_{i:02d}/attention_norm": ("norm", {"hf": _HF + "norm1"}),
    "block_{i:02d}/attention_scale/gamma": ("array", {"hf": _HF + "layer_scale1.lambda1"}),
    "block_{i:02d}/mlp_norm": ("norm", {"hf": _HF + "norm2"}),
    "block_{i:02d}/mlp/hidden": ("dense", {"hf": _HF + "mlp.fc1"}),
    "block_{i:02d}/mlp/out": ("dense", {"hf": _HF + "mlp.fc2"}),
    "block_{i:02d}/mlp_scale/gamma": ("array", {"hf": _HF + "layer_scale2.lambda1"}),
}
HF_SWIGLU: Table = {
    "block_{i:02d}/mlp/hidden": ("dense", {"hf": _HF + "mlp.weights_in"}),
    "block_{i:02d}/mlp/out": ("dense", {"hf": _HF + "mlp.weights_out"}),
}

# "{backbone}" is the prefix of a hybrid's ResNet. timm omits "stem." where the ResNet has no stages.
_UNIT = {
    "npz": "block{s}/unit{u}/",
    "bit": "resnet/block{s}/unit{u:02d}/",
    "hf": "{backbone}encoder.stages.{s0}.layers.{u0}.",
    "timm": "{backbone}stages.{s0}.blocks.{u0}.",
}


def _unit(**names: str) -> dict[str, str]:
    return {column: _UNIT[column] + name for column, name in names.items()}


RESNET: Table = {
    "stem/conv": (
        "conv",
        {
            "npz": "conv_root",
            "bit": "resnet/root_block/standardized_conv2d",
            "hf": "{backbone}embedder.convolution",
            "timm": "{backbone}{stem}conv",
        },
    ),
    "stem/norm": (
        "group norm",
        {"npz": "gn_root", "hf": "{backbone}embedder.norm", "timm": "{backbone}{stem}norm"},
    ),
    **{
        row: entry
        for number, letter in ((1, "a"), (2, "b"), (3, "c"))
        for row, entry in {
            f"stage{{s}}_unit{{u:02d}}/conv{number}": (
                "conv",
                _unit(
                    npz=f"conv{number}", bit=f"{letter}/standardized_conv2d", hf=f"conv{number}", timm=f"conv{number}"
                ),
            ),
            f"stage{{s}}_unit{{u:02d}}/norm{number}": (
                "group norm",
                _unit(npz=f"gn{number}", bit=f"{letter}/group_norm", hf=f"norm{number}", timm=f"norm{number}"),
            ),
        }.items()
    },
    "stage{s}_unit{u:02d}/shortcut": (
        "conv",
        _unit(npz="conv_proj", bit="a/proj/standardized_conv2d", hf="downsample.conv", timm="downsample.conv"),
    ),
    "stage{s}_unit{u:02d}/shortcut_norm": (
        "group norm",
        _unit(npz="gn_proj", hf="downsample.norm", timm="downsample.norm"),
    ),
}
BIT: Table = {
    "norm": ("group norm", {"bit": "resnet/group_norm", "hf": "norm", "timm": "norm"}),
    "head": ("pointwise", {"bit": "resnet/head/conv2d", "timm": "head.fc"}),
}
HF_BIT: Table = {"head": ("dense", {"hf": "classifier.1"})}


class Format(NamedTuple):
    """A naming scheme of weight files.

    Args:
        family: how the names of a layer's weights end, a key of the inner dictionaries of `reshaping.KINDS`.
        tables: the tables with its rows; where two have a row for one layer, the later table's counts.
        column: its column in them.
        backbone: the text that replaces "{backbone}".
    """

    family: NameFamily
    tables: tuple[Table, ...]
    column: str
    backbone: str = ""


FORMATS = {
    "npz": Format("flax", (TRANSFORMER, RESNET), "npz"),
    "big_vision": Format("flax", (TRANSFORMER, _POSITIONS), "big_vision"),
    "bit": Format("keras", (RESNET, BIT), "bit"),
    "hf": Format("torch", (TRANSFORMER, RESNET), "hf", "embeddings.patch_embeddings.backbone.bit."),
    "hf_distilled": Format("torch", (TRANSFORMER, HF_DISTILLED), "hf"),
    "hf_dinov2": Format("torch", (TRANSFORMER, HF_DINOV2), "hf"),
    "hf_dinov2_swiglu": Format("torch", (TRANSFORMER, HF_DINOV2, HF_SWIGLU), "hf"),
    "hf_bit": Format("torch", (RESNET, BIT, HF_BIT), "hf"),
    "timm": Format("torch", (TRANSFORMER, _POSITIONS, RESNET), "timm", "patch_embed.backbone."),
    "timm_bit": Format("torch", (RESNET, BIT), "timm"),
}


def format_column(format: str, num_layers: int = 0, units: Sequence[int] = ()) -> dict[str, Cell]:
    """Returns a format's column of the name table, {our path: Cell}.

    Args:
        format: a key of `FORMATS`.
        num_layers: number of transformer blocks.
        units: number of bottleneck units of each stage of the ResNet.
    """
    family, tables, column, backbone = FORMATS[format]
    cells = {}
    for ours, (kind, names) in (row for table in tables for row in table.items()):
        if column not in names:
            continue
        for indices in _layer_indices(ours, num_layers, units):
            name, _, part = names[column].partition("@")
            name = name.format(**indices, backbone=backbone, stem="stem." if units else "")
            for weight, ends in KINDS[kind].items():
                end, reshaper = ends[family]
                cells[ours.format(**indices) + weight] = Cell(name + end, reshaper, int(part) if part else None)
    return cells


def _layer_indices(ours: str, num_layers: int, units: Sequence[int]) -> Iterator[dict[str, int]]:
    """Yields the indices of the layers that a row describes."""
    if "{i" in ours:
        yield from ({"i": i} for i in range(num_layers))
    elif "{s" in ours:
        for s, count in enumerate(units, 1):
            yield from ({"s": s, "u": u, "s0": s - 1, "u0": u - 1} for u in range(1, count + 1))
    else:
        yield {}


def find_layers(format: str, ours: str, names: Iterable[str]) -> list[dict[str, int]]:
    """Returns the indices, from 0, of the layers of a file that a row of the table describes.

    Args:
        format: a key of `FORMATS`.
        ours: the row, such as "block_{i:02d}/mlp/hidden".
        names: of the file's arrays.

    Returns:
        {"i": 3} for a block or {"s": 1, "u": 2} for a unit, for each name that matches.
    """
    _, tables, column, backbone = FORMATS[format]
    patterns = [table[ours][1][column] for table in tables if ours in table and column in table[ours][1]]
    if not patterns:
        return []
    escaped = re.escape(patterns[-1].partition("@")[0].replace("{backbone}", backbone))
    pattern = re.compile(re.sub(r"\\{([a-z])(0?)(?::02d)?\\}", r"(?P<\1>\\d+)", escaped))
    first = 0 if "0\\}" in escaped or "{i" in ours else 1
    matches = (pattern.match(name) for name in names)
    return [{key: int(number) - first for key, number in match.groupdict().items()} for match in matches if match]
