"""How many products each kind of layer sums up; to count another kind, add a row to `RULES`."""

import dataclasses
import math

import keras

from keras_vit import layers


@dataclasses.dataclass(frozen=True)
class Work:
    """Holds what one call of a layer does, that of the layers inside it left out.

    Args:
        multiply_accumulates: of the batch.
        kept: numbers that it holds beside what it gives, as the probabilities of attention.
    """

    multiply_accumulates: int = 0
    kept: int = 0


def _nothing(layer, inputs, outputs):
    """Adds, scales or looks up, a number at a time."""
    return Work()


def _kernel(layer, inputs, outputs):
    """Sums, for each number out, over all axes of the kernel but the last."""
    return Work(math.prod(outputs[0]) * math.prod(layer.kernel.shape[:-1]))


def _transposed(layer, inputs, outputs):
    """Multiplies each number in with all axes of the kernel but the last."""
    return Work(math.prod(inputs[0]) * math.prod(layer.kernel.shape[:-1]))


def _einsum(layer, inputs, outputs):
    """Sums, for each number out, over the kernel's axes that are not in the output."""
    _, kernel, output = layer.equation.replace("->", ",").split(",")
    summed = [size for letter, size in zip(kernel, layer.kernel.shape) if letter not in output]
    return Work(math.prod(outputs[0]) * math.prod(summed))


def _depthwise(layer, inputs, outputs):
    return Work(math.prod(outputs[0]) * math.prod(layer.kernel_size))


def _separable(layer, inputs, outputs):
    channels = layer.pointwise_kernel.shape[-2]
    between = math.prod(outputs[0]) // layer.filters * channels
    return Work(between * math.prod(layer.kernel_size) + math.prod(outputs[0]) * channels)


def _dot(layer, inputs, outputs):
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return Work(math.prod(outputs[0]) * inputs[0][axis])


def _attention(layer, inputs, outputs):
    """Multiplies queries with keys, and what comes of it with values."""
    (batch, queries, hidden_size), (_, tokens, _) = inputs
    return Work(2 * batch * queries * tokens * hidden_size, batch * layer.num_heads * queries * tokens)


def _windowed(layer, inputs, outputs):
    """Multiplies within windows, each with the tokens in front of the patches, and these with all."""
    batch, tokens, hidden_size = inputs[0]
    front, number, places = tokens - math.prod(layer.grid), math.prod(layer.windows), math.prod(layer.side)
    pairs = batch * (tokens**2 if number == 1 else front * tokens + number * places * (front + places))
    return Work(2 * pairs * hidden_size, pairs * layer.num_heads)


def _relative(layer, inputs, outputs):
    """Multiplies queries with a key for each distance, too."""
    plain, (batch, queries, hidden_size) = _attention(layer, inputs, outputs), inputs[0]
    return Work(plain.multiply_accumulates + batch * queries * (2 * queries - 1) * hidden_size, plain.kept)


def _one_head(layer, inputs, outputs):
    (batch, queries, width), (_, tokens, value_width) = inputs[:2]
    return Work(batch * queries * tokens * (width + value_width), batch * queries * tokens)


def _grouped_query(layer, inputs, outputs):
    (batch, queries, _), (_, tokens, _) = inputs[:2]
    pairs = batch * layer.num_query_heads * queries * tokens
    return Work(2 * pairs * layer.head_dim, pairs)


def _multi_head(layer, inputs, outputs):
    """Multiplies as `_attention` does, over the axes that the layer attends along."""
    query, value = inputs[:2]
    inner = range(1, len(query) - 1)
    axes = [axis % len(query) for axis in layer.get_config()["attention_axes"] or inner]
    queries, tokens = (math.prod(shape[axis] for axis in axes) for shape in (query, value))
    others = math.prod(query[axis] for axis in (0, *inner) if axis not in axes)
    pairs = others * layer.num_heads * queries * tokens
    return Work(pairs * (layer.key_dim + (layer.value_dim or layer.key_dim)), pairs)


# A rule takes the layer and lists of the shapes that it reads and gives. A class whose base is here counts like that,
# unless it has a `call` of its own.
RULES = {
    keras.layers.Dense: _kernel,
    keras.layers.EinsumDense: _einsum,
    keras.layers.Conv1D: _kernel,
    keras.layers.Conv2D: _kernel,
    keras.layers.Conv3D: _kernel,
    keras.layers.Conv1DTranspose: _transposed,
    keras.layers.Conv2DTranspose: _transposed,
    keras.layers.Conv3DTranspose: _transposed,
    keras.layers.DepthwiseConv1D: _depthwise,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv1D: _separable,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.Dot: _dot,
    layers.Attention: _attention,
    layers.WindowAttention: _windowed,
    layers.RelativeAttention: _relative,
    layers.DistilledHead: _kernel,
    keras.layers.Attention: _one_head,
    keras.layers.GroupQueryAttention: _grouped_query,
    keras.layers.MultiHeadAttention: _multi_head,
    keras.layers.Embedding: _nothing,
    keras.layers.PReLU: _nothing,
    keras.layers.BatchNormalization: _nothing,
    keras.layers.GroupNormalization: _nothing,
    keras.layers.LayerNormalization: _nothing,
    keras.layers.Normalization: _nothing,
    keras.layers.RMSNormalization: _nothing,
    layers.GroupNorm: _nothing,
    layers.LayerScale: _nothing,
    layers.Positions: _nothing,
    # What these do beside the layers inside them.
    layers.AttentionPooling: _nothing,
    layers.Bottleneck: _nothing,
    layers.MLP: _nothing,
    layers.SwiGLU: _nothing,
    layers.PatchEncoder: _nothing,
    layers.Stem: _nothing,
    layers.TransformerBlock: _nothing,
    layers.RelativeBlock: _nothing,
    layers.WindowBlock: _nothing,
}

# Operations of a functional model that stand between its layers and multiply; they have no rule.
PRODUCTS = {"Conv", "ConvTranspose", "DepthwiseConv", "Dot", "DotProductAttention", "Einsum", "Inner", "Matmul"}
PRODUCTS |= {"Outer", "SeparableConv", "Tensordot", "Vdot"}
