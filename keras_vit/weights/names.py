"""The one name table: a row per layer of ours, a column per source of files.

A row's kind (`arrangements.KINDS`) says which weights the layer has, what their names end in, and how their numbers
lie. In a name, "{i}" is the number of the block, "{s}" and "{u}" those of the stage and of the unit in it, "{s0}" and
"{u0}" the same from 0; ours have two digits where there can be as many, so that sorted is in order.
"""

import re

from keras_vit.weights.reshaping import KINDS, Cell

NAME_FAMILIES = {
    "npz": "flax",
    "big_vision": "flax",
    "bit": "keras",
    "hf": "torch",
    "hf_distilled": "torch",
    "hf_dinov2": "torch",
    "hf_dinov2_swiglu": "torch",
    "hf_bit": "torch",
    "timm": "torch",
    "timm_bit": "torch",
}

_BLOCK = "Transformer/encoderblock_{i}/"
_HEADS = {"npz": _BLOCK + "MultiHeadDotProductAttention_1/", "big_vision": _BLOCK + "MultiHeadDotProductAttention_0/"}
_MAP = "MAPHead_0/"
_HF, _HF_HEADS, _TIMM = "encoder.layer.{i}.", "encoder.layer.{i}.attention.attention.", "blocks.{i}."
# Behind "@", the third of the rows.
_QKV = _TIMM + "attn.qkv@"

# ours: (kind, {source: name}); a source that is not named has no such layer.
TRANSFORMER = {
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
            {source: heads + name for source, heads in _HEADS.items()}
            | {"hf": _HF_HEADS + name, "timm": f"{_QKV}{part}"},
        )
        for part, name in enumerate(("query", "key", "value"))
    },
    "block_{i:02d}/attention/out": (
        "from heads",
        {source: heads + "out" for source, heads in _HEADS.items()}
        | {"hf": _HF + "attention.output.dense", "timm": _TIMM + "attn.proj"},
    ),
    "block_{i:02d}/attention_scale/gamma": ("array", {"timm": _TIMM + "ls1.gamma"}),
    # The official numbers run over all modules of a block: norm 0, attention 1, norm 2, MLP 3.
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
# The only layer of two kinds: here positions may lack the row of the class token.
_POSITIONS = {"encoder/position_embedding": ("positions", {"big_vision": "pos_embedding", "timm": "pos_embed"})}
# transformers' DeiT with its teacher's head.
HF_DISTILLED = {
    "head": ("dense", {"hf": "cls_classifier"}),
    "head/distillation": ("dense", {"hf": "distillation_classifier"}),
}
HF_DINOV2 = {
    "encoder/register_tokens": ("array", {"hf": "embeddings.register_tokens"}),
    "block_{i:02d}/attention_norm": ("norm", {"hf": _HF + "norm1"}),
    "block_{i:02d}/attention_scale/gamma": ("array", {"hf": _HF + "layer_scale1.lambda1"}),
    "block_{i:02d}/mlp_norm": ("norm", {"hf": _HF + "norm2"}),
    "block_{i:02d}/mlp/hidden": ("dense", {"hf": _HF + "mlp.fc1"}),
    "block_{i:02d}/mlp/out": ("dense", {"hf": _HF + "mlp.fc2"}),
    "block_{i:02d}/mlp_scale/gamma": ("array", {"hf": _HF + "layer_scale2.lambda1"}),
}
HF_SWIGLU = {
    "block_{i:02d}/mlp/hidden": ("dense", {"hf": _HF + "mlp.weights_in"}),
    "block_{i:02d}/mlp/out": ("dense", {"hf": _HF + "mlp.weights_out"}),
}

# "{backbone}" is in front of a hybrid's stem; timm leaves "stem." out where the stem is all there is.
_UNIT = {
    "npz": "block{s}/unit{u}/",
    "bit": "resnet/block{s}/unit{u:02d}/",
    "hf": "{backbone}encoder.stages.{s0}.layers.{u0}.",
    "timm": "{backbone}stages.{s0}.blocks.{u0}.",
}


def _unit(**names):
    return {source: _UNIT[source] + name for source, name in names.items()}


RESNET = {
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
BIT = {
    "norm": ("group norm", {"bit": "resnet/group_norm", "hf": "norm", "timm": "norm"}),
    "head": ("pointwise", {"bit": "resnet/head/conv2d", "timm": "head.fc"}),
}
HF_BIT = {"head": ("dense", {"hf": "classifier.1"})}

# source: (the tables that hold its rows, of two for a layer the later one's; the column of theirs that is its own; what
# stands for "{backbone}")
SOURCES = {
    "npz": ((TRANSFORMER, RESNET), "npz", ""),
    "big_vision": ((TRANSFORMER, _POSITIONS), "big_vision", ""),
    "bit": ((RESNET, BIT), "bit", ""),
    "hf": ((TRANSFORMER, RESNET), "hf", "embeddings.patch_embeddings.backbone.bit."),
    "hf_distilled": ((TRANSFORMER, HF_DISTILLED), "hf", ""),
    "hf_dinov2": ((TRANSFORMER, HF_DINOV2), "hf", ""),
    "hf_dinov2_swiglu": ((TRANSFORMER, HF_DINOV2, HF_SWIGLU), "hf", ""),
    "hf_bit": ((RESNET, BIT, HF_BIT), "hf", ""),
    "timm": ((TRANSFORMER, _POSITIONS, RESNET), "timm", "patch_embed.backbone."),
    "timm_bit": ((RESNET, BIT), "timm", ""),
}


def source_cells(source, num_layers=0, units=()):
    """Returns {our path: Cell} of a source, for so many blocks and units a stage."""
    tables, column, backbone = SOURCES[source]
    cells = {}
    for ours, (kind, names) in (row for table in tables for row in table.items()):
        if column not in names:
            continue
        for place in _places(ours, num_layers, units):
            name, _, part = names[column].partition("@")
            name = name.format(**place, backbone=backbone, stem="stem." if units else "")
            for weight, ends in KINDS[kind].items():
                end, arrangement = ends[NAME_FAMILIES[source]]
                cells[ours.format(**place) + weight] = Cell(name + end, arrangement, int(part) if part else None)
    return cells


def _places(ours, num_layers, units):
    """Yields the numbers that a row stands for."""
    if "{i" in ours:
        yield from ({"i": i} for i in range(num_layers))
    elif "{s" in ours:
        for s, count in enumerate(units, 1):
            yield from ({"s": s, "u": u, "s0": s - 1, "u0": u - 1} for u in range(1, count + 1))
    else:
        yield {}


def found_places(source, ours, names):
    """Returns where a row of the table is found among a file's names, as {"i": 3} or {"s": 1, "u": 2}, from 0."""
    tables, column, backbone = SOURCES[source]
    named = [table[ours][1][column] for table in tables if ours in table and column in table[ours][1]]
    if not named:
        return []
    name = re.escape(named[-1].partition("@")[0].replace("{backbone}", backbone))
    pattern = re.compile(re.sub(r"\\{([a-z])(0?)(?::02d)?\\}", r"(?P<\1>\\d+)", name))
    first = 0 if "0\\}" in name or "{i" in ours else 1
    matches = (pattern.match(one) for one in names)
    return [{key: int(number) - first for key, number in match.groupdict().items()} for match in matches if match]
