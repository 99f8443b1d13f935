"""Opens the text tower of a SigLIP or CLIP checkpoint, as transformers writes it."""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from keras_vit import _arguments as checked
from keras_vit.models.config import TextTower
from keras_vit.weights.architecture import count_layers, heads_of
from keras_vit.weights.formats import ACTIVATIONS, NUMERICS, UNUSED, CheckpointFile, read_beside, weight_file
from keras_vit.weights.names import format_column
from keras_vit.weights.readers import open_arrays

logger = logging.getLogger("keras_vit")

_OWN = ("text_model.", "text_projection.")
# Attention heads in transformers' configurations that do not state their number.
_HEADS = {"hf_siglip_text": 12, "hf_clip_text": 8}

_LAST_OF_CLIP = 49_407  # the last id of its vocabulary, which ends a text


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
    with open_arrays(path) as reader:
        shapes = {
            name: shape for name, shape in reader.shapes.items() if name.startswith(_OWN) and not name.endswith(UNUSED)
        }
        if not shapes:
            raise ValueError(
                "Expected a checkpoint with a text tower, of SigLIP or CLIP in transformers' format (text_model.*). "
                f"Received: {path} with {len(reader.shapes)} arrays, {checked.first_few(sorted(reader.shapes))}"
            )
        format = "hf_clip_text" if "text_projection.weight" in shapes else "hf_siglip_text"
        config = read_beside(path, "config.json")
        config |= config.get("text_config") or {}
        activation = config.get("hidden_act")
        if activation not in (None, *ACTIVATIONS):
            raise ValueError(
                f"{path.with_name('config.json')} is of another architecture: hidden_act={activation!r} of the text "
                f"tower, expected {' or '.join(map(repr, ACTIVATIONS))}"
            )
        numerics = dataclasses.replace(
            NUMERICS[format],
            gelu=ACTIVATIONS.get(activation or "", NUMERICS[format].gelu),
            norm_epsilon=config.get("layer_norm_eps", NUMERICS[format].norm_epsilon),
        )
        heads = num_heads or config.get("num_attention_heads") or (_HEADS[format] if config else None)
        file = CheckpointFile(path, format, shapes, numerics, num_heads=heads, config=config, _file=reader)
        scale, bias = (
            float(reader.read(name).reshape(-1)[0]) if name in reader.shapes else None
            for name in ("logit_scale", "logit_bias")
        )
        yield TextFile(file, _tower(file), scale, bias)


def _tower(file: CheckpointFile) -> TextTower:
    """Returns the architecture of a text tower, from the shapes of its arrays."""
    format, config = file.format or "", file.config
    num_layers = max(count_layers(format, file.shapes)[0], config.get("num_hidden_layers") or 0)
    if num_layers > len(file.shapes):
        raise ValueError(f"{file.path}: {len(file.shapes)} arrays cannot be those of {num_layers} layers")
    cells = format_column(format, 1)
    needed = ("words/embeddings", "positions/table", "block_00/mlp/hidden/kernel", "embedding/kernel")
    shapes = [file.shapes.get(cells[ours].name, ()) for ours in needed]
    if wrong := [cells[ours].name for ours, shape in zip(needed, shapes) if len(shape) != 2 or not all(shape)]:
        raise ValueError(
            f"Expected the arrays of a text tower, each with two axes. Received: {file.path}, where "
            f"{checked.first_few(wrong)} is missing or has others"
        )
    (vocabulary, hidden_size), (length, _), (mlp_dim, _), (embedding_size, _) = shapes
    heads = file.num_heads or heads_of(file, hidden_size, num_layers, mlp_dim)
    end = None
    if format == "hf_clip_text":
        end = config.get("eos_token_id")
        if end in (None, 2):  # 2 stands in configurations from before transformers 4.31, and nothing reads it
            end = min(_LAST_OF_CLIP, vocabulary - 1)
            logger.info("%s: the id %d is assumed to end a text", file.path, end)
    return TextTower(vocabulary, length, hidden_size, num_layers, heads, mlp_dim, embedding_size, end)
