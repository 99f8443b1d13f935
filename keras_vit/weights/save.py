"""Writes a checkpoint in the format of another project, or lists everything that the format cannot hold."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit import _arguments as checked
from keras_vit._atomic import written_aside
from keras_vit.models.config import Numerics, ResNet, Variant
from keras_vit.models.license import UNKNOWN_LICENSE
from keras_vit.weights.architecture import Architecture, detect_architecture
from keras_vit.weights.configuration import hf_family, hf_files, hf_ratio, timm_architecture, timm_files
from keras_vit.weights.families import FAMILIES
from keras_vit.weights.formats import NUMERICS, open_checkpoint_file
from keras_vit.weights.load import ZERO_WHERE_ABSENT
from keras_vit.weights.names import Format, format_column
from keras_vit.weights.reshaping import Cell
from keras_vit.weights.written_families import FIELDS as FAMILY_FIELDS
from keras_vit.weights.written_families import is_of_family, written_family

logger = logging.getLogger("keras_vit")

WRITTEN_FORMATS = ("npz", "bit", "hf", "timm")
_WEIGHTS = "model.safetensors"
# A folder with any other file is not replaced.
FOLDER = {_WEIGHTS, "config.json", "preprocessor_config.json"}

# Fields of a `Numerics` that transformer blocks and convolutions use.
BLOCK_NUMERICS = ("gelu", "norm_epsilon")
CONVOLUTION_NUMERICS = ("group_norm_epsilon", "conv_epsilon", "conv_epsilon_inside")
# The numerics in each project's configuration; the others are constants in its code.
CONFIGURED_NUMERICS = {"hf": ("gelu", "norm_epsilon"), "timm": ("gelu",)}

# Fields of a `Variant`: those that DINOv2 added to the transformer, and those that no other project's files have.
DINOV2_FIELDS = ("register_tokens", "layer_scale", "swiglu")
OUR_FIELDS = ("positions", "positions_at", "attention", "attention_window", "unit_embedding")
# Weights that a line of `_transformer_limits` covers; they are not listed a second time.
COVERED = re.compile(r"pooling/|pre_logits/|encoder/(distillation|register)_token|head/distillation/|.*_scale/gamma")


def write_checkpoint(
    path: str | os.PathLike[str],
    format: str,
    arrays: Mapping[str, np.ndarray],
    model: Architecture,
    numerics: Numerics,
    pixels: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    license: str | None = None,
) -> None:
    """Writes a checkpoint for which `find_unsupported` returns nothing.

    Args:
        path: an .npz file for "npz" and "bit". For "hf" and "timm" a .safetensors file, whose configuration is written
            next to it, or a folder for both, as on the Hugging Face hub. A folder is replaced in one step.
        format: one of `WRITTEN_FORMATS`.
        arrays: {our path: float32 array}.
        model: the architecture.
        numerics: the form of the GELU and the epsilons. Where the project uses others and its configuration cannot
            change them, a log line says so.
        pixels: the fields of the `Pixels`. An .npz file does not hold them; a log line says so where they are not those
            of its project.
        class_names: in the order of the head's outputs; an .npz file does not hold them.
        license: of the checkpoint that the model is made from, if it is known; an .npz file does not hold it.

    Raises:
        ValueError: if other files would be overwritten.
        OSError: if it cannot be written.
    """
    path = pathlib.Path(path)
    refuse_to_overwrite(path)
    family = written_family(format, model.variant)
    prefix = hf_family(model.variant).prefix if format == "hf" and model.classes is not None else ""
    prefix = family.prefix(model) if family else prefix
    written = arrays_in_format(arrays, format, model.variant, prefix)
    has_mask = family.family == "DINOv3" if family else getattr(model.variant, "layer_scale", None) is not None
    if format == "hf" and isinstance(model.variant, Variant) and has_mask:
        # Used in training alone, but transformers warns if it is missing.
        axes = (1, 1) if family else (1,)
        written[f"{prefix}embeddings.mask_token"] = np.zeros((*axes, model.variant.hidden_size), np.float32)
    if path.suffix == ".npz":
        with written_aside(path) as aside:
            np.savez(aside, **written)  # type: ignore[arg-type]  # NumPy's types read ** as its option `allow_pickle`
        if license:
            logger.warning(
                "%s does not hold the licence of its checkpoint, %s: keep a note of it beside the file", path, license
            )
    else:
        names = {ours: cell.name for ours, cell in _cells(format, model.variant).items()}
        if format == "hf":
            texts = hf_files(model, numerics, pixels, class_names)
        else:
            texts = timm_files(model, numerics, pixels, names, class_names)
        if license or family:  # of a family without one, reading would assume that of its published checkpoints
            config = texts["config.json"]
            config.get("pretrained_cfg", config)["license"] = license or UNKNOWN_LICENSE
        texts = {name: json.dumps(text, indent=2) + "\n" for name, text in texts.items()}
        write_safetensors(path, written, texts, model if family else None)
    for difference in _differences(format, model, numerics, pixels):
        logger.info("%s: %s", path, difference)


def arrays_in_format(
    arrays: Mapping[str, np.ndarray], format: str | Format, variant: Variant | ResNet, prefix: str = ""
) -> dict[str, np.ndarray]:
    """Returns {name: array} as in a file of a format; the inverse of `load.read_weights`.

    Args:
        arrays: {our path: array} of a whole model.
        format: one of `WRITTEN_FORMATS`, or a `Format`.
        variant: the model's architecture.
        prefix: in front of every name but the head's.
    """
    cells = _cells(format, variant)
    parts: dict[str, dict[int, np.ndarray]] = {}
    if format == "timm" and isinstance(variant, Variant) and variant.register_tokens:
        arrays = _without_class_position(arrays)
    for ours, array in arrays.items():
        if ours in ZERO_WHERE_ABSENT and ours not in cells:
            if array.any():
                raise ValueError(f"Expected zeros in {ours}, which the format has not. Received: other values")
            continue
        cell = cells[ours]
        if cell.reshaper:
            shape, *_ = cell.reshaper.shapes(array.shape, variant)
            array = cell.reshaper.to_file(array, shape, variant)
        index = cell.part[0] if cell.part else 0
        for name, half in zip(cell.names, np.split(array, 2) if cell.second else [array]):
            parts.setdefault(name if ours.startswith(("head/", "projection/")) else prefix + name, {})[index] = half
    return {
        name: np.ascontiguousarray(
            np.concatenate([of_name[i] for i in sorted(of_name)]) if len(of_name) > 1 else of_name[0]
        )
        for name, of_name in parts.items()
    }


def _without_class_position(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Adds the class token's position to the token: timm's files with registers have no position for it."""
    token, table = "encoder/class_token", "encoder/position_embedding"
    if not {token, table} <= arrays.keys():
        return arrays
    rest = arrays[table].copy()
    rest[:, :1] = 0
    return {**arrays, token: arrays[token] + arrays[table][:, :1], table: rest}


Limit = tuple[str, object, str]  # (the formats, whether the model has a feature that they cannot hold, the feature)


def find_unsupported(format: str, paths: Iterable[str], model: Architecture) -> list[str]:
    """Returns the features of a model that a format cannot hold, a line each.

    Args:
        format: one of `WRITTEN_FORMATS`.
        paths: our paths of the model's weights.
        model: the architecture.
    """
    variant = model.variant
    if isinstance(variant, Variant) and (is_of_family(variant) or written_family(format, variant)):
        return list(_family_limits(format, paths, variant, model))
    is_bit = isinstance(variant, ResNet)
    resnet = variant if isinstance(variant, ResNet) else variant.stem
    limits: tuple[Limit, ...] = (
        ("npz", is_bit, "the official code has no BiT; format='bit' is the format of BiT's project"),
        ("bit", not is_bit, "BiT's project has no transformer; format='npz' is the format of the official code"),
        *(_transformer_limits(model, variant) if isinstance(variant, Variant) else ()),
        (
            "hf timm",
            resnet and resnet.units and resnet.root_width == resnet.widths[0],
            f"a first stage as wide as the stem: {format}'s code projects its shortcut, our model has no such weights",
        ),
    )
    faults = [text for formats, is_present, text in limits if format in formats.split() and is_present]
    is_covered = format == ("npz" if is_bit else "bit") or (not is_bit and _options(variant, OUR_FIELDS))
    cells = _cells(format, variant)
    unnamed = [path for path in paths if path not in cells and not COVERED.match(path)]
    if unnamed and not is_covered:
        faults.append(f"weights without a name in it: {', '.join(unnamed[:5])}{', ...' if unnamed[5:] else ''}")
    return faults


def _family_limits(format: str, paths: Iterable[str], row: Variant, model: Architecture) -> Iterator[str]:
    """Yields what a format cannot hold of a family; what is left shows when the file is read back."""
    written = written_family(format, row)
    if row.unit_embedding:
        yield "unit_embedding=True: no other project's files have this"
    if written is None:
        yield f"{_options(row, ('pooling', *FAMILY_FIELDS))}: no file of {format!r} has this"
        return
    if format == "hf" and model.classes and written.family in ("DINOv3", "CLIP", "SigLIP"):
        yield f"a head: transformers' {written.family} classifiers read other tokens, or there are none"
    if model.representation_size:
        yield f"a layer pre_logits: {written.family} has none"
    cells = _cells(format, row)
    unnamed = [path for path in paths if path not in cells and path not in ZERO_WHERE_ABSENT]
    if unnamed:
        yield f"weights without a name in it: {checked.first_few(unnamed)}"


def _transformer_limits(model: Architecture, row: Variant) -> tuple[Limit, ...]:
    classes, pooled = model.classes, model.representation_size
    pooling, distilled, is_dinov2 = row.pooling, row.distillation_token, row.layer_scale is not None
    own = _options(row, OUR_FIELDS)
    added, unscaled = _options(row, DINOV2_FIELDS), _options(row, ("register_tokens", "swiglu"))
    two_heads = pooling == "token+distillation"
    return (
        ("npz hf timm", own, f"{own}: no other project's files have this"),
        ("npz hf timm", pooling == "none", "pooling='none': a file looks the same with 'gap'"),
        ("hf", pooling == "gap", "pooling='gap': transformers' classifiers read the class token"),
        ("npz timm", pooling == "token+gap", "pooling='token+gap': only transformers' DINOv2 reads both"),
        (
            "hf",
            pooling == "token+gap" and not (is_dinov2 and classes),
            "pooling='token+gap': transformers reads both with a head and LayerScale, in DINOv2",
        ),
        (
            "hf",
            pooling == "token" and is_dinov2 and classes,
            "pooling='token': transformers' DINOv2 reads 'token+gap' with a head",
        ),
        ("npz", distilled, "a distillation token: the official code has none"),
        (
            "timm",
            distilled and not (two_heads and classes),
            "a distillation token: only transformers has one whose output is not read",
        ),
        ("hf", two_heads and not classes, f"pooling={pooling!r}: without a head, a file looks the same with 'token'"),
        ("hf timm", distilled and row.stem, "a distillation token: the project's hybrid has none"),
        ("npz", added, f"{added}: the official code has no such layers"),
        ("hf", added and not is_dinov2, f"{added}: transformers has this in DINOv2, with LayerScale"),
        ("hf", added and row.stem, f"{added}: transformers' hybrid has no such layers"),
        ("hf", added and distilled, f"{added}: transformers' DeiT has no such layers"),
        ("timm", unscaled and distilled, f"{unscaled}: timm's distilled DeiT has no such layers"),
        ("timm", row.swiglu and row.stem, "swiglu=True: timm's hybrids have no such MLP"),
        (
            "hf",
            row.swiglu and row.mlp_dim % 8,
            f"mlp_dim={row.mlp_dim}: transformers' gated MLPs have multiples of 8",
        ),
        (
            "hf",
            is_dinov2 and model.image_size and len({*row.grid(*model.image_size)}) > 1,
            "a grid of patches that is not a square: transformers' DINOv2 has positions for a square",
        ),
        ("hf", pooled and classes, "a layer pre_logits: transformers' classifiers read the class token itself"),
        ("hf", pooled and is_dinov2 and not classes, "a layer pre_logits: transformers' DINOv2 has none"),
        (
            "hf",
            pooled and not classes and row.stem and pooled != row.hidden_size,
            f"a layer pre_logits of width {pooled}: the pooler of transformers' hybrid has the width of a token",
        ),
        ("timm", pooled, "a layer pre_logits: timm has none"),
        ("timm", row.stem and _leaves_a_remainder(model, row), "a map that is not an integer number of patches"),
    )


def _leaves_a_remainder(model: Architecture, row: Variant) -> bool:
    sides = dataclasses.replace(row, patch_size=1).grid(*model.image_size or ())
    return any(side % row.patch_size for side in sides)


def _options(row: Variant | ResNet, names: Sequence[str]) -> str:
    """Returns the fields that differ from a plain Vision Transformer's, as arguments: "swiglu=True"."""
    plain = {field.name: field.default for field in dataclasses.fields(row) if field.name in names}
    return ", ".join(f"{name}={getattr(row, name)!r}" for name in plain if getattr(row, name) != plain[name])


def _cells(format: str | Format, variant: Variant | ResNet) -> dict[str, Cell]:
    if isinstance(format, Format):
        return format_column(format, variant.num_layers if isinstance(variant, Variant) else 0)
    written = written_family(format, variant)
    if written and isinstance(variant, Variant):
        return format_column(written.format(variant), variant.num_layers)
    if isinstance(variant, ResNet):
        return format_column({"hf": "hf_bit", "timm": "timm_bit"}.get(format, format), 0, variant.units)
    if format == "hf" and variant.layer_scale is not None:
        format = "hf_dinov2_swiglu" if variant.swiglu else "hf_dinov2"
    elif format == "hf" and variant.pooling == "token+distillation":
        format = "hf_distilled"
    return format_column(format, variant.num_layers, variant.stem.units if variant.stem else ())


def write_safetensors(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str], model: Architecture | None = None
) -> None:
    """Writes {name: array} as a .safetensors file or a folder with one, and {file name: text} beside it.

    The architecture is read back where one is given, before the files are in place.
    """
    from safetensors.numpy import save_file

    with contextlib.ExitStack() as stack:
        if path.suffix == ".safetensors":
            files = {name: stack.enter_context(written_aside(path.with_name(name))) for name in texts}
            weights = stack.enter_context(written_aside(path))
        else:
            folder = stack.enter_context(written_aside(path))
            folder.mkdir()
            files, weights = {name: folder / name for name in texts}, folder / _WEIGHTS
        # transformers refuses a file without this entry.
        save_file(dict(arrays), weights, metadata={"format": "pt"})
        for name, file in files.items():
            file.write_text(texts[name], "utf-8")
            shutil.copymode(file, weights)  # safetensors makes a file that only its owner can read
        if model:
            _refuse_another(weights, files["config.json"], model)


def _refuse_another(weights: pathlib.Path, config: pathlib.Path, model: Architecture) -> None:
    """Raises a ValueError if the files show another architecture than the model's."""
    with open_checkpoint_file(weights, config) as file:
        read = detect_architecture(file)
    unread = {"parameters", "dropout", "layer_scale"}
    both = [vars(one.variant) | {"classes": one.classes} for one in (model, read)]
    faults = [
        f"{name}={value!r:.200}, which would be read as {both[1][name]!r:.200}"
        for name, value in both[0].items()
        if name not in unread and value != both[1][name]
    ]
    if faults:
        raise ValueError("Expected a model that the format can hold. Received: " + checked.first_few(faults))


def refuse_to_overwrite(path: pathlib.Path) -> None:
    """Raises a ValueError if other files than those of a checkpoint would be overwritten."""
    if path.is_dir():
        others = sorted(file.name for file in path.iterdir() if file.name not in FOLDER)
        if others:
            raise ValueError(
                "Expected a new folder, or a folder with nothing but a checkpoint, which is replaced. "
                f"Received: path={path}, with {', '.join(others[:5])}. Name a new folder."
            )
    elif path.suffix == ".safetensors" and not path.exists() and path.with_name("config.json").exists():
        raise ValueError(
            f"Expected a folder without the configuration of another checkpoint. Received: path={path}, next to a "
            "config.json. Name a new folder."
        )


def _differences(format: str, model: Architecture, numerics: Numerics, pixels: Mapping[str, Any]) -> Iterator[str]:
    """Yields the differences between this model and the format's project that the checkpoint cannot record."""
    variant = model.variant
    used: tuple[str, ...] = () if isinstance(variant, ResNet) else BLOCK_NUMERICS
    used += CONVOLUTION_NUMERICS if isinstance(variant, ResNet) or variant.stem else ()
    written = written_family(format, variant)
    theirs, is_gated = NUMERICS[format], getattr(variant, "swiglu", False)
    if written and (family := next((row for row in FAMILIES if row.name == written.family), None)):
        theirs = dataclasses.replace(theirs, gelu=family.gelu, norm_epsilon=family.norm_epsilon)
    configured = CONFIGURED_NUMERICS.get(format, ()) + (("gelu",) if is_gated else ())
    if written and written.arguments and not is_gated:
        configured = ()  # timm's classes Beit and Eva have no argument for it
    other = [
        f"{name}={getattr(theirs, name)!r} for {getattr(numerics, name)!r}"
        for name in used
        if name not in configured and getattr(theirs, name) != getattr(numerics, name)
    ]
    if other:
        yield f"the project computes with {', '.join(other)}; outputs differ a little"
    if (
        format == "timm"
        and isinstance(variant, Variant)
        and numerics.gelu == "tanh"
        and "gelu" in configured
        and not is_gated
    ):
        yield "timm reads the tanh GELU from config.json; without this file, pass act_layer='gelu_tanh'"
    if format == "hf" and isinstance(variant, Variant) and variant.layer_scale is not None and hf_ratio(variant) % 1:
        yield f"transformers from version 5 on reads a whole mlp_ratio only, not {hf_ratio(variant)}"
    if format == "timm" and timm_architecture(model) is None:
        yield "timm has no function that builds this architecture; only the names are timm's"
    if format in ("npz", "bit") and {*pixels["mean"], *pixels["std"]} != {0.5}:
        yield f"an .npz file cannot hold the pixel contract of the model, mean={pixels['mean']} and std={pixels['std']}"
