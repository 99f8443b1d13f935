"""The MLP of a transformer block, with a GELU or gated (SwiGLU)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.initializers import initial

GELUS = {
    "tanh": lambda x: ops.gelu(x, approximate=True),
    # Written out, because exporting `ops.gelu(approximate=False)` to ONNX leaves an Erfc that no runtime takes.
    "erf": lambda x: 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5)),
}


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
