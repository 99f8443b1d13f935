import numpy as np
import pytest
import tensorflow as tf

from keras_vit.data.order import Order, key

COUNT, ROWS = 11, 4


def test_each_pass_gives_every_example_once_in_another_order():
    order = Order(COUNT, ROWS)
    seen = np.concatenate([order.indices(step) for step in range(COUNT)]).reshape(ROWS, COUNT)
    assert all(sorted(one_pass) == list(range(COUNT)) for one_pass in seen)
    assert len({tuple(one_pass) for one_pass in seen}) == ROWS
    assert order.steps_per_pass == 3


STORED = [[9, 0, 8, 4], [3, 10, 6, 1], [2, 1, 4, 0]]


def test_the_order_stays_as_it_is():
    # Runs are taken up, and the demo's figures were made, with this order.
    np.testing.assert_array_equal(np.stack([Order(COUNT, ROWS, seed=5).indices(step) for step in (0, 1, 7)]), STORED)


def test_it_is_a_function_of_the_seed_and_the_step():
    order = Order(COUNT, ROWS, seed=5)
    np.testing.assert_array_equal(order.indices(6), Order(COUNT, ROWS, seed=5).indices(6))
    assert (order.indices(6).numpy() != Order(COUNT, ROWS, seed=6).indices(6).numpy()).any()


@pytest.mark.parametrize("full_batches", [True, False])
def test_eagerly_and_in_a_graph(full_batches):
    order = Order(COUNT, ROWS, seed=5, full_batches=full_batches)
    for steps in (tf.data.Dataset.range(9), np.arange(9)):
        run = tf.function(lambda step: (order.indices(step), order.mask(step), order.numbers(step)))
        for step in steps:
            for got, exact in zip(run(step), (order.indices(int(step)), order.mask(step), order.numbers(step))):
                np.testing.assert_array_equal(got, exact)
    assert order.indices(0).dtype == tf.int64 and order.mask(0).dtype == tf.float32


def test_a_pass_may_end_with_a_batch_that_is_filled_up():
    order = Order(COUNT, ROWS, full_batches=False)
    for first in (0, 3, 6):
        mask = np.concatenate([order.mask(step) for step in range(first, first + 3)])
        seen = np.concatenate([order.indices(step) for step in range(first, first + 3)])
        np.testing.assert_array_equal(mask, [1] * COUNT + [0])
        assert sorted(seen[mask == 1]) == list(range(COUNT))
        assert seen[-1] == order.indices(first + 3)[0]  # filled up with the next pass
    np.testing.assert_array_equal(order.numbers(3), [12, 13, 14, 15])


@pytest.mark.parametrize("full_batches, mask", [(True, [1] * 29), (False, [1] * COUNT + [0] * 18)])
def test_a_batch_may_be_larger_than_the_data(full_batches, mask):
    order = Order(COUNT, 29, full_batches=full_batches)
    assert order.steps_per_pass == 1
    assert sorted(order.indices(0).numpy()[:COUNT]) == list(range(COUNT))
    np.testing.assert_array_equal(order.mask(1), mask)


def test_one_example_is_an_order():
    np.testing.assert_array_equal(Order(1, 3).indices(7), [0, 0, 0])


def test_nothing_to_order_is_refused():
    with pytest.raises(ValueError, match="count=0, batch_size=0"):
        Order(0, 0)


def test_a_key_is_another_for_each_number():
    draws = [tf.random.stateless_uniform((), key(seed, n)).numpy() for seed in (0, 1) for n in range(5)]
    assert len(set(draws)) == 10
