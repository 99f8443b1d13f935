"""Transformer blocks, and the layer scale on their branches."""

import functools

import keras

from keras_vit.layers.attention import Attention, RelativeAttention, WindowAttention
from keras_vit.layers.composite import Composite
from keras_vit.layers.mlp import MLP, SwiGLU


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
        stochastic_depth: probability with which an image skips each half of the block in training.
        gelu: "tanh" or "erf".
        norm_epsilon: keeps the norms from dividing by 0. With Keras' own default, 1e-3, the logits of an official
            ViT-B/16 are off by 0.4.
        layer_scale: what the factors on both branches start from; None for none.
        swiglu: whether the MLP is a `SwiGLU`.

    Source: arXiv:2010.11929, eq. 2 and 3; stochastic depth: arXiv:1603.09382.
    """

    attention_class = Attention
    rematerialized = False  # whether inner values are computed again for the gradient instead of kept

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
        # One coin an image: the same mask for all its tokens, and the survivors scaled up.
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
        mixed = functools.partial(self._mixed, training=training)
        return keras.remat(mixed)(x) if self.rematerialized else mixed(x)

    def _mixed(self, x, training):
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


@keras.saving.register_keras_serializable(package="keras_vit")
class RelativeBlock(TransformerBlock):
    """Mixes the tokens as `TransformerBlock`, with `RelativeAttention`."""

    attention_class = RelativeAttention


@keras.saving.register_keras_serializable(package="keras_vit")
class WindowBlock(TransformerBlock):
    """Mixes the tokens as `TransformerBlock`, with `WindowAttention`.

    Args:
        num_heads, mlp_dim, **kwargs: as of `TransformerBlock`.
        grid: (rows, columns) of patches.
        window: (rows, columns) of a window, None for all: (1, None) and (None, 1) are the halves of an axial block.
    """

    attention_class = WindowAttention

    def __init__(self, num_heads, mlp_dim, grid=(1, 1), window=(1, 1), **kwargs):
        super().__init__(num_heads, mlp_dim, **kwargs)
        self.attention.grid, self.attention.window = tuple(grid), tuple(window)
