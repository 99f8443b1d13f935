"""Labels that are probably wrong, from features whose wrong labels are known."""

import numpy as np
import pytest

from keras_vit.evaluation import label_errors
from keras_vit.evaluation.label_errors import FOLDS, _folds


def clusters(counts, seed=0, apart=6.0):
    """Returns features in a cluster for each class, and the labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = apart * np.eye(len(counts), 7)
    return centres[labels] + random.normal(size=(len(labels), 7)), labels


def test_planted_errors_come_first():
    features, labels = clusters((60, 50, 40))
    wrong = np.random.default_rng(1).choice(150, 8, replace=False)
    planted = labels.copy()
    planted[wrong] = (labels[wrong] + 1) % 3
    errors = label_errors(features, planted)
    assert {*errors.order[:8]} == {*wrong}
    np.testing.assert_array_equal(errors.likelier[wrong], labels[wrong])
    assert (errors.scores[wrong] > 0.5).all() and {*wrong} <= {*errors.doubted}
    np.testing.assert_allclose(errors.probabilities.sum(axis=1), 1, atol=1e-5)
    assert errors.agreement == pytest.approx(1 - len(errors.doubted) / 150)
    assert not errors.small and not errors.unchecked.any()


def test_no_image_is_predicted_by_a_classifier_that_has_seen_a_copy_of_it():
    """Features without information: a copy of the image alone, with the same wrong label, would give it away."""
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(40, 60)), np.arange(40) % 2
    pairs = np.concatenate([features, features + 1e-3 * random.normal(size=features.shape)])
    both = np.tile(labels, 2)
    together = label_errors(pairs, both, np.tile(np.arange(40), 2))
    apart = label_errors(pairs, both)
    assert together.agreement < 0.65 and apart.agreement > 0.85


def test_folds_have_whole_units_and_each_class_alike():
    random = np.random.default_rng(0)
    labels, units = random.integers(0, 4, 400), random.integers(0, 150, 400)
    units[:40] = 0  # a large group of several classes
    folds = _folds(labels, np.unique(units, return_inverse=True)[1], seed=0)
    assert all(len({*folds[units == unit]}) == 1 for unit in units)
    counts = np.stack([np.bincount(labels[folds == fold], minlength=4) for fold in range(FOLDS)])
    assert counts.sum(axis=1).max() - counts.sum(axis=1).min() <= 8
    assert (counts >= 10).all()
    single = _folds(np.arange(23) % 3, np.arange(23), seed=0)
    assert {*np.bincount(single)} == {4, 5}


def test_small_classes_are_named_and_a_lone_image_is_not_listed():
    features, labels = clusters((30, 30, 3, 1))
    errors = label_errors(features, labels)
    assert errors.small == (2, 3)
    assert np.flatnonzero(errors.unchecked).tolist() == [63]
    assert errors.order[-1] == 63 and 63 not in errors.doubted
    group = label_errors(features, labels, np.where(labels == 2, 100, np.arange(64)))
    assert np.flatnonzero(group.unchecked).tolist() == [60, 61, 62, 63]


def test_two_images_of_two_classes_do_not_fail():
    errors = label_errors(np.eye(2), np.array([0, 1]))
    assert errors.unchecked.all() and len(errors.doubted) == 0 and errors.agreement == 1.0


def test_each_of_several_labels_is_checked():
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, (120, 2)).astype("float32")
    labels[:, 1] = 1
    labels[:9, 1] = 0
    features = np.concatenate([4 * labels, np.zeros((120, 3))], axis=1) + random.normal(size=(120, 5)) / 2
    planted = np.concatenate([labels, np.ones((120, 1), "float32")], axis=1)  # and a label that all have
    planted[20, 0], planted[30, 1] = 1 - planted[20, 0], 0
    errors = label_errors(features, planted)
    assert {*errors.order[:2]} == {20, 30}
    assert errors.likelier[20].tolist() == [labels[20, 0], 1, 1]
    assert errors.likelier[30].tolist() == [labels[30, 0], 1, 1]


@pytest.mark.parametrize(
    "labels, units, words",
    [
        (np.zeros(4, int), None, "two classes or more"),
        (np.array([0.0, 1, 0, 1]), None, "integer"),
        (np.array([[0, 2]] * 4), None, "0 and 1"),
        (np.array([0, 1, 0, 1]), np.arange(3), "a unit for each of 4"),
        (np.array([0, 1, 0]), None, "each of 4 images"),
    ],
)
def test_other_arrays_are_refused(labels, units, words):
    with pytest.raises(ValueError, match=words):
        label_errors(np.eye(4), labels, units)
