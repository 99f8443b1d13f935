"""Positions beside the plain Vision Transformer's own table, added to tokens wherever one likes."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.initial import initial

KINDS = ("learned", "learned-2d", "sincos-2d")


@keras.saving.register_keras_serializable(package="keras_vit")
class Positions(keras.layers.Layer):
    """Adds a position to each token.

    Input and output: (batch, tokens, hidden_size); the last tokens are those of the grid, row by row

    Args:
        kind: "learned": a row a token; "learned-2d": the patch in row r and column c has row r of one table and row c
            of another side by side, half as wide each, and each token in front a row of its own; "sincos-2d": fixed
            sines and cosines of the column and the row, nothing for tokens in front.
        grid: (rows, columns) of patches.

    Raises:
        ValueError: if the kind is unknown or, at build time, a token is wanting or, in two dimensions, the hidden size
            is no multiple of 4.

    Source: arXiv:2010.11929, appendix D.4; the sines: arXiv:2205.01580, as in big_vision.
    """

    def __init__(self, kind, grid, **kwargs):
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"Expected kind to be one of {KINDS}. Received: kind={kind!r}")
        self.kind, self.grid = kind, tuple(grid)

    def build(self, input_shape):
        (rows, columns), (_, tokens, width) = self.grid, input_shape
        self.width, self.extra_tokens = width, tokens - rows * columns
        if self.extra_tokens < 0 or (self.kind != "learned" and width % 4):
            raise ValueError(
                f"Expected a token a patch of {rows} x {columns} and, in two dimensions, a hidden size that is a "
                f"multiple of 4. Received: input_shape={tuple(input_shape)}"
            )
        shapes = {
            "learned": {"table": (tokens, width)},
            "learned-2d": {
                "rows": (rows, width // 2),
                "columns": (columns, width // 2),
                **({"extra": (self.extra_tokens, width)} if self.extra_tokens else {}),
            },
            "sincos-2d": {},
        }
        normal = keras.initializers.RandomNormal(stddev=0.02)
        for name, shape in shapes[self.kind].items():
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer=initial(normal)))

    def call(self, tokens):
        return tokens + ops.cast(self.values(), tokens.dtype)

    def values(self):
        """Returns what is added, (1, tokens, hidden_size)."""
        if self.kind == "learned":
            return self.table[None]
        if self.kind == "sincos-2d":
            return sincos(self.grid, self.width, self.extra_tokens)[None]
        rows, columns = self.grid
        half = self.rows.shape[1]
        table = ops.concatenate(
            [
                ops.broadcast_to(self.rows[:, None], (rows, columns, half)),
                ops.broadcast_to(self.columns[None], (rows, columns, half)),
            ],
            axis=-1,
        )
        table = ops.reshape(table, (rows * columns, 2 * half))
        return (ops.concatenate([self.extra, table]) if self.extra_tokens else table)[None]

    def compute_output_shape(self, input_shape):
        return input_shape


def sincos(grid, width, extra_tokens=0, temperature=10_000.0):
    """Returns fixed positions of a grid, (extra_tokens + rows * columns, width) float32; zeros for tokens in front.

    A quarter of the channels each: sines and cosines of the column, then of the row.
    """
    y, x = (places.reshape(-1, 1) for places in np.mgrid[: grid[0], : grid[1]])
    frequencies = temperature ** -(np.arange(width // 4) / max(width // 4 - 1, 1))
    parts = [wave(place * frequencies) for place in (x, y) for wave in (np.sin, np.cos)]
    return np.pad(np.concatenate(parts, axis=1), [(extra_tokens, 0), (0, 0)]).astype("float32")
