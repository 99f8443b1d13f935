"""What savedmodels/ ships is what its card says, and what its command makes."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_vit import run_exports, workflow
from keras_vit.client.files import open_file
from keras_vit.data.decode import read_file
from keras_vit.data.sources import open_source

SHIPPED = pathlib.Path(__file__).parents[1] / "savedmodels"
DIGITS = SHIPPED / "digits"
FILES = {"saved_model": "savedmodel", "model_float32.tflite": "tflite-float32", "model_int8.tflite": "tflite-int8"}


@pytest.fixture(scope="module")
def test_pictures():
    return [read_file(picture) for picture in open_source("digits").test.pictures]


def answers(path, pictures):
    return open_file(path).predict_encoded(pictures)["probabilities"]


def test_it_is_small_and_whole():
    files = [path for path in DIGITS.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 4e6
    assert max(path.stat().st_size for path in files) < 2e6
    assert {*FILES, "model.keras", "labels.txt", "card.md", "proof.json"} <= {path.name for path in DIGITS.iterdir()}


@pytest.mark.parametrize("name", FILES)
def test_the_files_have_the_accuracy_on_their_card(name):
    proof = json.loads((DIGITS / "proof.json").read_text())["files"][name]
    scores, names = workflow.evaluate(DIGITS / name, "digits")
    assert len(scores.labels) == proof["pictures"] == 360 and names == tuple("0123456789")
    assert scores.accuracy == pytest.approx(proof["accuracy"], abs=1e-9)
    row = next(line for line in (DIGITS / "card.md").read_text().splitlines() if line.startswith(f"| {name} |"))
    assert f"{scores.accuracy:.2%}" in row


def test_the_card_has_the_models_own_accuracy():
    scores, _ = workflow.evaluate(DIGITS / "model.keras", "digits")
    (said,) = re.findall(r"Test accuracy \*\*([\d.]+%)\*\*", (DIGITS / "card.md").read_text())
    assert f"{scores.accuracy:.2%}" == said


def test_exporting_again_gives_the_same_answers(tmp_path, test_pictures):
    run_exports.export(DIGITS, FILES.values(), tmp_path, picture_size=(8, 8))
    for name in FILES:
        np.testing.assert_allclose(
            answers(tmp_path / name, test_pictures), answers(DIGITS / name, test_pictures), atol=1e-3, err_msg=name
        )


@pytest.mark.slow
def test_the_command_makes_them_anew(tmp_path, test_pictures):
    """What the Makefile's `savedmodels` says, into another folder: the training, too."""
    text = (SHIPPED.parent / "Makefile").read_text().split("\nsavedmodels:")[1].split("\n\n")[0]
    commands = re.findall(r"\$\(BIN\)/keras-vit (.*)", text)
    assert len(commands) == 2
    for command in commands:
        words = command.replace("savedmodels/digits", str(tmp_path / "digits")).split()
        code = "import sys; from keras_vit.cli import main; main(sys.argv[1:])"
        subprocess.run([sys.executable, "-c", code, *words], check=True, cwd=SHIPPED.parent)
    for name in FILES:
        np.testing.assert_allclose(
            answers(tmp_path / "digits" / name, test_pictures), answers(DIGITS / name, test_pictures), atol=1e-3
        )
