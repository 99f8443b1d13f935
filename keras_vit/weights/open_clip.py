"""OpenCLIP's open_clip_config.json: what it states of each tower, under the names of transformers or timm for it."""

from collections.abc import Mapping
from typing import Any

from keras_vit.weights.json_file import COUNT, FLAG, NUMBER, NUMBER_LIST, SIDES, TEXT, Kinds

OPEN_CLIP_CONFIG = "open_clip_config.json"
_TOWER: Kinds = {
    **dict.fromkeys(("width", "head_width", "heads", "context_length", "vocab_size", "patch_size"), COUNT),
    **dict.fromkeys(("timm_model_name", "timm_pool", "pool_type"), TEXT),
    **dict.fromkeys(("no_ln_pre", "no_causal_mask"), FLAG),
    "image_size": SIDES,
    "norm_kwargs": {"eps": NUMBER},
    "act_kwargs": {"approximate": TEXT},
}
FIELDS: Kinds = {
    "model_cfg": {
        "quick_gelu": FLAG,
        "vision_cfg": _TOWER,
        "text_cfg": {**_TOWER, "layers": COUNT, "eos_id": COUNT, "tokenizer_kwargs": {"clean": TEXT}},
    },
    "preprocess_cfg": {"mean": NUMBER_LIST, "std": NUMBER_LIST, "interpolation": TEXT, "resize_mode": TEXT},
}
# The values of a tower that our layers compute; another value is another architecture.
SUPPORTED: dict[str, tuple[Any, ...]] = {"pool_type": (None, "tok"), "no_ln_pre": (None, False)}
# {format of the text tower, which the bias of its projection shows: likewise}
SUPPORTED_TEXT: dict[str, dict[str, tuple[Any, ...]]] = {
    "open_clip_clip_text": {"pool_type": ("argmax", "eos"), "no_causal_mask": (False,)},
    "open_clip_siglip_text": {"pool_type": ("last",), "no_causal_mask": (True,)},
}


def image_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the file states of the image tower.

    Args:
        config: the file.

    Returns:
        Fields of transformers' config.json, or for a tower that timm builds those of timm's.
    """
    model, pixels = _object(config, "model_cfg"), image_pixels(config)
    tower = _object(model, "vision_cfg")
    side = tower.get("image_size", 224)
    if name := tower.get("timm_model_name"):
        size = side if isinstance(side, list) else [side, side]
        pretrained = {name: pixels[name] for name in ("mean", "std", "interpolation") if pixels[name]}
        pretrained |= {"crop_mode": "center" if pixels["keep_aspect"] else "squash", "crop_pct": 1.0}
        return {
            "architecture": name,
            "global_pool": tower.get("timm_pool", "avg"),
            "pretrained_cfg": {**pretrained, "input_size": [3, *size]},
        }
    heads = tower.get("width", 768) // tower.get("head_width", 64)
    return {
        **_numerics(model, tower),
        **{name: tower.get(name) for name in SUPPORTED},
        "num_attention_heads": heads,
        "image_size": side,
    }


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the file states of the text tower, as fields of transformers' config.json.

    "eos_token_id" is there where the tower looks for this id: others take the highest one.
    """
    model = _object(config, "model_cfg")
    tower = _object(model, "text_cfg")
    ends = {"eos_token_id": tower.get("eos_id", 2)} if tower.get("pool_type") == "eos" else {}
    return {
        **_numerics(model, tower),
        "pool_type": tower.get("pool_type", "argmax"),
        "no_causal_mask": tower.get("no_causal_mask", False),
        "num_attention_heads": tower.get("heads", 8),
        "num_hidden_layers": tower.get("layers", 12),
        "clean": _object(tower, "tokenizer_kwargs").get("clean"),
        **ends,
    }


def image_pixels(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields of a `Pixels`, from timm's configuration where there is no other; None where one is unknown."""
    pixels = _object(config, "preprocess_cfg") or _object(config, "pretrained_cfg")
    interpolation = pixels.get("interpolation", "bicubic")
    return {
        "mean": pixels.get("mean"),
        "std": pixels.get("std"),
        "interpolation": interpolation if interpolation in ("bicubic", "bilinear") else "bicubic",
        "crop": None if pixels.get("resize_mode") == "squash" else 1.0,
        "keep_aspect": pixels.get("resize_mode") != "squash",
    }


def _numerics(model: Mapping[str, Any], tower: Mapping[str, Any]) -> dict[str, Any]:
    is_tanh = _object(tower, "act_kwargs").get("approximate") == "tanh"
    gelu = "gelu_pytorch_tanh" if is_tanh else "quick_gelu" if model.get("quick_gelu") else "gelu"
    return {"hidden_act": gelu, "layer_norm_eps": _object(tower, "norm_kwargs").get("eps", 1e-5)}


def _object(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns an object inside a configuration without its nulls; {} where there is none."""
    return {field: value for field, value in (config.get(name) or {}).items() if value is not None}
