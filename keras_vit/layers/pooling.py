"""From tokens to the one vector that the head reads."""

import keras
from keras import ops

from keras_vit.layers.attention import Attention
from keras_vit.layers.composite import Composite
from keras_vit.layers.mlp import MLP


@keras.saving.register_keras_serializable(package="keras_vit")
class ClassToken(keras.layers.Layer):
    """Takes the class token, token 0.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, hidden_size)
    """

    def call(self, tokens):
        # Not tokens[:, 0]: LiteRT's GPU delegate refuses a slice that drops an axis.
        return ops.reshape(tokens[:, 0:1], (-1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class ClassAndMean(keras.layers.Layer):
    """Puts the class token and the mean of the patch tokens side by side.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, 2 * hidden_size)

    Args:
        extra_tokens: tokens in front of those of the patches.

    Source: what the linear classifiers of DINOv2 (arXiv:2304.07193) read.
    """

    def __init__(self, extra_tokens=1, **kwargs):
        super().__init__(**kwargs)
        self.extra_tokens = extra_tokens

    def call(self, tokens):
        own = ops.reshape(tokens[:, 0:1], (-1, tokens.shape[-1]))
        return ops.concatenate([own, ops.mean(tokens[:, self.extra_tokens :], axis=1)], axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape[0], 2 * input_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class ClassAndDistillation(keras.layers.Layer):
    """Puts DeiT's two tokens side by side, for `DistilledHead`.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, 2 * hidden_size)
    """

    def call(self, tokens):
        return ops.reshape(tokens[:, 0:2], (-1, 2 * tokens.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape[0], 2 * input_shape[-1]


@keras.saving.register_keras_serializable(package="keras_vit")
class DistilledHead(Composite, keras.layers.Dense):
    """Gives the mean of the logits of two heads, one of the class token and one of the distillation token.

    Input:  (batch, 2 * hidden_size), the two tokens side by side
    Output: (batch, units)

    Args:
        units: number of classes.
        **kwargs: as of `keras.layers.Dense`, which is the class token's head; for both.

    Source: arXiv:2012.12877, section 5.3, without training.
    """

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        own = {"kernel_initializer": self.kernel_initializer, "bias_initializer": self.bias_initializer}
        self.distillation = keras.layers.Dense(units, **own, name="distillation", dtype=self.dtype_policy)

    def build(self, input_shape):
        token = (*input_shape[:-1], input_shape[-1] // 2)
        super().build(token)
        self.distillation.build(token)
        self.input_spec = None  # Dense would hold callers to the width of one token

    def call(self, x, training=None):
        token, distillation = ops.split(x, 2, axis=-1)
        return (super().call(token, training=training) + self.distillation(distillation)) / 2

    def compute_output_shape(self, input_shape):
        return *input_shape[:-1], self.units


@keras.saving.register_keras_serializable(package="keras_vit")
class AttentionPooling(Composite):
    """Pools tokens with a learned query: x = Attention(probe, tokens), then x + MLP(norm(x)).

    Input:  (batch, tokens, hidden_size)
    Output: (batch, hidden_size)

    Args:
        num_heads: attention heads.
        mlp_dim: hidden width of the MLP.
        gelu: "tanh" or "erf".
        norm_epsilon: keeps the norm from dividing by 0.

    Source: the multi-head attention pooling (MAP) head of arXiv:2106.04560, as in big_vision: no residual around
    the attention and no norm at the end.
    """

    def __init__(self, num_heads, mlp_dim, gelu="tanh", norm_epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.attention = Attention(num_heads, name="attention", dtype=self.dtype_policy)
        self.norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="norm", dtype=self.dtype_policy)
        self.mlp = MLP(mlp_dim, gelu=gelu, name="mlp", dtype=self.dtype_policy)

    def build(self, input_shape):
        probe_shape = (1, 1, input_shape[-1])
        self.probe = self.add_weight(name="probe", shape=probe_shape, initializer="glorot_uniform")
        self.attention.build(probe_shape, input_shape)
        self.norm.build(probe_shape)
        self.mlp.build(probe_shape)

    def call(self, tokens, training=None):
        x = self.attention(self._queries(tokens), tokens, training=training)
        x = x + self.mlp(self.norm(x), training=training)
        return ops.reshape(x, (-1, tokens.shape[-1]))

    def attention_probabilities(self, tokens):
        """Returns how much the probe attends to each token, (batch, heads, 1, tokens)."""
        return self.attention.probabilities(self._queries(tokens), tokens)

    def _queries(self, tokens):
        return ops.broadcast_to(self.probe, (ops.shape(tokens)[0], 1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[-1]
