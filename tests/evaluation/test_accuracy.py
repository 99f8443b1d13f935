import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from keras_vit.evaluation.accuracy import Scores, score, wilson_interval

# Six images of three classes. True classes, probabilities, and the results by hand.
LABELS = np.array([0, 1, 2, 2, 1, 0])
PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1],  # right
        [0.5, 0.4, 0.1],  # wrong: 0, the truth second
        [0.15, 0.8, 0.05],  # wrong: 1, the truth third
        [0.0, 0.3, 0.7],  # right
        [0.6, 0.1, 0.3],  # wrong: 0, the truth third
        [0.9, 0.1, 0.0],  # right
    ]
)


class Model:
    """Returns its probabilities, a batch at a time."""

    def __init__(self, probabilities):
        self.rows = list(probabilities)

    def predict_on_batch(self, images):
        return np.array([self.rows.pop(0) for _ in images])


def batches(labels, size):
    """The images are only counted."""
    for start in range(0, len(labels), size):
        part = labels[start : start + size]
        yield np.zeros((len(part), 2, 2, 3)), part


@pytest.fixture
def scores():
    return Scores(LABELS, PROBABILITIES)


def test_by_hand(scores):
    np.testing.assert_array_equal(scores.predictions, [0, 0, 1, 2, 0, 0])
    assert scores.accuracy == scores.top_k_accuracy(1) == 3 / 6
    assert scores.top_k_accuracy(2) == 4 / 6
    assert scores.top_k_accuracy(3) == scores.top_k_accuracy(5) == 1
    np.testing.assert_array_equal(scores.confusion_matrix, [[2, 0, 0], [2, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(scores.most_confident_mistakes, [2, 4, 1])  # by 0.8, 0.6 and 0.5


def test_confusion_has_a_row_and_a_column_for_classes_that_do_not_occur():
    scores = Scores(np.array([0]), np.array([[0.1, 0.9, 0, 0]]))
    expected = np.zeros((4, 4), int)
    expected[0, 1] = 1
    np.testing.assert_array_equal(scores.confusion_matrix, expected)


def test_top_5_of_more_classes():
    probabilities = np.array([[0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]] * 7)
    scores = Scores(np.arange(7), probabilities)
    assert [scores.top_k_accuracy(k) for k in range(1, 8)] == [k / 7 for k in range(1, 8)]


def test_mistakes_of_the_same_confidence_stay_in_order():
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.9, 0.1], [0.8, 0.2]])
    np.testing.assert_array_equal(Scores(np.array([1, 1, 1, 0]), probabilities).most_confident_mistakes, [2, 0, 1])


def test_of_equal_ones_the_earlier_class_counts_as_the_more_probable():
    probabilities = np.array([[0.4, 0.4, 0.2]] * 3)
    scores = Scores(np.array([0, 1, 2]), probabilities)
    np.testing.assert_array_equal(scores.predictions, [0, 0, 0])
    assert [scores.top_k_accuracy(k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1]


@pytest.mark.parametrize("value", [0.25, 0.0, np.nan], ids=["uniform", "zero", "NaN"])
def test_a_constant_model_is_not_always_right(value):
    """A head of zeros gives all classes the same odds, and one that has diverged gives NaN: the first class counts."""
    scores = Scores(np.array([0, 1, 2, 3]), np.full((4, 4), value))
    assert scores.accuracy == 1 / 4
    assert scores.top_k_accuracy(2) == 2 / 4
    assert scores.accuracy == np.mean(scores.predictions == scores.labels)
    assert np.trace(scores.confusion_matrix) == 1
    assert len(scores.most_confident_mistakes) == 3


@pytest.mark.parametrize("size", [1, 4, 6])
def test_score_joins_the_batches_in_order(size):
    scores = score(Model(PROBABILITIES), batches(LABELS, size))
    np.testing.assert_array_equal(scores.labels, LABELS)
    np.testing.assert_array_equal(scores.probabilities, PROBABILITIES)


def test_score_without_images_raises():
    with pytest.raises(ValueError, match="Received: no images"):
        score(Model([]), [])


@pytest.mark.parametrize("labels, span", [([0, 3, 1], "from 0 to 3"), ([2, -1, 0], "from -1 to 2")])
def test_labels_that_are_no_classes_of_the_model_raise(labels, span):
    with pytest.raises(ValueError, match=f"labels from 0 to 2, the model's classes. Received: labels {span}"):
        score(Model(PROBABILITIES), batches(np.array(labels), 2))


def test_accuracy_of_each_class_by_hand(scores):
    np.testing.assert_array_equal(scores.per_class_accuracy, [1, 0, 1 / 2])


def test_a_class_without_images_has_no_accuracy():
    result = Scores(np.array([2, 2]), np.array([[0.1, 0.2, 0.7, 0], [0.1, 0.8, 0.1, 0]])).per_class_accuracy
    np.testing.assert_array_equal(result, [np.nan, np.nan, 0.5, np.nan])


def test_among_some_classes_the_others_are_no_choice(scores):
    """Of classes 2 and 0, in this order: images 1 and 4 are of class 1."""
    some = scores.restricted_to([2, 0])
    np.testing.assert_array_equal(some.labels, [1, 0, 0, 1])
    expected = [[0.1 / 0.8, 0.7 / 0.8], [0.05 / 0.2, 0.15 / 0.2], [1, 0], [0, 1]]
    np.testing.assert_allclose(some.probabilities, expected)
    assert some.accuracy == 3 / 4
    np.testing.assert_allclose(scores.restricted_to([0, 1, 2]).probabilities, PROBABILITIES)


def test_among_classes_that_get_nothing_the_first_counts():
    some = Scores(np.array([1, 2]), np.array([[1.0, 0.0, 0.0]] * 2)).restricted_to([1, 2])
    assert some.accuracy == 1 / 2
    np.testing.assert_array_equal(some.probabilities, np.zeros((2, 2)))


@pytest.mark.parametrize("classes", [[], [0, 3], [-1], [1, 1]])
def test_wrong_classes_raise(scores, classes):
    with pytest.raises(ValueError, match="different classes from 0 to 2. Received: classes="):
        scores.restricted_to(classes)


def test_no_images_of_the_listed_classes_raise():
    with pytest.raises(ValueError, match=r"classes=\[1, 2\]"):
        Scores(np.array([0, 0]), PROBABILITIES[:2]).restricted_to([1, 2])


class Left:
    """Predicts class 0 as far as an image is bright on its left half."""

    def predict_on_batch(self, images):
        left = images[:, :, : images.shape[2] // 2].mean(axis=(1, 2, 3))
        return np.stack([left, 1 - left], axis=1)


def test_flips_average_an_image_and_its_mirror_image():
    images = np.zeros((3, 5, 8, 2))
    images[0, :, :4] = 1  # wholly on the left
    images[1, :, 4:] = 0.6
    images[2] = 0.9
    batches = [(images[:2], np.array([0, 1])), (images[2:], np.array([0]))]
    np.testing.assert_allclose(score(Left(), batches).probabilities[:, 0], [1, 0, 0.9])
    np.testing.assert_allclose(score(Left(), batches, flips=True).probabilities[:, 0], [0.5, 0.3, 0.9])


@pytest.mark.parametrize("labels", [np.eye(6), np.arange(6) / 2, np.zeros((6, 1), int)])
def test_labels_that_are_no_whole_numbers_raise(labels):
    with pytest.raises(ValueError, match="an integer for each of 6 images. Received: labels of shape"):
        score(Model(PROBABILITIES), batches(labels, 4))


def test_batches_without_rows_raise():
    class Empty:
        def predict_on_batch(self, images):
            return np.zeros((0, 3))

    with pytest.raises(ValueError, match="Received: no images"):
        score(Empty(), [(np.zeros((0, 2, 2, 3)), np.zeros(0, int))])


def test_balanced_accuracy_and_macro_f1_are_scikit_learns():
    random = np.random.default_rng(0)
    for labels in (random.integers(0, 5, 60), random.choice(5, 60, p=[0.9, 0.05, 0.05, 0, 0])):
        scores = Scores(labels, random.dirichlet(np.ones(6), 60))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that are predicted and do not occur
            balanced = balanced_accuracy_score(labels, scores.predictions)
        assert scores.balanced_accuracy == pytest.approx(balanced)
        assert scores.macro_f1 == pytest.approx(f1_score(labels, scores.predictions, average="macro"))


def test_a_model_that_always_predicts_the_frequent_class_is_not_flattered():
    scores = Scores(np.array([1] * 19 + [0]), np.array([[0.1, 0.9]] * 20))
    assert scores.accuracy == 0.95 and scores.most_frequent_class == (1, 0.95)
    assert scores.balanced_accuracy == 0.5 and scores.macro_f1 == pytest.approx(38 / 39 / 2)


@pytest.mark.parametrize(
    "correct, images, low, high",
    # R's prop.test(correct, images, correct=FALSE)
    [
        (81, 100, 0.7222, 0.8749),
        (0, 10, 0, 0.2775),
        (10, 10, 0.7225, 1),
        (1, 1, 0.2065, 1),
        (500, 1000, 0.4691, 0.5309),
    ],
)
def test_wilson_intervals(correct, images, low, high):
    assert wilson_interval(correct, images) == pytest.approx((low, high), abs=5e-5)
    right = np.arange(images) < correct
    scores = Scores(np.zeros(images, int), np.stack([right, ~right], axis=1).astype(float))
    assert scores.interval == wilson_interval(correct, images)


def test_an_interval_contains_the_true_rate_as_often_as_it_claims():
    random = np.random.default_rng(0)
    for rate, images, confidence in ((0.9, 40, 0.95), (0.5, 25, 0.95), (0.97, 200, 0.99)):
        spans = [wilson_interval(int(k), images, confidence) for k in random.binomial(images, rate, 2000)]
        contained = np.mean([low <= rate <= high for low, high in spans])
        assert contained == pytest.approx(confidence, abs=0.03)
