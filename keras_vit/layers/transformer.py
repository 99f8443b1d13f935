"""Transformer blocks, and LayerScale on their branches."""

import functools
from collections.abc import Sequence
from typing import Any

import keras

from keras_vit.layers.attention import (
    Attention,
    BiasAttention,
    CausalAttention,
    RelativeAttention,
    RotaryAttention,
    WindowAttention,
)
from keras_vit.layers.composite import Composite, Shape
from keras_vit.layers.hooks import tokens_read
from keras_vit.layers.mlp import MLP, SwiGLU


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerScale(keras.layers.Layer):
    """LayerScale: multiplies each channel by a learned factor.

    Input and output: (batch, tokens, hidden_size)

    Args:
        start: initial value of all factors.

    Example:
        ```python
        scale = keras_vit.layers.LayerScale(0.1)
        assert np.allclose(scale(np.ones((1, 5, 8), "float32")), 0.1)
        ```

    Source: arXiv:2103.17239.
    """

    def __init__(self, start: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape: Shape) -> None:
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.start)
        )

    def call(self, x: Any) -> Any:
        return x * self.gamma

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@keras.saving.register_keras_serializable(package="keras_vit")
class TransformerBlock(Composite):
    """Transformer encoder block: x + Attention(norm(x)), then x + MLP(norm(x)).

    Input and output: (batch, tokens, hidden_size)

    Args:
        num_heads: number of attention heads.
        mlp_dim: units of the MLP's hidden layer.
        dropout: dropout rate after the attention and in the MLP.
        attention_dropout: dropout rate of the attention probabilities; 0 in all published checkpoints.
        stochastic_depth: rate of stochastic depth (DropPath): the probability with which an image skips each of the two
            branches in training.
        gelu: "tanh" (approximate), "erf" (exact) or "quick" (OpenAI CLIP's).
        norm_epsilon: epsilon of the layer norms. With Keras' own default, 1e-3, the logits of an official ViT-B/16
            differ by 0.4.
        layer_scale: initial value of LayerScale's factors on both branches; None for no LayerScale.
        swiglu: whether the MLP is a `SwiGLU`.
        swiglu_norm: whether the SwiGLU has a layer norm inside.
        qkv_bias: which projections of the attention have a bias: "qkv", "qv" or "none".

    Example:
        ```python
        block, x = keras_vit.layers.TransformerBlock(num_heads=2, mlp_dim=32, stochastic_depth=0.1), np.ones((1, 5, 8))
        assert block(x).shape == (1, 5, 8)
        assert block.attention_probabilities(x).shape == (1, 2, 5, 5)
        ```

    Source: arXiv:2010.11929, eq. 2 and 3; stochastic depth: arXiv:1603.09382.
    """

    attention_class: type[Attention] = Attention
    rematerialized = False  # whether inner values are computed again for the gradient instead of kept

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        gelu: str = "tanh",
        norm_epsilon: float = 1e-6,
        layer_scale: float | None = None,
        swiglu: bool = False,
        swiglu_norm: bool = False,
        qkv_bias: str = "qkv",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.layer_scale = layer_scale
        options = {"dtype": self.dtype_policy}
        self.attention_norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="attention_norm", **options)
        self.attention = self.attention_class(
            num_heads, attention_dropout, qkv_bias=qkv_bias, name="attention", **options
        )
        self.attention_dropout = keras.layers.Dropout(dropout, name="attention_dropout", **options)
        self.mlp_norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="mlp_norm", **options)
        inner = {"norm_epsilon": norm_epsilon} if swiglu_norm else {}
        self.mlp = (SwiGLU if swiglu else MLP)(mlp_dim, dropout, gelu, name="mlp", **inner, **options)
        # Stochastic depth (DropPath): one random choice for all tokens of an image; the kept branches are scaled up.
        self.skips = [
            keras.layers.Dropout(stochastic_depth, noise_shape=(None, 1, 1), name=name, **options)
            for name in ("attention_skip", "mlp_skip")
        ]
        self.scales = [
            LayerScale(layer_scale, name=name, **options) for name in ("attention_scale", "mlp_scale") if layer_scale
        ]

    def build(self, input_shape: Shape) -> None:
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp.build(input_shape)
        for scale in self.scales:
            scale.build(input_shape)

    def call(self, x: Any, training: bool | None = None) -> Any:
        # A subclass with a call of its own may read all tokens there.
        read = tokens_read(self) if type(self).call is TransformerBlock.call else None
        computed = functools.partial(self._computed, read=read, training=training)
        return keras.remat(computed)(x) if self.rematerialized else computed(x)

    def _computed(self, x: Any, read: int | None, training: bool | None) -> Any:
        """Returns the tokens after the block, the first `read` alone unless it is None."""
        queries = y = self.attention_norm(x)
        if read is not None:
            x, queries = x[:, :read], y[:, :read]
        y = self.attention_dropout(self.attention(queries, y, training=training), training=training)
        x = x + self.skips[0](self.scaled(y, 0), training=training)
        y = self.mlp(self.mlp_norm(x), training=training)
        return x + self.skips[1](self.scaled(y, 1), training=training)

    def scaled(self, y: Any, branch: int) -> Any:
        """Returns the output of a branch after its LayerScale, if it has one; 0 is the attention, 1 the MLP."""
        return self.scales[branch](y) if self.scales else y

    def attention_probabilities(self, x: Any) -> Any:
        """Returns the attention probabilities of the block for its input `x`, (batch, heads, tokens, tokens)."""
        y = self.attention_norm(x)
        return self.attention.probabilities(y, y)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@keras.saving.register_keras_serializable(package="keras_vit")
class RelativeBlock(TransformerBlock):
    """Transformer encoder block with `RelativeAttention`.

    Input and output: (batch, tokens, hidden_size)

    Args:
        num_heads, mlp_dim, dropout, attention_dropout, stochastic_depth, gelu, norm_epsilon: as in `TransformerBlock`.
        layer_scale, swiglu, swiglu_norm, qkv_bias: as in `TransformerBlock`.

    Example:
        ```python
        block = keras_vit.layers.RelativeBlock(num_heads=2, mlp_dim=32)
        assert block(np.ones((1, 5, 8))).shape == (1, 5, 8)
        ```

    Source: arXiv:2010.11929, appendix D.4.
    """

    attention_class = RelativeAttention


@keras.saving.register_keras_serializable(package="keras_vit")
class WindowBlock(TransformerBlock):
    """Transformer encoder block with `WindowAttention`; two of them make an axial block.

    Input and output: (batch, tokens, hidden_size); the last tokens are those of the grid, row by row

    Args:
        num_heads, mlp_dim: as in `TransformerBlock`.
        grid: (rows, columns) of patches.
        window: (rows, columns) of a window, None for all; (1, None) and (None, 1) are the halves of an axial block.
        **kwargs: the other arguments of `TransformerBlock`.

    Example:
        ```python
        block = keras_vit.layers.WindowBlock(num_heads=2, mlp_dim=32, grid=(4, 6), window=(2, 3))
        assert block(np.ones((1, 4 * 6, 8))).shape == (1, 24, 8)
        ```

    Source: arXiv:2103.14030, section 3.2, without the shift; axial: arXiv:2010.11929, appendix D.6.
    """

    attention_class = WindowAttention
    attention: WindowAttention

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        grid: Sequence[int] = (1, 1),
        window: Sequence[int | None] = (1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, mlp_dim, **kwargs)
        self.attention.grid, self.attention.window = tuple(grid), tuple(window)


@keras.saving.register_keras_serializable(package="keras_vit")
class RotaryBlock(TransformerBlock):
    """Transformer encoder block with `RotaryAttention`.

    Input and output: (batch, tokens, hidden_size); the last tokens are those of the grid, row by row

    Args:
        num_heads, mlp_dim: as in `TransformerBlock`.
        grid, theta, reference, offset, columns_first: as in `RotaryAttention`.
        **kwargs: the other arguments of `TransformerBlock`.

    Example:
        ```python
        block = keras_vit.layers.RotaryBlock(num_heads=2, mlp_dim=32, grid=(4, 6))
        assert block(np.ones((1, 1 + 4 * 6, 8))).shape == (1, 25, 8)
        ```

    Source: arXiv:2104.09864; arXiv:2508.10104.
    """

    attention_class = RotaryAttention
    attention: RotaryAttention

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        grid: Sequence[int] = (1, 1),
        theta: float = 100.0,
        reference: Sequence[int] | None = None,
        offset: int = 0,
        columns_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, mlp_dim, **kwargs)
        own = {"theta": theta, "offset": offset, "columns_first": columns_first}
        for name, value in {"grid": tuple(grid), "reference": reference and tuple(reference), **own}.items():
            setattr(self.attention, name, value)


@keras.saving.register_keras_serializable(package="keras_vit")
class BiasBlock(TransformerBlock):
    """Transformer encoder block with `BiasAttention`.

    Input and output: (batch, tokens, hidden_size); the class token, then those of the grid, row by row

    Args:
        num_heads, mlp_dim: as in `TransformerBlock`.
        grid: (rows, columns) of patches.
        **kwargs: the other arguments of `TransformerBlock`.

    Example:
        ```python
        block = keras_vit.layers.BiasBlock(num_heads=2, mlp_dim=32, grid=(4, 6))
        assert block(np.ones((1, 1 + 4 * 6, 8))).shape == (1, 25, 8)
        ```

    Source: arXiv:2106.08254.
    """

    attention_class = BiasAttention
    attention: BiasAttention

    def __init__(self, num_heads: int, mlp_dim: int, grid: Sequence[int] = (1, 1), **kwargs: Any) -> None:
        super().__init__(num_heads, mlp_dim, **kwargs)
        self.attention.grid = tuple(grid)


@keras.saving.register_keras_serializable(package="keras_vit")
class CausalBlock(TransformerBlock):
    """Transformer encoder block with `CausalAttention`.

    Input and output: (batch, tokens, hidden_size)

    Args:
        num_heads, mlp_dim, dropout, attention_dropout, stochastic_depth, gelu, norm_epsilon: as in `TransformerBlock`.
        layer_scale, swiglu, swiglu_norm, qkv_bias: likewise.

    Example:
        ```python
        block = keras_vit.layers.CausalBlock(num_heads=2, mlp_dim=32)
        assert block(np.ones((1, 5, 8))).shape == (1, 5, 8)
        ```

    Source: arXiv:2103.00020, section 2.4.
    """

    attention_class = CausalAttention
