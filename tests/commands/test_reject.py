"""None of these, from the recipe to predictions."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_vit.commands import cli
from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.fit import fit
from keras_vit.commands.predict import predict
from keras_vit.evaluation import FalseRejects
from keras_vit.models.config import Variant
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    data="synthetic:3x80",
    variant=Variant(patch_size=4, hidden_size=24, num_layers=1, num_heads=2, mlp_dim=48),
    image_size=8,
    epochs=2,
    validation=0.2,
    reject=0.2,
    tensorboard=False,
    exports=("tflite-float32",),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "reject"
    return folder, fit(RECIPE, folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def shown(*arguments):
    result = CliRunner().invoke(cli.main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_run_says_how_often_it_rejects_test_images(run):
    folder, metrics = run
    model = keras.saving.load_model(folder / "model.keras")
    figures = metrics["reject"]
    assert (model.reject.share, model.reject.threshold) == (0.2, figures["threshold"])
    low, high = figures["test_rejected_interval"]
    assert low <= figures["test_rejected"] <= high
    sentence = FalseRejects(round(figures["test_rejected"] * metrics["test_images"]), metrics["test_images"]).text[:-1]
    assert any(line.startswith(sentence) for line in metrics["verdict"])
    card, page = ((folder / name).read_text() for name in ("card.md", "report.html"))
    assert sentence in card and sentence in page
    assert f"below {model.reject.threshold:.4f}" in card and "to every image" not in card
    assert json.loads((folder / "run.json").read_text())["recipe"]["reject"] == 0.2
    assert metrics["exports"][0]["reject"]["agreement_or_tie"] == 1


def test_a_finished_run_exports_a_missing_file_with_it(run):
    folder, metrics = run
    (folder / "model_float32.tflite").unlink()
    again = fit(RECIPE, folder)
    assert again["reject"] == metrics["reject"]
    assert again["exports"][0]["reject"] == pytest.approx(metrics["exports"][0]["reject"])


def test_evaluation_of_run_and_file(run, tmp_path):
    folder, metrics = run
    of_run, of_file = (evaluate(model) for model in (folder, folder / "model_float32.tflite"))
    assert of_run.rejects.rate == metrics["reject"]["test_rejected"]
    assert of_file.rejects.images == metrics["test_images"]
    assert of_run.rejects.text in of_run.text() and of_file.rejects.text in of_file.text()
    of_run.write_page(tmp_path / "page.html", "title")
    assert "rejected wrongly" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("name", ["", "model_float32.tflite"])
def test_predictions_of_run_and_file(name, run, images, tmp_path):
    folder, _ = run
    lines = [json.loads(line) for line in shown("predict", folder / name, images, "--json").splitlines()]
    none = [line["none_of_these"] for line in lines]
    threshold = keras.saving.load_model(folder / "model.keras").reject.threshold
    assert none == [line["classes"][0]["probability"] < threshold for line in lines] and 0 < sum(none) < 12
    texts = shown("predict", folder / name, images).splitlines()
    assert [": none of these (" in text for text in texts] == none
    rows = list(csv.DictReader(shown("predict", folder / name, images, "--csv").splitlines()))
    assert [row["none_of_these"] for row in rows] == [str(one).lower() for one in none]
    assert [not prediction for prediction in predict(folder / name, images)] == none


def test_a_model_without_it_says_nothing_of_it(run, images, tmp_path):
    model = keras.saving.load_model(run[0] / "model.keras")
    model.reject = None
    model.save(tmp_path / "model.keras")
    for style in ("--json", "--csv"):
        assert "none" not in shown("predict", tmp_path / "model.keras", images, style)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"reject": 0.02, "validation": 0.1}, "reject=0.02 with 24 validation images; it needs 49 or more"),
        ({"validation": 0.0}, "reject=0.2 with 0 validation images; it needs 4 or more"),
        ({"reject": -0.1}, "reject=-0.1, expected 0 to 0.5"),
        ({"reject": 0.9}, "reject=0.9, expected 0 to 0.5"),
        ({"objective": "labels"}, "reject for classes"),
        ({"objective": "numbers", "target": ("age",)}, "reject for classes"),
        ({"objective": "mae"}, "reject for classes"),
    ],
)
def test_refusals(changes, message, tmp_path):
    with pytest.raises(ValueError) as error:
        fit(dataclasses.replace(RECIPE, **changes), tmp_path / "run")
    assert message in str(error.value) and not (tmp_path / "run").exists()
