"""Opens the text tower of a SigLIP or CLIP checkpoint, as transformers, OpenCLIP or big_vision writes it."""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from keras_vit import _arguments as checked
from keras_vit.models.config import TextTower
from keras_vit.weights import open_clip
from keras_vit.weights.architecture import count_layers, heads_of
from keras_vit.weights.formats import (
    ACTIVATIONS,
    NUMERICS,
    UNUSED,
    CheckpointFile,
    read_beside,
    unstacked,
    weight_file,
)
from keras_vit.weights.names import FORMATS, format_column
from keras_vit.weights.readers import open_arrays

logger = logging.getLogger("keras_vit")

# Attention heads in transformers' configurations that do not state their number.
_HEADS = {"hf_siglip_text": 12, "hf_clip_text": 8}

_LAST_OF_CLIP = 49_407  # the last id of its vocabulary, which ends a text


class _Writer(NamedTuple):
    """How a project writes a text tower.

    Args:
        shown_by: how the name of one of its arrays begins, at least.
        prefix: of all its arrays, which the name table leaves out.
        own: how the names of its arrays begin.
        formats: of a CLIP and of a SigLIP, keys of `names.FORMATS`.
        scale, bias: of the similarity, without prefixes.
    """

    shown_by: str
    prefix: str
    own: tuple[str, ...]
    formats: tuple[str, str]
    scale: str = "logit_scale"
    bias: str = "logit_bias"


_OPEN_CLIP = ("open_clip_clip_text", "open_clip_siglip_text")
_OF_CLIP = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
_WRITERS = (
    _Writer("text_model.", "", ("text_model.", "text_projection."), ("hf_clip_text", "hf_siglip_text")),
    _Writer("text.transformer.resblocks.", "text.", ("text.",), _OPEN_CLIP),
    _Writer("transformer.resblocks.", "", _OF_CLIP, _OPEN_CLIP),
    *(
        _Writer(prefix + "Encoder_0/", prefix, (prefix,), ("", "big_vision_text"), scale, bias)
        for prefix, scale, bias in (("params/txt/", "params/t", "params/b"), ("txt/", "t", "b"))
    ),
)


class TextFile(NamedTuple):
    """An opened text tower.

    Args:
        file: the weight file, of its arrays alone.
        tower: its architecture.
        scale, bias: of the similarity of an image and a text, which is scale * cosine + bias; the file has the
            logarithm of the scale. None where it has none.
    """

    file: CheckpointFile
    tower: TextTower
    scale: float | None
    bias: float | None


@contextlib.contextmanager
def open_text_file(path: str | os.PathLike[str], num_heads: int | None = None) -> Iterator[TextFile]:
    """Opens the text tower in a weight file, or in a folder of the Hugging Face hub.

    Args:
        path: the file, the index of a file in parts, or the folder.
        num_heads: attention heads, where no configuration states them; by default, heads of width 64.

    Raises:
        ValueError: if the file is unreadable, has no text tower, or its configuration is of another architecture.
    """
    path = weight_file(pathlib.Path(path))
    if path.suffix in (".keras", ".h5"):
        raise ValueError(
            "Expected a SigLIP or CLIP checkpoint with its text tower: a folder, a .safetensors or .npz file or "
            f"hf://OWNER/NAME. Received: {path}, a model of Keras, which has the image tower alone"
        )
    with open_arrays(path) as reader:
        writer = next((one for one in _WRITERS if any(name.startswith(one.shown_by) for name in reader.shapes)), None)
        if writer is None:
            raise ValueError(
                "Expected a checkpoint with a text tower, of SigLIP or CLIP in the format of transformers "
                "(text_model.*), OpenCLIP (transformer.resblocks.*) or big_vision (params/txt/*). "
                f"Received: {path} with {len(reader.shapes)} arrays, {checked.first_few(sorted(reader.shapes))}"
            )
        rows = {
            name: (in_file, block)
            for in_file, shape in reader.shapes.items()
            if in_file.startswith(writer.own) and not in_file.endswith(UNUSED)
            for name, block in unstacked(path, in_file, in_file.removeprefix(writer.prefix), shape)
        }
        shapes = {name: reader.shapes[key][0 if block is None else 1 :] for name, (key, block) in rows.items()}
        format = _format_of(writer, shapes)
        config = _config_of(path, format)
        activation = config.get("hidden_act")
        wrong = [
            f"{name}={config[name]!r} of the text tower, expected {' or '.join(map(repr, known))}"
            for name, known in ({"hidden_act": tuple(ACTIVATIONS)} | open_clip.SUPPORTED_TEXT.get(format, {})).items()
            if config.get(name) not in (None, *known)
        ]
        if wrong:
            beside = path.with_name(open_clip.OPEN_CLIP_CONFIG if format in _OPEN_CLIP else "config.json")
            raise ValueError(f"{beside} is of another architecture: {checked.first_few(wrong)}")
        numerics = dataclasses.replace(
            NUMERICS[format],
            gelu=ACTIVATIONS.get(activation or "", NUMERICS[format].gelu),
            norm_epsilon=config.get("layer_norm_eps", NUMERICS[format].norm_epsilon),
        )
        heads = num_heads or config.get("num_attention_heads") or (_HEADS.get(format) if config else None)
        file = CheckpointFile(path, format, shapes, numerics, num_heads=heads, config=config, _file=reader, _rows=rows)
        scale, bias = (
            float(reader.read(name).reshape(-1)[0]) if name in reader.shapes else None
            for name in (writer.scale, writer.bias)
        )
        yield TextFile(file, _tower(file), scale, bias)


def _format_of(writer: _Writer, names: Collection[str]) -> str:
    """Returns the format of a text tower: transformers projects the embedding in CLIP alone, OpenCLIP always."""
    clip, siglip = writer.formats
    if clip == "hf_clip_text":
        return clip if "text_projection.weight" in names else siglip
    return clip if "text_projection" in names else siglip


def _config_of(path: pathlib.Path, format: str) -> dict[str, Any]:
    """Returns the configuration beside a text tower, with transformers' names; {} where there is none."""
    if path.suffix not in (".safetensors", ".json"):
        return {}
    if format in _OPEN_CLIP:
        stated = read_beside(path, open_clip.OPEN_CLIP_CONFIG)
        return open_clip.text_config(stated) if stated else {}
    config = read_beside(path, "config.json")
    return config | (config.get("text_config") or {})


def _tower(file: CheckpointFile) -> TextTower:
    """Returns the architecture of a text tower, from the shapes of its arrays."""
    format, config = file.format or "", file.config
    is_flax = FORMATS[format].family == "flax"
    num_layers = max(count_layers(format, file.shapes)[0], config.get("num_hidden_layers") or 0)
    if num_layers > len(file.shapes):
        raise ValueError(f"{file.path}: {len(file.shapes)} arrays cannot be those of {num_layers} layers")
    cells = format_column(format, 1)
    needed = ("words/embeddings", "positions/table", "block_00/mlp/hidden/kernel", "embedding/kernel")
    shapes = [file.shapes.get(cells[ours].name, ()) for ours in needed]
    axes = (2, 3 if is_flax else 2, 2, 2)
    wrong = [cells[ours].name for ours, shape, n in zip(needed, shapes, axes) if len(shape) != n or not all(shape)]
    if wrong:
        raise ValueError(
            f"Expected the arrays of a text tower, each of two axes or three. Received: {file.path}, where "
            f"{checked.first_few(wrong)} is missing or has others"
        )
    (vocabulary, hidden_size), (*_, length, _), mlp, embedding = shapes
    mlp_dim, embedding_size = (
        shape[0 if cells[ours].reshaper else 1] for ours, shape in zip(needed[2:], (mlp, embedding))
    )
    query = file.shapes.get(cells["block_00/attention/query/kernel"].name, ())
    own_heads = query[1] if is_flax and len(query) == 3 else None
    heads = file.num_heads or own_heads or heads_of(file, hidden_size, num_layers, mlp_dim)
    end = None
    if format.endswith("_clip_text"):
        end = config.get("eos_token_id")
        # 2 stands in configurations from before transformers 4.31, and nothing reads it.
        if end is None or end == 2 and format == "hf_clip_text":
            end = min(_LAST_OF_CLIP, vocabulary - 1)
            if format == "hf_clip_text":  # OpenCLIP looks for the highest id
                logger.info("%s: the id %d is assumed to end a text", file.path, end)
    return TextTower(vocabulary, length, hidden_size, num_layers, heads, mlp_dim, embedding_size, end)
