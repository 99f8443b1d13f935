import numpy as np
import pytest
import tensorflow as tf

from keras_vit.data.mixing import mix

BATCH, ROWS, COLUMNS, CLASSES = 5, 11, 7, 3
SEEDS = 400


def batch(seed=0):
    """Images that tell every pixel's origin: its own number, and the partner's negative."""
    images = tf.reshape(tf.range(1.0, 1 + BATCH * ROWS * COLUMNS * 3), (BATCH, ROWS, COLUMNS, 3))
    targets = tf.one_hot(tf.range(BATCH) % CLASSES, CLASSES)
    return images, targets, -images, tf.roll(targets, -1, 0)


def mixed(mixup, cutmix, count=SEEDS):
    """Images and targets for seeds (3, 0), (3, 1) … as tf.data makes them, several at once."""
    seeds = tf.data.Dataset.range(count).map(lambda i: tf.stack([tf.constant(3, tf.int64), i]))
    data = seeds.map(lambda seed: mix(*batch(), mixup=mixup, cutmix=cutmix, seed=seed), num_parallel_calls=4)
    return tuple(map(np.stack, zip(*data.as_numpy_iterator())))


def own_share(targets):
    """What of each image's target is its own: the same for all rows of a batch."""
    shares = targets[:, np.arange(BATCH), np.arange(BATCH) % CLASSES]
    np.testing.assert_array_equal(shares, np.broadcast_to(shares[:, :1], shares.shape))
    return shares[:, 0]


def is_cutmix(images):
    """Which batches hold nothing but whole pixels of an image or its partner."""
    return (np.abs(images) == batch()[0].numpy()).all(axis=(1, 2, 3, 4))


def test_neither_gives_back_what_came_in():
    images, targets, *partners = batch()
    got = mix(images, targets, *partners, mixup=0, cutmix=0.0, seed=[0, 0])
    assert got[0] is images and got[1] is targets


@pytest.mark.parametrize("mixup, cutmix", [(0.2, 0), (0, 1.0), (0.8, 0.8)])
def test_eager_and_tf_data_agree(mixup, cutmix):
    images, targets = mixed(mixup, cutmix, count=12)
    for seed in range(12):
        eager = mix(*batch(), mixup=mixup, cutmix=cutmix, seed=tf.constant([3, seed], tf.int64))
        np.testing.assert_array_equal(eager[0], images[seed])
        np.testing.assert_array_equal(eager[1], targets[seed])
    assert images.dtype == targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("mixup, cutmix", [(0.5, 0), (0, 1.0), (0.5, 1.0)])
def test_a_part_of_a_batch_is_mixed_as_in_the_whole(mixup, cutmix):
    for seed in range(4):
        images, targets = mix(*batch(), mixup=mixup, cutmix=cutmix, seed=[1, seed])
        part = mix(*(array[1:4] for array in batch()), mixup=mixup, cutmix=cutmix, seed=[1, seed])
        np.testing.assert_array_equal(part[0], images[1:4])
        np.testing.assert_array_equal(part[1], targets[1:4])


def test_mixup_blends_images_as_it_does_targets():
    images, targets = mixed(0.5, 0, count=50)
    ratio = own_share(targets)
    own, _, partner, _ = (array.numpy() for array in batch())
    expected = ratio[:, None, None, None, None] * own + (1 - ratio)[:, None, None, None, None] * partner
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-3)  # own and partner cancel near a half


@pytest.mark.parametrize("p", [0.02, 0.2, 0.8, 3])
def test_the_ratio_is_the_larger_share_of_a_beta_distribution(p):
    ratio, beta = own_share(mixed(p, 0)[1]), np.random.default_rng(0).beta(p, p, 200_000)
    assert ratio.min() >= 0.5
    expected = np.maximum(beta, 1 - beta)
    steps = np.linspace(0.5, 0.999, 200)
    distance = max(abs((ratio < step).mean() - (expected < step).mean()) for step in steps)
    assert distance < 1.63 / np.sqrt(SEEDS)  # Kolmogorov and Smirnov: so it is for 99 of 100 samples


def test_the_smallest_parameter_leaves_images_alone():
    images, targets = mixed(1e-6, 0, count=20)
    np.testing.assert_array_equal(images, np.broadcast_to(batch()[0], images.shape))
    np.testing.assert_array_equal(own_share(targets), 1)


def test_cutmix_pastes_one_box_and_counts_what_it_pasted():
    images, targets = mixed(0, 1.0)
    assert is_cutmix(images).all()
    pasted = images < 0
    np.testing.assert_array_equal(pasted, np.broadcast_to(pasted[:, :1, :, :, :1], pasted.shape))
    pasted, sizes = pasted[:, 0, :, :, 0], []
    for mask in pasted:
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        np.testing.assert_array_equal(mask, rows[:, None] & columns)
        for side in (rows, columns):
            assert np.abs(np.diff(np.pad(side.astype(int), 1))).sum() in (0, 2)  # in one piece
        sizes.append((rows.sum(), columns.sum()))
    np.testing.assert_allclose(own_share(targets), 1 - pasted.mean(axis=(1, 2)), rtol=1e-6)
    assert pasted.any(axis=0).all() and not pasted.all(axis=0).any()  # anywhere
    # No box is larger than half of the image, each side by the square root.
    assert np.max(sizes, axis=0).tolist() == [int(ROWS * 0.5**0.5), int(COLUMNS * 0.5**0.5)]


def test_a_fair_coin_decides_between_both():
    images, targets = mixed(0.5, 1.0)
    by_cutmix = is_cutmix(images) & (own_share(targets) < 1)
    by_mixup = ~is_cutmix(images)
    assert abs(by_mixup.sum() - by_cutmix.sum()) < 4 * np.sqrt(SEEDS)
    # Each with its own parameter: as if the other had been left out.
    assert own_share(targets)[by_mixup].mean() == pytest.approx(own_share(mixed(0.5, 0)[1]).mean(), abs=0.04)
    assert own_share(targets)[by_cutmix].mean() == pytest.approx(own_share(mixed(0, 1.0)[1]).mean(), abs=0.06)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf"), True, "0.2", None])
def test_what_is_refused(wrong):
    with pytest.raises(ValueError, match=f"Received: cutmix={wrong!r}"):
        mix(*batch(), mixup=0.2, cutmix=wrong, seed=[0, 0])
    with pytest.raises(ValueError, match=f"Received: mixup={wrong!r}, cutmix=-1"):
        mix(*batch(), mixup=wrong, cutmix=-1, seed=[0, 0])
