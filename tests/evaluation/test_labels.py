"""Several labels an image: their figures against scikit-learn's, and the choice of thresholds."""

import numpy as np
import pytest
from sklearn import metrics

from keras_vit.evaluation import LabelScores, choose_thresholds

RANDOM = np.random.default_rng(0)
TARGETS = RANDOM.random((97, 5)) < (0.5, 0.3, 0.1, 0.7, 0.2)
SCORES = np.clip(0.3 * TARGETS + 0.6 * RANDOM.random((97, 5)), 0, 1)
NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def scores():
    return LabelScores(NAMES, TARGETS, SCORES, [0.5, 0.4, 0.6, 0.3, 0.5])


def test_the_figures_are_those_of_scikit_learn(scores):
    predicted = scores.predictions
    assert scores.mean_average_precision == pytest.approx(metrics.average_precision_score(TARGETS, SCORES))
    assert scores.micro_f1 == pytest.approx(metrics.f1_score(TARGETS, predicted, average="micro"))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(TARGETS, predicted, average="macro"))
    assert scores.exact_match == pytest.approx(metrics.accuracy_score(TARGETS, predicted))
    np.testing.assert_allclose(scores.precision, metrics.precision_score(TARGETS, predicted, average=None))
    np.testing.assert_allclose(scores.recall, metrics.recall_score(TARGETS, predicted, average=None))
    np.testing.assert_allclose(scores.f1, metrics.f1_score(TARGETS, predicted, average=None))


def test_weights_count_an_image_as_often(scores):
    weights = RANDOM.integers(0, 3, (2, 97)).astype(float)
    coarse = LabelScores(NAMES, TARGETS, SCORES.round(1), [0.5] * 5)  # with equal scores
    for row, found in zip(weights, coarse._average_precision(weights), strict=True):
        expected = metrics.average_precision_score(TARGETS, coarse.scores, average=None, sample_weight=row)
        np.testing.assert_allclose(found, expected)


def test_labels_together(scores):
    assert scores.cooccurrence[1, 3] == (TARGETS[:, 1] & TARGETS[:, 3]).sum()
    assert (scores.cooccurrence.diagonal() == TARGETS.sum(axis=0)).all()


def test_a_label_without_images_has_no_figure_and_is_not_in_the_means():
    scores = LabelScores(["a", "b"], [[1, 0], [0, 0]], [[0.9, 0.1], [0.1, 0.2]], [0.5, 0.5])
    assert np.isnan(scores.average_precision[1]) and scores.mean_average_precision == 1
    assert np.isnan([scores.recall[1], scores.precision[1], scores.f1[1]]).all() and scores.macro_f1 == 1


def test_the_most_confident_mistake_comes_first():
    scores = LabelScores(["a", "b"], [[1, 0], [1, 0], [0, 1]], [[0.4, 0.1], [0.9, 0.3], [0.9, 0.9]], [0.5, 0.5])
    assert scores.most_confident_mistakes.tolist() == [2, 0]


def test_no_other_threshold_has_a_higher_f1():
    for target, score, threshold in zip(TARGETS.T, SCORES.T, choose_thresholds(TARGETS, SCORES), strict=True):
        every = [metrics.f1_score(target, score >= other) for other in (*score, 0.0)]
        assert metrics.f1_score(target, score >= threshold) == pytest.approx(max(every))
        assert threshold not in score


def test_thresholds_of_rare_labels_and_of_equal_scores():
    targets = np.array([[1, 1], [1, 1], [0, 1], [0, 0]])
    scores = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5], [0.4, 0.5]])
    rare, equal = choose_thresholds(targets, scores)
    assert rare == 0.5 and equal == 0.25


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": SCORES[:5]}, r"targets \(97, 5\), scores \(5, 5\)"),
        ({"thresholds": [0.5]}, r"thresholds \(1,\)"),
        ({"targets": TARGETS[:0], "scores": SCORES[:0]}, "no images"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes, words):
    arguments = {"names": NAMES, "targets": TARGETS, "scores": SCORES, "thresholds": [0.5] * 5}
    with pytest.raises(ValueError, match=words):
        LabelScores(**{**arguments, **changes})
