"""Writes a checkpoint as the project does that a source is named after: whole, or an error that lists every fault."""

import contextlib
import dataclasses
import json
import logging
import pathlib
import re

import numpy as np

from keras_vit._atomic import written_aside
from keras_vit.models.config import ResNet
from keras_vit.weights.configuration import hf_family, hf_files, hf_ratio, timm_architecture, timm_files
from keras_vit.weights.formats import NUMERICS
from keras_vit.weights.names import source_cells

logger = logging.getLogger("keras_vit")

WRITTEN_FORMATS = ("npz", "bit", "hf", "timm")
_WEIGHTS = "model.safetensors"
# All that a folder of ours may hold: one that holds more is somebody's, and is not replaced.
FOLDER = {_WEIGHTS, "config.json", "preprocessor_config.json"}

OF_BLOCKS = ("gelu", "norm_epsilon")
OF_CONVOLUTIONS = ("group_norm_epsilon", "conv_epsilon", "conv_epsilon_inside")
# What a project's configuration says of the numerics; the rest is fixed in its code.
SAID = {"hf": ("gelu", "norm_epsilon"), "timm": ("gelu",)}

# Of a `Variant`: what DINOv2 added to the transformer, and what is in no other project's files.
OF_DINOV2 = ("register_tokens", "layer_scale", "swiglu")
OUR_OWN = ("positions", "positions_at", "attention", "attention_window")
# Where the weights of what has a row below are: it is said once.
OF_A_ROW = re.compile(r"pooling/|pre_logits/|encoder/(distillation|register)_token|head/distillation/|.*_scale/gamma")


def write_checkpoint(path, source, arrays, model, numerics, pixels, class_names=None):
    """Writes a checkpoint that `find_faults` has nothing against.

    Args:
        path: an .npz file for "npz" and "bit". For "hf" and "timm" a .safetensors file, whose configuration is written
            beside it, or a folder for both, as the Hugging Face hub has them, which is replaced as one.
        source: one of `TARGETS`.
        arrays: {our path: float32 array}.
        model: the `Architecture`.
        numerics: the `Numerics`; where the project computes otherwise, and its configuration cannot say so, the log
            does.
        pixels: the fields of the `Pixels`. An .npz file does not have them; the log says so where they are not its
            project's.
        class_names: in the order of the head's outputs; an .npz file does not have them.

    Raises:
        ValueError: if other files would be overwritten.
        OSError: if it cannot be written.
    """
    path = pathlib.Path(path)
    _refuse_to_overwrite(path)
    prefix = hf_family(model.variant).prefix if source == "hf" and model.classes is not None else ""
    found = source_arrays(arrays, source, model.variant, prefix)
    if source == "hf" and getattr(model.variant, "layer_scale", None) is not None:
        # Read by training alone; but transformers warns of a file without.
        found[f"{prefix}embeddings.mask_token"] = np.zeros((1, model.variant.hidden_size), np.float32)
    if path.suffix == ".npz":
        with written_aside(path) as aside:
            np.savez(aside, **found)
    else:
        names = {ours: cell.name for ours, cell in _cells(source, model.variant).items()}
        if source == "hf":
            texts = hf_files(model, numerics, pixels, class_names)
        else:
            texts = timm_files(model, numerics, pixels, names, class_names)
        _write_safetensors(path, found, {name: json.dumps(text, indent=2) + "\n" for name, text in texts.items()})
    for difference in _differences(source, model, numerics, pixels):
        logger.info("%s: %s", path, difference)


def source_arrays(arrays, source, variant, prefix=""):
    """Returns {name: array} as a source has them, of {our path: array}; the mirror of `load.read_weights`.

    Args:
        arrays: of a whole model.
        source: one of `TARGETS`.
        variant: the model's row.
        prefix: in front of every name but the head's.
    """
    cells, parts = _cells(source, variant), {}
    if source == "timm" and getattr(variant, "register_tokens", 0):
        arrays = _without_class_position(arrays)
    for ours, array in arrays.items():
        cell = cells[ours]
        if cell.arrangement:
            shape, *_ = cell.arrangement.shapes(array.shape, variant)
            array = cell.arrangement.to_theirs(array, shape)
        name = cell.name if ours.startswith("head/") else prefix + cell.name
        parts.setdefault(name, {})[cell.part] = array
    return {
        name: np.ascontiguousarray(one[None] if None in one else np.concatenate([one[part] for part in sorted(one)]))
        for name, one in parts.items()
    }


def _without_class_position(arrays):
    """Returns the arrays with the class token's position added to it: timm's files with registers have none for it."""
    token, table = "encoder/class_token", "encoder/position_embedding"
    if not {token, table} <= arrays.keys():
        return arrays
    rest = arrays[table].copy()
    rest[:, :1] = 0
    return arrays | {token: arrays[token] + arrays[table][:, :1], table: rest}


def find_faults(source, paths, model):
    """Returns what of a model a source cannot hold, a line each; for the arguments see `write_checkpoint`."""
    variant, is_bit = model.variant, isinstance(model.variant, ResNet)
    resnet = variant if is_bit else variant.stem
    rows = (
        ("npz", is_bit, "the official code has no BiT; source='bit' is its project's layout"),
        ("bit", not is_bit, "BiT's project has no transformer; source='npz' is the official code's layout"),
        *(() if is_bit else _rows_of_a_transformer(model)),
        (
            "hf timm",
            resnet and resnet.units and resnet.root_width == resnet.widths[0],
            f"a first stage as wide as the stem: {source}'s code projects its shortcut, here there are no such weights",
        ),
    )
    faults = [text for sources, found, text in rows if source in sources.split() and found]
    has_other_names = source == ("npz" if is_bit else "bit") or (not is_bit and _options(variant, OUR_OWN))
    cells = _cells(source, variant)
    unnamed = [path for path in paths if path not in cells and not OF_A_ROW.match(path)]
    if unnamed and not has_other_names:
        faults.append(f"weights that have no name there: {', '.join(unnamed[:5])}{', ...' if unnamed[5:] else ''}")
    return faults


def _rows_of_a_transformer(model):
    """Returns (the sources, whether the model has what they cannot hold, what that is) of a `Variant`."""
    row, classes, pooled = model.variant, model.classes, model.representation_size
    pooling, distilled, is_dinov2 = row.pooling, row.distillation_token, row.layer_scale is not None
    own, added, unscaled = (_options(row, names) for names in (OUR_OWN, OF_DINOV2, ("register_tokens", "swiglu")))
    two_heads = pooling == "token+distillation"
    return (
        ("npz hf timm", own, f"{own}: no other project's files have this"),
        ("npz hf timm", pooling == "none", "pooling='none': files do not tell it from 'gap'"),
        ("hf", pooling in ("gap", "map"), f"pooling={pooling!r}: transformers' classifiers read the class token"),
        ("npz timm", pooling == "map", "pooling='map': only big_vision's files, which are not written, have it"),
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
        ("hf", two_heads and not classes, f"pooling={pooling!r}: without a head files do not tell it from 'token'"),
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
            "a grid of patches that is no square: transformers' DINOv2 has positions for a square",
        ),
        ("hf", pooled and classes, "a layer pre_logits: transformers' classifiers read the class token itself"),
        ("hf", pooled and is_dinov2 and not classes, "a layer pre_logits: transformers' DINOv2 has none"),
        (
            "hf",
            pooled and not classes and row.stem and pooled != row.hidden_size,
            f"a layer pre_logits of width {pooled}: the pooler of transformers' hybrid has the width of a token",
        ),
        ("timm", pooled, "a layer pre_logits: timm has none"),
        ("timm", row.stem and _leaves_a_rest(model), "a map that is no whole number of patches"),
    )


def _leaves_a_rest(model):
    sides = dataclasses.replace(model.variant, patch_size=1).grid(*model.image_size)
    return any(side % model.variant.patch_size for side in sides)


def _options(row, names):
    """Returns those fields of a `Variant` that are not as in a plain Vision Transformer, as one would write them."""
    plain = {field.name: field.default for field in dataclasses.fields(row) if field.name in names}
    return ", ".join(f"{name}={getattr(row, name)!r}" for name in plain if getattr(row, name) != plain[name])


def _cells(source, variant):
    if isinstance(variant, ResNet):
        return source_cells({"hf": "hf_bit", "timm": "timm_bit"}.get(source, source), 0, variant.units)
    if source == "hf" and variant.layer_scale is not None:
        source = "hf_dinov2_swiglu" if variant.swiglu else "hf_dinov2"
    elif source == "hf" and variant.pooling == "token+distillation":
        source = "hf_distilled"
    return source_cells(source, variant.num_layers, variant.stem.units if variant.stem else ())


def _write_safetensors(path, arrays, texts):
    from safetensors.numpy import save_file

    with contextlib.ExitStack() as stack:
        if path.suffix == ".safetensors":
            files = {name: stack.enter_context(written_aside(path.with_name(name))) for name in texts}
            weights = stack.enter_context(written_aside(path))
        else:
            folder = stack.enter_context(written_aside(path))
            folder.mkdir()
            files, weights = {name: folder / name for name in texts}, folder / _WEIGHTS
        # transformers refuses a file that does not say this.
        save_file(arrays, weights, metadata={"format": "pt"})
        for name, file in files.items():
            file.write_text(texts[name], "utf-8")


def _refuse_to_overwrite(path):
    if path.is_dir():
        others = sorted(file.name for file in path.iterdir() if file.name not in FOLDER)
        if others:
            raise ValueError(
                "Expected a new folder, or one with a checkpoint alone, which is replaced. "
                f"Received: {path}, with {', '.join(others[:5])}"
            )
    elif path.suffix == ".safetensors" and not path.exists() and path.with_name("config.json").exists():
        raise ValueError(
            f"Expected a folder without the configuration of another checkpoint. Received: {path}, with config.json "
            "beside it. Name a new folder."
        )


def _differences(source, model, numerics, pixels):
    """Yields what the source's project computes otherwise than this model, and nothing in the checkpoint tells it."""
    variant, is_bit = model.variant, isinstance(model.variant, ResNet)
    fixed = (() if is_bit else OF_BLOCKS) + (OF_CONVOLUTIONS if is_bit or variant.stem else ())
    theirs, is_gated = NUMERICS[source], getattr(variant, "swiglu", False)
    said = SAID.get(source, ()) + (("gelu",) if is_gated else ())
    other = [
        f"{name}={getattr(theirs, name)!r} for {getattr(numerics, name)!r}"
        for name in fixed
        if name not in said and getattr(theirs, name) != getattr(numerics, name)
    ]
    if other:
        yield f"the project computes with {', '.join(other)}; outputs differ a little"
    if source == "timm" and not is_bit and numerics.gelu == "tanh" and not is_gated:
        yield "timm takes the tanh GELU from config.json; without it, pass act_layer='gelu_tanh'"
    if source == "hf" and not is_bit and variant.layer_scale is not None and hf_ratio(variant) % 1:
        yield f"transformers from version 5 on reads a whole mlp_ratio alone, not {hf_ratio(variant)}"
    if source == "timm" and timm_architecture(model) is None:
        yield "timm has no function that builds this architecture; the names alone are its"
    if source in ("npz", "bit") and {*pixels["mean"], *pixels["std"]} != {0.5}:
        yield f"an .npz file does not say that the model wants mean={pixels['mean']} and std={pixels['std']}"
