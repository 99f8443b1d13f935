"""Writes a checkpoint as the project does that a source is named after: whole, or an error that lists every fault."""

import contextlib
import dataclasses
import json
import logging
import pathlib

import numpy as np

from keras_vit.atomic import written_aside
from keras_vit.variants import ResNet
from keras_vit.weights.configuration import hf_family, hf_files, timm_architecture, timm_files
from keras_vit.weights.names import source_cells
from keras_vit.weights.sources import NUMERICS

logger = logging.getLogger("keras_vit")

TARGETS = ("npz", "bit", "hf", "timm")
WEIGHTS = "model.safetensors"
# All that a folder of ours may hold: one that holds more is somebody's, and is not replaced.
FOLDER = {WEIGHTS, "config.json", "preprocessor_config.json"}

OF_BLOCKS = ("gelu", "norm_epsilon")
OF_CONVOLUTIONS = ("group_norm_epsilon", "conv_epsilon", "conv_epsilon_inside")
# What a project's configuration says of the numerics; the rest is fixed in its code.
SAID = {"hf": ("gelu", "norm_epsilon"), "timm": ("gelu",)}


def write_checkpoint(path, source, arrays, model, numerics, pixels):
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

    Raises:
        ValueError: if other files would be overwritten.
        OSError: if it cannot be written.
    """
    path = pathlib.Path(path)
    _refuse_to_overwrite(path)
    prefix = hf_family(model.variant).prefix if source == "hf" and model.classes is not None else ""
    found = source_arrays(arrays, source, model.variant, prefix)
    if path.suffix == ".npz":
        with written_aside(path) as aside:
            np.savez(aside, **found)
    else:
        names = {ours: cell.name for ours, cell in _cells(source, model.variant).items()}
        texts = hf_files(model, numerics, pixels) if source == "hf" else timm_files(model, numerics, pixels, names)
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


def find_faults(source, paths, model):
    """Returns what of a model a source cannot hold, a line each; for the arguments see `write_checkpoint`."""
    variant, is_bit = model.variant, isinstance(model.variant, ResNet)
    pooling, distilled = getattr(variant, "pooling", None), getattr(variant, "distillation_token", False)
    resnet = variant if is_bit else variant.stem
    pooled = model.representation_size
    rows = (
        ("npz", is_bit, "the official code has no BiT; source='bit' is its project's layout"),
        ("bit", not is_bit, "BiT's project has no transformer; source='npz' is the official code's layout"),
        ("npz hf timm", pooling == "none", "pooling='none': files do not tell it from 'gap'"),
        ("hf", pooling in ("gap", "map"), f"pooling={pooling!r}: transformers' classifiers read the class token"),
        ("npz timm", pooling == "map", "pooling='map': only big_vision's files, which are not written, have it"),
        ("npz timm", distilled, "a distillation token: only transformers has one whose output is not read"),
        ("hf", distilled and resnet, "a distillation token: transformers' hybrid has none"),
        ("hf", pooled and model.classes, "a layer pre_logits: transformers' classifiers read the class token itself"),
        (
            "hf",
            pooled and not model.classes and resnet and pooled != variant.hidden_size,
            f"a layer pre_logits of width {pooled}: the pooler of transformers' hybrid has the width of a token",
        ),
        ("timm", pooled, "a layer pre_logits: timm has none"),
        ("timm", not is_bit and resnet and _leaves_a_rest(model), "a map that is no whole number of patches"),
        (
            "hf timm",
            resnet and resnet.units and resnet.root_width == resnet.widths[0],
            f"a first stage as wide as the stem: {source}'s code projects its shortcut, here there are no such weights",
        ),
    )
    faults = [text for sources, found, text in rows if source in sources.split() and found]
    of_another_family = source == ("npz" if is_bit else "bit")
    cells, told = _cells(source, variant), ("pooling/", "pre_logits/", "encoder/distillation_token")
    unnamed = [path for path in paths if path not in cells and not path.startswith(told)]
    if unnamed and not of_another_family:
        faults.append(f"weights that have no name there: {', '.join(unnamed[:5])}{', ...' if unnamed[5:] else ''}")
    return faults


def _leaves_a_rest(model):
    sides = dataclasses.replace(model.variant, patch_size=1).grid(*model.image_size)
    return any(side % model.variant.patch_size for side in sides)


def _cells(source, variant):
    if isinstance(variant, ResNet):
        return source_cells({"hf": "hf_bit", "timm": "timm_bit"}.get(source, source), 0, variant.units)
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
            files, weights = {name: folder / name for name in texts}, folder / WEIGHTS
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
    theirs = NUMERICS[source]
    other = [
        f"{name}={getattr(theirs, name)!r} for {getattr(numerics, name)!r}"
        for name in fixed
        if name not in SAID.get(source, ()) and getattr(theirs, name) != getattr(numerics, name)
    ]
    if other:
        yield f"the project computes with {', '.join(other)}; outputs differ a little"
    if source == "timm" and not is_bit and numerics.gelu == "tanh":
        yield "timm takes the tanh GELU from config.json; without it, pass act_layer='gelu_tanh'"
    if source == "timm" and timm_architecture(model) is None:
        yield "timm has no function that builds this architecture; the names alone are its"
    if source in ("npz", "bit") and {*pixels["mean"], *pixels["std"]} != {0.5}:
        yield f"an .npz file does not say that the model wants mean={pixels['mean']} and std={pixels['std']}"
