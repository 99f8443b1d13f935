"""Shuffling: the order of the examples in training, a function of the seed and the step alone."""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vit import _compat

# Rounds of the cipher that permutes. With TensorFlow's default of 4, examples that are a power of two apart remain so
# too often; from 12 on no statistic distinguishes the orders from random permutations (docs/shuffling.md).
ROUNDS = 16

# More passes than there are in a run, so that the numbers of the passes of all classes are different.
_PASSES = 2**40


@dataclasses.dataclass(frozen=True)
class Order:
    """The shuffled order of training examples: an endless stream of batches, each pass in another order.

    There is no state between steps, so that a run can be resumed at any step by any number of processes. The methods
    accept an integer or a tensor, eagerly or in a graph.

    Args:
        count: number of examples.
        batch_size: number of rows of a step.
        seed: another seed is another order.
        full_batches: whether a batch may span two passes, so that every row counts. Otherwise the last batch of a pass
            holds the remaining examples, filled with examples of the next pass whose weight is 0.

    Raises:
        ValueError: if `count` or `batch_size` is below 1.

    Example:
        ```python
        order = keras_vit.data.Order(count=10, batch_size=5, seed=1)
        one_pass = np.concatenate([order.indices(step) for step in range(order.steps_per_pass)])
        assert sorted(one_pass) == list(range(10))
        ```
    """

    count: int
    batch_size: int
    seed: int = 0
    full_batches: bool = True

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 1:
            raise ValueError(
                "Expected at least one example and one row a step. "
                f"Received: count={self.count}, batch_size={self.batch_size}"
            )

    @property
    def steps_per_pass(self) -> int:
        """The number of steps until every example has been seen."""
        return math.ceil(self.count / self.batch_size)

    def indices(self, step: Any) -> Any:
        """Returns the indices of the examples of a step, (batch_size,) int64."""
        first_pass, places = self._places(step)
        passes = first_pass + places // self.count
        return _compat.index_shuffle(places % self.count, _cipher_key(self.seed, passes), self.count, ROUNDS)

    def mask(self, step: Any) -> Any:
        """Returns 1 for each row of a step that counts, 0 for a row that fills the batch: (batch_size,) float32."""
        if self.full_batches:
            return tf.ones(self.batch_size)
        return tf.cast(self._places(step)[1] < self.count, tf.float32)

    def numbers(self, step: Any) -> Any:
        """Returns the numbers of a step's rows, counted from the start of the run: (batch_size,) int64."""
        return tf.cast(step, tf.int64) * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)

    def _places(self, step: Any) -> tuple[Any, Any]:
        """Returns a pass, and the position of each row from its start; those after its end are in the next pass."""
        if self.full_batches:
            return tf.zeros((), tf.int64), self.numbers(step)
        step = tf.cast(step, tf.int64)
        return step // self.steps_per_pass, self.numbers(step % self.steps_per_pass)


@dataclasses.dataclass(frozen=True, eq=False)
class BalancedOrder(Order):
    """The order of training examples in which each class is equally often in the stream, whatever its examples are.

    Of every C consecutive rows of the stream, with C the number of classes that have examples, each is of another
    class, in a random order. The examples of a class come in passes, each in another order: those of a rare class come
    more often. A step is a function of the seed and its number, as in `Order`.

    Args:
        count, batch_size, seed: as of `Order`.
        full_batches: True; the stream has no passes through all examples, after which a batch could end.
        labels: (count,) the class of each example, integers from 0.

    Raises:
        ValueError: if `labels` are not of `count` examples, or `full_batches` is False.

    Example:
        ```python
        order = keras_vit.data.BalancedOrder(count=10, batch_size=6, labels=np.array([0] * 9 + [1]))
        assert (order.indices(0).numpy() == 9).sum() == 3
        ```
    """

    labels: np.ndarray = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.labels) != self.count or not self.full_batches:
            raise ValueError(
                f"Expected a label of each of {self.count} examples, and full_batches=True. "
                f"Received: {len(self.labels)} labels, full_batches={self.full_batches}"
            )

    def indices(self, step: Any) -> Any:
        """Returns the indices of the examples of a step, (batch_size,) int64."""
        _, counts = np.unique(self.labels, return_counts=True)
        by_class, firsts = np.argsort(self.labels, kind="stable"), np.cumsum(counts) - counts
        rows = self.numbers(step)
        draw, chosen = rows // len(counts), self._classes(rows, len(counts))
        count = tf.gather(tf.constant(counts), chosen)
        place = _compat.index_shuffle(
            draw % count, _cipher_key(self.seed, chosen * _PASSES + draw // count), count, ROUNDS
        )
        return tf.gather(tf.constant(by_class), tf.gather(tf.constant(firsts), chosen) + place)

    def _classes(self, rows: Any, classes: int) -> Any:
        """Returns the class of each row, (batch_size,) int64: in each block of `classes` rows a random permutation.

        Sorts random numbers, since the cipher takes long to permute as few numbers as there are classes.
        """
        first = rows[0] // classes
        blocks = first + tf.range(self.batch_size // classes + 2, dtype=tf.int64)
        hashes = _hash(self.seed, classes * _PASSES + blocks)
        draws = _splitmix64(hashes[:, tf.newaxis] + tf.bitcast(tf.range(classes, dtype=tf.int64), tf.uint64))
        order = tf.argsort(tf.bitcast(_shifted(draws, 1), tf.int64), stable=True)
        return tf.gather(tf.cast(tf.reshape(order, [-1]), tf.int64), rows - first * classes)


def order_of(
    labels: np.ndarray, batch_size: int, seed: int = 0, full_batches: bool = True, sampling: str = "shuffled"
) -> Order:
    """Returns the order of training examples with these labels, by the field `sampling` of a recipe."""
    if sampling == "balanced":
        return BalancedOrder(len(labels), batch_size, seed, full_batches, labels=labels)
    return Order(len(labels), batch_size, seed, full_batches)


def key(seed: int, number: Any) -> Any:
    """Returns the seed of a stateless operation, a different one for each number of a row or a step: (2,) int64.

    Small and consecutive numbers are fine: TensorFlow's stateless operations hash their seed (docs/shuffling.md).
    """
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)])


def _cipher_key(seed: int, passes: Any) -> Any:
    """Returns the key of the permutation of each pass, (passes, 3) int64 of 32 bits.

    RandomIndexShuffle does not hash its key, and uses few bits of it for few examples: the key (0, pass, 0) leaves
    neighbours together. So the key is a hash of both numbers.
    """
    first = _hash(seed, passes)
    second = _splitmix64(first)
    words = tf.stack([_shifted(first, 32), first, second], 1)
    return tf.bitcast(words & tf.constant(2**32 - 1, tf.uint64), tf.int64)


def _hash(seed: int, numbers: Any) -> Any:
    """Returns a hash of a seed and each number, uint64."""
    return _splitmix64(_splitmix64(tf.constant(seed, tf.int64)) ^ tf.bitcast(numbers, tf.uint64))


def _splitmix64(x: Any) -> Any:
    """Returns a hash of integers of 64 bits, uint64.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014; the constants of Java's
    SplittableRandom.
    """
    x = tf.bitcast(x, tf.uint64) + tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    x = (x ^ _shifted(x, 30)) * tf.constant(0xBF58476D1CE4E5B9, tf.uint64)
    x = (x ^ _shifted(x, 27)) * tf.constant(0x94D049BB133111EB, tf.uint64)
    return x ^ _shifted(x, 31)


def _shifted(x: Any, bits: int) -> Any:
    return tf.bitwise.right_shift(x, tf.constant(bits, tf.uint64))
