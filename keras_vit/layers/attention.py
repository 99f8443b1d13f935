"""Multi-head attention: over all tokens, with relative positions, within windows of patches, and over those before."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit import _compat
from keras_vit.layers.composite import Composite, Shape
from keras_vit.layers.hooks import is_hooked, through_hooks
from keras_vit.layers.initializers import initial

# {qkv_bias: the layers that have a bias}
BIASED = {
    "qkv": ("query", "key", "value", "out"),
    "qv": ("query", "value", "out"),
    "none": ("out",),
}


@keras.saving.register_keras_serializable(package="keras_vit")
class Attention(Composite):
    """Multi-head self-attention and cross-attention.

    Input:  queries (batch, queries, hidden_size) and tokens (batch, tokens, hidden_size); the same for self-attention
    Output: (batch, queries, hidden_size)

    Args:
        num_heads: number of attention heads, each of size hidden_size / num_heads.
        dropout: dropout rate of the attention probabilities.
        qkv_bias: which of the three projections have a bias: "qkv" (all), "qv" (queries and values) or "none".

    Raises:
        ValueError: if `qkv_bias` is unknown, or at build time, if the hidden size is not a multiple of `num_heads`.

    Example:
        ```python
        attention, x = keras_vit.layers.Attention(num_heads=2), np.ones((1, 5, 8), "float32")
        assert attention(x, x).shape == (1, 5, 8)
        assert attention.probabilities(x, x).shape == (1, 2, 5, 5)
        ```

    Source: arXiv:2010.11929, appendix A.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, qkv_bias: str = "qkv", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if qkv_bias not in BIASED:
            raise ValueError(f"Expected qkv_bias to be one of {tuple(BIASED)}. Received: qkv_bias={qkv_bias!r}")
        self.num_heads = num_heads
        self.qkv_bias = qkv_bias
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, queries_shape: Shape, tokens_shape: Shape) -> None:
        hidden_size = queries_shape[-1]
        if hidden_size % self.num_heads:
            raise ValueError(
                "Expected the hidden size to be a multiple of num_heads. "
                f"Received: hidden_size={hidden_size}, num_heads={self.num_heads}"
            )
        self.query, self.key, self.value, self.out = (
            keras.layers.Dense(
                hidden_size,
                use_bias=name in BIASED[self.qkv_bias],
                kernel_initializer=initial("glorot_uniform"),
                name=name,
                dtype=self.dtype_policy,
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

    def call(self, queries: Any, tokens: Any, training: bool | None = None) -> Any:
        kernel = _compat.fused_attention(self.compute_dtype)
        if kernel and not self._probabilities_are_read(training):
            q, k, v = self._by_token(self.query, queries), *(self._by_token(x, tokens) for x in (self.key, self.value))
            return self._projected(kernel(q, k, v))
        weights = through_hooks(self, "probabilities", self.probabilities(queries, tokens))
        weights = self.dropout(weights, training=training)
        return self._joined(ops.matmul(weights, self._heads(self.value, tokens)))

    def _probabilities_are_read(self, training: bool | None) -> bool:
        """Returns whether the probabilities themselves are needed: for dropout, a hook, or a subclass's own."""
        changed = type(self).scores is not Attention.scores or type(self).probabilities is not Attention.probabilities
        dropped = self.dropout.rate > 0 and training is not False
        return changed or dropped or is_hooked(self, "probabilities")

    def probabilities(self, queries: Any, tokens: Any) -> Any:
        """Returns the attention probabilities, (batch, heads, queries, tokens); they sum to 1 over the tokens."""
        q, k = self._heads(self.query, queries), self._heads(self.key, tokens)
        return ops.softmax(self.scores(q * q.shape[-1] ** -0.5, k))

    def scores(self, q: Any, k: Any) -> Any:
        """Returns the attention scores before the softmax, (batch, heads, queries, tokens)."""
        return ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))

    def _by_token(self, layer: keras.layers.Dense, x: Any) -> Any:
        """Returns queries, keys or values, (batch, tokens, heads, head_dim)."""
        tokens, hidden_size = x.shape[1:]
        x = layer(ops.reshape(x, (-1, hidden_size)))  # flat: TensorFlow adds the bias within the matrix product
        return ops.reshape(x, (-1, tokens, self.num_heads, hidden_size // self.num_heads))

    def _heads(self, layer: keras.layers.Dense, x: Any) -> Any:
        """Returns queries, keys or values by head, (batch, heads, tokens, head_dim)."""
        return ops.transpose(self._by_token(layer, x), (0, 2, 1, 3))

    def _joined(self, x: Any) -> Any:
        """Returns the output of the layer, (batch, tokens, hidden_size), from values by head."""
        return self._projected(ops.transpose(x, (0, 2, 1, 3)))

    def _projected(self, x: Any) -> Any:
        """Returns the output of the layer, (batch, tokens, hidden_size), from values by token."""
        tokens, heads, head_dim = x.shape[1:]
        x = ops.reshape(x, (-1, heads * head_dim))  # (batch * tokens, hidden_size)
        return ops.reshape(self.out(x), (-1, tokens, heads * head_dim))

    def compute_output_shape(self, queries_shape: Shape, tokens_shape: Shape) -> Shape:
        return queries_shape


# Subtracted from the scores of masked tokens. It is within the range of float16, and finite for 8-bit quantization.
_MASK = 3e4


@keras.saving.register_keras_serializable(package="keras_vit")
class RelativeAttention(Attention):
    """Multi-head self-attention with relative position embeddings along the sequence.

    Each distance between two tokens, from -(tokens - 1) to tokens - 1, has a learned key, the same for all heads. The
    product of a query and the key of a distance is added to the score of the token at that distance.

    Input and output: as in `Attention`, for self-attention

    Args:
        num_heads, dropout, qkv_bias: as in `Attention`.

    Example:
        ```python
        attention, x = keras_vit.layers.RelativeAttention(num_heads=2), np.ones((1, 5, 8), "float32")
        assert attention(x, x).shape == (1, 5, 8)
        assert attention.relative_keys.shape == (9, 4)
        ```

    Source: arXiv:2010.11929, appendix D.4; arXiv:1803.02155.
    """

    def build(self, queries_shape: Shape, tokens_shape: Shape) -> None:
        super().build(queries_shape, tokens_shape)
        tokens, hidden_size = tokens_shape[1:]
        self.relative_keys = self.add_weight(
            name="relative_keys",
            shape=(2 * tokens - 1, hidden_size // self.num_heads),
            initializer=initial(keras.initializers.RandomNormal(stddev=0.02)),
        )

    def scores(self, q: Any, k: Any) -> Any:
        queries, tokens = q.shape[2], k.shape[2]  # the queries are those of the first tokens
        by_distance = ops.matmul(q, ops.transpose(self.relative_keys))  # (batch, heads, queries, 2 * tokens - 1)
        if queries < tokens:  # one more row, so that the flat array has a whole row for the last query, too
            by_distance = ops.pad(by_distance, ((0, 0), (0, 0), (0, 1), (0, 0)))
        # Query i needs the columns from tokens - 1 - i on: in the flat array, each row begins one number later.
        flat = ops.reshape(by_distance, (-1, self.num_heads, by_distance.shape[2] * (2 * tokens - 1)))
        flat = flat[:, :, tokens - 1 : tokens - 1 + queries * (2 * tokens - 2)]
        return super().scores(q, k) + ops.reshape(flat, (-1, self.num_heads, queries, 2 * tokens - 2))[..., :tokens]


@keras.saving.register_keras_serializable(package="keras_vit")
class RotaryAttention(Attention):
    """Multi-head self-attention with rotary positions: queries and keys of patches are rotated by row and column.

    Each pair of channels of a head, c and c + head_dim / 2, is a point in the plane that is turned by an angle. Half of
    the pairs turn with the row, the others with the column, each pair at its own frequency, from 1 down to almost
    1 / theta. The score of two patches then depends on how many rows and columns they are apart. Tokens in front of
    the patches are not rotated.

    Input and output: as in `Attention`, for self-attention; the last tokens are those of the grid, row by row

    Args:
        num_heads, dropout: as in `Attention`.
        grid: (rows, columns) of patches.
        theta: the longest period over the shortest.
        reference: (rows, columns) of the grid on which positions are counted, whatever the grid; None counts from -1
            to 1 along each side, times 2 pi.
        offset: the position of the first row and column, where there is a reference.
        columns_first: whether the first half of the pairs turns with the column, not with the row.
        **kwargs: the other arguments of `Attention`.

    Raises:
        ValueError: at build time, if head_dim is not a multiple of 4, or there are fewer tokens than patches.

    Example:
        ```python
        attention = keras_vit.layers.RotaryAttention(num_heads=2, grid=(4, 6))
        x = np.ones((1, 1 + 4 * 6, 8), "float32")  # a class token and the patches
        assert attention(x, x).shape == x.shape
        ```

    Source: arXiv:2104.09864, section 3.2; two dimensions: arXiv:2508.10104 (DINOv3), arXiv:2303.11331 (EVA-02).
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        grid: Sequence[int] = (1, 1),
        theta: float = 100.0,
        reference: Sequence[int] | None = None,
        offset: int = 0,
        columns_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, dropout, **kwargs)
        self.grid, self.theta, self.offset, self.columns_first = tuple(grid), theta, offset, columns_first
        self.reference = tuple(reference) if reference else None

    def build(self, queries_shape: Shape, tokens_shape: Shape) -> None:
        super().build(queries_shape, tokens_shape)
        head_dim = queries_shape[-1] // self.num_heads
        self.extra_tokens = tokens_shape[1] - math.prod(self.grid)
        if head_dim % 4 or self.extra_tokens < 0:
            raise ValueError(
                f"Expected hidden_size / num_heads to be a multiple of 4, and a token for each patch of {self.grid}. "
                f"Received: hidden_size={queries_shape[-1]}, num_heads={self.num_heads}, {tokens_shape[1]} tokens"
            )
        angles = np.pad(np.tile(self.angles(head_dim), 2), ((self.extra_tokens, 0), (0, 0)))[None, :, None]
        self.waves = np.cos(angles), np.sin(angles)  # here, as eager steps would compute them each time

    def _by_token(self, layer: keras.layers.Dense, x: Any) -> Any:
        x = super()._by_token(layer, x)
        return x if layer is self.value else self._rotated(x)

    def _rotated(self, x: Any) -> Any:
        """Returns queries or keys (batch, tokens, heads, head_dim), rotated by their positions."""
        if x.shape[1] <= self.extra_tokens:  # the first tokens alone, which are in front of the patches
            return x
        first, second = ops.split(x, 2, axis=-1)
        turned = ops.concatenate([-second, first], axis=-1)
        cosines, sines = (ops.cast(through_hooks(self, "positions", wave), x.dtype) for wave in self.waves)
        return x * cosines + turned * sines

    def angles(self, head_dim: int) -> np.ndarray:
        """Returns the angle of each patch and pair of channels, (patches, head_dim / 2) in radians."""
        frequencies = self.theta ** -(np.arange(head_dim // 4) / (head_dim // 4))
        row, column = (index.reshape(-1, 1) for index in np.mgrid[: self.grid[0], : self.grid[1]])
        sides = self.reference or (0, 0)
        row, column = (
            (index + self.offset) * side / length if side else 2 * np.pi * (2 * (index + 0.5) / length - 1)
            for index, side, length in zip((row, column), sides, self.grid)
        )
        parts = [index * frequencies for index in ((column, row) if self.columns_first else (row, column))]
        return np.concatenate(parts, axis=1)


@keras.saving.register_keras_serializable(package="keras_vit")
class BiasAttention(Attention):
    """Multi-head self-attention with a learned bias by the distance of two patches in rows and in columns.

    The bias of each distance and head is added to the scores. The class token has three more: from it to the patches,
    from the patches to it, and from it to itself.

    Input and output: as in `Attention`, for self-attention; the class token, then those of the grid, row by row

    Args:
        num_heads, dropout: as in `Attention`.
        grid: (rows, columns) of patches.
        **kwargs: the other arguments of `Attention`.

    Raises:
        ValueError: at build time, if there are other tokens than a class token and the patches.

    Example:
        ```python
        attention = keras_vit.layers.BiasAttention(num_heads=2, grid=(4, 6))
        x = np.ones((1, 1 + 4 * 6, 8), "float32")
        assert attention(x, x).shape == x.shape
        assert attention.relative_bias.shape == (7 * 11 + 3, 2)
        ```

    Source: arXiv:2106.08254 (BEiT); arXiv:2103.14030, section 3.2.
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        grid: Sequence[int] = (1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, dropout, **kwargs)
        self.grid = tuple(grid)

    def build(self, queries_shape: Shape, tokens_shape: Shape) -> None:
        super().build(queries_shape, tokens_shape)
        rows, columns = self.grid
        if tokens_shape[1] != 1 + rows * columns:
            raise ValueError(
                f"Expected a class token and {rows} x {columns} patches. Received: {tokens_shape[1]} tokens"
            )
        distances = (2 * rows - 1) * (2 * columns - 1)
        self.relative_bias = self.add_weight(
            name="relative_bias", shape=(distances + 3, self.num_heads), initializer="zeros"
        )
        self.pairs = self.distances()[None]  # here, as eager steps would compute it each time

    def scores(self, q: Any, k: Any) -> Any:
        distances = through_hooks(self, "positions", self.pairs)
        bias = ops.take(self.relative_bias, distances[:, : q.shape[2]], axis=0)  # (1, queries, tokens, heads)
        return super().scores(q, k) + ops.transpose(bias, (0, 3, 1, 2))

    def distances(self) -> np.ndarray:
        """Returns the row of `relative_bias` of each pair of tokens, (tokens, tokens)."""
        rows, columns = self.grid
        row, column = (index.reshape(-1) for index in np.mgrid[:rows, :columns])
        down, across = row[:, None] - row, column[:, None] - column
        count = (2 * rows - 1) * (2 * columns - 1)
        index = np.empty((1 + rows * columns,) * 2, np.int32)
        index[1:, 1:] = (down + rows - 1) * (2 * columns - 1) + across + columns - 1
        index[0], index[:, 0], index[0, 0] = count, count + 1, count + 2
        return index


@keras.saving.register_keras_serializable(package="keras_vit")
class CausalAttention(Attention):
    """Multi-head self-attention in which a token attends to itself and to those before it, as in CLIP's text tower.

    Input and output: as in `Attention`, for self-attention

    Args:
        num_heads, dropout, qkv_bias: as in `Attention`.

    Example:
        ```python
        attention, x = keras_vit.layers.CausalAttention(num_heads=2), np.ones((1, 4, 8), "float32")
        assert attention(x, x).shape == (1, 4, 8)
        assert np.allclose(attention.probabilities(x, x)[0, 0, 1], [0.5, 0.5, 0, 0])
        ```

    Source: arXiv:2103.00020, section 2.4.
    """

    def scores(self, q: Any, k: Any) -> Any:
        seen = np.tri(k.shape[2], dtype=bool)[None, None, : q.shape[2]]
        return _masked(seen, super().scores(q, k))


@keras.saving.register_keras_serializable(package="keras_vit")
class WindowAttention(Attention):
    """Multi-head self-attention within windows of patches.

    A patch attends to the patches of its own window. Tokens in front of the patches, such as the class token, attend to
    all tokens, and all tokens attend to them. Scores are computed window by window; only `probabilities` returns those
    of all pairs, 0 between windows.

    Input and output: as in `Attention`, for self-attention; the last tokens are those of the grid, row by row

    Args:
        num_heads, dropout: as in `Attention`.
        grid: (rows, columns) of patches.
        window: (rows, columns) of a window, None for all; windows at the bottom and on the right may be smaller.
        **kwargs: the other arguments of `Attention`.

    Example:
        ```python
        attention = keras_vit.layers.WindowAttention(num_heads=2, grid=(4, 6), window=(2, 3))
        x = np.ones((1, 1 + 4 * 6, 8), "float32")  # a class token and the patches
        assert attention(x, x).shape == x.shape and attention.windows == (2, 2)
        ```

    Source: arXiv:2103.14030, section 3.2, without the shift; axial windows: arXiv:2010.11929, appendix D.6.
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        grid: Sequence[int] = (1, 1),
        window: Sequence[int | None] = (1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, dropout, **kwargs)
        self.grid, self.window = tuple(grid), tuple(window)

    @property
    def side(self) -> tuple[int, ...]:
        """(rows, columns) of a full window."""
        return tuple(min(size or length, length) for size, length in zip(self.window, self.grid))

    @property
    def windows(self) -> tuple[int, ...]:
        """Number of windows, (along the height, along the width) of the grid."""
        return tuple(-(-length // size) for size, length in zip(self.side, self.grid))

    def call(self, queries: Any, tokens: Any, training: bool | None = None) -> Any:
        few = queries.shape[1] < tokens.shape[1]  # the first of the tokens alone, which are in front of the patches
        if self.windows == (1, 1) or few or is_hooked(self, "probabilities"):  # a hook receives those of all pairs
            return super().call(queries, tokens, training=training)
        q, k, v = (self._heads(layer, tokens) for layer in (self.query, self.key, self.value))
        q = q * q.shape[-1] ** -0.5
        front = tokens.shape[1] - math.prod(self.grid)
        scores = super().scores(self._split(q[:, :, front:]), self._split_with_front(front, k))
        if not (inside := self._inside_grid(front)).all():
            scores = _masked(inside, scores)
        x = self._merge(self._attended(scores, self._split_with_front(front, v), training))
        if front:
            x = ops.concatenate([self._attended(super().scores(q[:, :, :front], k), v, training), x], axis=2)
        return self._joined(x)

    def _attended(self, scores: Any, values: Any, training: bool | None) -> Any:
        """Returns the sums of values, weighted by the softmax of scores."""
        return ops.matmul(self.dropout(ops.softmax(scores), training=training), values)

    def _split(self, x: Any) -> Any:
        """Returns patches by window, (batch, heads * windows, patches of a window, head_dim), padded with zeros."""
        (rows, columns), (height, width), (down, across), head_dim = self.grid, self.side, self.windows, x.shape[-1]
        x = ops.reshape(x, (-1, rows, columns, head_dim))
        x = ops.pad(x, ((0, 0), (0, down * height - rows), (0, across * width - columns), (0, 0)))
        x = ops.transpose(ops.reshape(x, (-1, height, across, width * head_dim)), (0, 2, 1, 3))
        return ops.reshape(x, (-1, self.num_heads * down * across, height * width, head_dim))

    def _split_with_front(self, front: int, x: Any) -> Any:
        """Returns the same with the tokens in front of the patches in each window."""
        patches = self._split(x[:, :, front:])
        if not front:
            return patches
        each = ops.concatenate([x[:, :, :front]] * math.prod(self.windows), axis=2)  # phones' GPUs cannot tile
        return ops.concatenate([ops.reshape(each, (-1, patches.shape[1], front, patches.shape[3])), patches], axis=2)

    def _merge(self, x: Any) -> Any:
        """Returns patches by head, (batch, heads, patches, head_dim); the inverse of `_split`."""
        (rows, columns), (height, width), (down, across), head_dim = self.grid, self.side, self.windows, x.shape[-1]
        x = ops.transpose(ops.reshape(x, (-1, across, height, width * head_dim)), (0, 2, 1, 3))
        x = ops.reshape(x, (-1, down * height, across * width, head_dim))
        return ops.reshape(x[:, :rows, :columns], (-1, self.num_heads, rows * columns, head_dim))

    def _inside_grid(self, front: int) -> np.ndarray:
        """Returns which tokens of each window are not padding, (1, heads * windows, 1, front + patches of a window)."""
        (rows, columns), (height, width), (down, across) = self.grid, self.side, self.windows
        inside = np.zeros((down * height, across * width), bool)
        inside[:rows, :columns] = True
        windows = inside.reshape(down, height, across, width).transpose(0, 2, 1, 3).reshape(1, -1, 1, height * width)
        windows = np.tile(windows, (1, self.num_heads, 1, 1))
        return np.pad(windows, ((0, 0), (0, 0), (0, 0), (front, 0)), constant_values=True)

    def scores(self, q: Any, k: Any) -> Any:
        return _masked(self._same_window(k.shape[2])[:, :, : q.shape[2]], super().scores(q, k))

    def _same_window(self, tokens: int) -> np.ndarray:
        """Returns which token attends to which, (1, 1, tokens, tokens)."""
        (rows, columns), (height, width) = self.grid, self.side
        window = (np.arange(rows)[:, None] // height * columns + np.arange(columns) // width).reshape(-1)
        seen = np.ones((1, 1, tokens, tokens), bool)
        seen[..., -rows * columns :, -rows * columns :] = window[:, None] == window
        return seen


def _masked(seen: np.ndarray, scores: Any) -> Any:
    """Returns scores that are far below all others where a token is not seen."""
    # A subtraction, not an addition: TensorFlow fuses a product and a sum into one operation, which is fifty times
    # slower on a CPU. Nor a choice between two values: the GPU delegates of phones cannot compute it.
    return scores - ops.cast(np.where(seen, 0, _MASK), scores.dtype)
