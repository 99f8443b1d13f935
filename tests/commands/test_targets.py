"""Several labels and numbers of an image, from images to files that answer like the model."""

import dataclasses
import html
import json
import re
import zipfile

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_vit.commands import cli
from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.fit import fit, result_lines
from keras_vit.commands.predict import predict
from keras_vit.commands.preview import preview
from keras_vit.models.config import Variant
from keras_vit.runtime.files import open_exported
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    data="",
    variant=Variant(patch_size=4, hidden_size=24, num_layers=1, num_heads=2, mlp_dim=48),
    image_size=8,
    epochs=20,
    batch_size=64,
    learning_rate=5e-3,
    label_smoothing=0.0,
    tensorboard=False,
)
EXPORTS = ("savedmodel", "tflite-int8", "tflite-float32")
COUNT = 240
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A table of images, each with any of three colours, and one of two numbers of each, which are seen in it."""
    folder = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    labels, numbers = ["path,label"], ["path,brightness,tilt,place"]
    for index in range(COUNT):
        has = random.random(3) < (0.5, 0.4, 0.3)
        level, tilt = random.uniform(40, 200), random.uniform(-1, 1)
        pixels = np.full((8, 8, 3), level) + 40 * tilt * np.linspace(-1, 1, 8)[:, None, None]
        pixels[2:6, 2:6] += np.where(has, 50, -50)
        pixels += random.normal(0, 2, pixels.shape)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        labels.append(f"{index}.png,{'|'.join(name for name, one in zip(COLOURS, has) if one)}")
        numbers.append(f"{index}.png,{1e6 + 1000 * level:.1f},{tilt:.4f},here")
    for name, lines in {"labels": labels, "numbers": numbers}.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def labels(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "labels"
    recipe = dataclasses.replace(
        RECIPE, data=str(tables / "labels.csv"), objective="labels", keep="best", exports=EXPORTS[:3]
    )
    return folder, fit(recipe, folder), recipe


@pytest.fixture(scope="module")
def numbers(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "numbers"
    recipe = dataclasses.replace(
        RECIPE, data=str(tables / "numbers.csv"), target=("tilt", "brightness"), loss="huber", ema=0.9
    )
    return folder, fit(recipe, folder), recipe


def shown(*arguments):
    result = CliRunner().invoke(cli.main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def assert_verdict(metrics, page, card):
    """The lines of `fit`, the page and the card say the same, and the page opens with it."""
    page, card = html.unescape(page), card.replace("\\", "")
    said = [line for line in metrics["verdict"] if line.endswith(".") and not line.startswith("Next:")]
    assert len(said) >= 2 and all(line in page and line in card for line in said)
    assert metrics["next_step"]["text"] in page and metrics["next_step"]["command"] in page
    assert page.index("this model") < page.index("<dt>") and "## Verdict" in card
    assert result_lines(metrics)[1:] == [f"  {line}" for line in metrics["verdict"]]


def test_labels_are_learned_and_the_run_has_all_files(labels):
    folder, metrics, _ = labels
    assert metrics["mean_average_precision"] > 0.9 and metrics["micro_f1"] > 0.8
    assert metrics["objective"] == "labels" and not metrics["refused"] and len(metrics["exports"]) == 3
    assert result_lines(metrics)[0].startswith(
        f"test images: mean average precision {metrics['mean_average_precision']:.3f}"
    )
    model = keras.saving.load_model(folder / "model.keras")
    assert model.class_names == tuple(sorted(COLOURS)) and len(model.thresholds) == 3
    assert all(0 < threshold < 1 for threshold in model.thresholds)
    assert json.loads((folder / "run.json").read_text())["recipe"]["objective"] == "labels"


def test_a_finished_run_of_labels_stays_as_it_is(labels):
    folder, metrics, recipe = labels
    assert fit(recipe, folder) == metrics


def test_the_pages_of_labels(labels):
    folder, metrics, _ = labels
    page, card = ((folder / name).read_text() for name in ("report.html", "card.md"))
    for heading in ("Labels", "Labels together", "Training", "Exported files", "Settings"):
        assert f">{heading}</h2>" in page
    for heading in ("Confusion matrix", "Calibration", "Numbers"):
        assert f">{heading}</h2>" not in page
    assert f"{metrics['micro_f1']:.3f}" in page and "model.thresholds" in card
    assert_verdict(metrics, page, card)
    assert 0.3 < metrics["logistic_regression"]["mean_average_precision"] <= 1
    low, high = metrics["mean_average_precision_interval"]
    assert low <= metrics["mean_average_precision"] <= high
    assert re.search(r"\| blue \| \d+ \| [\d.]+ \|", card)


def test_every_file_has_the_same_labels_as_the_model(labels, tables):
    folder, *_ = labels
    images = [tables / f"{index}.png" for index in range(60)]
    expected = predict(folder, images)
    assert {len(prediction) for prediction in expected} >= {0, 1, 2}
    thresholds = keras.saving.load_model(folder / "model.keras").thresholds
    for name in ("model_float32.tflite", "saved_model"):
        file = open_exported(folder / name)
        np.testing.assert_allclose(file.thresholds, thresholds, rtol=1e-6)
        answers = predict(folder / name, images)
        assert [[label for label, _ in one] for one in answers] == [[label for label, _ in one] for one in expected]
        np.testing.assert_allclose(
            [score for one in answers for _, score in one], [score for one in expected for _, score in one], atol=1e-4
        )
    with zipfile.ZipFile(folder / "model_float32.tflite") as behind:
        assert behind.read("thresholds.txt").decode().split() == [f"{value:.9g}" for value in thresholds]
    (proof,) = (
        item for item in json.loads((folder / "proof.json").read_text())["files"].values() if "int8" in item["target"]
    )
    assert proof["labels"] == 3 and proof["top1_agreement_or_tie"] >= 0.99 and 0.5 < proof["accuracy"] <= 1


def test_probes_of_labels_are_fitted_on_the_features(labels, tables, monkeypatch, tmp_path):
    folder, metrics, _ = labels
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path))
    evaluation = evaluate(folder, few_shot=(2, 20), linear_probe=True)
    assert evaluation.scores.mean_average_precision == pytest.approx(metrics["mean_average_precision"], abs=1e-6)
    few, more, all_of_them = evaluation.probes.values()
    assert few.mean_average_precision < all_of_them.mean_average_precision > 0.9
    assert [name.split(",")[0] for name in evaluation.probes][:2] == ["2-shot", "20-shot"]
    # Features without a head: the objective has to be stated, and is enough.
    headless = tmp_path / "features.keras"
    inner = keras.saving.load_model(folder / "model.keras")
    keras.Model(inner.input, inner.get_layer("head").input).save(headless)
    stated = evaluate(headless, tables / "labels.csv", linear_probe=True, objective="labels")
    (probe,) = stated.probes.values()
    assert stated.scores is None and probe.mean_average_precision > 0.9 and "mean average precision" in stated.text()
    stated.write_page(tmp_path / "page.html", "labels")
    with pytest.raises(ValueError, match="a model of labels, or few_shot or linear_probe"):
        evaluate(headless, tables / "labels.csv", objective="labels")
    with pytest.raises(ValueError, match="one class an image for knn"):
        evaluate(folder, knn=True)
    with pytest.raises(ValueError, match="500 training images with each label.*red"):
        evaluate(folder, few_shot=(500,))


def test_predict_prints_the_labels_above_their_threshold(labels, tables):
    folder, *_ = labels
    images = [tables / f"{index}.png" for index in range(30)]
    lines = shown("predict", folder / "model_float32.tflite", *images).splitlines()
    assert [line for line in lines if line.endswith(": no label reaches its threshold")]
    for line, prediction in zip(lines, predict(folder, images), strict=True):
        assert all(label in line for label, _ in prediction) and line.count("%") == len(prediction)


def test_labels_are_evaluated_from_the_run_a_table_and_a_file(labels, tables, tmp_path):
    folder, metrics, _ = labels
    own = evaluate(folder)
    assert own.scores.mean_average_precision == pytest.approx(metrics["mean_average_precision"], abs=1e-6)
    file = evaluate(folder / "model_float32.tflite", tables / "labels.csv")
    assert len(file.scores.targets) == COUNT and f"on {COUNT} images" in file.text()
    text = shown("evaluate", folder, tables / "labels.csv", "--output", tmp_path / "page.html")
    assert "blue   average precision" in text and "micro F1" in text
    assert ">Labels together</h2>" in (tmp_path / "page.html").read_text()
    with pytest.raises(ValueError, match="one class an image for flips"):
        evaluate(folder, flips=True)


def test_numbers_are_learned_in_their_units(numbers):
    folder, metrics, recipe = numbers
    tilt, brightness = (metrics["numbers"][name] for name in recipe.target)
    assert tilt["r2"] > 0.8 and brightness["r2"] > 0.8
    assert 0 < tilt["mae"] < 0.5 and 1000 < brightness["mae"] < 4e4
    assert brightness["mae_interval"][0] < brightness["mae"] < brightness["mae_interval"][1]
    assert result_lines(metrics)[0].startswith(f"test images: tilt: R2 {tilt['r2']:.3f}")
    assert not (folder / "labels.txt").exists() and fit(recipe, folder) == metrics


def test_the_pages_of_numbers(numbers):
    folder, metrics, _ = numbers
    page, card = ((folder / name).read_text() for name in ("report.html", "card.md"))
    for heading in ("Numbers", "Largest errors", "Training", "Exported files"):
        assert f">{heading}</h2>" in page
    assert ">Labels</h2>" not in page and ">Confusion matrix</h2>" not in page
    assert_verdict(metrics, page, card)
    assert (
        metrics["ridge_regression"]["mean_absolute_error_of_tilt"] < metrics["constant"]["mean absolute error of tilt"]
    )
    assert "tilt: predicted over true" in page and page.count('class="validation point"') > 100
    assert "print(numbers['tilt'])" in card and "| brightness |" in card


def test_every_file_returns_the_numbers_of_the_model_by_name(numbers, tables):
    folder, *_ = numbers
    images = [tables / f"{index}.png" for index in range(20)]
    expected = [dict(prediction) for prediction in predict(folder, images)]
    assert {*expected[0]} == {"tilt", "brightness"} and all(1e6 < one["brightness"] < 1.3e6 for one in expected)
    model = keras.saving.load_model(folder / "model.keras")
    pixels = np.stack([np.asarray(Image.open(image)) for image in images])
    outputs = model.predict(model.preprocess_input(pixels), verbose=0)
    for name in ("tilt", "brightness"):
        np.testing.assert_allclose(outputs[name][:, 0], [one[name] for one in expected], rtol=1e-5)
    for file in ("model_float32.tflite",):
        answers = [dict(prediction) for prediction in predict(folder / file, images)]
        for name in ("tilt", "brightness"):
            np.testing.assert_allclose(
                [one[name] for one in answers], [one[name] for one in expected], rtol=1e-4, atol=1e-4, err_msg=file
            )
    line = shown("predict", folder / "model_int8.tflite", images[0])
    assert re.search(r"0\.png: (tilt|brightness) -?[\d.e+]+, (tilt|brightness) -?[\d.e+]+$", line.strip())


def test_numbers_are_evaluated_from_the_run_a_table_and_a_file(numbers, tables):
    folder, metrics, _ = numbers
    own = evaluate(folder)
    names = dict(zip(own.scores.names, own.scores.mae))
    assert names["tilt"] == pytest.approx(metrics["numbers"]["tilt"]["mae"], rel=1e-4)
    file = evaluate(folder / "model_float32.tflite", tables / "numbers.csv")
    assert len(file.scores.targets) == COUNT and "mean absolute error" in file.text()


def test_preview_shows_labels_and_numbers(labels, numbers, tmp_path):
    for name, (_, _, recipe) in {"labels": labels, "numbers": numbers}.items():
        page = preview(dataclasses.replace(recipe, batch_size=8), tmp_path / f"{name}.html")
        text = (tmp_path / f"{name}.html").read_text()
        assert page and ("brightness 1" in text if name == "numbers" else "blue" in text)


def test_check_names_the_command(tables):
    assert "objective=labels" in shown("check", tables / "labels.csv", "--objective", "labels").splitlines()[-1]
    assert "target=tilt,brightness" in shown(
        "check", tables / "numbers.csv", "--target", "tilt", "--target", "brightness"
    )


def test_a_run_of_other_targets_is_another_run(numbers):
    folder, _, recipe = numbers
    with pytest.raises(ValueError, match="target: "):
        fit(dataclasses.replace(recipe, target=("tilt",)), folder)
