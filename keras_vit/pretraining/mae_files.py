"""Reads and writes masked autoencoders as transformers does, encoder and decoder, so that pre-training continues."""

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file

from keras_vit import _arguments as checked
from keras_vit._finite import refuse_not_finite
from keras_vit.builders import load
from keras_vit.conversion import save_checkpoint
from keras_vit.layers.positions import resize_positions, square_grid
from keras_vit.models.config import Variant
from keras_vit.models.description import describe_model, weight_path
from keras_vit.models.license import UNKNOWN_LICENSE
from keras_vit.pretraining.mae import MaskedAutoencoder
from keras_vit.weights.configuration import hf_family
from keras_vit.weights.names import MAE_DECODER, format_column
from keras_vit.weights.open import open_checkpoint
from keras_vit.weights.readers import open_arrays
from keras_vit.weights.save import arrays_in_format, refuse_to_overwrite, write_safetensors

# Names that transformers 5 writes, for those of the hub's files, which it reads, too.
_BLOCKS = ("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")
_EMBED, _POSITIONS = "decoder.decoder_embed.weight", "decoder.decoder_pos_embed"
_DEFAULT_HEADS = 16  # of transformers' ViTMAEConfig, as for the other fields that a config.json may leave out


def load_mae(weights: str | os.PathLike[str]) -> MaskedAutoencoder:
    """Loads a masked autoencoder, encoder and decoder, from a file of transformers, to continue its pre-training.

    Args:
        weights: a folder or an address as in `keras_vit.load`, with the weights of a ViTMAEForPreTraining and its
            config.json.

    Returns:
        A built `MaskedAutoencoder`, whose `vit` is the encoder.

    Raises:
        ValueError: if the file has no decoder, or its arrays do not fit the configuration or the encoder; the first
            five such arrays in one message.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        vit = keras_vit.build(tiny, input_shape=(32, 32, 3), include_top=False, pooling="token", weights=None)
        mae = keras_vit.pretraining.MaskedAutoencoder(vit, decoder_layers=1)
        keras_vit.pretraining.save_mae(mae, "tiny_mae")
        again = keras_vit.pretraining.load_mae("tiny_mae")
        assert again.decoder_size == mae.decoder_size == 16
        ```

    Source: arXiv:2111.06377; transformers' `vit_mae`.
    """
    mae = continued_mae(weights, load(weights))
    if mae is None:
        raise ValueError(
            "Expected a file of transformers' MAE with its decoder, decoder.decoder_embed.weight and others. "
            f"Received: weights={str(weights)!r} without"
        )
    return mae


def continued_mae(
    weights: str | os.PathLike[str], vit: keras.Model, mask_ratio: float | None = None
) -> MaskedAutoencoder | None:
    """Returns a masked autoencoder around a model, with the decoder of a file.

    The decoder's positions are resized to the model's grid, as transformers does.

    Args:
        weights: as in `load_mae`.
        vit: the encoder, of any image size, built from the same file or of its sizes.
        mask_ratio: fraction of the patches that is hidden; None for the file's.

    Returns:
        A built `MaskedAutoencoder`; None if the file has no decoder.

    Raises:
        ValueError: as `load_mae`.
    """
    with open_checkpoint(weights, include_top=False) as opened:
        if opened.file is None:
            return None
        config, path, mode = opened.file.config, opened.file.path, opened.file.position_resize
    with open_arrays(path) as reader:
        in_file = {name.replace(*_BLOCKS): name for name in reader.shapes if name.startswith("decoder.")}
        if _EMBED not in in_file:
            return None
        shapes = {name: reader.shapes[key] for name, key in in_file.items()}
        mae = _built_like(vit, config, shapes, path, mask_ratio)
        wanted, row = _decoder_weights(mae), _decoder_variant(mae)
        cells = format_column(MAE_DECODER, mae.decoder_layers)
        expected = {cell.name: cell.shapes(tuple(wanted[ours].shape), row)[0] for ours, cell in cells.items()}
        resized = dict[str, np.ndarray]()
        if len(shapes.get(_POSITIONS, ())) == 3 and shapes[_POSITIONS] != expected[_POSITIONS]:
            resized[_POSITIONS] = _resized(reader.read(in_file[_POSITIONS]), mae, mode)
            shapes[_POSITIONS] = resized[_POSITIONS].shape
        faults = [
            f"{name} {shapes.get(name, 'missing')}, expected {expected.get(name, 'no such array')}"
            for name in {**expected, **shapes}
            if shapes.get(name) != expected.get(name)
        ]
        if faults:
            raise ValueError(f"{path} does not fit the decoder in its config.json: {checked.first_few(faults)}")
        for ours, cell in cells.items():
            array = resized[cell.name] if cell.name in resized else reader.read(in_file[cell.name])
            shape = tuple(wanted[ours].shape)
            wanted[ours].assign(cell.reshaper.from_file(array, shape, row) if cell.reshaper else array)
    return mae


def save_mae(mae: MaskedAutoencoder, path: str | os.PathLike[str]) -> None:
    """Writes a masked autoencoder, encoder and decoder, as transformers' ViTMAEForPreTraining reads it.

    `keras_vit.load` reads the encoder of it, and `load_mae` both.

    Args:
        mae: a built `MaskedAutoencoder`.
        path: a folder; an existing checkpoint there is replaced.

    Raises:
        ValueError: if transformers has no such encoder (all faults in one message, before anything is written), a
            weight is NaN or infinite, or other files would be overwritten.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        vit = keras_vit.build(tiny, input_shape=(32, 32, 3), include_top=False, pooling="token", weights=None)
        keras_vit.pretraining.save_mae(keras_vit.pretraining.MaskedAutoencoder(vit, decoder_layers=1), "tiny_mae")
        ```
    """
    target = pathlib.Path(checked.path("path", path, "the path of a folder"))
    refuse_to_overwrite(target)
    described = describe_model(mae.tokens)
    if (family := hf_family(described.variant)).model_type != "vit":
        raise ValueError(
            "Expected a plain Vision Transformer as the encoder, as in transformers' MAE. "
            f"Received: {mae.vit.name!r}, a {family.model_type} there"
        )
    if not mae.built:
        mae.build((None, *mae.vit.input.shape[1:]))
    mae.tokens.license = getattr(mae.vit, "license", None)
    arrays = {ours: keras.ops.convert_to_numpy(value) for ours, value in _decoder_weights(mae).items()}
    arrays["decoder_positions/table"] = np.array(keras.ops.convert_to_numpy(mae.decoder_positions.values())[0])
    refuse_not_finite(mae.name, arrays.items())
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(mae.tokens, pathlib.Path(folder, "encoder"), "hf")
        encoder = load_file(pathlib.Path(folder, "encoder", "model.safetensors"))
        texts = {file.name: file.read_text("utf-8") for file in pathlib.Path(folder, "encoder").glob("*.json")}
    # Without a license, reading would assume that of the published MAE.
    config = (
        {"license": UNKNOWN_LICENSE}
        | json.loads(texts["config.json"])
        | {
            "model_type": "vit_mae",
            "architectures": ["ViTMAEForPreTraining"],
            "mask_ratio": mae.mask_ratio,
            "norm_pix_loss": mae.normalized,
            "decoder_hidden_size": mae.decoder_size,
            "decoder_num_hidden_layers": mae.decoder_layers,
            "decoder_num_attention_heads": mae.decoder_heads,
            "decoder_intermediate_size": mae.decoder_mlp_dim,
        }
    )
    texts["config.json"] = json.dumps(config, indent=2) + "\n"
    written = {f"vit.{name}": array for name, array in encoder.items()}
    write_safetensors(target, written | arrays_in_format(arrays, MAE_DECODER, _decoder_variant(mae)), texts)


def _built_like(
    vit: keras.Model,
    config: Mapping[str, Any],
    shapes: Mapping[str, Any],
    path: str | pathlib.Path,
    mask_ratio: float | None,
) -> MaskedAutoencoder:
    """Returns a built task around an encoder, with a decoder of the sizes of a file's arrays."""
    hidden = "decoder.decoder_layers.0.intermediate.dense.weight"
    if hidden not in shapes:
        raise ValueError(f"Expected the decoder of a masked autoencoder, {hidden} and others. Received: {path} without")
    layers = {int(name.split(".")[2]) for name in shapes if name.startswith(_BLOCKS[1])}
    mae = MaskedAutoencoder(
        vit,
        mask_ratio or config.get("mask_ratio") or 0.75,
        decoder_layers=max(layers) + 1,
        decoder_size=shapes[_EMBED][0],
        decoder_heads=config.get("decoder_num_attention_heads", _DEFAULT_HEADS),
        decoder_mlp_dim=shapes[hidden][0],
        decoder_positions="learned",
        normalized=config.get("norm_pix_loss", False),
        name="mae",
    )
    mae.build((None, *vit.input.shape[1:]))
    return mae


def _resized(table: np.ndarray, mae: MaskedAutoencoder, mode: str) -> np.ndarray:
    """Returns the positions of a decoder, (1, tokens, decoder_size), for the grid of a task."""
    extra = mae.decoder_positions.extra_tokens
    grid = square_grid(table.shape[1] - extra)
    return resize_positions(table, grid, mae.patches.grid, mode) if grid else table


def _decoder_weights(mae: MaskedAutoencoder) -> dict[str, Any]:
    """Returns {our path: variable} of everything but the encoder."""
    layers = (mae.decoder_projection, mae.decoder_positions, *mae.decoder, mae.decoder_norm, mae.painter)
    own = {weight_path(layer, weight): weight for layer in layers for weight in layer.weights}
    return {"mask_token": mae.mask_token, **own}


def _decoder_variant(mae: MaskedAutoencoder) -> Variant:
    return Variant(mae.patches.patch_size, mae.decoder_size, mae.decoder_layers, mae.decoder_heads, mae.decoder_mlp_dim)
