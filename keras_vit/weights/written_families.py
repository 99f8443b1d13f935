"""How transformers and timm write the families of `families.FAMILIES`: the format, the prefix and the configuration."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_vit.models.config import Numerics, ResNet, Variant
from keras_vit.weights.architecture import Architecture

# Fields of a `Variant` that only the families have.
FIELDS = (
    *("class_token", "norm_at", "pre_norm", "patch_bias", "qkv_bias", "rotary", "relative_bias", "swiglu_norm"),
    *("pooling_heads", "pooling_mlp_dim", "projection_size"),
)


class Written(NamedTuple):
    """How a project writes a family.

    Args:
        family: its name.
        holds: whether an architecture is one of it, as far as the format matters; a file is read back to make sure.
        format: function of the variant: a key of `names.FORMATS`.
        config: function of (architecture, numerics): what config.json has of this family.
        prefix: of every name but the head's and the projection's.
        arguments: the `model_args` that timm's class has; None for those of its plain Vision Transformer.
    """

    family: str
    holds: Callable[[Variant], Any]
    format: Callable[[Variant], str]
    config: Callable[[Architecture, Numerics], dict[str, Any]]
    prefix: Callable[[Architecture], str] = lambda model: ""
    arguments: tuple[str, ...] | None = None


def ratio_of(units: int, hidden_size: int) -> float:
    """Returns the ratio whose product with `hidden_size`, rounded down as both projects do, is the number of units."""
    ratio = units / hidden_size
    return math.nextafter(ratio, math.inf) if int(hidden_size * ratio) < units else ratio


def _has_half_circles(row: Variant) -> bool:
    return row.rotary is not None and row.rotary.reference is None


def _dinov3(model: Architecture, numerics: Numerics) -> dict[str, Any]:
    row: Any = model.variant
    return {
        "model_type": "dinov3_vit",
        "architectures": ["DINOv3ViTModel"],
        **({"hidden_act": "silu"} if row.swiglu else {}),
        "query_bias": row.qkv_bias != "none",
        "key_bias": row.qkv_bias == "qkv",
        "value_bias": row.qkv_bias != "none",
        "proj_bias": True,
        "mlp_bias": True,
        "use_gated_mlp": row.swiglu,
        "num_register_tokens": row.register_tokens,
        "rope_theta": row.rotary.theta,
        "layerscale_value": row.layer_scale,
    }


def _beit(model: Architecture, numerics: Numerics) -> dict[str, Any]:
    row: Any = model.variant
    return {
        "model_type": "beit",
        "architectures": ["BeitModel" if model.classes is None else "BeitForImageClassification"],
        "use_relative_position_bias": True,
        "use_shared_relative_position_bias": False,
        "use_absolute_position_embeddings": row.positions == "learned",
        "use_mean_pooling": row.norm_at == "pooled",
        "use_mask_token": False,
        "layer_scale_init_value": row.layer_scale or 0,
    }


def _clip(model: Architecture, numerics: Numerics) -> dict[str, Any]:
    size = getattr(model.variant, "projection_size", None)
    name = "CLIPVisionModelWithProjection" if size else "CLIPVisionModel"
    return {"model_type": "clip_vision_model", "architectures": [name], **({"projection_dim": size} if size else {})}


def _siglip(model: Architecture, numerics: Numerics) -> dict[str, Any]:
    return {"model_type": "siglip_vision_model", "architectures": ["SiglipVisionModel"]}


def _ijepa(model: Architecture, numerics: Numerics) -> dict[str, Any]:
    name = "IJepaModel" if model.classes is None else "IJepaForImageClassification"
    return {"model_type": "ijepa", "architectures": [name]}


def _timm(name: Callable[[Any, Numerics], str]) -> Callable[[Architecture, Numerics], dict[str, Any]]:
    """Returns the function `config` for the name of timm's architecture."""

    def config(model: Architecture, numerics: Numerics) -> dict[str, Any]:
        row: Any = model.variant
        pool = {"gap": "avg", "map": "map"}.get(row.pooling, "token")
        return {
            "architecture": name(row, numerics),
            "num_classes": model.classes or row.projection_size or 0,
            "global_pool": pool,
            "model_args": {
                **({"img_size": list(model.image_size)} if model.image_size else {}),
                **({"num_reg_tokens": row.register_tokens} if row.register_tokens else {}),
                **({"use_abs_pos_emb": True} if row.relative_bias and row.positions == "learned" else {}),
                "global_pool": pool,
                "mlp_ratio": ratio_of(row.mlp_dim, row.hidden_size),
            },
        }

    return config


_PE_CORE = {24: "small_patch16_384", 14: "base_patch16_224", 32: "gigantic_patch14_448"}


def _pe(row: Variant, numerics: Numerics) -> str:
    if row.pooling == "map":
        side = row.rotary.reference[0] if row.rotary and row.rotary.reference else 0
        return f"vit_pe_core_{_PE_CORE.get(side, 'unknown')}"
    return "vit_pe_lang_large_patch14_448" if row.layer_scale else "vit_pe_spatial_small_patch16_512"


_OF_BOTH = ("in_chans", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "init_values", "img_size")
_OF_BEIT, _OF_EVA = ((*_OF_BOTH, "global_pool", own) for own in ("use_abs_pos_emb", "num_reg_tokens"))


def _is_plain(row: Variant) -> bool:
    """Returns whether the blocks are those of a plain Vision Transformer."""
    return row.rotary is None and not row.relative_bias and row.qkv_bias == "qkv" and row.layer_scale is None


WRITTEN = {
    "hf": (
        Written("DINOv3", _has_half_circles, lambda row: f"hf_dinov3{'_gated' * row.swiglu}", _dinov3),
        Written(
            "BEiT",
            lambda row: row.relative_bias,
            lambda row: "hf_beit",
            _beit,
            lambda model: "" if model.classes is None else "beit.",
        ),
        Written(
            "CLIP",
            lambda row: row.pre_norm and _is_plain(row) and row.pooling == "token",
            lambda row: "hf_tower",
            _clip,
            lambda model: "vision_model.",
        ),
        Written(
            "SigLIP",
            lambda row: row.pooling == "map" and not row.has_class_token and _is_plain(row),
            lambda row: "hf_tower",
            _siglip,
            lambda model: "vision_model.",
        ),
        Written(
            "I-JEPA",
            lambda row: row.pooling == "gap" and not row.has_class_token and _is_plain(row) and not row.stem,
            lambda row: "hf",
            _ijepa,
            lambda model: "" if model.classes is None else "ijepa.",
        ),
    ),
    "timm": (
        Written(
            "DINOv3",
            _has_half_circles,
            lambda row: f"timm_eva{'_gated' * row.swiglu}",
            _timm(lambda row, n: f"vit_small{'_plus' * row.swiglu}_patch16_dinov3{'_qkvb' * (row.qkv_bias == 'qv')}"),
            arguments=_OF_EVA,
        ),
        Written(
            "BEiT",
            lambda row: row.relative_bias,
            lambda row: "timm_eva",
            _timm(lambda *_: "beit_base_patch16_224"),
            arguments=_OF_BEIT,
        ),
        Written(
            "EVA-02",
            lambda row: row.rotary and row.swiglu,
            lambda row: "timm_eva_split" if row.swiglu_norm else "timm_eva",
            _timm(lambda row, n: f"eva02_{'base' if row.swiglu_norm else 'small'}_patch14_224"),
            arguments=_OF_EVA,
        ),
        Written(
            "EVA",
            lambda row: row.qkv_bias == "qv" and row.rotary is None and not row.relative_bias,
            lambda row: "timm_eva",
            _timm(lambda *_: "eva_giant_patch14_224"),
            arguments=_OF_EVA,
        ),
        Written(
            "PE",
            lambda row: row.rotary and row.pre_norm,
            lambda row: "timm" if row.layer_scale is None else "timm_gamma",
            _timm(_pe),
            arguments=_OF_EVA,
        ),
        Written(
            "CLIP",
            lambda row: row.pre_norm and _is_plain(row),
            lambda row: "timm",
            _timm(lambda row, n: f"vit_base_patch32_clip{'_quickgelu' * (n.gelu == 'quick')}_224"),
        ),
        Written(
            "SigLIP",
            lambda row: row.pooling == "map" and not row.has_class_token and _is_plain(row),
            lambda row: "timm",
            _timm(lambda row, n: "vit_base_patch32_siglip_256" if n.gelu == "tanh" else "vit_base_patch16_siglip_224"),
        ),
        Written(
            "ViT with the mean of the patch tokens",
            lambda row: row.pooling == "gap" and row.has_class_token and row.rotary is None and not row.relative_bias,
            lambda row: "timm",
            _timm(lambda *_: "vit_base_patch16_224"),
        ),
    ),
}


def is_of_family(row: Variant | ResNet) -> bool:
    """Returns whether an architecture is none of those before the families: plain ones, DeiT, DINOv2, hybrids, BiT."""
    if isinstance(row, ResNet):
        return False
    plain = {field.name: field.default for field in dataclasses.fields(Variant)}
    return row.pooling == "map" or any(getattr(row, name) != plain[name] for name in FIELDS)


def written_family(format: str, row: Variant | ResNet) -> Written | None:
    """Returns how a project writes an architecture of a family, or None where it does not."""
    if isinstance(row, ResNet) or not (is_of_family(row) or format == "hf" and row.pooling == "gap"):
        return None
    return next((written for written in WRITTEN.get(format, ()) if written.holds(row)), None)
