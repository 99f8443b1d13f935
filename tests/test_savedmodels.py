"""The files in savedmodels/ have the accuracies on their card, and the command of the Makefile makes them again."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.export import export
from keras_vit.data.decoding import read_file
from keras_vit.data.sources import open_source
from keras_vit.runtime.files import open_exported

SHIPPED = pathlib.Path(__file__).parents[1] / "savedmodels"
DIGITS = SHIPPED / "digits"
FILES = {"saved_model": "savedmodel", "model_float32.tflite": "tflite-float32", "model_int8.tflite": "tflite-int8"}


@pytest.fixture(scope="module")
def test_images():
    return [read_file(image) for image in open_source("digits").test.images]


def probabilities(path, images):
    return open_exported(path).predict_encoded(images)["probabilities"]


def test_it_is_small_and_whole():
    files = [path for path in DIGITS.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 4e6
    assert max(path.stat().st_size for path in files) < 2e6
    assert {*FILES, "model.keras", "labels.txt", "card.md", "proof.json"} <= {path.name for path in DIGITS.iterdir()}


@pytest.mark.parametrize("name", FILES)
def test_the_files_have_the_accuracy_on_their_card(name):
    proof = json.loads((DIGITS / "proof.json").read_text())["files"][name]
    evaluation = evaluate(DIGITS / name, "digits")
    scores = evaluation.scores
    assert len(scores.labels) == proof["images"] == 360 and evaluation.class_names == tuple("0123456789")
    assert scores.accuracy == pytest.approx(proof["accuracy"], abs=1e-9)
    row = next(line for line in (DIGITS / "card.md").read_text().splitlines() if line.startswith(f"| {name} |"))
    assert f"{scores.accuracy:.2%}" in row


def test_the_card_has_the_models_own_accuracy():
    scores = evaluate(DIGITS / "model.keras", "digits").scores
    (shown,) = re.findall(r"Test accuracy \*\*([\d.]+%)\*\*", (DIGITS / "card.md").read_text())
    assert f"{scores.accuracy:.2%}" == shown


@pytest.mark.soak
def test_exporting_again_gives_the_same_probabilities(tmp_path, test_images):
    export(DIGITS, FILES.values(), tmp_path, input_size=(8, 8))
    for name in FILES:
        np.testing.assert_allclose(
            probabilities(tmp_path / name, test_images),
            probabilities(DIGITS / name, test_images),
            atol=1e-3,
            err_msg=name,
        )


@pytest.mark.slow
def test_the_command_makes_them_anew(tmp_path, test_images):
    """What the Makefile's `savedmodels` says, into another folder: the training, too."""
    text = (SHIPPED.parent / "Makefile").read_text().split("\nsavedmodels:")[1].split("\n\n")[0]
    commands = re.findall(r"\$\(BIN\)/keras-vit (.*)", text)
    assert len(commands) == 2
    for command in commands:
        words = command.replace("savedmodels/digits", str(tmp_path / "digits")).split()
        code = "import sys; from keras_vit.commands.cli import main; main(sys.argv[1:])"
        subprocess.run([sys.executable, "-c", code, *words], check=True, cwd=SHIPPED.parent)
    for name in FILES:
        np.testing.assert_allclose(
            probabilities(tmp_path / "digits" / name, test_images), probabilities(DIGITS / name, test_images), atol=1e-3
        )
