"""Compares the order of training, and draws from small seeds, with true randomness: the tables of docs/shuffling.md.

Usage: python benchmarks/shuffling.py
"""

import math
import time

import keras
import numpy as np
import tensorflow as tf

from keras_vit.data.crop import inception_window
from keras_vit.data.order import ROUNDS, Order, _cipher_key, key

SEEDS, MANY, PASSES, BATCH_SIZE = (0, 1, 2, 3, 42), range(50), 4, 64
CASES = ((422, 4), (1437, 10), (6000, 10), (18_000, 10), (60_000, 10))  # examples, sorted by class; classes


def cipher(count, keys, rounds):
    """Returns permutations of `count` examples, (keys, count)."""
    index = tf.tile(tf.range(count, dtype=tf.int64), [len(keys)])
    keys = tf.repeat(tf.constant(keys, tf.int64), count, axis=0)
    permuted = tf.raw_ops.RandomIndexShuffle(index=index, seed=keys, max_index=count - 1, rounds=rounds)
    return permuted.numpy().reshape(-1, count)


def earlier(count, seed):
    """Returns the orders of the earlier version: the seed without a hash, four rounds."""
    return cipher(count, [(seed, number, 0) for number in range(PASSES)], rounds=4)


def ours(count, seed):
    """Returns the orders of training, (PASSES, count)."""
    return Order(count, count * PASSES, seed).indices(0).numpy().reshape(PASSES, count)


def true(count, seed):
    """Returns true permutations, (PASSES, count)."""
    return np.random.default_rng(seed).permuted(np.tile(np.arange(count), (PASSES, 1)), axis=1)


def largest_share(orders, classes):
    """Returns the share of the most frequent class in a batch, averaged over all full batches."""
    count = orders.shape[1]
    labels = (orders * classes // count)[:, : count // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE, 1)
    return (labels == np.arange(classes)).sum(1).max(1).mean() / BATCH_SIZE


def neighbours(orders):
    """Returns the number of neighbours in the data that are neighbours in an order; 2 by chance."""
    return (np.abs(np.diff(orders)) == 1).sum() / len(orders)


def agreement(orders):
    """Returns the number of examples with the same position in one epoch and the next; 1 by chance."""
    return (orders[1:] == orders[:-1]).sum() / (len(orders) - 1)


def table(header, rows):
    for row in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(str(cell) for cell in row), "|")
    print()


def orders_table():
    rows = []
    for count, classes in CASES:
        for name, draw in (("true", true), ("earlier", earlier), ("now", ours)):
            drawn = {seed: draw(count, seed) for seed in {*MANY, *SEEDS}}
            shares = [f"{largest_share(drawn[seed], classes):.3f}" for seed in SEEDS]
            worst = max(largest_share(drawn[seed], classes) for seed in MANY)
            most = [f"{max(measure(drawn[seed]) for seed in MANY):.1f}" for measure in (neighbours, agreement)]
            rows.append([f"{count:,}", classes, name, *shares, f"{worst:.3f}", *most])
    seeds = [f"seed {seed}" for seed in SEEDS]
    table(["examples", "classes", "order", *seeds, "worst of 50", "neighbours, worst", "agreement, worst"], rows)


def rounds_table():
    """Prints, for hashed keys, the deviation of the differences in orders from those in true permutations."""
    rounds, random = (4, 6, 8, 12, ROUNDS, 32), np.random.default_rng(1)
    rows = []
    for count, permutations in ((64, 1000), (422, 500), (1437, 300), (20_000, 40), (60_000, 16)):
        keys = _cipher_key(0, tf.range(permutations, dtype=tf.int64)).numpy()
        draws = {"true": random.permuted(np.tile(np.arange(count), (permutations, 1)), axis=1)}
        draws |= {number: cipher(count, keys, number) for number in rounds}
        rows.append([f"{count:,}", *(f"{worst_difference(orders):.1f}" for orders in draws.values())])
    table(["examples", "true", *(f"{number} rounds" for number in rounds)], rows)
    index, times = tf.range(64, dtype=tf.int64), []
    for count in (64, 422, 1437, 20_000, 1_281_167):
        times.append([f"{count:,}"])
        keys = _cipher_key(0, tf.zeros(64, tf.int64))
        for number in rounds:
            times[-1].append(f"{time_of(lambda n=number: shuffled(index, keys, count, n)):.3f}")  # noqa: B023
    table(["examples; ms per batch of 64", *(f"{number} rounds" for number in rounds)], times)


def shuffled(index, keys, count, rounds):
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=keys, max_index=count - 1, rounds=rounds)


def time_of(call, repeats=20):
    """Returns the median time of a call, ms."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * np.median(times)


def worst_difference(orders):
    """Returns the largest deviation of the counts of pairs 2**i apart in data and 2**j in order, in standard errors."""
    count, worst = orders.shape[1], 0.0
    powers = 2 ** np.arange(int(math.log2(count)))
    for apart in powers:
        distance = np.abs(orders[:, apart:] - orders[:, :-apart])
        for value in powers:
            expected = distance.size * 2 * (count - value) / (count * (count - 1))
            worst = max(worst, abs((distance == value).sum() - expected) / math.sqrt(expected))
    return worst


def draws_table():
    """Prints the correlation of draws from neighbouring seeds and numbers, in standard errors."""
    draws = {
        "`tf.random.stateless_uniform`: flips, affine, RandAugment": lambda k: tf.random.stateless_uniform((2,), k),
        "`stateless_sample_distorted_bounding_box`: crops": lambda k: inception_window((997, 1009), k)[:2],
        "`tf.random.split`: mixup, CutMix": lambda k: tf.random.stateless_uniform((2,), tf.random.split(k, 3)[1]),
        "`stateless_gamma`: the ratio of mixup": lambda k: tf.random.stateless_gamma((2,), k, alpha=1.2),
    }
    drawn = {name: of_keys(draw) for name, draw in draws.items()}
    generators = [keras.random.SeedGenerator(seed) for seed in MANY]
    uniform = [[keras.random.uniform((2,), seed=generator) for _ in range(100)] for generator in generators]
    drawn["`keras.random.SeedGenerator`: dropout, stochastic depth, MAE"] = np.array(uniform)
    rows = []
    for name, values in drawn.items():
        unit = (values - values.mean()) / values.std()
        pairs = (unit[:, 1:] * unit[:, :-1], unit[1:] * unit[:-1], unit[1:, :-1] * unit[:-1, 1:], unit[0], unit[:, 0])
        rows.append([name, *(f"{part.mean() * math.sqrt(part.size):.1f}" for part in pairs)])
    table(["draws", "next number", "next seed", "both", "seed 0", "number 0"], rows)


def of_keys(draw):
    """Returns the draws of 50 seeds, as the crop adds to them, and 100 numbers: (seeds, numbers, 2)."""
    pairs = np.stack(np.meshgrid(np.add(MANY, 2 * 2**31), np.arange(100), indexing="ij"), -1).reshape(-1, 2)
    each = tf.function(
        lambda pairs: tf.map_fn(
            lambda pair: tf.cast(draw(key(pair[0], pair[1])), tf.float32), pairs, fn_output_signature=tf.float32
        )
    )
    return each(tf.constant(pairs)).numpy().reshape(len(MANY), 100, 2)


if __name__ == "__main__":
    orders_table()
    rounds_table()
    draws_table()
