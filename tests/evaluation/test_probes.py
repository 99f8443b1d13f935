import logging

import numpy as np
import pytest
from scipy.special import softmax

from keras_vit.evaluation.probes import knn, linear_probe, probe_head

# Directions in degrees; the lengths say nothing.
TRAIN = [(0, 1.0), (10, 7.0), (80, 1.0), (90, 0.1), (180, 3.0)]
LABELS = np.array([0, 0, 1, 1, 2])


def directions(rows):
    return np.array([(size * np.cos(np.radians(angle)), size * np.sin(np.radians(angle))) for angle, size in rows])


def test_the_nearest_by_angle():
    test = directions([(3, 0.5), (70, 9.0), (150, 1.0), (46, 2.0)])
    scores = knn(directions(TRAIN), LABELS, test, np.array([0, 1, 2, 0]), k=1)
    np.testing.assert_array_equal(scores.predictions, [0, 1, 2, 1])
    assert scores.accuracy == 3 / 4


def test_votes_weigh_by_their_cosine():
    """At 20 degrees: 20, 10 and 60 degrees away."""
    scores = knn(directions(TRAIN), LABELS, directions([(20, 1.0)]), np.array([0]), k=3, temperature=0.5)
    votes = np.exp(np.cos(np.radians([20, 10, 60])) / 0.5)
    expected = np.array([votes[0] + votes[1], votes[2], 0]) / votes.sum()
    np.testing.assert_allclose(scores.probabilities, [expected])


def test_a_small_temperature_does_not_overflow():
    scores = knn(directions(TRAIN), LABELS, directions([(85, 1.0)]), np.array([1]), k=5, temperature=1e-4)
    np.testing.assert_allclose(scores.probabilities, [[0, 1, 0]], atol=1e-12)


def test_neighbours_agree_with_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    random = np.random.default_rng(0)
    train, test = random.normal(size=(61, 7)), random.normal(size=(1100, 7))  # more than are compared at once
    labels, truth = random.integers(0, 4, 61), random.integers(0, 4, 1100)
    theirs = neighbors.KNeighborsClassifier(
        11, metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / 0.07)
    ).fit(train, labels)
    result = knn(train, labels, test, truth, k=11)
    np.testing.assert_allclose(result.probabilities, theirs.predict_proba(test), atol=1e-9)


@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_there_are_raise(k):
    with pytest.raises(ValueError, match=f"k from 1 to 5, the training images. Received: k={k}"):
        knn(directions(TRAIN), LABELS, directions(TRAIN), LABELS, k=k)


def clouds(seed, images=40, far=3.0):
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 2 * 3  # classes 0 and 3
    return random.normal(size=(images, 5)) + far * (labels[:, None] > 0) * [1, 0, 0, 0, 0], labels


def test_a_probe_separates_what_is_apart(caplog):
    with caplog.at_level(logging.INFO, "keras_vit"):
        scores = linear_probe(*clouds(0, far=9.0), *clouds(1, 13, far=9.0))
    assert scores.accuracy == 1
    assert scores.probabilities.shape == (13, 4)
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1)
    assert not scores.probabilities[:, 1:3].any()
    assert "held-out accuracy" in caplog.text


def test_a_probe_of_one_strength_is_scikit_learns():
    linear_model = pytest.importorskip("sklearn.linear_model")
    (train, labels), (test, truth) = clouds(0), clouds(1, 31)
    scores = linear_probe(train, labels, test, truth, strengths=(2.0,))
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-5
    theirs = linear_model.LogisticRegression(C=0.5).fit((train - mean) / std, labels)
    np.testing.assert_allclose(scores.probabilities[:, [0, 3]], theirs.predict_proba((test - mean) / std), atol=1e-3)


def test_the_strength_is_chosen_on_what_is_held_out():
    """The classes lie close in the one feature that tells, among 60 that do not: to fit them all is no use."""
    random = np.random.default_rng(0)
    labels, truth = np.arange(80) % 2, np.arange(200) % 2
    train, test = (
        np.concatenate(
            [2.0 * some[:, None] + random.normal(size=(len(some), 1)), random.normal(size=(len(some), 60))], 1
        )
        for some in (labels, truth)
    )
    chosen = linear_probe(train, labels, test, truth, strengths=(1e-4, 100.0))
    weak, strong = (linear_probe(train, labels, test, truth, strengths=(strength,)) for strength in (1e-4, 100.0))
    assert weak.accuracy < strong.accuracy
    assert chosen.accuracy == pytest.approx(strong.accuracy, abs=0.01)


def test_a_probe_of_too_little_raises():
    features = np.eye(3)
    with pytest.raises(ValueError, match="two classes or more. Received: only images of class 1"):
        linear_probe(features, np.array([1, 1, 1]), features, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="two training images of a class"):
        linear_probe(features, np.array([0, 1, 2]), features, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="Received: no images"):
        linear_probe(np.zeros((0, 3)), np.zeros(0, int), features, np.array([0, 1, 2]))


def clusters(classes, seed=0, images=40, size=7):
    """Returns features of overlapping classes, far from 0 and of different spread, and their class numbers."""
    random = np.random.default_rng(seed)
    labels = np.arange(images * classes) % classes
    centres = 2 * np.random.default_rng(9).normal(size=(classes, size))
    return (centres[labels] + random.normal(size=(len(labels), size))) * np.arange(1, size + 1) + 50, labels


@pytest.mark.parametrize("classes", [2, 5])
def test_a_head_has_the_probabilities_of_the_linear_probe(classes):
    (features, labels), (tested, expected) = clusters(classes), clusters(classes, seed=1)
    probe = linear_probe(features, labels, tested, expected, seed=3)
    kernel, bias = probe_head(features, labels, seed=3)
    assert (kernel.shape, bias.shape, kernel.dtype) == ((7, classes), (classes,), np.float32)
    np.testing.assert_allclose(softmax(tested @ kernel + bias, axis=1), probe.probabilities, atol=2e-4)


def test_a_class_without_images_gets_a_small_probability():
    features, labels = clusters(3)
    kernel, bias = probe_head(features, labels + (labels == 2), classes=5)  # of classes 0, 1 and 3
    predicted = (features @ kernel + bias).argmax(axis=1)
    assert set(predicted) == {0, 1, 3} and not kernel[:, [2, 4]].any()
    kernel, bias = probe_head(features[:1], labels[:1], classes=3)  # nothing to learn a boundary from
    assert not kernel.any() and bias.argmax() == 0


def test_heads_of_labels_are_independent_and_of_numbers_linear():
    features, labels = clusters(4)
    table = np.stack([labels < 2, labels % 2 == 1, labels < 9, labels > 9], axis=1).astype("float32")
    kernel, bias = probe_head(features, table, "labels")
    scores = 1 / (1 + np.exp(-(features @ kernel + bias)))
    assert np.mean((scores > 0.5) == table) > 0.95
    assert (scores[:, 2] > 0.9).all() and (scores[:, 3] < 0.1).all()  # of a label that all images have, or none
    one = (labels < 2).astype(int)
    kernel_of_one, bias_of_one = probe_head(features, one)
    logits = features @ kernel_of_one + bias_of_one
    np.testing.assert_allclose(features @ kernel[:, 0] + bias[0], logits[:, 1] - logits[:, 0], atol=1e-3)
    numbers = features @ np.arange(14).reshape(7, 2) - 3.0
    kernel, bias = probe_head(features, numbers, "numbers")
    np.testing.assert_allclose(features @ kernel + bias, numbers, rtol=0.01, atol=0.1 * numbers.std())
