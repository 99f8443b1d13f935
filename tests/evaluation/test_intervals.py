"""Bootstrap intervals against SciPy's, and where a figure is constant or missing."""

import numpy as np
import pytest
from scipy import stats

from keras_vit.evaluation import LabelScores
from keras_vit.evaluation.intervals import bootstrap_intervals

VALUES = np.random.default_rng(0).lognormal(size=(73, 2))


def means(weights):
    return weights @ VALUES / weights.sum(axis=1, keepdims=True)


def test_they_are_those_of_scipy_at_a_wider_confidence():
    t = stats.t.ppf(0.975, 72) * np.sqrt(73 / 72)
    for column, found in zip(VALUES.T, bootstrap_intervals(means, 73), strict=True):
        expected = stats.bootstrap(
            (column,), np.mean, confidence_level=2 * stats.norm.cdf(t) - 1, n_resamples=20_000, rng=0
        ).confidence_interval
        assert found == pytest.approx(tuple(expected), rel=0.05)  # of 1,000 resamples
        assert found.mean() > column.mean()  # as skewed as the values


def test_parts_and_groups_change_little(monkeypatch):
    whole = bootstrap_intervals(means, 73)
    monkeypatch.setattr("keras_vit.evaluation.intervals._AT_ONCE", 73 * 9)
    np.testing.assert_array_equal(bootstrap_intervals(means, 73), whole)
    monkeypatch.setattr("keras_vit.evaluation.intervals._GROUPS", 24)
    np.testing.assert_allclose(bootstrap_intervals(means, 73), whole, rtol=0.05)


def test_constant_and_missing_figures():
    ((low, high), missing) = bootstrap_intervals(lambda w: np.stack([w[:, 0] * 0 + 3, w[:, 0] * np.nan], axis=1), 1)
    assert low == high == 3 and np.isnan(missing).all()


def test_intervals_of_labels_contain_the_figures():
    targets = np.arange(60)[:, None] % [2, 3, 7] == 0
    scores = LabelScores(["a", "b", "c"], targets, 0.3 * targets + 0.5 * VALUES[:60, :1] % 1, [0.5] * 3)
    for name, (low, high) in scores.intervals.items():
        assert 0 < low < getattr(scores, name) < high <= 1
