"""Compares three implementations of self-attention in Keras: python benchmarks/attention.py

  dense  keras_vit's own: a Dense each for query, key, value and output
  fused  one Dense for query, key and value together
  keras  keras.layers.MultiHeadAttention

Each replaces the attention in a whole model; a step is a compiled forward pass, or `train_on_batch`.
"""

import argparse
import contextlib
import sys

import contestants
import interleave
import keras
from keras import ops

VARIANT = "ViT-S/16"
WEIGHTS = contestants.SIZES[VARIANT][1]
TASKS, BATCH = ("forward", "train"), 16


class Fused(keras.layers.Layer):
    """Attention with one projection for query, key and value: fewer and wider products, but one kernel for three."""

    def __init__(self, num_heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, queries_shape, tokens_shape):
        hidden_size = queries_shape[-1]
        self.projection = keras.layers.Dense(3 * hidden_size, name="query_key_value")
        self.out = keras.layers.Dense(hidden_size, name="out")
        self.projection.build(queries_shape)
        self.out.build(queries_shape)

    def call(self, queries, tokens, training=None):
        _, count, hidden_size = queries.shape
        head_dim = hidden_size // self.num_heads
        query, key, value = [
            ops.transpose(ops.reshape(part, (-1, count, self.num_heads, head_dim)), (0, 2, 1, 3))
            for part in ops.split(self.projection(queries), 3, axis=-1)
        ]  # each (batch, heads, tokens, head_dim)
        weights = ops.softmax(ops.matmul(query * head_dim**-0.5, ops.transpose(key, (0, 1, 3, 2))))
        x = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return self.out(ops.reshape(x, (-1, count, hidden_size)))


class Stock(keras.layers.Layer):
    """Attention with Keras' own layer; its kernels are (hidden_size, heads, head_dim)."""

    def __init__(self, num_heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, queries_shape, tokens_shape):
        self.attention = keras.layers.MultiHeadAttention(self.num_heads, queries_shape[-1] // self.num_heads)
        self.attention.build(queries_shape, tokens_shape)

    def call(self, queries, tokens, training=None):
        return self.attention(queries, tokens, training=training)


WAYS = {"dense": None, "fused": Fused, "keras": Stock}


def work(way, task):
    """Serves one way's steps."""
    from keras_vit.layers import transformer

    transformer.Attention = WAYS[way] or transformer.Attention
    contestants.TASKS[task] = (VARIANT, BATCH, "float32", contestants.IMAGE_SIZE)
    step, weights = contestants.keras_step(contestants.ours, task)
    interleave.serve(step, weights=weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    parser.add_argument("--worker", nargs=2, metavar=("WAY", "TASK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(*arguments.worker)
    for task in TASKS:
        with contextlib.ExitStack() as stack:
            workers = {}
            for way in WAYS:
                workers[way] = interleave.Worker(__file__, "--worker", way, task)
                stack.callback(workers[way].close)
                if workers[way].facts["weights"] != WEIGHTS:
                    sys.exit(
                        f"{way} is another model: {workers[way].facts['weights']:,} weights instead of {WEIGHTS:,}"
                    )
            seconds, cores = interleave.rounds(workers, arguments.rounds)
        interleave.print_table(f"{task}, {VARIANT}", seconds, "dense", BATCH)
        if reason := interleave.busy(cores):
            print(reason)


if __name__ == "__main__":
    main()
