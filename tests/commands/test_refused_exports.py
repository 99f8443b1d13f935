"""Exports that fail: the files that are kept, the pages of the run, and the exit status."""

import dataclasses
import errno
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from keras_vit.commands import cli
from keras_vit.commands import export as export_module
from keras_vit.commands.fit import fit
from keras_vit.export import writing as files
from keras_vit.export.proof import read_proof, read_refused
from keras_vit.export.targets import TARGETS
from keras_vit.export.tflite import conversion as to_tflite
from keras_vit.models.config import Variant
from keras_vit.runtime.tflite import TFLiteFile
from keras_vit.training.recipe import Recipe

TINY = Variant(patch_size=4, hidden_size=48, num_layers=1, num_heads=4, mlp_dim=96)  # wide, so that 8 bits tell
DIGITS = Recipe(data="digits", variant=TINY, image_size=8, epochs=1, batch_size=256, warmup_epochs=0)
DIGITS_WITHOUT = dataclasses.replace(DIGITS, exports=())
RECIPE = f"""
from keras_vit.training.recipe import Recipe
from keras_vit.models.config import Variant

RECIPE = {DIGITS!r}
"""
PAGES = ("report.html", "card.md")


def command(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "tiny.py").write_text(RECIPE)
    return tmp_path / "tiny.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that is finished and has exported nothing, for `copy_of`."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    fit(DIGITS_WITHOUT, folder)
    return folder


def copy_of(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def int8_too_strict(patch):
    """Asks of 8-bit weights what they cannot keep, and 16 bits can."""
    strict = TARGETS["tflite-int8"]._replace(bounds={"logits.max_difference": (0.0, 1e-5)})
    half = TARGETS["tflite-float16"]._replace(bounds={})
    patch.setitem(TARGETS, "tflite-int8", strict)
    patch.setitem(TARGETS, "tflite-float16", half)


def client_off_by_a_pixel(patch):
    read = TFLiteFile.read
    patch.setattr(TFLiteFile, "read", lambda self, image: np.roll(read(self, image), 1, axis=1))


def converter_broken(patch):
    def broken(*_, **__):
        raise RuntimeError("no such operation")

    patch.setattr(to_tflite, "converted", broken)


def disk_full(patch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(files, "latency_and_memory", full)


def export_broken(patch):
    def broken(*_, **__):
        raise TypeError("an error of the package itself")

    patch.setattr(export_module, "export_model", broken)


FAULTS = {
    "8 bits are too few": (int8_too_strict, "logits.max_difference is ", "tflite-float16 keeps its bounds"),
    "a client reads otherwise": (
        client_off_by_a_pixel,
        ".preprocessing_agreement is 0, expected 0.99 to 1",
        "",
    ),
    "the converter breaks": (converter_broken, "RuntimeError: no such operation", ""),
    "the disk is full": (disk_full, "No space left on device", ""),
    "nothing can be exported": (export_broken, "TypeError: an error of the package itself", ""),
}


@pytest.mark.parametrize("fault, reason, advice", FAULTS.values(), ids=FAULTS)
def test_a_refused_export_takes_nothing_of_the_run_with_it(
    tmp_path, recipe, trained, monkeypatch, fault, reason, advice
):
    fault(monkeypatch)
    # One run is trained and exported in one go; the others only lack their exports.
    folder = tmp_path / "run" if fault is client_off_by_a_pixel else copy_of(trained, tmp_path)
    result = command("fit", recipe, "exports=tflite-int8", "--output", folder)
    assert result.exit_code == 3, result.output
    metrics = json.loads((folder / "metrics.json").read_text())
    ((file, described),) = [item.values() for item in metrics["refused"]]
    assert file == "model_int8.tflite" and reason in described and metrics["exports"] == []
    assert ("keeps its bounds" in described) == bool(advice) and advice in described
    assert f"test accuracy {metrics['test_accuracy']:.2%}" in result.output
    assert f"model_int8.tflite is not kept: {described}" in result.output
    assert read_refused(folder) == {file: described} and read_proof(folder) == []
    for name in PAGES:
        assert "model_int8.tflite" in (folder / name).read_text() and reason in (folder / name).read_text()
    assert (folder / "model.keras").exists() and not (folder / "model_int8.tflite").exists()
    again = command("fit", recipe, "exports=tflite-int8", "--output", folder)  # finished, and still without the file
    assert again.exit_code == 3 and f"model_int8.tflite is not kept: {described}" in again.output


def test_the_other_exports_are_made_and_a_later_one_takes_the_refusal_back(tmp_path, recipe, trained):
    folder = copy_of(trained, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        int8_too_strict(patch)
        result = command("fit", recipe, "exports=tflite-int8,tflite-float32", "--output", folder)
    assert result.exit_code == 3, result.output
    assert [item["file"] for item in read_proof(folder)] == ["model_float32.tflite"]
    assert set(read_refused(folder)) == {"model_int8.tflite"}
    later = command("export", folder, "--to", "tflite-int8")
    assert later.exit_code == 0, later.output
    assert {item["file"] for item in read_proof(folder)} == {"model_float32.tflite", "model_int8.tflite"}
    assert read_refused(folder) == {}
    for name in PAGES:
        assert "logits.max_difference" not in (folder / name).read_text()


def test_export_keeps_what_passes_and_names_what_does_not(tmp_path, trained, monkeypatch):
    folder = copy_of(trained, tmp_path)
    int8_too_strict(monkeypatch)
    result = command("export", folder, "--to", "tflite-int8", "--to", "tflite-float32", "--output", tmp_path / "out")
    assert result.exit_code == 3, result.output
    assert "model_float32.tflite " in result.output and "model_int8.tflite is not kept: it does not" in result.output
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert kept == {"model_float32.tflite", "labels.txt", "proof.json", *PAGES}
    for name in PAGES:
        assert "logits.max_difference" in (tmp_path / "out" / name).read_text()
    assert "model_int8.tflite" not in (folder / "card.md").read_text()


@pytest.mark.soak
def test_each_of_several_faults_is_reported(tmp_path, trained):
    folder = copy_of(trained, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        converter_broken(patch)
        with pytest.raises(files.ExportsRefused) as caught:
            export_module.export(folder, ["tflite-int8", "tflite-float32", "savedmodel"])
    assert [item.file for item in caught.value.agreements] == ["saved_model"]
    assert caught.value.refused == {
        "model_int8.tflite": "RuntimeError: no such operation",
        "model_float32.tflite": "RuntimeError: no such operation",
    }


@pytest.mark.parametrize(
    "exports, missing, words",
    [
        ("tflite-int4", "ai_edge_quantizer", 'the extra "mobile": pip install ai-edge-quantizer'),
        ("tflite-rounded-int8", "ai_edge_quantizer", 'the extra "mobile": pip install ai-edge-quantizer'),
        ("tflite-int8,onnx", "tf2onnx", 'the extra "onnx": pip install tf2onnx'),
        ("web", None, "npm install --save-exact @litertjs/core"),
    ],
)
def test_a_missing_package_is_reported_before_the_training(tmp_path, recipe, monkeypatch, exports, missing, words):
    monkeypatch.chdir(tmp_path)
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    result = command("fit", recipe, f"exports={exports}", "--output", "run")
    assert result.exit_code == 2 and words in result.output
    assert not pathlib.Path("run").exists()
