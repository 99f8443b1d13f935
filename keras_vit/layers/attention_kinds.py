"""Blocks whose attention is not that of the plain Vision Transformer: by distance, and within windows."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.initial import initial
from keras_vit.layers.transformer import Attention, TransformerBlock

# Far below any score, and within float16; minus infinity would not survive an 8-bit file.
NEVER = -3e4


@keras.saving.register_keras_serializable(package="keras_vit")
class RelativeAttention(Attention):
    """Attends as `Attention`, and by how far apart two tokens are in the sequence.

    Each distance, from -(tokens - 1) to tokens - 1, has a learned key, the same for all heads; how well a query goes
    with it is added to how well it goes with the token that is so far away.

    Input, output and arguments: as of `Attention`, for self-attention

    Source: arXiv:2010.11929, appendix D.4; arXiv:1803.02155.
    """

    def build(self, queries_shape, tokens_shape):
        super().build(queries_shape, tokens_shape)
        tokens, hidden_size = tokens_shape[1:]
        self.relative_keys = self.add_weight(
            name="relative_keys",
            shape=(2 * tokens - 1, hidden_size // self.num_heads),
            initializer=initial(keras.initializers.RandomNormal(stddev=0.02)),
        )

    def scores(self, q, k):
        tokens = k.shape[2]
        by_distance = ops.matmul(q, ops.transpose(self.relative_keys))  # (batch, heads, tokens, 2 * tokens - 1)
        # Query i wants the columns from tokens - 1 - i on: laid out flat, each row begins one number later.
        flat = ops.reshape(by_distance, (-1, self.num_heads, tokens * (2 * tokens - 1)))
        flat = flat[:, :, tokens - 1 : tokens - 1 + tokens * (2 * tokens - 2)]
        return super().scores(q, k) + ops.reshape(flat, (-1, self.num_heads, tokens, 2 * tokens - 2))[..., :tokens]


@keras.saving.register_keras_serializable(package="keras_vit")
class WindowAttention(Attention):
    """Attends as `Attention`, patches only to patches of their own window; tokens in front of them see and are seen.

    The scores of all pairs are computed and most of them taken out, so that this is no faster than full attention; it
    is what can be analysed, exported and compared like any other.

    Input, output: as of `Attention`, for self-attention; the last tokens are those of the grid

    Args:
        num_heads, dropout: as of `Attention`.
        grid: (rows, columns) of patches.
        window: (rows, columns) of a window, None for all; those at the bottom and on the right may be smaller.
    """

    def __init__(self, num_heads, dropout=0.0, grid=(1, 1), window=(1, 1), **kwargs):
        super().__init__(num_heads, dropout, **kwargs)
        self.grid, self.window = tuple(grid), tuple(window)

    def scores(self, q, k):
        return super().scores(q, k) + ops.cast(self._bias(k.shape[2]), q.dtype)

    def _bias(self, tokens):
        """Returns 0 where a token may look and `NEVER` where not, (1, 1, tokens, tokens)."""
        (rows, columns), (high, wide) = self.grid, (size or max(self.grid) for size in self.window)
        windows = np.arange(rows)[:, None] // high * columns + np.arange(columns) // wide
        bias = np.zeros((1, 1, tokens, tokens), "float32")
        own = windows.reshape(-1)
        bias[..., -rows * columns :, -rows * columns :] = np.where(own[:, None] == own, 0, NEVER)
        return bias


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
