"""Which example stands in which row of which step: a function of the seed and the step alone."""

import dataclasses
import math

import tensorflow as tf


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
        seeds = tf.stack(
            [tf.fill([self.batch_size], tf.constant(self.seed, tf.int64)), passes, tf.zeros_like(passes)], 1
        )
        # The raw operation: tf.random.experimental.index_shuffle pads a seed for each index wrongly (TensorFlow 2.21).
        return tf.raw_ops.RandomIndexShuffle(index=places % self.count, seed=seeds, max_index=self.count - 1, rounds=4)

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
    """Returns the seed of a stateless operation: another for each number, of a row or of a step; (2,) int64."""
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)])
