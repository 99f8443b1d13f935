"""The verdict states what the numbers show and no more: each rule at both sides of its bound."""

import json

import numpy as np
import pytest

from keras_vit.evaluation.accuracy import Scores, wilson_interval
from keras_vit.evaluation.labels import LabelScores
from keras_vit.evaluation.numbers import NumberScores
from keras_vit.evaluation.verdict import CURVE_RULES, Baseline, Verdict, reached, read_curves

IMAGES = 200  # of validation: the interval of 80 % reaches to 85 %


def rows(loss=1.0, accuracy=0.85, val_loss=1.0, val_accuracy=0.8, epochs=10):
    """Returns a history; a column is a number, or its values in the five fifths of the epochs."""
    columns = {"loss": loss, "accuracy": accuracy, "val_loss": val_loss, "val_accuracy": val_accuracy}
    spread = {name: np.repeat(np.broadcast_to(value, 5), epochs // 5).tolist() for name, value in columns.items()}
    return [dict(zip(spread, values)) | {"epoch": i} for i, values in enumerate(zip(*spread.values()), 1)]


@pytest.mark.parametrize(
    "history, name",
    [
        # The validation loss rises while the training loss falls.
        (rows(loss=[5, 4, 3, 2, 1], val_loss=[3, 1, 1, 1, 1.06], accuracy=0.8), "overfitted"),
        (rows(loss=[5, 4, 3, 2, 1], val_loss=[3, 1, 1, 1, 1.04], accuracy=0.95, val_accuracy=0.9), "none"),
        (rows(loss=[1, 1, 1, 1, 2], val_loss=[3, 1, 1, 1, 1.5], accuracy=0.95, val_accuracy=0.9), "none"),
        # It still falls.
        (rows(val_loss=[2, 2, 2, 1, 0.97]), "still improving"),
        (rows(val_loss=[2, 2, 2, 1, 0.97], accuracy=0.5, val_accuracy=0.5), "still improving"),
        (rows(val_loss=[2, 2, 2, 1, 0.985], accuracy=0.95, val_accuracy=0.9), "none"),
        # The training images are classified better than the validation images.
        (rows(accuracy=0.91, val_accuracy=0.8), "overfitted"),
        (rows(accuracy=0.89, val_accuracy=0.8), "none"),  # above the interval, by less than 10 points
        # Neither are classified well.
        (rows(accuracy=0.8, val_accuracy=0.8), "underfitted"),
        (rows(accuracy=0.89, val_accuracy=0.88), "underfitted"),
        (rows(accuracy=0.91, val_accuracy=0.9), "none"),
    ],
)
def test_what_curves_show(history, name):
    assert read_curves(history, IMAGES)[0] == name


def test_curves_on_few_images_show_less():
    history = rows(accuracy=0.95, val_accuracy=0.8)
    assert [read_curves(history, images)[0] for images in (5, 40, 200)] == ["none", "overfitted", "overfitted"]


def test_accuracies_of_other_images_are_not_compared():
    for history in (rows(accuracy=1.0, val_accuracy=0.5), rows(accuracy=0.5, val_accuracy=0.6)):
        assert read_curves(history, IMAGES)[0] != "none"
        assert read_curves(history, IMAGES, comparable=False)[0] == "none"
    assert read_curves(rows(val_loss=[2, 2, 2, 1, 0.97]), IMAGES, comparable=False)[0] == "still improving"


@pytest.mark.parametrize(
    "history, images",
    [
        ([], 0),
        (rows()[:4], IMAGES),
        ([{"loss": 1.0, "accuracy": 0.5}] * 10, 0),
        ([*rows(), {"loss": 1.0, "accuracy": 0.5, "val_loss": float("nan"), "val_accuracy": 0.5}], IMAGES),
    ],
)
def test_curves_that_show_nothing(history, images):
    name, text = read_curves(history, images)
    assert name == "none" and "fewer than 5 epochs" in text


@pytest.mark.parametrize("epochs", [5, 7, 13, 300])
def test_any_number_of_epochs_has_five_fifths(epochs):
    history = [{"loss": 1.0, "accuracy": 0.85, "val_loss": 1 / k, "val_accuracy": 0.8} for k in range(1, epochs + 1)]
    assert read_curves(history, IMAGES)[0] == "still improving"


def test_the_sentences_have_the_numbers():
    _, text = read_curves(rows(accuracy=0.987, val_accuracy=0.812), IMAGES)
    assert "98.7%" in text and "81.2%" in text
    _, text = read_curves(rows(loss=[5, 4, 3, 2, 0.5], val_loss=[3, 1, 1, 1, 1.25]), IMAGES)
    assert "1.25" in text and "0.5" in text
    assert {rule.name for rule in CURVE_RULES} == {"overfitted", "still improving", "underfitted", "none"}


def scores_of(correct, images, share=0.5):
    """Returns scores of two classes, "light" with this share of the images, and this number classified correctly."""
    labels = (np.arange(images) < share * images).astype(int)
    right = np.random.default_rng(0).permutation(images) < correct
    return Scores(labels, np.eye(2)[np.where(right, labels, 1 - labels)])


def verdict_of(correct=120, images=150, share=0.5, baseline=80, **other):
    if isinstance(baseline, int):
        baseline = Baseline("logistic regression", scores_of(baseline, images, share), 16, 900)
    facts = {"class_names": ("dark", "light"), "baseline": baseline, "curves": ("none", "The curves are level.")}
    return Verdict(scores_of(correct, images, share), **(facts | other))


@pytest.mark.parametrize(
    "baseline, words",
    [
        (80, "is more accurate"),
        (115, "not shown to be more or less"),
        (130, "not shown to be more or less"),
        (148, "is less accurate"),
    ],
)
def test_of_overlapping_intervals_neither_is_called_better(baseline, words):
    (sentence,) = [line for line in verdict_of(baseline=baseline).sentences if "logistic regression" in line]
    assert words in sentence and "trained on 900 images" in sentence and "drawn at random" not in sentence


def test_a_logistic_regression_on_fewer_images_says_so():
    small = Baseline("logistic regression", scores_of(30, 60), 16, 2000)
    assert "tested on 60 of the test images" in " ".join(verdict_of(baseline=small).sentences)


def test_without_a_logistic_regression_the_reason_is_given():
    bare = verdict_of(baseline="it needs two classes")
    assert "it needs two classes" in " ".join(bare.sentences) and len(bare.compared[0][1]) == 2
    assert bare.metrics["logistic_regression"] is None


@pytest.mark.parametrize("images, prove_little", [(99, True), (100, False)])
def test_few_test_images_prove_little(images, prove_little):
    said = verdict_of(images // 2, images, baseline=images // 2).sentences
    assert any("prove little" in line for line in said) == prove_little


@pytest.mark.parametrize(
    "correct, share, words",
    [(120, 0.6, None), (120, 0.8, "not shown to be more"), (90, 0.9, "is less accurate than a pred")],
)
def test_a_model_that_is_no_better_than_the_frequent_class(correct, share, words):
    (name, accuracy, interval) = verdict_of(correct, share=share).compared[0][1][-1]
    assert (name, accuracy, interval) == ("always light", share, None)
    said = [line for line in verdict_of(correct, share=share).sentences if "same for every image" in line]
    assert len(said) == (words is not None) and (not words or words in said[0])


def test_the_lines_and_the_metrics_have_every_number():
    verdict = verdict_of(next_step="Train longer.", command="keras-vit fit run.json epochs=8")
    text = "\n".join(verdict.lines)
    for words in (
        "this model",
        "80.0%  95% interval 72.9% to 85.6%",
        "53.3%",
        "always dark",
        "balanced accuracy 80.0%",
    ):
        assert words in text, words
    assert verdict_of(start="It began with random weights.").lines[0] == "It began with random weights."
    assert verdict.lines[-2:] == ["Next: Train longer.", "  keras-vit fit run.json epochs=8"]
    metrics = json.loads(json.dumps(verdict.metrics))
    assert metrics == verdict.metrics  # no tuples: a run that is read again is equal
    assert metrics["test_accuracy_interval"] == list(wilson_interval(120, 150))
    assert metrics["logistic_regression"]["accuracy"] == 80 / 150 and metrics["majority_share"] == 0.5
    assert metrics["verdict"] == verdict.lines and metrics["next_step"]["text"] == "Train longer."


RANDOM = np.random.default_rng(0)
TARGETS = RANDOM.random((200, 3)) < (0.5, 0.3, 0.1)


def label_scores(quality, images=200):
    scores = np.clip(0.3 + quality * TARGETS + 0.2 * RANDOM.normal(size=(200, 3)), 0, 1)
    return LabelScores(["wet", "dark", "far"], TARGETS[:images], scores[:images], [0.5] * 3)


def number_scores(*errors):
    targets = RANDOM.gamma(2, 20, (200, len(errors)))
    return NumberScores(["age", "height"][: len(errors)], targets, targets + RANDOM.normal(0, errors, targets.shape))


def test_labels_are_compared_by_mean_average_precision_and_macro_f1():
    verdict = Verdict(
        label_scores(0.6),
        ["wet", "dark", "far"],
        Baseline("logistic regression", label_scores(0.1), 16, 900),
        ("none", "Level."),
    )
    (precision, rows), (f1, f1_rows) = verdict.compared
    assert (precision.name, f1.name) == ("mean average precision", "macro F1")
    share = TARGETS.mean(axis=0)
    assert rows[-1] == ("always every label", pytest.approx(share.mean()), None)
    always = LabelScores(verdict.class_names, TARGETS, np.ones((200, 3)), [0.5] * 3)
    assert f1_rows[-1][1] == pytest.approx(always.macro_f1)
    assert rows[-1][1] == pytest.approx(always.mean_average_precision)
    assert rows[0] == ("this model", verdict.scores.mean_average_precision, precision.interval)
    assert rows[1][0] == "logistic regression, 16 x 16 pixels" and rows[1][1] < rows[0][1]
    text = "\n".join(verdict.lines)
    assert "is more accurate than the logistic regression" in text and "mean average precision:" in text
    assert f"micro F1 {verdict.scores.micro_f1:.3f}" in text
    metrics = json.loads(json.dumps(verdict.metrics))
    assert metrics == verdict.metrics and metrics["logistic_regression"]["macro_f1"] == f1_rows[1][1]
    assert metrics["mean_average_precision_interval"] == list(precision.interval)


def test_numbers_are_compared_by_their_errors_and_lower_ones_are_better():
    scores, worse = number_scores(3, 20), number_scores(9, 3)
    verdict = Verdict(scores, scores.names, Baseline("ridge regression", worse, 16, 900), ("none", "Level."))
    (age, rows), (height, _) = verdict.compared
    assert (age.name, height.name) == ("mean absolute error of age", "mean absolute error of height")
    median = np.median(scores.targets[:, 0])
    assert rows[-1] == (
        f"always the median, {median:.4g}",
        pytest.approx(np.abs(scores.targets[:, 0] - median).mean()),
        None,
    )
    said = " ".join(verdict.sentences)
    assert "By mean absolute error of age, the model is more accurate than the ridge regression" in said
    assert "By mean absolute error of height, the model is less accurate than the ridge regression" in said
    assert f"R² of age {scores.r2[0]:.3f}" in "\n".join(verdict.lines)
    metrics = json.loads(json.dumps(verdict.metrics))
    assert metrics == verdict.metrics and metrics["ridge_regression"]["mean_absolute_error_of_age"] == rows[1][1]


@pytest.mark.parametrize(
    "error, words", [(1, None), (27, "not shown to be more"), (60, "is less accurate than a pred")]
)
def test_numbers_that_are_no_better_than_their_median(error, words):
    scores = number_scores(error)
    verdict = Verdict(scores, scores.names, "it is not of interest", ("none", ""))
    said = [line for line in verdict.sentences if "same for every image" in line]
    assert len(said) == (words is not None) and (not words or words in said[0])


def test_how_wide_an_interval_is():
    few, scores = label_scores(0.6, images=60), number_scores(3)
    few_numbers = NumberScores(["age"], scores.targets[:60], scores.predictions[:60])
    low, high = few.intervals["mean_average_precision"]
    for one, width in (
        (few, f"mean average precision is {high - low:.3f}"),
        (few_numbers, f"mean absolute error of age is {np.ptp(few_numbers.intervals['mae']):.4g}"),
    ):
        assert f"the interval of the {width} wide" in Verdict(one, one.names, "", ("none", "")).sentences[0]


def test_what_is_reached():
    assert reached(scores_of(150, 150))[1] > 0.99 > reached(scores_of(120, 150))[1]
    assert reached(label_scores(3))[1] > 0.99 > reached(label_scores(0.1))[1]
    assert reached(number_scores(0.1, 0.1))[1] > 0.99 > reached(number_scores(0.1, 30))[1]


def test_the_explained_variance_can_be_below_0():
    history = rows(accuracy=-0.5, val_accuracy=-0.2)
    name, text = read_curves(history, IMAGES, metric="explained variance")
    assert name == "underfitted" and "the explained variance is only -50.0%" in text
