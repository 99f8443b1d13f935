"""Multi-head attention: plain, by relative position, and within windows."""

import math

import keras
import numpy as np
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.hooks import is_hooked, through_hooks
from keras_vit.layers.initializers import initial


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
        weights = through_hooks(self, "probabilities", self.probabilities(queries, tokens))
        weights = self.dropout(weights, training=training)
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


# What puts a score below any other, and is within float16; infinity would not survive an 8-bit file.
FAR = 3e4


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

    Scores are computed window by window. `probabilities` alone has those of all pairs, 0 between windows.

    Input, output: as of `Attention`, for self-attention; the last tokens are those of the grid

    Args:
        num_heads, dropout: as of `Attention`.
        grid: (rows, columns) of patches.
        window: (rows, columns) of a window, None for all; those at the bottom and on the right may be smaller.
    """

    def __init__(self, num_heads, dropout=0.0, grid=(1, 1), window=(1, 1), **kwargs):
        super().__init__(num_heads, dropout, **kwargs)
        self.grid, self.window = tuple(grid), tuple(window)

    @property
    def side(self):
        """Returns the (rows, columns) of a window that is whole."""
        return tuple(min(size or length, length) for size, length in zip(self.window, self.grid))

    @property
    def windows(self):
        """Returns how many windows there are (one below, one beside the other)."""
        return tuple(-(-length // size) for size, length in zip(self.side, self.grid))

    def call(self, queries, tokens, training=None):
        if self.windows == (1, 1) or is_hooked(self, "probabilities"):  # a hook receives those of all pairs
            return super().call(queries, tokens, training=training)
        q, k, v = (self._heads(layer, tokens) for layer in (self.query, self.key, self.value))
        q = q * q.shape[-1] ** -0.5
        front = tokens.shape[1] - math.prod(self.grid)
        scores = super().scores(self._cut(q[:, :, front:]), self._cut_with(front, k))
        if not (there := self._there(front)).all():
            scores = _only(there, scores)
        x = self._put_back(self._gathered(scores, self._cut_with(front, v), training))
        if front:
            x = ops.concatenate([self._gathered(super().scores(q[:, :, :front], k), v, training), x], axis=2)
        return self._joined(x)

    def _gathered(self, scores, values, training):
        return ops.matmul(self.dropout(ops.softmax(scores), training=training), values)

    def _cut(self, x):
        """Returns patches by windows, (batch, heads * windows, patches of a window, head_dim), zeros where none are."""
        (rows, columns), (high, wide), (below, beside), head_dim = self.grid, self.side, self.windows, x.shape[-1]
        x = ops.reshape(x, (-1, rows, columns, head_dim))
        x = ops.pad(x, ((0, 0), (0, below * high - rows), (0, beside * wide - columns), (0, 0)))
        x = ops.transpose(ops.reshape(x, (-1, high, beside, wide * head_dim)), (0, 2, 1, 3))
        return ops.reshape(x, (-1, self.num_heads * below * beside, high * wide, head_dim))

    def _cut_with(self, front, x):
        """Returns the same with the tokens in front of the patches in each window."""
        own = self._cut(x[:, :, front:])
        if not front:
            return own
        each = ops.concatenate([x[:, :, :front]] * math.prod(self.windows), axis=2)  # phones' GPUs cannot tile
        return ops.concatenate([ops.reshape(each, (-1, own.shape[1], front, own.shape[3])), own], axis=2)

    def _put_back(self, x):
        """Returns what `_cut` was given."""
        (rows, columns), (high, wide), (below, beside), head_dim = self.grid, self.side, self.windows, x.shape[-1]
        x = ops.transpose(ops.reshape(x, (-1, beside, high, wide * head_dim)), (0, 2, 1, 3))
        x = ops.reshape(x, (-1, below * high, beside * wide, head_dim))
        return ops.reshape(x[:, :rows, :columns], (-1, self.num_heads, rows * columns, head_dim))

    def _there(self, front):
        """Returns which places of a window lie in the grid, (1, heads * windows, 1, front + places of a window)."""
        (rows, columns), (high, wide), (below, beside) = self.grid, self.side, self.windows
        places = np.zeros((below * high, beside * wide), bool)
        places[:rows, :columns] = True
        places = places.reshape(below, high, beside, wide).transpose(0, 2, 1, 3).reshape(1, -1, 1, high * wide)
        places = np.tile(places, (1, self.num_heads, 1, 1))
        return np.pad(places, ((0, 0), (0, 0), (0, 0), (front, 0)), constant_values=True)

    def scores(self, q, k):
        return _only(self._seen(k.shape[2]), super().scores(q, k))

    def _seen(self, tokens):
        """Returns which token may look at which, (1, 1, tokens, tokens)."""
        (rows, columns), (high, wide) = self.grid, self.side
        own = (np.arange(rows)[:, None] // high * columns + np.arange(columns) // wide).reshape(-1)
        seen = np.ones((1, 1, tokens, tokens), bool)
        seen[..., -rows * columns :, -rows * columns :] = own[:, None] == own
        return seen


def _only(seen, scores):
    # Taken off, not added: of a product and a sum TensorFlow makes one operation, fifty times slower on a CPU. Nor is
    # it chosen between: the GPU delegates of phones cannot.
    return scores - ops.cast(np.where(seen, 0, FAR), scores.dtype)
