"""The MLP (feed-forward network) of a transformer block, with a GELU or a SwiGLU."""

from typing import Any

import keras
from keras import ops

from keras_vit import _compat
from keras_vit.layers.composite import Composite, Shape
from keras_vit.layers.initializers import initial


def tanh_gelu(x: Any) -> Any:
    """Returns the GELU by its approximation with tanh."""
    # TensorFlow fuses it with the matrix product before it (oneDNN), but only if the names of its operations come after
    # the product's in the alphabet: it sorts factors by name, then looks for one order. "Gelu" comes before "hidden".
    with keras.name_scope("tanh_gelu"):
        return ops.gelu(x, approximate=True)


def quick_gelu(x: Any) -> Any:
    """Returns OpenAI CLIP's approximation of the GELU, x * sigmoid(1.702 x)."""
    return x * ops.sigmoid(1.702 * x)


GELUS = {"tanh": tanh_gelu, "erf": _compat.exact_gelu, "quick": quick_gelu}


@keras.saving.register_keras_serializable(package="keras_vit")
class MLP(Composite):
    """The MLP (feed-forward network) of a transformer block: Dense, GELU, dropout, Dense, dropout.

    Input and output: (batch, tokens, hidden_size)

    Args:
        mlp_dim: units of the hidden layer.
        dropout: rate of both dropouts.
        gelu: "tanh" (approximate, as the official checkpoints were trained), "erf" (exact, as in the ports) or "quick"
            (OpenAI CLIP's).

    Raises:
        ValueError: if `gelu` is unknown.

    Example:
        ```python
        mlp = keras_vit.layers.MLP(mlp_dim=32)
        assert mlp(np.ones((1, 5, 8), "float32")).shape == (1, 5, 8)
        ```

    Source: arXiv:2010.11929, eq. 3; the official `models_vit.py`.
    """

    parts = 1  # the hidden layer has this many times mlp_dim units

    def __init__(self, mlp_dim: int, dropout: float = 0.0, gelu: str = "tanh", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if gelu not in GELUS:
            raise ValueError(f"Expected gelu to be one of {tuple(GELUS)}. Received: gelu={gelu!r}")
        self.mlp_dim = mlp_dim
        self.gelu = gelu
        self.hidden_dropout, self.out_dropout = (
            keras.layers.Dropout(dropout, name=name, dtype=self.dtype_policy)
            for name in ("hidden_dropout", "out_dropout")
        )

    def build(self, input_shape: Shape) -> None:
        # Small random biases, as in the official code.
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

    def call(self, x: Any, training: bool | None = None) -> Any:
        tokens, hidden_size = x.shape[1:]
        x = self.hidden(ops.reshape(x, (-1, hidden_size)))  # flat: TensorFlow adds the bias within the matrix product
        x = self.out(self.hidden_dropout(self.activation(x), training=training))
        return self.out_dropout(ops.reshape(x, (-1, tokens, hidden_size)), training=training)

    def activation(self, x: Any) -> Any:
        """Returns the activation of the hidden layer, (..., parts * mlp_dim) to (..., mlp_dim)."""
        return GELUS[self.gelu](x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@keras.saving.register_keras_serializable(package="keras_vit")
class SwiGLU(MLP):
    """Gated MLP (SwiGLU): Dense, one half multiplied by the SiLU of the other, norm, dropout, Dense, dropout.

    Input and output: (batch, tokens, hidden_size)

    Args:
        mlp_dim: units of each half of the hidden layer.
        dropout: rate of both dropouts.
        gelu: unused, as there is no GELU; the argument is that of `MLP`.
        norm_epsilon: epsilon of a layer norm of the hidden layer, as in EVA-02; None for no norm.

    Example:
        ```python
        mlp = keras_vit.layers.SwiGLU(mlp_dim=32)
        assert mlp(np.ones((1, 5, 8), "float32")).shape == (1, 5, 8)
        ```

    Source: arXiv:2002.05202; the first half goes through the SiLU, as in DINOv2 and timm's SwiGLUPacked.
    """

    parts = 2

    def __init__(
        self,
        mlp_dim: int,
        dropout: float = 0.0,
        gelu: str = "tanh",
        norm_epsilon: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(mlp_dim, dropout, gelu, **kwargs)
        self.norm = None
        if norm_epsilon is not None:
            self.norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.norm:
            self.norm.build((None, self.mlp_dim))

    def activation(self, x: Any) -> Any:
        gate, x = ops.split(x, 2, axis=-1)
        x = ops.silu(gate) * x
        return self.norm(x) if self.norm else x
