"""The verdict states what the numbers show and no more: each rule at both sides of its bound."""

import json

import numpy as np
import pytest

from keras_vit.evaluation.accuracy import Scores, wilson_interval
from keras_vit.evaluation.verdict import CURVE_RULES, Baseline, Verdict, read_curves

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
        baseline = Baseline(baseline / images, wilson_interval(baseline, images), 16, 900, images)
    facts = {"class_names": ("dark", "light"), "baseline": baseline, "curves": ("none", "The curves are level.")}
    return Verdict(scores_of(correct, images, share), **(facts | other))


@pytest.mark.parametrize(
    "baseline, words",
    [(80, "is more accurate"), (115, "neither is shown"), (130, "neither is shown"), (148, "is less accurate")],
)
def test_of_overlapping_intervals_neither_is_called_better(baseline, words):
    (sentence,) = [line for line in verdict_of(baseline=baseline).sentences if "logistic regression" in line]
    assert words in sentence and "trained on 900 images" in sentence and "drawn at random" not in sentence


def test_a_logistic_regression_on_fewer_images_says_so():
    small = Baseline(0.5, (0.3, 0.6), 16, 2000, 60)
    assert "tested on 60 of the test images" in " ".join(verdict_of(baseline=small).sentences)


def test_without_a_logistic_regression_the_reason_is_given():
    bare = verdict_of(baseline="it needs two classes")
    assert "it needs two classes" in " ".join(bare.sentences) and len(bare.compared) == 2
    assert bare.metrics["logistic_regression"] is None


@pytest.mark.parametrize("images, prove_little", [(99, True), (100, False)])
def test_few_test_images_prove_little(images, prove_little):
    said = verdict_of(images // 2, images, baseline=images // 2).sentences
    assert any("prove little" in line for line in said) == prove_little


@pytest.mark.parametrize(
    "correct, share, words",
    [(120, 0.6, None), (120, 0.8, "not shown to be more"), (90, 0.9, "is less accurate than always")],
)
def test_a_model_that_is_no_better_than_the_frequent_class(correct, share, words):
    (name, accuracy, interval) = verdict_of(correct, share=share).compared[-1]
    assert (name, accuracy, interval) == ("always light", share, None)
    said = [line for line in verdict_of(correct, share=share).sentences if "most frequent class" in line]
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
    assert verdict.lines[-2:] == ["Next: Train longer.", "  keras-vit fit run.json epochs=8"]
    metrics = json.loads(json.dumps(verdict.metrics))
    assert metrics == verdict.metrics  # no tuples: a run that is read again is equal
    assert metrics["test_accuracy_interval"] == list(wilson_interval(120, 150))
    assert metrics["logistic_regression"]["accuracy"] == 80 / 150 and metrics["majority_share"] == 0.5
    assert metrics["verdict"] == verdict.lines and metrics["next_step"]["text"] == "Train longer."
