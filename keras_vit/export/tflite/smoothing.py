"""Moves scale from a Vision Transformer's activations into its weights, where rounding to 8 or 4 bits loses less."""

import keras
import numpy as np

from keras_vit.layers import PatchEncoder, Stem, TransformerBlock

_BATCH = 8  # images that pass the model at once


def smoothed(model, images, alpha=0.5):
    """Returns a new model that computes the same function, its activations with a like range in every channel.

    In each transformer block, all exact but for the order of additions:
      - the norms' gamma and beta divide and centre each channel, the kernels that read it multiply it back
        (query, key and value; the MLP's hidden layer), their biases add the centre back;
      - the values' channels are divided and centred, the rows of the attention's output layer multiply them back;
      - keys are centred, which the softmax does not see, and share their range with the queries, channel by channel.

    The MLP's second product stays as it is: no scale passes its GELU. Nor does the last norm change, whose output is
    what `features` gives; models or poolings without such blocks come back as a plain copy.

    Args:
        model: a classifier of keras_vit, or one that holds it; it is not changed.
        images: (images, rows, columns, channels) float32, scaled, as keras_vit's model takes them.
        alpha: 0 leaves the ranges of the activations, 1 makes them equal and leaves all unevenness to the weights.

    Raises:
        ValueError: if `alpha` is not from 0 to 1 or there is no image.

    Source: SmoothQuant, arXiv:2211.10438; the centring: Outlier Suppression+, arXiv:2304.09145.
    """
    if not 0 <= alpha <= 1 or not len(images):
        raise ValueError(
            f"Expected alpha from 0 to 1 and at least one image. Received: alpha={alpha}, {len(images)} images"
        )
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    inner = _holder(copy)
    blocks = [layer for layer in inner.layers if isinstance(layer, TransformerBlock)] if inner else []
    if blocks:
        before = keras.Model(inner.input, blocks[0].input)
        tokens = [
            before(images[i : i + _BATCH], training=False) for i in range(0, len(images), _BATCH)
        ]  # each (images, tokens, hidden_size)
    for block in blocks:
        ranges = _ranges(block, tokens)
        tokens = [block(x, training=False) for x in tokens]
        _smooth(block, ranges, alpha)
    return copy


def _holder(model):
    """Returns the model among this one and those inside it that has our layers; None without."""
    layers = getattr(model, "layers", ())
    if any(isinstance(layer, (PatchEncoder, Stem)) for layer in layers):
        return model
    return next(filter(None, (_holder(layer) for layer in layers if isinstance(layer, keras.Model))), None)


def _ranges(block, tokens):
    """Returns {name: (least, most)} over all tokens, channel by channel, of what the block's products read and give."""
    ends = {}
    for x in tokens:
        attention, y = block.attention, block.attention_norm(x)
        seen = {"attention": y, **{part: getattr(attention, part)(y) for part in ("query", "key", "value")}}
        seen["mlp"] = block.mlp_norm(x + block.scaled(attention(y, y, training=False), 0))
        for name, value in seen.items():
            value = keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))
            least, most = ends.get(name, (np.inf, -np.inf))
            ends[name] = np.minimum(least, value.min((0, 1))), np.maximum(most, value.max((0, 1)))
    return {name: ((most + least) / 2, (most - least) / 2) for name, (least, most) in ends.items()}


def _smooth(block, ranges, alpha):
    attention, mlp = block.attention, block.mlp
    _through_norm(block.attention_norm, [attention.query, attention.key, attention.value], *ranges["attention"], alpha)
    _through_norm(block.mlp_norm, [mlp.hidden], *ranges["mlp"], alpha)
    center, half = ranges["value"]
    kernel, bias = _values(attention.out)
    scale = _scale(half, abs(kernel).max(1), alpha)
    _divide_outputs(attention.value, center, scale)
    attention.out.set_weights([kernel * scale[:, None], bias + center @ kernel])


def _through_norm(norm, readers, center, half, alpha):
    kernels = [_values(reader)[0] for reader in readers]
    scale = _scale(half, np.max([abs(kernel).max(1) for kernel in kernels], axis=0), alpha)
    gamma, beta = _values(norm)
    norm.set_weights([gamma / scale, (beta - center) / scale])
    for reader in readers:
        kernel, bias = _values(reader)
        reader.set_weights([kernel * scale[:, None], bias + center @ kernel])


def _divide_outputs(layer, center, scale):
    kernel, bias = _values(layer)
    layer.set_weights([kernel / scale, (bias - center) / scale])


def _values(layer):
    """Returns a layer's two weights in float64, so that what is moved is rounded once."""
    return [np.asarray(value, "float64") for value in layer.get_weights()]


def _scale(activation, weight, alpha):
    """Returns the divisor of each channel, of geometric mean 1; channels that hardly vary count as varying a little."""
    activation, weight = (np.maximum(part, 1e-3 * part.max() + 1e-12) for part in (activation, weight))
    scale = activation**alpha / weight ** (1 - alpha)
    return scale / np.exp(np.log(scale).mean())
