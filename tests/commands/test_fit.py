"""The way from images to files, on runs small enough for a test."""

import contextlib
import csv
import dataclasses
import gzip
import hashlib
import html
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_vit
from keras_vit.commands import fit as fit_module
from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.export import Exports, export
from keras_vit.commands.fit import fit
from keras_vit.commands.image_list import image_changes, write_images
from keras_vit.commands.image_model import open_classifier
from keras_vit.commands.predict import predict
from keras_vit.commands.preview import preview
from keras_vit.commands.range_of_run import use_range_beside
from keras_vit.commands.recipes import find_recipe
from keras_vit.commands.run_folder import finished_metrics, page_in_run, read_recipe
from keras_vit.data.pipeline import read_pixels
from keras_vit.data.sources import open_source
from keras_vit.models.config import Variant
from keras_vit.runtime.files import open_exported
from keras_vit.training.recipe import Recipe
from keras_vit.training.run import Run
from keras_vit.training.transfer import transfer_settings
from keras_vit.weights.open import checkpoint_digest

TINY = Variant(patch_size=4, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=24)
DIGITS = Recipe(data="digits", variant=TINY, image_size=8, epochs=3, batch_size=128, learning_rate=5e-3)
FILES = {
    *("model.keras", "saved_model", "model_float32.tflite", "model_int8.tflite", "labels.txt"),
    *("run.json", "images.csv.gz", "history.csv", "tensorboard", "metrics.json", "proof.json"),
    *("report.html", "card.md"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return folder, fit(DIGITS, folder)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A run of one epoch that has exported nothing, for tests to copy."""
    folder = tmp_path_factory.mktemp("runs") / "bare"
    fit(dataclasses.replace(DIGITS, epochs=1, exports=()), folder)
    return folder


def test_images():
    """Returns the fixed test split, made here without the package: (360, 8, 8, 3) uint8 and labels."""
    digits = load_digits()
    _, images, _, labels = train_test_split(
        digits.images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    return np.repeat(np.round(images / 16 * 255).astype(np.uint8)[..., None], 3, axis=-1), labels


test_images.__test__ = False


def history(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def fingerprints(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_holds_what_is_promised_and_nothing_else(run):
    folder, _ = run
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "labels.txt").read_text().split() == [str(i) for i in range(10)]
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_the_accuracy_that_is_told_is_the_models_on_the_test_images(run):
    folder, metrics = run
    images, labels = test_images()
    model = keras.saving.load_model(folder / "model.keras")
    accuracy = np.mean(model.predict(images / 127.5 - 1, verbose=0).argmax(axis=1) == labels)
    assert (
        metrics["test_accuracy"]
        == pytest.approx(accuracy)
        == pytest.approx(json.loads((folder / "metrics.json").read_text())["test_accuracy"])
    )
    assert 0.15 < accuracy < 1  # it has learned something, and not by looking
    shown = f"{accuracy:.2%}"
    assert shown in (folder / "card.md").read_text() and shown in (folder / "report.html").read_text()


def test_the_verdict_is_in_the_metrics_the_report_and_the_card(run):
    folder, metrics = run
    page, card = (html.unescape((folder / name).read_text("utf-8")) for name in ("report.html", "card.md"))
    low, high = metrics["test_accuracy_interval"]
    assert low < metrics["test_accuracy"] < high
    assert 0.85 < metrics["logistic_regression"]["accuracy"] < 1  # of real digits, better than three epochs
    assert metrics["curves"] == "none" and any("is less accurate than the log" in line for line in metrics["verdict"])
    assert f"macro F1 {metrics['test_macro_f1']:.1%}" in "\n".join(metrics["verdict"])
    for name in ("test_accuracy", "test_balanced_accuracy", "test_macro_f1"):
        assert f"{metrics[name]:.2%}" in page and f"{metrics[name]:.2%}" in card
    said = [line for line in metrics["verdict"] if line.endswith(".") and not line.startswith(("Next:", "balanced"))]
    assert said and all(line in page and line in card.replace("\\", "") for line in said)
    step = metrics["next_step"]
    assert step["text"] in page and step["command"] in page and step["text"] not in card
    assert page.index(step["command"]) < page.index("<dt>test accuracy</dt>")  # it opens the page


def test_the_command_of_the_next_step_has_the_settings_of_the_run(run):
    folder, metrics = run
    program, command, file, option, output, *settings = shlex.split(metrics["next_step"]["command"])
    assert (program, command, option) == ("keras-vit", "fit", "--output")
    recipe, name, _ = find_recipe(file, settings)
    assert name == folder.name and output == f"{folder}-2"
    tuned = transfer_settings(json.loads((folder / "run.json").read_text())["data"]["train"])
    changed = {"weights", "variant", "image_size", *tuned}
    same = {field: value for field, value in dataclasses.asdict(DIGITS).items() if field not in changed}
    assert {field: dataclasses.asdict(recipe)[field] for field in same} == same
    assert recipe.weights == "vit_s16_augreg_in21k" and recipe == dataclasses.replace(recipe, **tuned)


def test_a_finished_run_is_left_as_it_is(run):
    folder, metrics = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert fit(DIGITS, folder) == metrics
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_run_of_other_settings_is_refused_with_what_differs(run):
    folder, _ = run
    before = fingerprints(folder)
    with pytest.raises(ValueError, match=r"(?s)other settings.*epochs: 3 there, 4 here.*--output"):
        fit(dataclasses.replace(DIGITS, epochs=4), folder)
    assert fingerprints(folder) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="Received: .*which contains other files"):
        fit(DIGITS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def untimed(folder):
    timed = ("seconds", "images_per_second")
    return [{name: value for name, value in row.items() if name not in timed} for row in history(folder)]


def cut_off_at(patch, step):
    """Makes the next run end at a step as a machine's lease does."""

    class Cut(Run):
        def on_train_batch_end(self, batch, logs=None):
            if self.step + 1 == step:
                self.signals.received = signal.SIGTERM
            super().on_train_batch_end(batch, logs)

    patch.setattr("keras_vit.training.fit.Run", Cut)


def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path):
    """Weights bit for bit, with every source of chance on."""
    recipe = dataclasses.replace(DIGITS, epochs=2, dropout=0.2, stochastic_depth=0.2, rotate=10.0, exports=())
    fit(recipe, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        cut_off_at(patch, 13)
        with pytest.raises(SystemExit):
            fit(recipe, tmp_path / "cut")
    assert not (tmp_path / "cut" / "model.keras").exists()
    fit(read_recipe(tmp_path / "cut"), tmp_path / "cut")  # as --resume does

    whole, cut = (keras.saving.load_model(tmp_path / name / "model.keras") for name in ("whole", "cut"))
    for one, other in zip(whole.weights, cut.weights):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "cut")
    assert len(untimed(tmp_path / "cut")) == 2
    assert not (tmp_path / "cut" / "checkpoints").exists()


def test_where_and_how_it_is_worked_on_may_change_while_it_goes_on(tmp_path):
    recipe = dataclasses.replace(DIGITS, epochs=1, exports=())
    with pytest.MonkeyPatch.context() as patch:
        cut_off_at(patch, 3)
        with pytest.raises(SystemExit):
            fit(recipe, tmp_path)
    changed = dataclasses.replace(recipe, strategy="one", keep_checkpoints=1, tensorboard=False)
    assert fit(changed, tmp_path)["test_images"] == 360


def starting(tmp_path, name="start.npz", **settings):
    """Returns a recipe that starts from a checkpoint, and the checkpoint's path."""
    model = keras_vit.build(TINY, input_shape=(8, 8, 3), classes=10, **settings)
    path = tmp_path / name
    keras_vit.save_checkpoint(model, path, format="hf" if path.suffix == ".safetensors" else None)
    return dataclasses.replace(DIGITS, weights=str(path), epochs=1, exports=()), path


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_run_reads_its_checkpoint_at_the_start_alone(tmp_path, precision):
    recipe, path = starting(tmp_path, gelu="erf")
    recipe = dataclasses.replace(recipe, precision=precision, lora=2, gelu="erf")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    class Removing(Run):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            path.unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_vit.training.fit.Run", Removing)
        metrics = fit(recipe, tmp_path / "run")
    assert not path.exists() and metrics["test_images"] == 360
    assert json.loads((tmp_path / "run/run.json").read_text())["weights_sha256"] == digest
    model = keras.saving.load_model(tmp_path / "run/model.keras")
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert model.get_layer("block_00").mlp.gelu == "erf"
    assert fit(recipe, tmp_path / "run") == metrics  # finished: it is not read again


def test_the_license_of_a_checkpoint_travels_with_the_run(tmp_path, caplog):
    recipe, path = starting(tmp_path, "start.safetensors")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    recipe = dataclasses.replace(recipe, license="mit")
    fit(recipe, tmp_path / "run")
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("cc-by-nc-4.0 (README.md): no commercial use" in line for line in lines) == 1
    license = json.loads((tmp_path / "run/run.json").read_text())["license"]
    assert (license["name"], license["origin"], license["permissive"]) == ("cc-by-nc-4.0", "README.md", False)
    card = (tmp_path / "run/card.md").read_text()
    assert "\nlicense: cc-by-nc-4.0\n" in card and license["obligations"] in card
    caplog.clear()
    export(tmp_path / "run", ["tflite-float32"])
    assert "licence of the checkpoint: cc-by-nc-4.0" in caplog.text
    facts = open_exported(tmp_path / "run/model_float32.tflite").description.facts
    assert facts["license"].startswith("mit. Checkpoint: cc-by-nc-4.0") and license["source"] in facts["license"]
    assert facts["license"].count("cc-by-nc") == 1


def test_a_run_does_not_go_on_from_a_checkpoint_that_has_changed(tmp_path):
    recipe, path = starting(tmp_path)
    whole = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        cut_off_at(patch, 5)
        with pytest.raises(SystemExit):
            fit(recipe, tmp_path / "run")
    before = fingerprints(tmp_path / "run")
    starting(tmp_path, "other.npz")
    path.write_bytes((tmp_path / "other.npz").read_bytes())
    old, new = (hashlib.sha256(data).hexdigest() for data in (whole, path.read_bytes()))
    with pytest.raises(ValueError, match=rf"a run of other weights:\n  .*start.npz: sha256 {old} there, {new} here"):
        fit(recipe, tmp_path / "run")
    path.unlink()
    with pytest.raises(ValueError, match=r"(?s)Received: .*start.npz: .*No such file.*restore it to continue"):
        fit(recipe, tmp_path / "run")
    assert fingerprints(tmp_path / "run") == before
    path.write_bytes(whole)
    assert fit(recipe, tmp_path / "run")["test_images"] == 360


def test_the_digest_of_a_checkpoint_in_parts_is_of_all_of_them(tmp_path):
    for name in ("model-1-of-2.safetensors", "model-2-of-2.safetensors", "model.safetensors.index.json", "config.json"):
        (tmp_path / name).write_text(name)
    whole = checkpoint_digest(str(tmp_path))
    assert checkpoint_digest(str(tmp_path / "model.safetensors.index.json")) == whole
    (tmp_path / "notes.txt").write_text("not read")
    assert checkpoint_digest(str(tmp_path)) == whole
    (tmp_path / "model-2-of-2.safetensors").write_text("changed")
    assert checkpoint_digest(str(tmp_path)) != whole


def test_random_weights_have_no_digest(run):
    described = json.loads((run[0] / "run.json").read_text())
    assert described["weights_sha256"] is None and described["license"] is None


def test_another_seed_gives_another_model(tmp_path, run):
    folder, _ = run
    fit(dataclasses.replace(DIGITS, seed=1, exports=()), tmp_path / "other")
    one, other = (keras.saving.load_model(path / "model.keras") for path in (folder, tmp_path / "other"))
    assert any((np.array(a) != np.array(b)).any() for a, b in zip(one.weights, other.weights))


def test_a_loss_that_is_nan_stops_the_run(tmp_path):
    with pytest.raises(ValueError, match="(?s)at step .*gradient norm .*digit .*a lower learning_rate"):
        fit(dataclasses.replace(DIGITS, learning_rate=1e30, clip_norm=0.0, warmup_epochs=0), tmp_path / "run")
    assert not (tmp_path / "run" / "model.keras").exists()


def test_a_folder_without_a_run_cannot_go_on(tmp_path):
    with pytest.raises(ValueError, match="without run.json"):
        read_recipe(tmp_path)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder of red and blue images in all formats, one of them torn."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    random = np.random.default_rng(0)
    for name, channel in (("blue", 2), ("red", 0)):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            image = random.integers(0, 90, (13, 11, 3), np.uint8)
            image[..., channel] += 150
            ending = ("jpg", "png", "bmp", "gif", "webp")[i % 5]
            Image.fromarray(image).save(folder / name / f"{i:02d}.{ending}")
    (folder / "red" / "torn.jpg").write_bytes((folder / "red" / "00.jpg").read_bytes()[:200])
    return folder


COLOURS = Recipe(
    data="", variant=TINY, image_size=8, epochs=12, batch_size=8, learning_rate=5e-3, exports=("tflite-int8",)
)


def test_a_folder_goes_all_the_way_and_is_not_touched(shapes, tmp_path):
    before = fingerprints(shapes)
    recipe = dataclasses.replace(COLOURS, data=str(shapes))
    with pytest.raises(ValueError, match=r"(?s)red/torn.jpg: .*on_bad_image=skip"):
        fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    metrics = fit(dataclasses.replace(recipe, on_bad_image="skip"), tmp_path / "run")
    assert metrics["bad_images"] == 1
    assert metrics["test_accuracy"] == 1.0
    assert "torn.jpg" in (tmp_path / "run" / "report.html").read_text()
    ((first, second),) = predict(tmp_path / "run", [shapes / "red" / "05.jpg"])
    assert first[0] == "red" and first[1] > 0.5 and second[0] == "blue"
    assert first[1] + second[1] == pytest.approx(1)
    evaluation = evaluate(tmp_path / "run")
    assert evaluation.scores.accuracy == 1.0 and evaluation.class_names == ("blue", "red")
    with pytest.raises(ValueError, match=r"(?s)cannot be read.*torn.jpg.*missing.png"):
        predict(tmp_path / "run", [shapes / "red" / "torn.jpg", shapes / "missing.png"])
    assert fingerprints(shapes) == before


def test_a_model_is_judged_on_any_folder_of_its_classes(run, tmp_path):
    images, labels = test_images()
    for i in range(40):
        (tmp_path / "some" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(tmp_path / "some" / str(labels[i]) / f"{i}.png")
    scores = evaluate(run[0], tmp_path / "some").scores
    model = keras.saving.load_model(run[0] / "model.keras")
    expected = model.predict(keras_vit.preprocess_input(images[:40]), verbose=0)
    assert scores.accuracy == pytest.approx(np.mean(expected.argmax(axis=1) == labels[:40]))
    (tmp_path / "some" / "0").rename(tmp_path / "some" / "zero")
    with pytest.raises(ValueError, match="unknown classes: zero"):
        evaluate(run[0], tmp_path / "some")


def test_an_unfinished_run_is_refused_when_its_data_has_changed(shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "colours")
    (data / "red" / "torn.jpg").unlink()
    recipe = dataclasses.replace(COLOURS, data=str(data), exports=())
    with pytest.MonkeyPatch.context() as patch:
        cut_off_at(patch, 5)
        with pytest.raises(SystemExit):
            fit(recipe, tmp_path / "run")
    before = fingerprints(tmp_path / "run")
    Image.new("RGB", (9, 9), "red").save(data / "red" / "20.png")
    with pytest.raises(ValueError, match=r"(?s)a run of other data:\n  1 image added: red/20.png\n.*--output"):
        fit(recipe, tmp_path / "run")
    shutil.copytree(data / "red", data / "rot")
    with pytest.raises(ValueError, match=r"(?s)classes: \['blue', 'red'\] there, \['blue', 'red', 'rot'\] here"):
        fit(recipe, tmp_path / "run")
    assert fingerprints(tmp_path / "run") == before


def test_a_run_keeps_the_range_of_its_numbers(tmp_path, monkeypatch, caplog):
    levels = np.random.default_rng(0).integers(900, 1100, (30, 8, 8))
    for i, image in enumerate(levels):
        path = tmp_path / f"scans/{'ab'[i % 2]}/{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, (image + 1000 * (i % 2)).astype(np.uint16))
    recipe = dataclasses.replace(DIGITS, data=str(tmp_path / "scans"), exports=(), batch_size=8, epochs=8)
    monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", "0,2500.5")
    assert fit(recipe, tmp_path / "run")["test_accuracy"] == 1
    stated = json.loads((tmp_path / "run/run.json").read_text())["data"]["value_range"]
    image = str(tmp_path / "scans/b/1.npy")
    ((_, shares),) = predict(tmp_path / "run", [image])
    monkeypatch.delenv("KERAS_VIT_VALUE_RANGE")  # the run's own is used from here on
    ((_, again),) = predict(tmp_path / "run", [image])
    assert "`KERAS_VIT_VALUE_RANGE=0,2500.5`" in (tmp_path / "run/card.md").read_text()
    assert (stated, again, os.environ["KERAS_VIT_VALUE_RANGE"]) == ([0, 2500.5], shares, "0,2500.5")
    monkeypatch.delenv("KERAS_VIT_VALUE_RANGE")
    (tmp_path / "run/model.tflite").write_bytes(b"")  # of an exported file beside run.json, too
    use_range_beside(tmp_path / "run/model.tflite")
    assert os.environ["KERAS_VIT_VALUE_RANGE"] == "0,2500.5"
    monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", "0,65535")
    caplog.clear()
    read_recipe(tmp_path / "run")
    assert "KERAS_VIT_VALUE_RANGE=0,65535 replaces the range that" in caplog.text
    with pytest.raises(ValueError, match=r"value_range: \[0.0, 2500.5\] there, \[0.0, 65535.0\] here(.|\n)*unset"):
        fit(recipe, tmp_path / "run")


def test_a_finished_run_says_which_images_have_changed_since(tmp_path):
    data, random = tmp_path / "data", np.random.default_rng(0)
    for name in ("dark", "light"):
        (data / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(random.integers(0, 255, (9, 9, 3), np.uint8)).save(data / name / f"{i:02d}.png")
    recipe = dataclasses.replace(COLOURS, data=str(data), epochs=1, exports=())
    metrics = fit(recipe, tmp_path / "run")
    assert fit(recipe, tmp_path / "run") == metrics
    before = fingerprints(tmp_path / "run")
    shutil.copy(data / "dark" / "00.png", data / "light" / "wrong.png")
    shutil.copy(data / "dark" / "01.png", data / "dark" / "02.png")
    for i in range(3, 10):
        (data / "light" / f"{i:02d}.png").unlink()
    with pytest.raises(ValueError, match="a run of other data") as caught:
        fit(recipe, tmp_path / "run")
    assert str(caught.value).splitlines()[1:4] == [
        "  1 image added: light/wrong.png",
        "  7 images removed: light/03.png, light/04.png, light/05.png, light/06.png, light/07.png and 2 more",
        "  1 image changed: dark/02.png",
    ]
    (tmp_path / "run" / "images.csv.gz").unlink()  # a run of an earlier version
    with pytest.raises(ValueError, match=r"(?s)sha256: .* there, .* here\n  train: "):
        fit(recipe, tmp_path / "run")
    del before["images.csv.gz"]
    assert fingerprints(tmp_path / "run") == before


def test_labels_weights_and_splits_that_have_changed_are_told_apart(tmp_path):
    for i in range(12):
        Image.fromarray(np.full((9, 9, 3), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    rows = [[f"{i}.png", "ab"[i % 2], "test" if i > 8 else "train", "1"] for i in range(12)]

    def source(*changes):
        for row, column, value in changes:
            rows[row][column] = value
        table = ["path,label,split,weight", *map(",".join, rows)]
        (tmp_path / "t.csv").write_text("\n".join(table))
        return open_source(tmp_path / "t.csv", validation=0)

    write_images(tmp_path, source())
    assert image_changes(tmp_path, source()) == []
    assert image_changes(tmp_path / "none", source()) is None
    assert image_changes(tmp_path, source((3, 2, "test"))) == ["  1 image in another split: 3.png"]
    assert image_changes(tmp_path, source((0, 1, "b"), (1, 3, "2.5"))) == [
        "  1 image of another class: 0.png",
        "  1 image of another weight: 1.png",
    ]
    (tmp_path / "images.csv.gz").write_bytes(b"torn")
    with pytest.raises(ValueError, match="images.csv.gz cannot be read"):
        image_changes(tmp_path, source())


def test_a_run_without_a_finished_step_gives_way_to_other_settings(tmp_path):
    class Fails(Run):
        def on_train_batch_end(self, batch, logs=None):
            raise ValueError("too late")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_vit.training.fit.Run", Fails)
        with pytest.raises(ValueError, match="too late"):
            fit(dataclasses.replace(DIGITS, learning_rate=1e-4), tmp_path / "run")
    assert (tmp_path / "run" / "run.json").exists()
    recipe = dataclasses.replace(DIGITS, epochs=1, exports=())
    fit(recipe, tmp_path / "run")
    assert read_recipe(tmp_path / "run") == recipe
    assert len(history(tmp_path / "run")) == 1


def test_a_finished_run_gets_the_exports_that_are_missing_without_training(tmp_path, bare):
    recipe, folder = dataclasses.replace(DIGITS, epochs=1, exports=("tflite-float32",)), tmp_path / "run"
    shutil.copytree(bare, folder)
    first = fit(recipe, folder)
    before = fingerprints(folder)
    both = dataclasses.replace(recipe, exports=("tflite-float32", "tflite-int8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "train", None)
        metrics = fit(both, folder)
        assert fit(both, folder) == metrics
        assert fit(dataclasses.replace(recipe, exports=()), folder) == metrics
        assert fingerprints(folder)["model_float32.tflite"] == before["model_float32.tflite"]
        (folder / "model_float32.tflite").unlink()
        assert [item["target"] for item in fit(both, folder)["exports"]] == ["tflite-int8", "tflite-float32"]
        os.truncate(folder / "model_int8.tflite", 5_000)
        assert [item["target"] for item in fit(both, folder)["exports"]] == ["tflite-float32", "tflite-int8"]
    assert [item["target"] for item in metrics["exports"]] == ["tflite-float32", "tflite-int8"]
    assert metrics | {"exports": first["exports"]} == first
    assert metrics["exports"][0] == first["exports"][0]
    after = fingerprints(folder)
    for name in ("model.keras", "history.csv", "run.json", "images.csv.gz", "labels.txt"):
        assert after[name] == before[name]
    for page in ("card.md", "report.html"):
        assert "model_int8.tflite" in (folder / page).read_text()
    os.truncate(folder / "model.keras", 5_000)
    with pytest.raises(ValueError, match="model.keras is not a model that Keras can load"):
        fit(both, folder)


def test_a_preview_shows_what_the_training_sees(tmp_path):
    recipe = dataclasses.replace(DIGITS, rotate=20.0, mixup=0.5, crop="inception", image_size=16, batch_size=6)
    page = preview(recipe, tmp_path / "p.html").read_text()
    assert page.count("<img") == 4 * 6
    assert "inception" in page and "digits" in page and "Step 4" in page
    assert re.search(r"\d 0\.\d+, \d 0\.\d+", page)  # labels that were mixed


def test_the_protocol_of_a_run_follows_it(shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "colours")
    (data / "red" / "torn.jpg").unlink()
    recipe = dataclasses.replace(COLOURS, data=str(data), epochs=1, evaluation="timm")
    fit(recipe, tmp_path / "run")
    classifier = open_classifier(tmp_path / "run")
    assert classifier.protocol == "timm"
    (ours,) = predict(tmp_path / "run", [data / "red" / "05.jpg"], top=1)
    pixels = read_pixels(str(data / "red" / "05.jpg"), (8, 8), "timm")
    expected = classifier.model.predict(keras_vit.preprocess_input(pixels[None]), verbose=0)[0].max()
    assert ours[0][1] == pytest.approx(expected, abs=1e-6)
    other = read_pixels(str(data / "red" / "05.jpg"), (8, 8), "official")
    assert (pixels != other).any()


def test_what_is_no_classifier_is_refused(run, tmp_path):
    (tmp_path / "text.keras").write_text("no zip")
    lone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    lone.save(tmp_path / "dense.keras")
    for path, words in (
        (tmp_path / "text.keras", "not a model that Keras can load"),
        (tmp_path / "dense.keras", "Expected a model of images"),
        (run[0] / "labels.txt", "a .txt file"),
        (tmp_path / "none.keras", "does not exist"),
        (tmp_path, "without model.keras"),
    ):
        with pytest.raises(ValueError, match=words):
            predict(path, [])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "model.keras").write_bytes((run[0] / "model.keras").read_bytes())
    (tmp_path / "labels" / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="labels.txt to have the class names of model.keras.*'cat' in labels.txt"):
        predict(tmp_path / "labels", [])


def test_metrics_of_an_earlier_version_have_the_names_of_today(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"recipe": dataclasses.asdict(DIGITS)}))
    (tmp_path / "metrics.json").write_text(json.dumps({"test_pictures": 360, "bad_pictures": 0, "parameters": 5}))
    assert finished_metrics(tmp_path, DIGITS) == {"test_images": 360, "bad_images": 0, "parameters": 5}


# ---- other processes, damaged files


@pytest.fixture
def other_process(monkeypatch):
    """Returns a function that locks a folder as another process does; its lock ends with the test."""
    with contextlib.ExitStack() as stack:

        def hold(folder):
            program = (
                "import keras_vit_command, sys, keras_vit._atomic as a\nwith a.locked(sys.argv[1]): print(input())"
            )
            command = [sys.executable, "-c", program, str(folder)]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            stack.callback(process.kill)
            while not (pathlib.Path(folder) / ".lock.json").exists():
                assert process.poll() is None
                time.sleep(0.01)
            return str(process.pid)

        yield hold


def test_a_second_process_is_refused_at_once_and_told_who_writes(bare, tmp_path, other_process, monkeypatch):
    folder, read = tmp_path / "bare", open_source
    shutil.copytree(bare, folder)
    process = other_process(folder)
    monkeypatch.setattr(fit_module, "open_recipe_data", None)  # nothing of the work is begun
    (folder / "metrics.json").rename(folder / "hidden.json")
    before = fingerprints(folder)
    recipe = dataclasses.replace(DIGITS, epochs=1, exports=())
    with pytest.raises(ValueError, match=rf"Received: {folder}, to which process {process} on .* since .*: -c"):
        fit(recipe, folder)
    with pytest.raises(ValueError, match=f"process {process} on "):
        export(folder, "savedmodel", data="digits")
    with pytest.raises(ValueError, match=f"process {process} on "), page_in_run(folder / "evaluation.html"):
        pass
    with page_in_run(None), page_in_run(tmp_path / "page.html"):
        pass  # no folder of a run
    assert fingerprints(folder) == before
    (folder / "hidden.json").rename(folder / "metrics.json")
    monkeypatch.setattr(fit_module, "open_recipe_data", lambda recipe: read(recipe.data))
    assert fit(recipe, folder)["test_images"] == 360  # finished: nothing is written


@pytest.mark.parametrize("left", ["checkpoints/step_00000011/state.npz", ".lock"])
def test_what_a_process_killed_at_its_end_has_not_removed_goes(bare, tmp_path, left):
    folder = shutil.copytree(bare, tmp_path / "bare")
    (folder / left).parent.mkdir(parents=True, exist_ok=True)
    (folder / left).touch()
    fit(dataclasses.replace(DIGITS, epochs=1, exports=()), folder)
    assert fingerprints(folder) == fingerprints(bare)
    assert not (folder / left.split("/")[0]).exists()


def damaged(value):
    """Yields copies of JSON, each with one part replaced by another type, or left out."""
    for other in (None, True, -1, 1e308, "", [], [[]], {}, {"a": []}):
        if type(other) is not type(value) or other != value:
            yield other
    if isinstance(value, (dict, list)):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))[:12]
        for name, part in items:
            for other in damaged(part):
                changed = value.copy()
                changed[name] = other
                yield changed
            if isinstance(value, dict):
                yield {key: part for key, part in value.items() if key != name}


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "proof.json"])
def test_a_damaged_file_of_a_run_is_named_whatever_is_in_it(run, tmp_path, name, monkeypatch):
    folder = tmp_path / "run"
    hidden = ["tensorboard", *(["saved_model"] if name == "proof.json" else [])]  # a missing export: all is read
    shutil.copytree(run[0], folder, ignore=shutil.ignore_patterns(*hidden))
    monkeypatch.setattr(fit_module, "export_run", lambda *_: Exports([], {}))
    monkeypatch.setattr(fit_module, "load_keras_model", lambda _: (None, None))
    source = open_source(DIGITS.data)
    monkeypatch.setattr(fit_module, "open_recipe_data", lambda _: source)
    whole = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    content = json.loads(whole[folder / name])
    texts = [json.dumps(other).encode() for other in damaged(content)]
    texts = texts[:: max(1, len(texts) // 50)]
    refused = 0
    for text in [b"", b"{", b"\xff", b"[" * 100_000, b"\0" * 9, *texts]:
        (folder / name).write_bytes(text)
        try:
            read_recipe(folder)
            fit(DIGITS, folder)
        except (ValueError, TypeError) as error:
            refused += 1
            assert str(folder) in str(error) and len(str(error)) <= 2000, text[:200]
            assert not isinstance(error, TypeError)
        for path, data in whole.items():
            path.write_bytes(data)
    assert refused > 10


@pytest.mark.parametrize(
    "damage", [lambda data: data[:50] + b"x" * 9 + data[59:], lambda data: gzip.compress(b"a,b\n\nx")]
)
def test_a_damaged_list_of_images_is_named(bare, tmp_path, damage):
    path = tmp_path / "images.csv.gz"
    path.write_bytes(damage((bare / path.name).read_bytes()))
    with pytest.raises(ValueError, match="images.csv.gz cannot be read"):
        image_changes(tmp_path, open_source("synthetic:2x8"))
