"""The verdict on a run: its logistic regression on real images, and the next step for each kind of outcome."""

import dataclasses
import io
import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from keras_vit.commands import verdict as module
from keras_vit.commands.recipes import SETTINGS
from keras_vit.commands.verdict import (
    NEXT_STEPS,
    Outcome,
    logistic_regression,
    logistic_regressions,
    ridge_regression,
    run_verdict,
)
from keras_vit.data.sources import Examples, Source, open_source
from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.labels import LabelScores
from keras_vit.evaluation.numbers import NumberScores
from keras_vit.evaluation.verdict import CURVE_RULES, Verdict
from keras_vit.training.recipe import Recipe
from keras_vit.training.settings import parse_settings
from keras_vit.training.transfer import FROM_NOTHING

RECIPE = Recipe(data="digits", **FROM_NOTHING)
TABLE = r"^\| (\w+) \|.*\n\|---.*\n((?:\|.*\n)+)"
TUNED = dataclasses.replace(RECIPE, weights="start.npz")


@pytest.fixture(scope="module")
def digits():
    return open_source("digits")


def test_the_logistic_regression_is_a_fair_one(digits):
    made = logistic_regression(digits)
    pixels, labels = load_digits(return_X_y=True)  # the scans as scikit-learn has them, 8 x 8 pixels
    parts = train_test_split(pixels / 16, labels, test_size=0.2, stratify=labels, random_state=0)
    plain = LogisticRegression().fit(parts[0], parts[2])
    assert made.scores.accuracy >= plain.score(parts[1], parts[3]) - 0.02 > 0.93
    assert (made.size, made.train_images, made.test_images) == (16, len(digits.train.labels), 360)


def test_of_many_images_it_reads_some(digits, monkeypatch):
    read = []
    monkeypatch.setattr(module, "MOST_IMAGES", 60)
    monkeypatch.setattr(module, "decode", lambda image, channels: read.append(image) or np.zeros((3, 4, 3), np.uint8))
    made = logistic_regression(digits)
    assert (made.train_images, made.test_images, len(read)) == (60, 60, 120)


@pytest.mark.parametrize("size", [(32, 48), (8, 16), (40, 16), (16, 16), (5, 100)])
def test_small_images_are_means_of_areas(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    (small,) = module._small(Examples((stream.getvalue(),), np.array([0]), ("",)), [0], 3)
    for row, column in ((0, 0), (7, 15), (15, 3)):
        top, left = (k * side // 16 for k, side in zip((row, column), size))
        bottom, right = (max((k + 1) * side // 16, k * side // 16 + 1) for k, side in zip((row, column), size))
        expected = image[top:bottom, left:right].mean(axis=(0, 1))
        np.testing.assert_allclose(small.reshape(16, 16, 3)[row, column], expected, rtol=1e-5)


def encoded(value, size=(9, 7)):
    stream = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(stream, "PNG")
    return stream.getvalue()


def source_of(train, test, names=("a", "b", "c"), size=(9, 7)):
    splits = [
        Examples(tuple(encoded(40 * label, size) for label in labels), np.array(labels, int), ("",) * len(labels))
        for labels in (train, [], test)
    ]
    return Source("letters", names, *splits, bad=(), digest="")


@pytest.mark.parametrize("train", [[0, 0, 0], [0, 1, 2]])
def test_without_two_classes_there_is_a_reason(train):
    assert "two classes" in logistic_regression(source_of(train, [0, 1]))


def test_with_many_classes_there_is_a_reason():
    names = tuple(map(str, range(101)))
    assert "more than 100 classes" in logistic_regression(source_of([0, 0, 1, 1], [0, 1], names))


def test_a_class_that_is_only_tested_does_not_matter():
    assert logistic_regression(source_of([0, 0, 1, 1], [0, 1, 2, 2])).scores.accuracy == 0.5


SEEN = np.arange(120) % 4  # of images that are dark, then brighter


def target_source(labels, names, learns):
    """Returns a source of 4 shades of grey with labels or numbers; a half of the images, a quarter and a quarter."""
    images, labels = tuple(encoded(60 * shade) for shade in SEEN), np.asarray(labels, np.float32)
    parts = [slice(0, 60), slice(60, 90), slice(90, 120)]
    splits = [Examples(images[part], labels[part], ("",) * len(labels[part])) for part in parts]
    return Source("shades", names, *splits, bad=(), digest="", learns=learns)


def test_the_baseline_of_labels_is_a_logistic_regression_each():
    labels = np.stack([SEEN > 1, SEEN == 3, SEEN < 9, SEEN > 9], axis=1)  # the last two are on all and on no images
    made = logistic_regressions(target_source(labels, ("bright", "white", "any", "none"), "labels"))
    assert (made.name, made.size, made.train_images, made.test_images) == ("logistic regression", 16, 60, 30)
    np.testing.assert_allclose(made.scores.average_precision, [1, 1, 1, np.nan])
    assert made.scores.f1[:2] == pytest.approx([1, 1])  # with the thresholds of the validation images
    assert "more than 100 labels" in logistic_regressions(target_source(labels, ("",) * 101, "labels"))


def test_the_baseline_of_numbers_is_a_ridge_regression():
    numbers = np.stack([1e6 + 100.0 * SEEN, -SEEN, np.full(120, 7)], axis=1)
    made = ridge_regression(target_source(numbers, ("light", "dark", "same"), "numbers"))
    assert (made.name, made.train_images, made.test_images) == ("ridge regression", 60, 30)
    assert (made.scores.r2[:2] > 0.9).all() and made.scores.mae[2] == pytest.approx(0)
    assert "three training images" in ridge_regression(source_of([0, 1], [0]))


def target_outcome(scores, train, curves="none"):
    learns = "labels" if isinstance(scores, LabelScores) else "numbers"
    verdict = Verdict(scores, scores.names, "it is not of interest", (curves, ""))
    return Outcome(TUNED, "runs/shades", target_source(train, tuple(scores.names), learns), verdict)


def label_outcome(recalls, share, curves="none"):
    """Returns the outcome of a run of two labels with these recalls, the second on this share of the images."""
    targets = np.stack([np.arange(400) % 2 == 0, np.arange(400) % 4 < 2], axis=1)
    rank = np.cumsum(targets, axis=0) / targets.sum(axis=0)
    scores = np.where(targets & (rank <= recalls), 0.9, 0.1)
    train = np.stack([SEEN < 2, np.arange(120) < 120 * share], axis=1)
    return target_outcome(LabelScores(["wet", "dark"], targets, scores, [0.5, 0.5]), train, curves)


def number_outcome(error, curves="none"):
    targets = np.random.default_rng(0).normal(40, 20, (200, 1))
    predictions = targets + np.random.default_rng(1).normal(0, error, (200, 1))
    return target_outcome(NumberScores(["age"], targets, predictions), SEEN[:, None], curves)


@pytest.mark.parametrize(
    "outcome, text, command",
    [
        (
            label_outcome((1, 1), 0.5),
            "A mean average precision of 99%",
            "keras-vit evaluate runs/shades new_images.csv",
        ),
        (label_outcome((0.9, 0.5), 0.05), "Label dark is rare", "class_weights=balanced"),
        (label_outcome((0.9, 0.5), 0.5), "Label dark is", "--output runs/shades-2"),
        (label_outcome((0.9, 0.85), 0.5), "mistakes in report.html, correct wrong labels", "--output runs/shades-2"),
        (number_outcome(0.1), "An R² of 99% or more", "keras-vit evaluate runs/shades new_images.csv"),
        (number_outcome(9), "largest errors in report.html, correct wrong numbers", "--output runs/shades-2"),
        (number_outcome(9, "underfitted"), "underfits", "keras-vit lr runs/shades/run.json"),
    ],
)
def test_the_next_step_of_labels_and_numbers(outcome, text, command):
    step = next(step for step in NEXT_STEPS if step.holds(outcome))
    assert text in step.text.format(outcome) and step.command.format(outcome).endswith(command)


def outcome_of(
    recipe=TUNED, curves="none", recalls=(0.8, 0.8, 0.8), train=(100, 100, 100), size=(9, 7), folder="runs/letters"
):
    """Returns the outcome of a run with these recalls, on 50 test images of each class."""
    test = np.repeat(range(3), 50)
    source = source_of(np.repeat(range(3), train), test, size=size)
    right = np.concatenate([np.arange(50) < 50 * recall for recall in recalls])
    scores = Scores(test, np.eye(3)[np.where(right, test, (test + 1) % 3)])
    verdict = Verdict(scores, source.class_names, "it is not of interest", (curves, ""))
    return Outcome(recipe, folder, source, verdict)


def with_(**settings):
    return dataclasses.replace(TUNED, **settings)


def collapsed_outcome(recipe=TUNED, first=50):
    """Returns the outcome of a run that predicts the first class for all but 5 images."""
    outcome = outcome_of(recipe)
    test = np.repeat(range(3), (first, 150 - first, 0))
    scores = Scores(test, np.eye(3)[np.where(np.arange(150) < 145, 0, 1)])
    return dataclasses.replace(outcome, verdict=dataclasses.replace(outcome.verdict, scores=scores))


RARE = {"recalls": (0.9, 0.9, 0.3), "train": (200, 200, 20)}


@pytest.mark.parametrize(
    "outcome, command",
    [
        (outcome_of(recalls=(1, 1, 0.98)), "keras-vit evaluate runs/letters new_images/"),
        (collapsed_outcome(with_(epochs=40)), "--output runs/letters-2 learning_rate=0.0001"),
        (collapsed_outcome(with_(steps=3)), "learning_rate=0.0001 steps=None epochs=40"),
        (collapsed_outcome(first=130), "--output runs/letters-2"),  # most images are of that class
        (collapsed_outcome(RECIPE), "model=vit_s16_augreg_in21k"),
        (outcome_of(RECIPE), "model=vit_s16_augreg_in21k head=probe"),
        (outcome_of(dataclasses.replace(RECIPE, image_size=(32, 40))), "model=vit_s16_augreg_in21k image_size=208,256"),
        (outcome_of(RECIPE, **RARE), "model=vit_s16_augreg_in21k"),
        (outcome_of(**RARE), "sampling=balanced"),
        (outcome_of(with_(sampling="balanced"), **RARE), "--output runs/letters-2"),
        (outcome_of(with_(class_weights="balanced"), **RARE), "--output runs/letters-2"),
        (outcome_of(with_(full_batches=False), **RARE), "--output runs/letters-2"),
        (outcome_of(curves="still improving"), "epochs=60"),
        (outcome_of(with_(steps=500), "still improving"), "steps=1000"),
        (outcome_of(with_(early_stopping=3), "still improving"), "epochs=60 early_stopping=0"),
        (outcome_of(with_(freeze_to="norm"), "underfitted"), "freeze_to=None lora=0"),
        (outcome_of(with_(lora=4), "underfitted"), "freeze_to=None lora=0"),
        (outcome_of(curves="underfitted"), "keras-vit lr runs/letters/run.json"),
        (outcome_of(recalls=(0.9, 0.9, 0.3)), "--output runs/letters-2"),
        (outcome_of(with_(flip=False), "overfitted"), "flip=true"),
        (outcome_of(curves="overfitted"), "randaugment=2,10"),
        (outcome_of(size=(128, 130)), "image_size=128"),
        (outcome_of(size=(127, 130)), "--output runs/letters-2"),
        (outcome_of(with_(image_size=(32, 64)), size=(130, 64)), "image_size=64,128"),
        (outcome_of(with_(image_size=(32, 64)), size=(127, 64)), "--output runs/letters-2"),
        (outcome_of(with_(image_size=(96, 240)), size=(600, 600)), "--output runs/letters-2"),
        (outcome_of(with_(randaugment=(2, 10)), "overfitted"), "--output runs/letters-2"),
    ],
)
def test_the_next_step(outcome, command):
    step = next(step for step in NEXT_STEPS if step.holds(outcome))
    line = step.command.format(outcome)
    assert command in line and (command.startswith("model=") or line.endswith(command)), (line, step.text)
    text = step.text.format(outcome)
    assert text.endswith(".") and text.count(". ") == 0 and "{" not in text + line


def test_the_settings_of_every_command_are_those_of_a_recipe():
    for step in NEXT_STEPS:
        _, name, *arguments = shlex.split(step.command.format(outcome_of(RECIPE)))
        if name == "fit":
            path, option, folder, *settings = arguments
            assert (path, option, folder) == ("runs/letters/run.json", "--output", "runs/letters-2")
            assert parse_settings(settings, SETTINGS, {}).keys() == {setting.split("=")[0] for setting in settings}


def test_a_class_is_weak_only_if_chance_does_not_explain_it():
    assert outcome_of(recalls=(0.9, 0.9, 0.74)).weak_class is None
    assert outcome_of(recalls=(0.9, 0.9, 0.5)).weak == "Class c"
    assert not outcome_of(recalls=(0.9, 0.9, 0.5)).weak_is_rare and outcome_of(**RARE).weak_is_rare


@pytest.mark.parametrize(
    "folder, output",
    [
        ("runs/letters", "runs/letters-2"),
        ("runs/letters-2", "runs/letters-3"),
        ("runs/1", "runs/1-2"),
        ("/tmp/my runs/a-9", "'/tmp/my runs/a-10'"),
        ("-x", "./-x-2"),
    ],
)
def test_the_next_run_has_a_folder_of_its_own(folder, output):
    assert outcome_of(folder=folder).output == f"--output {output}"


def test_training_on_other_images_than_validation_is_not_compared(digits, monkeypatch):
    monkeypatch.setattr(module, "logistic_regression", lambda source, channels: "it is not of interest")
    history = [{"loss": 1.0, "accuracy": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}] * 5
    scores = Scores(digits.test.labels, np.eye(10)[digits.test.labels[::-1]])
    for settings, curves in (({}, "overfitted"), ({"mixup": 0.2}, "none"), ({"class_weights": "balanced"}, "none")):
        verdict = run_verdict(with_(**settings), digits, scores, history, "runs/digits")
        assert verdict.curves[0] == curves and verdict.next_step and verdict.command.startswith("keras-vit ")


def test_the_page_has_every_step_and_every_rule():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "evaluating.md").read_text("utf-8")
    tables = {match[1]: re.findall(r"^\| (.+?) \|", match[2], re.M) for match in re.finditer(TABLE, page, re.M)}
    assert tables["condition"] == [step.when for step in NEXT_STEPS]
    assert tables["curves"] == [rule.name for rule in CURVE_RULES]
