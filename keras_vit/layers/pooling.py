"""Pooling: from tokens to the vector that the head reads."""

from typing import Any

import keras
from keras import ops

from keras_vit.layers.attention import Attention
from keras_vit.layers.composite import Composite, Shape
from keras_vit.layers.mlp import MLP


@keras.saving.register_keras_serializable(package="keras_vit")
class ClassToken(keras.layers.Layer):
    """Pools tokens by returning the class token, token 0.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, hidden_size)

    Example:
        ```python
        tokens = np.arange(6.0).reshape(1, 3, 2)
        assert np.allclose(keras_vit.layers.ClassToken()(tokens), [[0, 1]])
        ```

    Source: arXiv:2010.11929, eq. 4.
    """

    def call(self, tokens: Any) -> Any:
        # Not tokens[:, 0]: LiteRT's GPU delegate refuses a slice that drops an axis.
        return ops.reshape(tokens[:, 0:1], (-1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], input_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class TextToken(keras.layers.Layer):
    """Pools the tokens of texts by returning one of them: the last, or the first one with a given id.

    Input:  tokens (batch, tokens, hidden_size) and their ids (batch, tokens)
    Output: (batch, hidden_size)

    Args:
        end: id of the token that ends a text, as in CLIP; None for the last token, as in SigLIP.

    Example:
        ```python
        tokens, ids = np.array([[[1.0], [2.0], [3.0]]]), np.array([[5, 9, 9]])
        assert np.allclose(keras_vit.layers.TextToken(end=9)(tokens, ids), [[2]])
        assert np.allclose(keras_vit.layers.TextToken()(tokens, ids), [[3]])
        ```

    Source: arXiv:2103.00020, section 2.4.
    """

    def __init__(self, end: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.end = end

    def call(self, tokens: Any, ids: Any) -> Any:
        if self.end is None:
            return ops.reshape(tokens[:, -1:], (-1, tokens.shape[-1]))
        # Texts are padded with the same id. Not `argmax`, which on some backends returns any of several equals.
        ends = ops.cast(ops.equal(ids, self.end), "int32")
        first = ends * ops.cast(ops.equal(ops.cumsum(ends, axis=1), 1), "int32")
        return ops.sum(tokens * ops.cast(first, tokens.dtype)[:, :, None], axis=1)

    def compute_output_shape(self, tokens_shape: Shape, ids_shape: Shape) -> Shape:
        return tokens_shape[0], tokens_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchMean(keras.layers.Layer):
    """Pools tokens by the mean of the patch tokens (global average pooling), without the tokens in front of them.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, hidden_size)

    Args:
        extra_tokens: number of tokens in front of those of the patches.

    Example:
        ```python
        tokens = np.array([[[0.0], [1.0], [3.0]]])
        assert np.allclose(keras_vit.layers.PatchMean()(tokens), [[2]])
        ```

    Source: arXiv:2106.08254, BEiT's classifier.
    """

    def __init__(self, extra_tokens: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extra_tokens = extra_tokens

    def call(self, tokens: Any) -> Any:
        return ops.mean(tokens[:, self.extra_tokens :], axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], input_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class ClassAndMean(keras.layers.Layer):
    """Concatenates the class token and the mean of the patch tokens (global average pooling).

    Input:  (batch, tokens, hidden_size)
    Output: (batch, 2 * hidden_size)

    Args:
        extra_tokens: number of tokens in front of those of the patches.

    Example:
        ```python
        tokens = np.array([[[0.0], [1.0], [3.0]]])
        assert np.allclose(keras_vit.layers.ClassAndMean()(tokens), [[0, 2]])
        ```

    Source: arXiv:2304.07193, the input of DINOv2's linear classifiers.
    """

    def __init__(self, extra_tokens: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extra_tokens = extra_tokens

    def call(self, tokens: Any) -> Any:
        own = ops.reshape(tokens[:, 0:1], (-1, tokens.shape[-1]))
        return ops.concatenate([own, ops.mean(tokens[:, self.extra_tokens :], axis=1)], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], 2 * input_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class ClassAndDistillation(keras.layers.Layer):
    """Concatenates DeiT's class token and distillation token, for `DistilledHead`.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, 2 * hidden_size)

    Example:
        ```python
        tokens = np.array([[[0.0], [1.0], [3.0]]])
        assert np.allclose(keras_vit.layers.ClassAndDistillation()(tokens), [[0, 1]])
        ```

    Source: arXiv:2012.12877, section 4.
    """

    def call(self, tokens: Any) -> Any:
        return ops.reshape(tokens[:, 0:2], (-1, 2 * tokens.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], 2 * input_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class DistilledHead(Composite, keras.layers.Dense):
    """DeiT's classification head: the mean of the logits of the class token's and the distillation token's head.

    Input:  (batch, 2 * hidden_size), the two tokens concatenated
    Output: (batch, units)

    Args:
        units: number of classes.
        **kwargs: arguments of `keras.layers.Dense`, for both heads; the layer itself is the class token's.

    Example:
        ```python
        head = keras_vit.layers.DistilledHead(units=3)
        assert head(np.ones((2, 2 * 8))).shape == (2, 3)
        ```

    Source: arXiv:2012.12877, section 5.3, without training.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        own = {"kernel_initializer": self.kernel_initializer, "bias_initializer": self.bias_initializer}
        self.distillation = keras.layers.Dense(units, **own, name="distillation", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        token = (*input_shape[:-1], input_shape[-1] // 2)
        super().build(token)
        self.distillation.build(token)
        self.input_spec = None  # that of Dense accepts one token alone

    def call(self, x: Any, training: bool | None = None) -> Any:
        token, distillation = ops.split(x, 2, axis=-1)
        return (super().call(token, training=training) + self.distillation(distillation)) / 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *input_shape[:-1], self.units


@keras.saving.register_keras_serializable(package="keras_vit")
class AttentionPooling(Composite):
    """Multi-head attention pooling (MAP): a learned query attends to all tokens.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, hidden_size)

    Args:
        num_heads: number of attention heads.
        mlp_dim: units of the MLP's hidden layer.
        gelu: "tanh" (approximate) or "erf" (exact).
        norm_epsilon: epsilon of the layer norm.

    Example:
        ```python
        pooling = keras_vit.layers.AttentionPooling(num_heads=2, mlp_dim=32)
        assert pooling(np.ones((1, 5, 8), "float32")).shape == (1, 8)
        ```

    Source: the MAP head of arXiv:2106.04560, as in big_vision: no residual around the attention and no norm at the end.
    """

    def __init__(
        self, num_heads: int, mlp_dim: int, gelu: str = "tanh", norm_epsilon: float = 1e-6, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.attention = Attention(num_heads, name="attention", dtype=self.dtype_policy)
        self.norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="norm", dtype=self.dtype_policy)
        self.mlp = MLP(mlp_dim, gelu=gelu, name="mlp", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        probe_shape = (1, 1, input_shape[-1])
        self.probe = self.add_weight(name="probe", shape=probe_shape, initializer="glorot_uniform")
        self.attention.build(probe_shape, input_shape)
        self.norm.build(probe_shape)
        self.mlp.build(probe_shape)

    def call(self, tokens: Any, training: bool | None = None) -> Any:
        x = self.attention(self._queries(tokens), tokens, training=training)
        x = x + self.mlp(self.norm(x), training=training)
        return ops.reshape(x, (-1, tokens.shape[-1]))

    def attention_probabilities(self, tokens: Any) -> Any:
        """Returns the attention probabilities of the learned query, (batch, heads, 1, tokens)."""
        return self.attention.probabilities(self._queries(tokens), tokens)

    def _queries(self, tokens: Any) -> Any:
        """Returns the learned query for each image, (batch, 1, hidden_size)."""
        return ops.broadcast_to(self.probe, (ops.shape(tokens)[0], 1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], input_shape[-1]
