import numpy as np
import pytest

from keras_vit.evaluation.calibration import calibration

# Seven images of three classes in five bins of 0.2. By hand:
#   0.2-0.4: 0.4, wrong; 0.4-0.6: 0.5 right, 0.6 wrong; 0.6-0.8: none; 0.8-1: 0.9, 0.9 and 1.0 right, 0.96 wrong
PROBABILITIES = np.array(
    [
        [0.4, 0.35, 0.25],
        [0.3, 0.5, 0.2],
        [0.6, 0.3, 0.1],
        [0.9, 0.1, 0.0],
        [0.05, 0.05, 0.9],
        [0.0, 1.0, 0.0],
        [0.02, 0.96, 0.02],
    ]
)
LABELS = np.array([1, 1, 2, 0, 2, 1, 0])


def test_by_hand():
    result = calibration(PROBABILITIES, LABELS, bins=5)
    np.testing.assert_allclose(result.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_array_equal(result.counts, [0, 1, 2, 0, 4])
    np.testing.assert_allclose(result.confidence, [np.nan, 0.4, 0.55, np.nan, 0.94])
    np.testing.assert_allclose(result.accuracy, [np.nan, 0, 0.5, np.nan, 0.75])
    np.testing.assert_allclose(result.gaps, [0, 0.4, 0.05, 0, 0.19], atol=1e-12)
    assert result.ece == pytest.approx((1 * 0.4 + 2 * 0.05 + 4 * 0.19) / 7)
    assert result.mce == pytest.approx(0.4)


def test_one_bin_is_the_gap_of_the_means():
    result = calibration(PROBABILITIES, LABELS, bins=1)
    assert [result.ece, result.mce] == pytest.approx([PROBABILITIES.max(axis=1).mean() - 4 / 7] * 2)


def test_doubt_that_is_too_large_counts_as_much_as_too_little():
    probabilities = np.array([[0.55, 0.45]] * 10)
    assert calibration(probabilities, np.zeros(10, int)).ece == pytest.approx(0.45)
    assert calibration(probabilities, np.ones(10, int)).ece == pytest.approx(0.55)
    assert calibration(probabilities, np.zeros(10, int)).gaps.sum() == pytest.approx(-0.45)


def test_a_model_as_sure_as_it_is_right_has_no_error():
    probabilities = np.array([[0.75, 0.25]] * 4 + [[0.0, 1.0]] * 3)
    result = calibration(probabilities, np.array([0, 0, 1, 0, 1, 1, 1]))
    assert result.ece == result.mce == 0
    assert result.counts.sum() == 7


def test_an_edge_belongs_to_the_bin_below_and_none_is_lost():
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]])
    result = calibration(probabilities, np.array([0, 0, 0]), bins=4)
    np.testing.assert_array_equal(result.counts, [1, 1, 0, 1])


def test_rounding_above_one_is_no_fault():
    result = calibration(np.array([[np.float32(1.0000002), 0.0]]), np.array([0]))
    assert result.counts[-1] == 1


@pytest.mark.parametrize(
    "probabilities, labels, bins, words",
    [
        (np.zeros((0, 3)), [], 15, r"shape \(0, 3\), 0 labels"),
        (np.ones((2, 3)), [1], 15, r"shape \(2, 3\), 1 labels"),
        (np.ones((2, 1)), [0, 0], 0, "bins=0"),
        (np.array([[3.5, -1.0]]), [0], 15, "from 3.5 to 3.5"),
        (np.array([[np.nan, 0.5]]), [0], 15, "from nan to nan"),
    ],
)
def test_what_is_no_probability_raises(probabilities, labels, bins, words):
    with pytest.raises(ValueError, match=words):
        calibration(probabilities, labels, bins)
