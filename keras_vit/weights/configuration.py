"""Writes the configuration files that transformers and timm read next to the weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_vit.models.config import VARIANTS, Numerics, ResNet, Variant
from keras_vit.weights.architecture import Architecture
from keras_vit.weights.formats import RESAMPLE, default_class_names
from keras_vit.weights.written_families import ratio_of, written_family

UNKNOWN_SIZE = (224, 224)  # pixels; for a BiT with images of any size


class ModelType(NamedTuple):
    """A family of models in transformers.

    Args:
        model_type: in the configuration.
        classes: prefix of the names of its Python classes.
        prefix: prefix of every name but the head's in a classifier's file.
    """

    model_type: str
    classes: str
    prefix: str


def hf_family(variant: Variant | ResNet) -> ModelType:
    """Returns the family of models in transformers that an architecture belongs to."""
    if isinstance(variant, ResNet):
        return ModelType("bit", "Bit", "bit.")
    if variant.stem:
        return ModelType("vit-hybrid", "ViTHybrid", "vit.")
    if variant.register_tokens:
        return ModelType("dinov2_with_registers", "Dinov2WithRegisters", "dinov2_with_registers.")
    if variant.layer_scale is not None:
        return ModelType("dinov2", "Dinov2", "dinov2.")
    return ModelType("deit", "DeiT", "deit.") if variant.distillation_token else ModelType("vit", "ViT", "vit.")


def hf_files(
    model: Architecture, numerics: Numerics, pixels: Mapping[str, Any], class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns {file name: content} of the JSON files that transformers reads next to the weights.

    Args:
        model: the architecture.
        numerics: the form of the GELU and the epsilons.
        pixels: the fields of a `Pixels`.
        class_names: in the order of the head's outputs; None where they are not known.
    """
    return {
        "config.json": _hf_config(model, numerics, class_names),
        "preprocessor_config.json": _hf_processor(pixels, model.image_size or UNKNOWN_SIZE),
    }


def _hf_config(model: Architecture, numerics: Numerics, class_names: Sequence[str] | None) -> dict[str, Any]:
    written = written_family("hf", model.variant)
    family, variant = hf_family(model.variant), model.variant
    config: dict[str, Any] = {"model_type": family.model_type, "num_channels": model.channels}
    if model.classes is None:
        config["architectures"] = [f"{family.classes}Model"]
    else:
        labels = class_names or default_class_names(model.classes)
        teacher = "WithTeacher" if getattr(variant, "pooling", None) == "token+distillation" else ""
        config |= {
            "architectures": [f"{family.classes}ForImageClassification{teacher}"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
    if isinstance(variant, ResNet):
        return config | _hf_resnet(variant, "preactivation", None, False)
    height, width = model.image_size or UNKNOWN_SIZE
    config |= {
        "hidden_size": variant.hidden_size,
        "num_hidden_layers": variant.num_layers,
        "num_attention_heads": variant.num_heads,
        "hidden_act": {"erf": "gelu", "tanh": "gelu_pytorch_tanh", "quick": "quick_gelu"}[numerics.gelu],
        "hidden_dropout_prob": variant.dropout,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": numerics.norm_epsilon,
        "image_size": height if height == width else [height, width],
        "patch_size": variant.patch_size,
        "qkv_bias": True,
    }
    if written:
        return config | {"intermediate_size": variant.mlp_dim} | written.config(model, numerics)
    if variant.layer_scale is None:
        config["intermediate_size"] = variant.mlp_dim
    else:
        config |= _hf_dinov2(variant)
    if model.representation_size:
        config |= {"pooler_output_size": model.representation_size, "pooler_act": "tanh"}
    if variant.stem:
        channels = variant.stem.widths[-1] if variant.stem.units else variant.stem.root_width
        config |= {
            "backbone_featmap_shape": [1, channels, *dataclasses.replace(variant, patch_size=1).grid(height, width)],
            "backbone_config": {
                "model_type": "bit",
                "num_channels": model.channels,
                "out_features": [f"stage{len(variant.stem.units)}" if variant.stem.units else "stem"],
                **_hf_resnet(variant.stem, "bottleneck", "SAME", True),
            },
        }
    return config


def _hf_dinov2(variant: Variant) -> dict[str, Any]:
    config = {
        "mlp_ratio": hf_ratio(variant),
        "use_swiglu_ffn": variant.swiglu,
        "layerscale_value": variant.layer_scale,
    }
    return config | ({"num_register_tokens": variant.register_tokens} if variant.register_tokens else {})


def hf_ratio(variant: Variant) -> int | float:
    """Returns DINOv2's `mlp_ratio`: the units of a plain MLP over hidden_size; a gated MLP has two thirds of them."""
    ratio = ratio_of(variant.mlp_dim * 3 // 2 if variant.swiglu else variant.mlp_dim, variant.hidden_size)
    return int(ratio) if ratio == int(ratio) else ratio


def _hf_resnet(row: ResNet, layer_type: str, padding: str | None, dynamic: bool) -> dict[str, Any]:
    return {
        "embedding_size": row.root_width,
        "hidden_sizes": list(row.widths),
        "depths": list(row.units),
        "width_factor": 1,  # `hidden_sizes` includes it
        "output_stride": max(row.stride, 32),  # transformers dilates the convolutions beyond this stride
        "num_groups": 32,
        "hidden_act": "relu",
        "layer_type": layer_type,
        "global_padding": padding,
        "embedding_dynamic_padding": dynamic,
    }


def _hf_processor(pixels: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    size = dict(zip(("height", "width"), image_size))
    processor: dict[str, Any] = {
        "do_resize": True,
        "resample": next(number for number, name in RESAMPLE.items() if name == pixels["interpolation"]),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pixels["mean"]),
        "image_std": list(pixels["std"]),
    }
    # In transformers any processor works with any model; these three differ in how they resize and crop.
    if pixels["crop"] is None:
        return {"image_processor_type": "ViTImageProcessor", "size": size, **processor}
    processor |= {"do_center_crop": True, "crop_size": size}
    whole = [round(side / pixels["crop"]) for side in image_size]
    if pixels["keep_aspect"]:
        return {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": max(whole)}, **processor}
    return {
        "image_processor_type": "DeiTImageProcessor",
        "size": {"height": whole[0], "width": whole[1]},
        **processor,
    }


# {our name: timm's name}, from timm 1.0.31's `vision_transformer.py`, `vision_transformer_hybrid.py` and `resnetv2.py`.
TIMM = {
    "ViT-Ti/16": "vit_tiny_patch16_224",
    "ViT-S/8": "vit_small_patch8_224",
    "ViT-S/16": "vit_small_patch16_224",
    "ViT-S/32": "vit_small_patch32_224",
    "ViT-B/8": "vit_base_patch8_224",
    "ViT-B/16": "vit_base_patch16_224",
    "ViT-B/32": "vit_base_patch32_224",
    "ViT-L/14": "vit_large_patch14_224",
    "ViT-L/16": "vit_large_patch16_224",
    "ViT-L/32": "vit_large_patch32_224",
    "ViT-H/14": "vit_huge_patch14_224",
    "ViT-g/14": "vit_giant_patch14_224",
    "ViT-G/14": "vit_gigantic_patch14_224",
    "R+ViT-Ti/16": "vit_tiny_r_s16_p8_224",
    "R26+ViT-S/32": "vit_small_r26_s32_224",
    "R26+ViT-B/32": "vit_base_r26_s32_224",
    "R50+ViT-B/16": "vit_base_r50_s16_224",
    "R50+ViT-L/32": "vit_large_r50_s32_224",
    "BiT-R50x1": "resnetv2_50x1_bit",
    "BiT-R50x3": "resnetv2_50x3_bit",
    "BiT-R101x1": "resnetv2_101x1_bit",
    "BiT-R101x3": "resnetv2_101x3_bit",
    "BiT-R152x2": "resnetv2_152x2_bit",
    "BiT-R152x4": "resnetv2_152x4_bit",
}


def timm_architecture(model: Architecture) -> str | None:
    """Returns timm's name of an architecture, or None where timm has no function that builds it.

    Arguments of timm's functions change the sizes of any Vision Transformer. A ResNet, a gated MLP and a distillation
    head are fixed by the function.
    """
    if getattr(model.variant, "swiglu", False):
        return "vit_giant_patch14_dinov2"
    if getattr(model.variant, "distillation_token", False):
        return "deit_base_distilled_patch16_224"
    if model.name in TIMM:
        return TIMM[model.name]
    if isinstance(model.variant, ResNet):
        return None
    rows = ((VARIANTS[ours], name) for ours, name in TIMM.items())
    if written := written_family("timm", model.variant):
        return str(written.config(model, Numerics())["architecture"])
    return next((name for row, name in rows if getattr(row, "stem", row) == model.variant.stem), None)


def timm_files(
    model: Architecture,
    numerics: Numerics,
    pixels: Mapping[str, Any],
    names: Mapping[str, str],
    class_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Returns {file name: content} of the JSON file that timm reads next to the weights on the Hugging Face hub.

    Args:
        model, numerics, pixels, class_names: as for `hf_files`.
        names: {our path: name in the file}.
    """
    variant, classes = model.variant, model.classes or 0
    first = names["stem/conv/kernel" if getattr(variant, "stem", variant) else "encoder/projection/kernel"]
    is_vit, distilled = isinstance(variant, Variant), getattr(variant, "distillation_token", False)
    squashed = pixels["crop"] is None or not pixels["keep_aspect"]
    config: dict[str, Any] = {
        "architecture": timm_architecture(model),
        "num_classes": classes,
        "label_names": list(class_names) if class_names and classes else None,
        "num_features": variant.hidden_size if isinstance(variant, Variant) else variant.widths[-1],
        "global_pool": "token" if getattr(variant, "has_class_token", False) else "avg",
        "model_args": {"in_chans": model.channels} | _timm_arguments(variant, numerics),
        "pretrained_cfg": {
            "input_size": [model.channels, *(model.image_size or UNKNOWN_SIZE)],
            "fixed_input_size": is_vit,
            "interpolation": pixels["interpolation"],
            "crop_pct": pixels["crop"] or 1.0,
            "crop_mode": "squash" if squashed else "center",
            "mean": list(pixels["mean"]),
            "std": list(pixels["std"]),
            "num_classes": classes,
            "first_conv": first.removesuffix(".weight"),
            "classifier": (["head", "head_dist"] if distilled else "head") if is_vit else "head.fc",
        },
    }
    if written := written_family("timm", variant):
        own = written.config(model, numerics)
        plain = {**own["model_args"], **config["model_args"]}
        arguments = {**config["model_args"], **own["model_args"]} if written.arguments else plain
        kept = written.arguments or {*arguments} - {"num_reg_tokens", "use_abs_pos_emb"}
        config |= own | {"model_args": {name: value for name, value in arguments.items() if name in kept}}
        if written.family == "CLIP" and classes:  # timm's tags of classifiers; the head of all others projects
            config["pretrained_cfg"]["tag"] = f"keras_vit_ft_{classes}"
    return {"config.json": {name: value for name, value in config.items() if value is not None}}


def _timm_arguments(variant: Variant | ResNet, numerics: Numerics) -> dict[str, Any]:
    if isinstance(variant, ResNet):
        return {}
    arguments: dict[str, Any] = {
        "patch_size": variant.patch_size,
        "embed_dim": variant.hidden_size,
        "depth": variant.num_layers,
        "num_heads": variant.num_heads,
        "mlp_ratio": ratio_of(variant.mlp_dim * (1 + variant.swiglu), variant.hidden_size),
    }
    if not variant.swiglu:
        arguments["act_layer"] = {"erf": "gelu", "tanh": "gelu_tanh", "quick": "quick_gelu"}[numerics.gelu]
    if variant.layer_scale is not None:
        arguments["init_values"] = variant.layer_scale
    if variant.register_tokens:
        arguments |= {"reg_tokens": variant.register_tokens, "no_embed_class": True}
    if variant.pooling == "gap":
        # By default, timm pools before the last norm.
        arguments |= {"class_token": variant.has_class_token, "global_pool": "avg"}
        arguments |= {"fc_norm": variant.norm_at == "pooled"}
    return arguments
