"""Says of a model what its weights do not: the configurations that transformers and timm read beside them."""

import dataclasses
import math
from typing import NamedTuple

from keras_vit.models.config import VARIANTS, ResNet
from keras_vit.weights.formats import RESAMPLE, stand_ins

UNKNOWN_SIZE = (224, 224)  # of a BiT that takes images of any size


class Family(NamedTuple):
    """Names a family of transformers' models.

    Args:
        model_type: in the configuration.
        classes: what the names of its classes begin with.
        prefix: what stands in front of every name but the head's in a classifier's file.
    """

    model_type: str
    classes: str
    prefix: str


def hf_family(variant):
    """Returns transformers' family of a `Variant` or a `ResNet`."""
    if isinstance(variant, ResNet):
        return Family("bit", "Bit", "bit.")
    if variant.stem:
        return Family("vit-hybrid", "ViTHybrid", "vit.")
    if variant.register_tokens:
        return Family("dinov2_with_registers", "Dinov2WithRegisters", "dinov2_with_registers.")
    if variant.layer_scale is not None:
        return Family("dinov2", "Dinov2", "dinov2.")
    return Family("deit", "DeiT", "deit.") if variant.distillation_token else Family("vit", "ViT", "vit.")


def hf_files(model, numerics, pixels, class_names=None):
    """Returns {file: content} of what transformers reads beside the weights.

    Args:
        model: an `Architecture`.
        numerics: a `Numerics`.
        pixels: the fields of a `Pixels`.
        class_names: in the order of the head's outputs; None where they are not known.
    """
    return {
        "config.json": _hf_config(model, numerics, class_names),
        "preprocessor_config.json": _hf_processor(pixels, model.image_size or UNKNOWN_SIZE),
    }


def _hf_config(model, numerics, class_names):
    family, variant = hf_family(model.variant), model.variant
    config = {"model_type": family.model_type, "num_channels": model.channels}
    if model.classes is None:
        config["architectures"] = [f"{family.classes}Model"]
    else:
        # transformers' own where there are no names
        labels = class_names or stand_ins(model.classes)
        teacher = "WithTeacher" if getattr(variant, "pooling", None) == "token+distillation" else ""
        config |= {
            "architectures": [f"{family.classes}ForImageClassification{teacher}"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
    if isinstance(variant, ResNet):
        return config | _hf_resnet(variant, "preactivation", None, False)
    rows, columns = model.image_size
    config |= {
        "hidden_size": variant.hidden_size,
        "num_hidden_layers": variant.num_layers,
        "num_attention_heads": variant.num_heads,
        "hidden_act": {"erf": "gelu", "tanh": "gelu_pytorch_tanh"}[numerics.gelu],
        "hidden_dropout_prob": variant.dropout,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": numerics.norm_epsilon,
        "image_size": rows if rows == columns else [rows, columns],
        "patch_size": variant.patch_size,
        "qkv_bias": True,
    }
    if variant.layer_scale is None:
        config["intermediate_size"] = variant.mlp_dim
    else:
        config |= _hf_dinov2(variant)
    if model.representation_size:
        config |= {"pooler_output_size": model.representation_size, "pooler_act": "tanh"}
    if variant.stem:
        width = variant.stem.widths[-1] if variant.stem.units else variant.stem.root_width
        config |= {
            "backbone_featmap_shape": [1, width, *dataclasses.replace(variant, patch_size=1).grid(rows, columns)],
            "backbone_config": {
                "model_type": "bit",
                "num_channels": model.channels,
                "out_features": [f"stage{len(variant.stem.units)}" if variant.stem.units else "stem"],
                **_hf_resnet(variant.stem, "bottleneck", "SAME", True),
            },
        }
    return config


def _hf_dinov2(variant):
    config = {
        "mlp_ratio": hf_ratio(variant),
        "use_swiglu_ffn": variant.swiglu,
        "layerscale_value": variant.layer_scale,
    }
    return config | ({"num_register_tokens": variant.register_tokens} if variant.register_tokens else {})


def hf_ratio(variant):
    """Returns DINOv2's `mlp_ratio` of a `Variant`: that of a plain MLP, of whose width a gated one has two thirds."""
    ratio = _ratio(variant.mlp_dim * 3 // 2 if variant.swiglu else variant.mlp_dim, variant.hidden_size)
    return int(ratio) if ratio == int(ratio) else ratio


def _ratio(width, hidden_size):
    """Returns the ratio whose product with `hidden_size`, rounded down as both projects do, is the width."""
    ratio = width / hidden_size
    return math.nextafter(ratio, math.inf) if int(hidden_size * ratio) < width else ratio


def _hf_resnet(row, layer_type, padding, dynamic):
    return {
        "embedding_size": row.root_width,
        "hidden_sizes": list(row.widths),
        "depths": list(row.units),
        "width_factor": 1,  # the widths have it in them
        "output_stride": max(row.stride, 32),  # from here on transformers would dilate
        "num_groups": 32,
        "hidden_act": "relu",
        "layer_type": layer_type,
        "global_padding": padding,
        "embedding_dynamic_padding": dynamic,
    }


def _hf_processor(pixels, image_size):
    rows, columns = image_size
    size = {"height": rows, "width": columns}
    processor = {
        "do_resize": True,
        "resample": next(number for number, name in RESAMPLE.items() if name == pixels["interpolation"]),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pixels["mean"]),
        "image_std": list(pixels["std"]),
    }
    # Of transformers' processors any may go with any model: these three differ in what they resize and crop.
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


# Our name: timm's; of 1.0.31's `vision_transformer.py`, `vision_transformer_hybrid.py` and `resnetv2.py`.
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


def timm_architecture(model):
    """Returns timm's name for an `Architecture`, or None where it has no function that builds it.

    Arguments make every Vision Transformer of any other; a ResNet, the gated MLP and the second head are fixed in the
    function.
    """
    if getattr(model.variant, "swiglu", False):
        return "vit_giant_patch14_dinov2"
    if getattr(model.variant, "distillation_token", False):
        return "deit_base_distilled_patch16_224"
    if model.name in TIMM:
        return TIMM[model.name]
    if isinstance(model.variant, ResNet):
        return None
    rows = ((VARIANTS[ours], theirs) for ours, theirs in TIMM.items())
    return next((name for row, name in rows if getattr(row, "stem", row) == model.variant.stem), None)


def timm_files(model, numerics, pixels, names, class_names=None):
    """Returns {file: content} of what timm reads beside the weights, as its files on the Hugging Face hub have it.

    Args:
        model, numerics, pixels: as for `hf_files`.
        names: {our path: name in the file}.
        class_names: as for `hf_files`.
    """
    variant, classes = model.variant, model.classes or 0
    first = names.get("stem/conv/kernel") or names["encoder/projection/kernel"]
    is_vit, distilled = not isinstance(variant, ResNet), getattr(variant, "distillation_token", False)
    squashed = pixels["crop"] is None or not pixels["keep_aspect"]
    config = {
        "architecture": timm_architecture(model),
        "num_classes": classes,
        "label_names": list(class_names) if class_names and classes else None,
        "num_features": variant.hidden_size if is_vit else variant.widths[-1],
        "global_pool": "token" if is_vit and variant.has_class_token else "avg",
        "model_args": {"in_chans": model.channels} | (_timm_arguments(variant, numerics) if is_vit else {}),
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
    return {"config.json": {name: value for name, value in config.items() if value is not None}}


def _timm_arguments(variant, numerics):
    arguments = {
        "patch_size": variant.patch_size,
        "embed_dim": variant.hidden_size,
        "depth": variant.num_layers,
        "num_heads": variant.num_heads,
        "mlp_ratio": _ratio(variant.mlp_dim * (1 + variant.swiglu), variant.hidden_size),
    }
    if not variant.swiglu:
        arguments["act_layer"] = {"erf": "gelu", "tanh": "gelu_tanh"}[numerics.gelu]
    if variant.layer_scale is not None:
        arguments["init_values"] = variant.layer_scale
    if variant.register_tokens:
        arguments |= {"reg_tokens": variant.register_tokens, "no_embed_class": True}
    if variant.pooling == "gap":
        # timm's own way is to pool before the last norm.
        arguments |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    return arguments
