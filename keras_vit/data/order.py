"""Shuffling: the order of the examples in training, a function of the seed and the step alone."""

import dataclasses
import math
from typing import Any

import tensorflow as tf

from keras_vit import _compat

# Rounds of the cipher that permutes. With TensorFlow's default of 4, examples that are a power of two apart remain so
# too often; from 12 on no statistic distinguishes the orders from random permutations (docs/shuffling.md).
ROUNDS = 16


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
    first = _splitmix64(_splitmix64(tf.constant(seed, tf.int64)) ^ tf.bitcast(passes, tf.uint64))
    second = _splitmix64(first)
    words = tf.stack([_shifted(first, 32), first, second], 1)
    return tf.bitcast(words & tf.constant(2**32 - 1, tf.uint64), tf.int64)


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
