"""The transformer block and its two halves, attention and MLP."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.initial import initial

GELUS = {
    "tanh": lambda x: ops.gelu(x, approximate=True),
    # Written out, because exporting `ops.gelu(approximate=False)` to ONNX leaves an Erfc that no runtime takes.
    "erf": lambda x: 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5)),
}


@keras.saving.register_keras_serializable(package="keras_vit")
class Attention(Composite):
    """Lets every query token gather from all tokens, in several heads.

    Input:  queries (batch, queries, hidden_size) and tokens (batch, tokens, hidden_size); the same for self-attention
    Output: (batch, queries, hidden_size)

    Args:
        num_heads: attention heads; each works on hidden_size / num_heads numbers of a token.
        dropout: rate of the dropout on the attention probabilities.

    Raises:
        ValueError: at build time, if the hidden size is not a multiple of `num_heads`.

    Source: arXiv:2010.11929, appendix A.
    """

    def __init__(self, num_heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, queries_shape, tokens_shape):
        hidden_size = queries_shape[-1]
        if hidden_size % self.num_heads:
            raise ValueError(
                "Expected the hidden size to be a multiple of num_heads. "
                f"Received: hidden size {hidden_size}, num_heads={self.num_heads}"
            )
        self.query, self.key, self.value, self.out = (
            keras.layers.Dense(
                hidden_size, kernel_initializer=initial("glorot_uniform"), name=name, dtype=self.dtype_policy
            )
            for name in ("query", "key", "value", "out")
        )
        for layer, shape in (
            (self.query, queries_shape),
            (self.key, tokens_shape),
            (self.value, tokens_shape),
            (self.out, queries_shape),
        ):
            layer.build(shape)

    def call(self, queries, tokens, training=None):
        weights = self.dropout(self.probabilities(queries, tokens), training=training)
        return self._joined(ops.matmul(weights, self._heads(self.value, tokens)))

    def probabilities(self, queries, tokens):
        """Returns how much each query attends to each token, (batch, heads, queries, tokens); rows sum to 1."""
        q, k = self._heads(self.query, queries), self._heads(self.key, tokens)
        return ops.softmax(self.scores(q * q.shape[-1] ** -0.5, k))

    def scores(self, q, k):
        """Returns how well each query goes with each key, (batch, heads, queries, tokens), before the softmax."""
        return ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))

    def _heads(self, layer, x):
        tokens, hidden_size = x.shape[1:]
        x = layer(ops.reshape(x, (-1, hidden_size)))  # flat: TensorFlow adds the bias within the matrix product
        x = ops.reshape(x, (-1, tokens, self.num_heads, hidden_size // self.num_heads))
        return ops.transpose(x, (0, 2, 1, 3))  # (batch, heads, tokens, head_dim)

    def _joined(self, x):
        heads, tokens, head_dim = x.shape[1:]
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, heads * head_dim))  # (batch * tokens, hidden_size)
        return ops.reshape(self.out(x), (-1, tokens, heads * head_dim))

    def compute_output_shape(self, queries_shape, tokens_shape):
        return queries_shape


@keras.saving.register_keras_serializable(package="keras_vit")
class MLP(Composite):
    """Transforms each token by itself: Dense, GELU, dropout, Dense, dropout.

    Input and output: (batch, tokens, hidden_size)

    Args:
        mlp_dim: hidden width.
        dropout: rate of both dropouts.
        gelu: "tanh" (the approximation that the official files were trained with) or "erf" (exact; the ports').

    Raises:
        ValueError: if `gelu` is unknown.
    """

    parts = 1  # of mlp_dim each, that the hidden layer has

    def __init__(self, mlp_dim, dropout=0.0, gelu="tanh", **kwargs):
        super().__init__(**kwargs)
        if gelu not in GELUS:
            raise ValueError(f"Expected gelu to be one of {tuple(GELUS)}. Received: gelu={gelu!r}")
        self.mlp_dim = mlp_dim
        self.gelu = gelu
        self.hidden_dropout, self.out_dropout = (
            keras.layers.Dropout(dropout, name=name, dtype=self.dtype_policy)
            for name in ("hidden_dropout", "out_dropout")
        )

    def build(self, input_shape):
        # Small random biases: the official code's, and the paper's code of the original transformer.
        self.hidden, self.out = (
            keras.layers.Dense(
                units,
                bias_initializer=initial(keras.initializers.RandomNormal(stddev=1e-6)),
                kernel_initializer=initial("glorot_uniform"),
                name=name,
                dtype=self.dtype_policy,
            )
            for name, units in (("hidden", self.parts * self.mlp_dim), ("out", input_shape[-1]))
        )
        self.hidden.build(input_shape)
        self.out.build((*input_shape[:-1], self.mlp_dim))

    def call(self, x, training=None):
        tokens, hidden_size = x.shape[1:]
        x = self.hidden(ops.reshape(x, (-1, hidden_size)))  # flat: TensorFlow adds the bias within the matrix product
        x = self.out(self.hidden_dropout(self.activation(x), training=training))
        return self.out_dropout(ops.reshape(x, (-1, tokens, hidden_size)), training=training)

    def activation(self, x):
        """Returns what of the hidden layer goes on, (..., parts * mlp_dim) to (..., mlp_dim)."""
        return GELUS[self.gelu](x)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_vit")
class SwiGLU(MLP):
    """Transforms each token by itself: Dense, one half gated by the SiLU of the other, dropout, Dense, dropout.

    Input and output: (batch, tokens, hidden_size)

    Args:
        mlp_dim: width of a half, which is what the second Dense reads.
        dropout, gelu: as of `MLP`; there is no GELU here.

    Source: arXiv:2002.05202; the first half goes through the SiLU, as in DINOv2 and timm's SwiGLUPacked.
    """

    parts = 2

    def activation(self, x):
        gate, x = ops.split(x, 2, axis=-1)
        return ops.silu(gate) * x


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel with a learned factor.

    Input and output: (batch, tokens, hidden_size)

    Args:
        start: first value of all factors.

    Source: arXiv:2103.17239.
    """

    def __init__(self, start, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.start)
        )

    def call(self, x):
        return x * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_vit")
class TransformerBlock(Composite):
    """Mixes the tokens: x + Attention(norm(x)), then x + MLP(norm(x)).

    Input and output: (batch, tokens, hidden_size)

    Args:
        num_heads: attention heads.
        mlp_dim: hidden width of the MLP.
        dropout: rate after the attention and inside the MLP.
        attention_dropout: rate on the attention probabilities; 0 in all released models.
        stochastic_depth: probability with which a picture skips each half of the block in training.
        gelu: "tanh" or "erf".
        norm_epsilon: keeps the norms from dividing by 0. With Keras' own default, 1e-3, the logits of an official
            ViT-B/16 are off by 0.4.
        layer_scale: what the factors on both branches start from; None for none.
        swiglu: whether the MLP is a `SwiGLU`.

    Source: arXiv:2010.11929, eq. 2 and 3; stochastic depth: arXiv:1603.09382.
    """

    attention_class = Attention

    def __init__(
        self,
        num_heads,
        mlp_dim,
        dropout=0.0,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        gelu="tanh",
        norm_epsilon=1e-6,
        layer_scale=None,
        swiglu=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.layer_scale = layer_scale
        of_ours = {"dtype": self.dtype_policy}
        self.attention_norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="attention_norm", **of_ours)
        self.attention = self.attention_class(num_heads, attention_dropout, name="attention", **of_ours)
        self.attention_dropout = keras.layers.Dropout(dropout, name="attention_dropout", **of_ours)
        self.mlp_norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="mlp_norm", **of_ours)
        self.mlp = (SwiGLU if swiglu else MLP)(mlp_dim, dropout, gelu, name="mlp", **of_ours)
        # One coin a picture: the same mask for all its tokens, and the survivors scaled up.
        self.skips = [
            keras.layers.Dropout(stochastic_depth, noise_shape=(None, 1, 1), name=name, **of_ours)
            for name in ("attention_skip", "mlp_skip")
        ]
        self.scales = [
            LayerScale(layer_scale, name=name, **of_ours) for name in ("attention_scale", "mlp_scale") if layer_scale
        ]

    def build(self, input_shape):
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp.build(input_shape)
        for scale in self.scales:
            scale.build(input_shape)

    def call(self, x, training=None):
        y = self.attention_norm(x)
        y = self.attention_dropout(self.attention(y, y, training=training), training=training)
        x = x + self.skips[0](self.scaled(y, 0), training=training)
        y = self.mlp(self.mlp_norm(x), training=training)
        return x + self.skips[1](self.scaled(y, 1), training=training)

    def scaled(self, y, branch):
        """Returns what a branch gave, times its factors where it has some; 0 is the attention's, 1 the MLP's."""
        return self.scales[branch](y) if self.scales else y

    def attention_probabilities(self, x):
        """Returns the attention of this block on its input `x`, (batch, heads, tokens, tokens)."""
        y = self.attention_norm(x)
        return self.attention.probabilities(y, y)

    def compute_output_shape(self, input_shape):
        return input_shape
