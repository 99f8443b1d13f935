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
# "@0/3" is the first third of the array's rows: query, key and value lie in one array. "a+b" are a's rows, then b's.
_QKV = _TIMM + "attn.qkv@"
_HF_MAP, _TIMM_MAP = "head.", "attn_pool."

# {our path: (kind, {column: name})}; a column that is absent has no such layer.
TRANSFORMER: Table = {
    "encoder/class_token": (
        "array",
        {"npz": "cls", "big_vision": "cls", "hf": "embeddings.cls_token", "timm": "cls_token"},
    ),
    "encoder/distillation_token": ("array", {"hf": "embeddings.distillation_token", "timm": "dist_token"}),
    "encoder/register_tokens": ("array", {"timm": "reg_token"}),
    "pre_norm": ("norm", {"timm": "norm_pre"}),
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
            "to heads" if name == "value" else "to rotated heads",
            {column: heads + name for column, heads in _HEADS.items()}
            | {"hf": _HF_HEADS + name, "timm": f"{_QKV}{part}/3"},
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
    "pooled_norm": ("norm", {"timm": "fc_norm"}),
    "pooling/probe": ("array", {"big_vision": _MAP + "probe", "timm": _TIMM_MAP + "latent"}),
    **{
        f"pooling/attention/{name}": (
            kind,
            {"big_vision": f"{_MAP}MultiHeadDotProductAttention_0/{name}", "timm": _TIMM_MAP + timm},
        )
        for name, kind, timm in (
            ("query", "to heads", "q"),
            ("key", "to heads", "kv@0/2"),
            ("value", "to heads", "kv@1/2"),
            ("out", "from heads", "proj"),
        )
    },
    "pooling/norm": ("norm", {"big_vision": _MAP + "LayerNorm_0", "timm": _TIMM_MAP + "norm"}),
    "pooling/mlp/hidden": ("dense", {"big_vision": _MAP + "MlpBlock_0/Dense_0", "timm": _TIMM_MAP + "mlp.fc1"}),
    "pooling/mlp/out": ("dense", {"big_vision": _MAP + "MlpBlock_0/Dense_1", "timm": _TIMM_MAP + "mlp.fc2"}),
    "projection": ("dense", {"timm": "head"}),
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

# What timm's classes Beit and Eva build: LayerScale has other names, and the query and the value a bias of their own.
TIMM_GAMMA: Table = {
    "block_{i:02d}/attention_scale/gamma": ("array", {"timm": _TIMM + "gamma_1"}),
    "block_{i:02d}/mlp_scale/gamma": ("array", {"timm": _TIMM + "gamma_2"}),
}
TIMM_EVA: Table = {
    "block_{i:02d}/attention/query/bias": ("rotated bias", {"timm": _TIMM + "attn.q_bias"}),
    "block_{i:02d}/attention/value/bias": ("array", {"timm": _TIMM + "attn.v_bias"}),
    "block_{i:02d}/attention/relative_bias": ("array", {"timm": _TIMM + "attn.relative_position_bias_table"}),
}
TIMM_GATED: Table = {
    "block_{i:02d}/mlp/hidden": ("dense", {"timm": f"{_TIMM}mlp.fc1_g+{_TIMM}mlp.fc1_x"}),
}
TIMM_SPLIT: Table = {
    **{
        f"block_{{i:02d}}/attention/{name}": (
            "to heads" if name == "value" else "to rotated heads",
            {"timm": f"{_TIMM}attn.{name[0]}_proj"},
        )
        for name in ("query", "key", "value")
    },
    "block_{i:02d}/mlp/norm": ("norm", {"timm": _TIMM + "mlp.norm"}),
}
HF_DINOV3: Table = {
    "encoder/register_tokens": ("array", {"hf": "embeddings.register_tokens"}),
    "encoder/projection": ("patches", {"hf": "embeddings.patch_embeddings"}),
    **{
        f"block_{{i:02d}}/{ours}": (kind, {"hf": f"layer.{{i}}.{name}"})
        for ours, kind, name in (
            ("attention_norm", "norm", "norm1"),
            ("attention/query", "to rotated heads", "attention.q_proj"),
            ("attention/key", "to rotated heads", "attention.k_proj"),
            ("attention/value", "to heads", "attention.v_proj"),
            ("attention/out", "from heads", "attention.o_proj"),
            ("attention_scale/gamma", "array", "layer_scale1.lambda1"),
            ("mlp_norm", "norm", "norm2"),
            ("mlp/hidden", "dense", "mlp.up_proj"),
            ("mlp/out", "dense", "mlp.down_proj"),
            ("mlp_scale/gamma", "array", "layer_scale2.lambda1"),
        )
    },
    "norm": ("norm", {"hf": "norm"}),
}
HF_GATED: Table = {
    "block_{i:02d}/mlp/hidden": ("dense", {"hf": "layer.{i}.mlp.gate_proj+layer.{i}.mlp.up_proj"}),
}
HF_BEIT: Table = {
    "block_{i:02d}/attention/relative_bias": (
        "array",
        {"hf": _HF_HEADS + "relative_position_bias.relative_position_bias_table"},
    ),
    "block_{i:02d}/attention_scale/gamma": ("array", {"hf": _HF + "lambda_1"}),
    "block_{i:02d}/mlp_scale/gamma": ("array", {"hf": _HF + "lambda_2"}),
    "pooled_norm": ("norm", {"hf": "pooler.layernorm"}),
}
# Files of BEiT's pre-training have one table for all blocks.
HF_BEIT_SHARED: Table = {
    "block_{i:02d}/attention/relative_bias": (
        "array",
        {"hf": "encoder.relative_position_bias.relative_position_bias_table"},
    ),
}
# The decoder of transformers' MAE, whose weights `keras_vit.pretraining.MaskedAutoencoder` has.
HF_MAE_DECODER: Table = {
    "mask_token": ("array", {"hf": "decoder.mask_token"}),
    "decoder_positions/table": ("one table", {"hf": "decoder.decoder_pos_embed"}),
    "decoder_projection": ("dense", {"hf": "decoder.decoder_embed"}),
    **{
        f"decoder_{ours}": (kind, {"hf": names["hf"].replace("encoder.layer.", "decoder.decoder_layers.")})
        for ours, (kind, names) in TRANSFORMER.items()
        if ours.startswith("block_") and "hf" in names
    },
    "decoder_norm": ("norm", {"hf": "decoder.decoder_norm"}),
    "pixels": ("dense", {"hf": "decoder.decoder_pred"}),
}
# The vision towers of SigLIP and CLIP in transformers, and CLIP's in its own and OpenCLIP's files.
_LAYER, _RESBLOCK = "encoder.layers.{i}.", "transformer.resblocks.{i}."
HF_TOWER: Table = {
    "encoder/class_token": ("flat", {"hf": "embeddings.class_embedding"}),
    "encoder/position_embedding": ("table", {"hf": "embeddings.position_embedding.weight"}),
    "encoder/projection": ("patches or rows", {"hf": "embeddings.patch_embedding"}),
    "pre_norm": ("norm", {"hf": "pre_layrnorm"}),
    **{
        f"block_{{i:02d}}/{ours}": (kind, {"hf": _LAYER + name})
        for ours, kind, name in (
            ("attention_norm", "norm", "layer_norm1"),
            ("attention/query", "to heads", "self_attn.q_proj"),
            ("attention/key", "to heads", "self_attn.k_proj"),
            ("attention/value", "to heads", "self_attn.v_proj"),
            ("attention/out", "from heads", "self_attn.out_proj"),
            ("mlp_norm", "norm", "layer_norm2"),
            ("mlp/hidden", "dense", "mlp.fc1"),
            ("mlp/out", "dense", "mlp.fc2"),
        )
    },
    "norm": ("norm", {"hf": "post_layernorm"}),
    "pooling/probe": ("array", {"hf": _HF_MAP + "probe"}),
    **{
        f"pooling/attention/{name}": ("joined heads", {"hf": f"{_HF_MAP}attention.in_proj@{part}/3"})
        for part, name in enumerate(("query", "key", "value"))
    },
    "pooling/attention/out": ("from heads", {"hf": _HF_MAP + "attention.out_proj"}),
    "pooling/norm": ("norm", {"hf": _HF_MAP + "layernorm"}),
    "pooling/mlp/hidden": ("dense", {"hf": _HF_MAP + "mlp.fc1"}),
    "pooling/mlp/out": ("dense", {"hf": _HF_MAP + "mlp.fc2"}),
    "projection": ("kernel", {"hf": "visual_projection"}),
    "head": ("dense", {"hf": "classifier"}),
}
OPEN_CLIP: Table = {
    "encoder/class_token": ("flat", {"open_clip": "class_embedding"}),
    "encoder/position_embedding": ("table", {"open_clip": "positional_embedding"}),
    "encoder/projection": ("patches", {"open_clip": "conv1"}),
    "pre_norm": ("norm", {"open_clip": "ln_pre"}),
    **{
        f"block_{{i:02d}}/{ours}": (kind, {"open_clip": _RESBLOCK + name})
        for ours, kind, name in (
            ("attention_norm", "norm", "ln_1"),
            *(
                (f"attention/{name}", "joined heads", f"attn.in_proj@{part}/3")
                for part, name in enumerate(("query", "key", "value"))
            ),
            ("attention/out", "from heads", "attn.out_proj"),
            ("mlp_norm", "norm", "ln_2"),
            ("mlp/hidden", "dense", "mlp.c_fc"),
            ("mlp/out", "dense", "mlp.c_proj"),
        )
    },
    "norm": ("norm", {"open_clip": "ln_post"}),
    "projection": ("matrix", {"open_clip": "proj"}),
}


def _blocks(table: Table, column: str, old: str, new: str) -> Table:
    """Returns the rows of the blocks of an image tower, for a text tower that has them under another prefix."""
    return {
        ours: (kind, {column: names[column].replace(old, new, 1)})
        for ours, (kind, names) in table.items()
        if ours.startswith("block_") and column in names
    }


# The text towers of SigLIP and CLIP, which differ in how the embedding is made of the pooled token.
_TEXT = "text_model."
TEXT: Table = {
    "words/embeddings": (
        "array",
        {
            "hf": _TEXT + "embeddings.token_embedding.weight",
            "open_clip": "token_embedding.weight",
            "big_vision": "Embed_0/embedding",
        },
    ),
    "norm": (
        "norm",
        {"hf": _TEXT + "final_layer_norm", "open_clip": "ln_final", "big_vision": "Encoder_0/encoder_norm"},
    ),
}
HF_TEXT: Table = {
    "positions/table": ("array", {"hf": _TEXT + "embeddings.position_embedding.weight"}),
    **_blocks(HF_TOWER, "hf", "encoder.", _TEXT + "encoder."),
}
OPEN_CLIP_TEXT: Table = {
    "positions/table": ("array", {"open_clip": "positional_embedding"}),
    **_blocks(OPEN_CLIP, "open_clip", "", ""),
}
BIG_VISION_TEXT: Table = {
    "positions/table": ("one table", {"big_vision": "pos_embedding"}),
    **_blocks(TRANSFORMER, "big_vision", "Transformer/", "Encoder_0/"),
}
SIGLIP_TEXT: Table = {
    "embedding": ("dense", {"hf": _TEXT + "head", "open_clip": "text_projection", "big_vision": "head"})
}
HF_CLIP_TEXT: Table = {"embedding": ("kernel", {"hf": "text_projection"})}
OPEN_CLIP_CLIP_TEXT: Table = {"embedding": ("matrix", {"open_clip": "text_projection"})}

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
    "hf_dinov3": Format("torch", (TRANSFORMER, HF_DINOV3), "hf"),
    "hf_dinov3_gated": Format("torch", (TRANSFORMER, HF_DINOV3, HF_GATED), "hf"),
    "hf_beit": Format("torch", (TRANSFORMER, HF_BEIT), "hf"),
    "hf_beit_shared": Format("torch", (TRANSFORMER, HF_BEIT, HF_BEIT_SHARED), "hf"),
    "hf_tower": Format("torch", (HF_TOWER,), "hf"),
    "open_clip": Format("torch", (OPEN_CLIP,), "open_clip"),
    "hf_siglip_text": Format("torch", (TEXT, HF_TEXT, SIGLIP_TEXT), "hf"),
    "hf_clip_text": Format("torch", (TEXT, HF_TEXT, HF_CLIP_TEXT), "hf"),
    "open_clip_siglip_text": Format("torch", (TEXT, OPEN_CLIP_TEXT, SIGLIP_TEXT), "open_clip"),
    "open_clip_clip_text": Format("torch", (TEXT, OPEN_CLIP_TEXT, OPEN_CLIP_CLIP_TEXT), "open_clip"),
    "big_vision_text": Format("flax", (TEXT, BIG_VISION_TEXT, SIGLIP_TEXT), "big_vision"),
    "timm": Format("torch", (TRANSFORMER, _POSITIONS, RESNET), "timm", "patch_embed.backbone."),
    "timm_gamma": Format("torch", (TRANSFORMER, _POSITIONS, TIMM_GAMMA), "timm"),
    "timm_eva": Format("torch", (TRANSFORMER, _POSITIONS, TIMM_GAMMA, TIMM_EVA), "timm"),
    "timm_eva_gated": Format("torch", (TRANSFORMER, _POSITIONS, TIMM_GAMMA, TIMM_EVA, TIMM_GATED), "timm"),
    "timm_eva_split": Format("torch", (TRANSFORMER, _POSITIONS, TIMM_EVA, TIMM_GATED, TIMM_SPLIT), "timm"),
    "timm_bit": Format("torch", (RESNET, BIT), "timm"),
}


# What a file has beside the model of its format.
MAE_DECODER = Format("torch", (HF_MAE_DECODER,), "hf")


def format_column(format: str | Format, num_layers: int = 0, units: Sequence[int] = ()) -> dict[str, Cell]:
    """Returns a format's column of the name table, {our path: Cell}.

    Args:
        format: a key of `FORMATS`, or a `Format`.
        num_layers: number of transformer blocks.
        units: number of bottleneck units of each stage of the ResNet.
    """
    family, tables, column, backbone = FORMATS[format] if isinstance(format, str) else format
    cells = {}
    for ours, (kind, names) in (row for table in tables for row in table.items()):
        if column not in names:
            continue
        for indices in _layer_indices(ours, num_layers, units):
            name, _, part = names[column].partition("@")
            name = name.format(**indices, backbone=backbone, stem="stem." if units else "")
            name, _, second = name.partition("+")
            index, _, count = part.partition("/")
            for weight, ends in KINDS[kind].items():
                end, reshaper = ends[family]
                cells[ours.format(**indices) + weight] = Cell(
                    name + end, reshaper, (int(index), int(count)) if part else None, second + end if second else None
                )
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
    escaped = re.escape(re.split(r"[@+]", patterns[-1])[0].replace("{backbone}", backbone))
    pattern = re.compile(re.sub(r"\\{([a-z])(0?)(?::02d)?\\}", r"(?P<\1>\\d+)", escaped))
    first = 0 if "0\\}" in escaped or "{i" in ours else 1
    matches = (pattern.match(name) for name in names)
    return [{key: int(number) - first for key, number in match.groupdict().items()} for match in matches if match]
