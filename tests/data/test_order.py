import math

import numpy as np
import pytest
import tensorflow as tf

from keras_vit.data.mixing import mix
from keras_vit.data.order import BalancedOrder, Order, _splitmix64, key, order_of

COUNT, ROWS = 11, 4


def test_each_pass_gives_every_example_once_in_another_order():
    order = Order(COUNT, ROWS)
    seen = np.concatenate([order.indices(step) for step in range(COUNT)]).reshape(ROWS, COUNT)
    assert all(sorted(one_pass) == list(range(COUNT)) for one_pass in seen)
    assert len({tuple(one_pass) for one_pass in seen}) == ROWS
    assert order.steps_per_pass == 3


STORED = [[6, 2, 3, 8], [10, 0, 5, 7], [6, 3, 8, 2]]


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


def test_the_hash_is_splitmix64():
    # The first numbers that the published generator gives from the state 0.
    states = tf.constant([0, 0x9E3779B97F4A7C15], tf.uint64)
    np.testing.assert_array_equal(_splitmix64(states), np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4], np.uint64))


# What follows holds the orders to true permutations. Seeds are fixed, so nothing is left to chance between two runs;
# the bound of 5 standard errors is what true permutations keep to but once in a million times.
SEEDS = (*range(45), 97, 1009, 2**31 - 1, 2**31, 2**62)
SIZES = (10, 64, 65, 422, 1437, 4096, 20_000)


def orders(count, passes, seeds=SEEDS):
    """Returns the orders of the first passes, (seeds, passes, count)."""
    return np.stack([Order(count, count * passes, seed).indices(0) for seed in seeds]).reshape(-1, passes, count)


def deviation(hits, trials, chance):
    """Returns by how many standard errors a number of hits is from what chance gives."""
    return (hits - trials * chance) / math.sqrt(trials * chance * (1 - chance))


def largest_share(permutations, classes, rows=64):
    """Returns the mean share of a batch's most frequent class, a number a permutation of sorted examples."""
    count = permutations.shape[-1]
    labels = (permutations * classes // count)[..., : count // rows * rows]
    labels = labels.reshape(*permutations.shape[:-1], -1, rows)
    of_class = (labels[..., np.newaxis, :] == np.arange(classes)[:, np.newaxis]).sum(-1)
    return of_class.max(-1).mean(-1) / rows


@pytest.mark.parametrize("count, classes", [(128, 2), (422, 4), (1437, 10), (6000, 3), (20_000, 2)])
def test_classes_are_mixed_in_batches_as_by_true_permutations(count, classes):
    random = np.random.default_rng(7)
    ours = largest_share(orders(count, 3), classes)
    true = largest_share(random.permuted(np.tile(np.arange(count), (600, 1)), axis=1), classes)
    by_seed = (ours.mean(1) - true.mean()) / true.std() * math.sqrt(ours.shape[1])
    assert np.abs(by_seed).max() < 4  # of 50 seeds, 0 and its neighbours among them
    assert abs(ours.mean() - true.mean()) < 5 * true.std() * math.sqrt(1 / ours.size + 1 / len(true))
    assert ours.std() == pytest.approx(true.std(), rel=0.3)


@pytest.mark.parametrize("count", SIZES)
def test_neighbours_stay_neighbours_as_often_as_in_true_permutations(count):
    seen = orders(count, 2)
    powers = 2 ** np.arange(int(math.log2(count)))
    for apart in powers:
        distance = np.abs(seen[..., apart:] - seen[..., :-apart])
        for value in powers:
            chance = 2 * (count - value) / (count * (count - 1))
            assert abs(deviation((distance == value).sum(), distance.size, chance)) < 5, (apart, value)
    neighbours = (np.abs(np.diff(seen)) == 1).sum((1, 2))  # 4 a seed, as Poisson has it
    assert neighbours.max() <= 16


@pytest.mark.parametrize("count", SIZES)
def test_orders_agree_no_more_than_true_permutations(count):
    seen = orders(count, 3)
    pairs = {
        "passes": (seen[:, 1:], seen[:, :-1]),
        "seeds": (seen[1:], seen[:-1]),
        "seed and pass": (seen[1:, :-1], seen[:-1, 1:]),
        "data": (seen, np.broadcast_to(np.arange(count), seen.shape)),
    }
    for name, (one, other) in pairs.items():
        same = (one == other).sum(-1)  # 1 a pair
        assert abs(deviation(same.sum(), one.size, 1 / count)) < 5, name
        assert same.max() <= 9, name


@pytest.mark.parametrize("count, passes", [(2, 6), (3, 8), (4, 12)])  # more take long: 1 ms an index of two
def test_all_orders_of_few_examples_are_equally_likely(count, passes):
    seen = orders(count, passes).reshape(-1, count)
    _, times = np.unique(seen, axis=0, return_counts=True)
    expected, freedom = len(seen) / math.factorial(count), math.factorial(count) - 1
    assert len(times) == math.factorial(count)
    assert ((times - expected) ** 2 / expected).sum() < freedom + 4 * math.sqrt(2 * freedom)


def test_a_key_is_another_for_each_number():
    draws = [tf.random.stateless_uniform((), key(seed, n)).numpy() for seed in (0, 1) for n in range(5)]
    assert len(set(draws)) == 10


@pytest.mark.parametrize("offset", [0, 2**31, 4 * 2**31])  # as the pipeline adds them to its seed
def test_draws_of_neighbouring_keys_have_nothing_in_common(offset):
    seeds, numbers, width = 50, 100, 4
    pairs = np.stack(np.meshgrid(np.arange(seeds) + offset, np.arange(numbers), indexing="ij"), -1).reshape(-1, 2)
    draw = tf.function(
        lambda pairs: tf.map_fn(
            lambda pair: tf.random.stateless_uniform((width,), key(pair[0], pair[1]), dtype=tf.float64),
            pairs,
            fn_output_signature=tf.float64,
        )
    )
    draws = draw(tf.constant(pairs)).numpy().reshape(seeds, numbers, width)
    unit = (draws - 0.5) * math.sqrt(12)
    sums = {
        "numbers": unit[:, 1:] * unit[:, :-1],
        "seeds": unit[1:] * unit[:-1],
        "seed and number": unit[1:, :-1] * unit[:-1, 1:],
        "places": unit[..., 1:] * unit[..., :-1],
        "the draws of seed 0": unit[0],
        "the draws of number 0": unit[:, 0],
        "all": unit,
    }
    for name, products in sums.items():
        assert abs(products.mean()) * math.sqrt(products.size) < 4, name
    assert np.histogram(draws, 16, (0, 1))[0] == pytest.approx(draws.size / 16, rel=0.15)


def test_mixing_draws_from_small_seeds_as_from_any():
    # Black images of class 0 and white ones of class 1: what is left of class 0 is the ratio.
    black, white, (first, second) = tf.zeros((1, 8, 8, 3)), tf.ones((1, 8, 8, 3)), tf.eye(2)[:, tf.newaxis]
    ratio = tf.function(
        lambda seeds: tf.map_fn(
            lambda seed: mix(black, first, white, second, mixup=1.0, cutmix=0.0, seed=seed)[1][0, 0],
            seeds,
            fn_output_signature=tf.float32,
        )
    )
    pairs = np.stack(np.meshgrid(np.arange(20), np.arange(40), indexing="ij"), -1).reshape(-1, 2)
    unit = (ratio(tf.constant(pairs)).numpy().reshape(20, 40) - 0.75) * 4 * math.sqrt(3)  # uniform from 1/2 to 1
    for products in (unit, unit[0], unit[:, 0], unit[1:] * unit[:-1], unit[:, 1:] * unit[:, :-1]):
        assert abs(products.mean()) * math.sqrt(products.size) < 4


# ---- each class equally often

LABELS = np.array([0] * 9 + [3] * 2 + [5])  # of 9, 2 and 1 examples; classes 1, 2 and 4 have none
BALANCED = [[10, 11, 6, 2, 9, 11], [11, 3, 9, 8, 10, 11], [11, 4, 10, 11, 7, 9]]


def balanced(labels, steps, batch_size, seed=0):
    order = BalancedOrder(len(labels), batch_size, seed, labels=labels)
    return np.concatenate([order.indices(step) for step in range(steps)])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 36])
def test_each_class_is_equally_often_in_any_stretch(batch_size):
    stream = balanced(LABELS, 36 // batch_size, batch_size, seed=4)
    blocks = LABELS[stream[: len(stream) // 3 * 3]].reshape(-1, 3)
    assert (np.sort(blocks, axis=1) == [0, 3, 5]).all()
    assert len({tuple(block) for block in blocks}) > 1
    np.testing.assert_array_equal(stream, balanced(LABELS, 1, 36, seed=4)[: len(stream)])  # however it is divided


def test_the_examples_of_a_class_come_in_passes_each_in_another_order():
    stream = balanced(LABELS, 9, 18)
    passes = stream[LABELS[stream] == 0].reshape(6, 9)
    assert (np.sort(passes, axis=1) == np.arange(9)).all() and len({tuple(one) for one in passes}) == 6
    pairs = stream[LABELS[stream] == 3].reshape(-1, 2)
    assert (np.sort(pairs, axis=1) == [9, 10]).all() and len({tuple(pair) for pair in pairs}) == 2


def test_a_balanced_order_is_a_function_of_the_seed_and_the_step_eagerly_and_in_a_graph():
    order = BalancedOrder(len(LABELS), 5, 3, labels=LABELS)
    run = tf.function(lambda step: (order.indices(step), order.mask(step)))
    for step in tf.data.Dataset.range(7):
        indices, mask = run(step)
        np.testing.assert_array_equal(indices, BalancedOrder(len(LABELS), 5, 3, labels=LABELS).indices(int(step)))
        np.testing.assert_array_equal(mask, np.ones(5))
    assert (order.indices(6).numpy() != BalancedOrder(len(LABELS), 5, 4, labels=LABELS).indices(6).numpy()).any()
    assert order.indices(0).dtype == tf.int64 and order.steps_per_pass == 3


def test_the_balanced_order_stays_as_it_is():
    order = BalancedOrder(len(LABELS), 6, 5, labels=LABELS)
    np.testing.assert_array_equal(np.stack([order.indices(step) for step in (0, 1, 1000)]), BALANCED)


@pytest.mark.parametrize("classes", [2, 3])
def test_all_orders_of_the_classes_are_equally_likely(classes):
    labels = np.arange(classes)  # an example each: the stream shows the classes
    seen = np.concatenate([balanced(labels, 1, 100 * classes, seed).reshape(-1, classes) for seed in range(20)])
    _, times = np.unique(seen, axis=0, return_counts=True)
    expected, freedom = len(seen) / math.factorial(classes), math.factorial(classes) - 1
    assert len(times) == math.factorial(classes)
    assert ((times - expected) ** 2 / expected).sum() < freedom + 4 * math.sqrt(2 * freedom)


def test_passes_of_classes_of_the_same_size_are_independent():
    labels = np.repeat(np.arange(4), 50)
    streams = np.stack([balanced(labels, 1, 600, seed) for seed in range(20)])
    within = np.stack([[stream[labels[stream] == k] % 50 for k in range(4)] for stream in streams])  # seed, class, draw
    pairs = {
        "classes": (within[:, 1:], within[:, :-1]),
        "seeds": (within[1:], within[:-1]),
        "passes": (within[..., 50:], within[..., :-50]),
        "data": (within, np.broadcast_to(np.tile(np.arange(50), 3), within.shape)),
    }
    for name, (one, other) in pairs.items():
        assert abs(deviation((one == other).sum(), one.size, 1 / 50)) < 5, name


@pytest.mark.parametrize("count, full_batches", [(3, True), (12, False)])
def test_labels_of_other_examples_or_short_batches_are_refused(count, full_batches):
    with pytest.raises(ValueError, match=f"Received: 12 labels, full_batches={full_batches}"):
        BalancedOrder(count, 4, full_batches=full_batches, labels=LABELS)


def test_the_order_of_a_recipe():
    assert type(order_of(LABELS, 4)) is Order
    assert order_of(LABELS, 4, 5, sampling="balanced").labels is LABELS
