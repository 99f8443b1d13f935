"""Which example stands in which row of which step: a function of the seed and the step alone."""

import dataclasses
import math

import tensorflow as tf

from keras_vit import _compat

# Of the cipher that permutes. With the 4 that TensorFlow takes by default, examples that lie a power of two apart stay
# so too often; from 12 on no statistic tells the orders from true permutations (docs/shuffling.md).
ROUNDS = 16


@dataclasses.dataclass(frozen=True)
class Order:
    """Describes an endless stream of batches that goes through the examples again and again.

    Each pass is in another order. Nothing is kept between steps, so that a run can be taken up at any step, by any
    number of processes. Methods take a whole number or a tensor, eagerly or in a graph.

    Args:
        count: examples.
        batch_size: rows a step.
        seed: another seed gives another order.
        full_batches: whether a batch may span two passes, so that every row counts; or each pass ends with a batch
            of what is left, filled up with examples of the next pass that do not count.

    Raises:
        ValueError: if there are no examples, or no rows.
    """

    count: int
    batch_size: int
    seed: int = 0
    full_batches: bool = True

    def __post_init__(self):
        if self.count < 1 or self.batch_size < 1:
            raise ValueError(
                "Expected at least one example and one row a step. "
                f"Received: count={self.count}, batch_size={self.batch_size}"
            )

    @property
    def steps_per_pass(self):
        """How many steps it takes until every example has been seen."""
        return math.ceil(self.count / self.batch_size)

    def indices(self, step):
        """Returns which examples are in a step, (batch_size,) int64."""
        first_pass, places = self._places(step)
        passes = first_pass + places // self.count
        return _compat.index_shuffle(places % self.count, _cipher_key(self.seed, passes), self.count, ROUNDS)

    def mask(self, step):
        """Returns which rows of a step count, (batch_size,) float32 of 1 and 0."""
        if self.full_batches:
            return tf.ones(self.batch_size)
        return tf.cast(self._places(step)[1] < self.count, tf.float32)

    def numbers(self, step):
        """Returns the numbers of a step's rows, counted from the start of the run: (batch_size,) int64."""
        return tf.cast(step, tf.int64) * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)

    def _places(self, step):
        """Returns a pass and, counted from its start, the place of each row; those after its end are the next's."""
        if self.full_batches:
            return tf.zeros((), tf.int64), self.numbers(step)
        step = tf.cast(step, tf.int64)
        return step // self.steps_per_pass, self.numbers(step % self.steps_per_pass)


def key(seed, number):
    """Returns the seed of a stateless operation: another for each number, of a row or of a step; (2,) int64.

    Small and consecutive ones are fine: TensorFlow's stateless operations hash their seed (docs/shuffling.md).
    """
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)])


def _cipher_key(seed, passes):
    """Returns the key of the permutation of each pass, (passes, 3) int64 of 32 bits.

    RandomIndexShuffle takes its key as it is, and few bits of it where there are few examples: the key (0, pass, 0)
    leaves neighbours together. So the key is a hash of both numbers.
    """
    first = _splitmix64(_splitmix64(tf.constant(seed, tf.int64)) ^ tf.bitcast(passes, tf.uint64))
    second = _splitmix64(first)
    words = tf.stack([_shifted(first, 32), first, second], 1)
    return tf.bitcast(words & tf.constant(2**32 - 1, tf.uint64), tf.int64)


def _splitmix64(x):
    """Returns a hash of whole numbers of 64 bits, uint64.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014; the constants of Java's
    SplittableRandom.
    """
    x = tf.bitcast(x, tf.uint64) + tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    x = (x ^ _shifted(x, 30)) * tf.constant(0xBF58476D1CE4E5B9, tf.uint64)
    x = (x ^ _shifted(x, 27)) * tf.constant(0x94D049BB133111EB, tf.uint64)
    return x ^ _shifted(x, 31)


def _shifted(x, bits):
    return tf.bitwise.right_shift(x, tf.constant(bits, tf.uint64))
