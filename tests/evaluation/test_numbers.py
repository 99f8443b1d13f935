"""Numbers: their figures against scikit-learn's, and their intervals."""

import numpy as np
import pytest
from sklearn import metrics

from keras_vit.evaluation import NumberScores

RANDOM = np.random.default_rng(0)
TARGETS = RANDOM.normal((40, 170), (20, 10), (211, 2))
PREDICTIONS = TARGETS + RANDOM.normal(0, (5, 8), (211, 2))


def test_the_figures_are_those_of_scikit_learn():
    scores = NumberScores(["age", "height"], TARGETS, PREDICTIONS)
    expected = [(t, p) for t, p in zip(TARGETS.T, PREDICTIONS.T)]
    np.testing.assert_allclose(scores.r2, [metrics.r2_score(t, p) for t, p in expected])
    np.testing.assert_allclose(scores.mae, [metrics.mean_absolute_error(t, p) for t, p in expected])
    np.testing.assert_allclose(scores.rmse, [metrics.root_mean_squared_error(t, p) for t, p in expected])
    assert scores.metrics["numbers"]["age"]["mae"] == pytest.approx(scores.mae[0])


def test_intervals_cover_the_truth_nearly_as_often_as_they_say():
    covered = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        errors = random.normal(0, 5, (80, 1))
        targets = random.normal(40, 20, (80, 1))
        low, high = NumberScores(["age"], targets, targets + errors).intervals["rmse"][0]
        covered.append(low <= 5 <= high)
    assert 0.9 <= np.mean(covered) <= 0.98  # of 95 %, a little less for few images; the standard deviation is 1.5 %


def test_a_number_that_is_the_same_for_all_has_no_r2():
    scores = NumberScores(["age"], np.full((9, 1), 3.0), np.full((9, 1), 4.0))
    assert np.isnan(scores.r2[0]) and np.isnan(scores.intervals["r2"]).all()
    assert scores.mae[0] == 1 and scores.intervals["mae"].tolist() == [[1, 1]]


def test_the_worst_is_in_the_unit_of_each_number():
    targets = np.array([[0.0, 0.0], [1.0, 1000.0], [2.0, 2000.0]])
    predictions = targets + [[0.0, 100.0], [1.0, 0.0], [0.0, 10.0]]
    assert NumberScores(["a", "b"], targets, predictions).worst.tolist() == [1, 0, 2]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"targets \(211, 2\), predictions \(211, 1\)"):
        NumberScores(["age", "height"], TARGETS, PREDICTIONS[:, :1])
    with pytest.raises(ValueError, match="no images"):
        NumberScores(["age"], TARGETS[:0, :1], TARGETS[:0, :1])
