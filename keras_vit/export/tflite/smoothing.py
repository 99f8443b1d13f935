"""SmoothQuant: moves scale from activations into weights, so that 8 and 4 bits lose less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vit.layers import PatchEncoder, Stem, TransformerBlock

_BATCH = 8  # images


def smoothed(model: keras.Model, images: np.ndarray, alpha: float = 0.5) -> keras.Model:
    """Returns a new model that computes the same function, with similar activation ranges in all channels.

    In each transformer block, all exact but for the order of additions:
      - gamma and beta of the norms divide and centre each channel. The kernels behind them (query, key and value; the
        MLP's hidden layer) multiply it back, and their biases add the centre back;
      - the values' channels are divided and centred, and the attention's output kernel multiplies them back.

    The MLP's output layer stays as it is: no scale passes its GELU. The last norm does not change, as its output is the
    output `features`. A model without such blocks is copied unchanged.

    Args:
        model: a classifier of keras_vit, or a model around one; it is not changed.
        images: (images, height, width, channels) float32, scaled for keras_vit's model.
        alpha: 0 keeps the ranges of the activations, 1 makes them equal and moves all differences into the weights.

    Raises:
        ValueError: if `alpha` is out of range, or there are no images.

    Source: SmoothQuant, arXiv:2211.10438; the centring: Outlier Suppression+, arXiv:2304.09145.
    """
    if not 0 <= alpha <= 1 or not len(images):
        raise ValueError(
            f"Expected alpha from 0 to 1 and at least one image. Received: alpha={alpha}, {len(images)} images"
        )
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    inner = _model_with_layers_of_ours(copy)
    blocks = [layer for layer in inner.layers if isinstance(layer, TransformerBlock)] if inner else []
    if inner and blocks:
        before = keras.Model(inner.input, blocks[0].input)
        tokens = [
            before(images[i : i + _BATCH], training=False) for i in range(0, len(images), _BATCH)
        ]  # each (images, tokens, hidden_size)
    for block in blocks:
        ranges = _ranges(block, tokens)
        tokens = [block(x, training=False) for x in tokens]
        _smooth(block, ranges, alpha)
    return copy


def _model_with_layers_of_ours(model: keras.Model) -> keras.Model | None:
    """Returns the model, or the model nested in it, that has layers of keras_vit; None if there is none."""
    layers = getattr(model, "layers", ())
    if any(isinstance(layer, (PatchEncoder, Stem)) for layer in layers):
        return model
    return next(
        filter(None, (_model_with_layers_of_ours(layer) for layer in layers if isinstance(layer, keras.Model))), None
    )


def _ranges(block: TransformerBlock, tokens: Sequence[Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns {name: (centre, half of the range)} of a block's activations over all tokens, for each channel."""
    ends: dict[str, tuple[Any, Any]] = {}
    for x in tokens:
        attention, y = block.attention, block.attention_norm(x)
        activations = {"attention": y, "value": attention.value(y)}
        activations["mlp"] = block.mlp_norm(x + block.scaled(attention(y, y, training=False), 0))
        for name, value in activations.items():
            value = keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))
            least, most = ends.get(name, (np.inf, -np.inf))
            ends[name] = np.minimum(least, value.min((0, 1))), np.maximum(most, value.max((0, 1)))
    return {name: ((most + least) / 2, (most - least) / 2) for name, (least, most) in ends.items()}


def _smooth(block: TransformerBlock, ranges: dict[str, tuple[np.ndarray, np.ndarray]], alpha: float) -> None:
    attention, mlp = block.attention, block.mlp
    readers = [attention.query, attention.key, attention.value]
    _smooth_norm(block.attention_norm, readers, ranges["attention"], alpha)
    _smooth_norm(block.mlp_norm, [mlp.hidden], ranges["mlp"], alpha)
    center, half = ranges["value"]
    kernel, bias = _values(attention.out)
    scale = _scale(half, abs(kernel).max(1), alpha)
    _divide_outputs(attention.value, center, scale)
    attention.out.set_weights([kernel * scale[:, None], bias + center @ kernel])


def _smooth_norm(
    norm: keras.Layer, readers: Sequence[keras.Layer], range_: tuple[np.ndarray, np.ndarray], alpha: float
) -> None:
    """Moves scale and centre of a norm's output into the layers that read it."""
    center, half = range_
    kernels = [_values(reader)[0] for reader in readers]
    scale = _scale(half, np.max([abs(kernel).max(1) for kernel in kernels], axis=0), alpha)
    gamma, beta = _values(norm)
    norm.set_weights([gamma / scale, (beta - center) / scale])
    for reader in readers:
        kernel, bias = _values(reader)
        reader.set_weights([kernel * scale[:, None], bias + center @ kernel])


def _divide_outputs(layer: keras.Layer, center: np.ndarray, scale: np.ndarray) -> None:
    kernel, bias = _values(layer)
    layer.set_weights([kernel / scale, (bias - center) / scale])


def _values(layer: keras.Layer) -> list[np.ndarray]:
    """Returns a layer's two weights in float64, so that the moved scale is rounded once."""
    return [np.asarray(value, "float64") for value in layer.get_weights()]


def _scale(activation: np.ndarray, weight: np.ndarray, alpha: float) -> np.ndarray:
    """Returns the divisor of each channel, with geometric mean 1 and a floor for channels that hardly vary."""
    activation, weight = (np.maximum(part, 1e-3 * part.max() + 1e-12) for part in (activation, weight))
    scale = activation**alpha / weight ** (1 - alpha)
    return scale / np.exp(np.log(scale).mean())
