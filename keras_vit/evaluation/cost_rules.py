"""Rules that count the multiply-accumulates of each layer type; to count another type, add a row to `RULES`."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_vit import layers


@dataclasses.dataclass(frozen=True)
class Work:
    """Work of one call of a layer, without that of the layers inside it.

    Args:
        multiply_accumulates: Number for the batch.
        kept: Number of elements that it holds besides its output, such as the attention probabilities.

    Example:
        ```python
        from keras_vit.evaluation.cost_rules import Work

        def rule_of_dense(layer, inputs, outputs):
            return Work(int(np.prod(outputs[0])) * layer.kernel.shape[0])

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        cost = keras_vit.evaluation.cost(model, rules={keras.layers.Dense: rule_of_dense})
        assert cost.multiply_accumulates == 12
        ```
    """

    multiply_accumulates: int = 0
    kept: int = 0


Shapes = list[tuple[int, ...]]
Rule = Callable[[Any, Shapes, Shapes], Work]


def _nothing(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Adds, scales or looks up, element by element."""
    return Work()


def _kernel(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Sums, for each output element, over all axes of the kernel but the last."""
    return Work(math.prod(outputs[0]) * math.prod(layer.kernel.shape[:-1]))


def _transposed(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Multiplies each input element with all axes of the kernel but the last."""
    return Work(math.prod(inputs[0]) * math.prod(layer.kernel.shape[:-1]))


def _einsum(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Sums, for each output element, over the kernel's axes that are not in the output."""
    _, kernel, output = layer.equation.replace("->", ",").split(",")
    summed = [size for letter, size in zip(kernel, layer.kernel.shape) if letter not in output]
    return Work(math.prod(outputs[0]) * math.prod(summed))


def _depthwise(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    return Work(math.prod(outputs[0]) * math.prod(layer.kernel_size))


def _separable(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    channels = layer.pointwise_kernel.shape[-2]
    between = math.prod(outputs[0]) // layer.filters * channels
    return Work(between * math.prod(layer.kernel_size) + math.prod(outputs[0]) * channels)


def _dot(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return Work(math.prod(outputs[0]) * inputs[0][axis])


def _attention(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Multiplies queries with keys, and the probabilities with values."""
    (batch, queries, hidden_size), (_, tokens, _) = inputs
    return Work(2 * batch * queries * tokens * hidden_size, batch * layer.num_heads * queries * tokens)


def _windowed(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Multiplies within windows, each with the tokens in front of the patches, and these with all tokens."""
    (batch, queries, hidden_size), (_, tokens, _) = inputs
    front, windows, side = tokens - math.prod(layer.grid), math.prod(layer.windows), math.prod(layer.side)
    if windows == 1 or queries < tokens:
        return _attention(layer, inputs, outputs)
    pairs = batch * (front * tokens + windows * side * (front + side))
    return Work(2 * pairs * hidden_size, pairs * layer.num_heads)


def _relative(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Multiplies queries also with a key for each distance."""
    plain, (batch, queries, hidden_size), (_, tokens, _) = _attention(layer, inputs, outputs), *inputs
    return Work(plain.multiply_accumulates + batch * queries * (2 * tokens - 1) * hidden_size, plain.kept)


def _one_head(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    (batch, queries, query_size), (_, tokens, value_size) = inputs[:2]
    return Work(batch * queries * tokens * (query_size + value_size), batch * queries * tokens)


def _grouped_query(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    (batch, queries, _), (_, tokens, _) = inputs[:2]
    pairs = batch * layer.num_query_heads * queries * tokens
    return Work(2 * pairs * layer.head_dim, pairs)


def _multi_head(layer: Any, inputs: Shapes, outputs: Shapes) -> Work:
    """Multiplies like `_attention`, over the axes that the layer attends along."""
    query, value = inputs[:2]
    inner = range(1, len(query) - 1)
    axes = [axis % len(query) for axis in layer.get_config()["attention_axes"] or inner]
    queries, tokens = (math.prod(shape[axis] for axis in axes) for shape in (query, value))
    others = math.prod(query[axis] for axis in (0, *inner) if axis not in axes)
    pairs = others * layer.num_heads * queries * tokens
    return Work(pairs * (layer.key_dim + (layer.value_dim or layer.key_dim)), pairs)


# A rule is a function of the layer and lists of its input and output shapes. A subclass of a class in this table has
# the same rule, unless it defines its own `call`.
RULES: dict[type, Rule] = {
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
    layers.PatchMean: _nothing,
    layers.Positions: _nothing,
    # The work of these besides that of the layers inside them.
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

# Operations that multiply, between the layers of a functional model; they have no rule.
PRODUCTS = {"Conv", "ConvTranspose", "DepthwiseConv", "Dot", "DotProductAttention", "Einsum", "Inner", "Matmul"}
PRODUCTS |= {"Outer", "SeparableConv", "Tensordot", "Vdot"}
