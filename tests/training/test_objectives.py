"""Pre-training runs: resuming, the files of a run, and fine-tuning from its model."""

import dataclasses
import json
import signal

import keras
import numpy as np
import pytest

from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.fit import fit, result_lines
from keras_vit.commands.predict import predict
from keras_vit.data.sources import open_source
from keras_vit.models.config import ResNet, Variant
from keras_vit.training import run as run_module
from keras_vit.training.fit import train
from keras_vit.training.objectives import OBJECTIVES, vit_of
from keras_vit.training.recipe import Recipe

# All that must be the same after an interruption: dropout, masks, accumulation, EMA, layer decay.
RECIPE = Recipe(
    data="synthetic:3x16",
    variant=Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12, pooling="gap"),
    image_size=12,
    objective="mae",
    decoder_layers=1,
    epochs=3,
    batch_size=8,
    accumulation=2,
    learning_rate=1e-2,
    dropout=0.1,
    ema=0.5,
    layer_decay=0.9,
    tensorboard=False,
)


@pytest.fixture(scope="module")
def source():
    return open_source(RECIPE.data, validation=0.2, test=0.2)


def values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def columns(history):
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_second")} for row in history]


class Stopped(run_module.Run):
    """Receives SIGTERM after the seventh step."""

    def on_train_batch_end(self, batch, logs=None):
        if self.step + 1 == 7:
            self.signals.received = signal.SIGTERM
        super().on_train_batch_end(batch, logs)


@pytest.mark.soak
def test_a_resumed_run_has_the_same_bits_as_a_whole_one(source, tmp_path, monkeypatch):
    network, history = train(RECIPE, source, tmp_path / "whole")
    assert history[-1]["val_loss"] < history[0]["val_loss"] and 0 <= history[-1]["val_accuracy"] <= 1
    with monkeypatch.context() as patch:
        patch.setattr("keras_vit.training.fit.Run", Stopped)
        with pytest.raises(SystemExit):
            train(RECIPE, source, tmp_path / "cut")
    again, rows = train(RECIPE, source, tmp_path / "cut")
    assert columns(rows) == columns(history)
    for path, value in values(network).items():
        np.testing.assert_array_equal(values(again)[path], value, err_msg=path)
    vit = vit_of(network)
    assert vit is not network and vit.output_shape == (None, 8) and "head" not in {layer.name for layer in vit.layers}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "masked_patches"
    settings = {"objective": "masked-patches", "accumulation": 1, "epochs": 2, "batch_size": 64}
    recipe = dataclasses.replace(RECIPE, data="digits", image_size=8, **settings)
    return folder, fit(recipe, folder), recipe


def test_a_run_writes_a_model_a_log_and_a_report(run):
    folder, metrics, _ = run
    assert {path.name for path in folder.iterdir()} == {
        *("model.keras", "run.json", "history.csv", "metrics.json", "report.html", "images.csv.gz")
    }
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert "test_accuracy" not in metrics and metrics["exports"] == [] and metrics["test_images"] == 360
    assert 0 <= metrics["test_metric"] <= 1 and metrics["test_loss"] > 0
    assert result_lines(metrics)[0].startswith(f"test loss {metrics['test_loss']:.4f}, colour accuracy ")
    page = (folder / "report.html").read_text()
    assert page.count(', reconstructed"') == page.count(', masked"') == 12
    assert "Colour accuracy over 2 epochs" in page and ">Reconstructions<" in page


def test_a_finished_run_stays_as_it_is(run):
    folder, metrics, recipe = run
    assert fit(recipe, folder) == metrics


def test_the_model_is_evaluated_by_its_features_and_is_not_a_classifier(run):
    folder, *_ = run
    result = evaluate(folder, knn=True, linear_probe=True)
    assert result.scores is None and "the head is not evaluated" in result.notes[0]
    assert {what.partition(" of ")[0]: 0.1 < value <= 1 for what, value in result.other_accuracies.items()} == {
        "20 nearest neighbours": True,
        "linear probe": True,
    }
    with pytest.raises(ValueError, match="Expected a model with a head"):
        predict(folder, [])


def test_another_run_starts_from_it(run, tmp_path):
    folder, _, recipe = run
    start = values(keras.saving.load_model(folder / "model.keras"))
    tuned = dataclasses.replace(
        recipe,
        objective="classes",
        weights=str(folder / "model.keras"),
        freeze_to="norm",
        epochs=1,
        exports=(),
        ema=0.0,
    )
    metrics = fit(tuned, tmp_path / "tuned")
    assert 0 <= metrics["test_accuracy"] <= 1
    end = values(keras.saving.load_model(tmp_path / "tuned" / "model.keras"))
    assert set(end) - set(start) == {"head/kernel", "head/bias"}
    for path, value in start.items():
        np.testing.assert_array_equal(end[path], value, err_msg=path)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"variant": ResNet((1,), (128,), 32)}, "a plain Vision Transformer"),
        (
            {"variant": Variant(1, 8, 1, 2, 12, stem=ResNet((), (), 32), pooling="gap")},
            "without a stem of convolutions",
        ),
        ({"pooling": "map"}, "no weights after the last norm"),
    ],
)
def test_unsuitable_models_are_refused_before_anything_is_written(source, tmp_path, settings, words):
    recipe = dataclasses.replace(RECIPE, **{"dropout": 0.0, "layer_decay": 1.0, **settings})
    with pytest.raises(ValueError, match=words):
        train(recipe, source, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_table_has_the_objectives_of_a_recipe():
    for objective in OBJECTIVES:
        target = ("age",) if objective == "numbers" else ()
        assert dataclasses.replace(RECIPE, objective=objective, target=target).objective == objective
    with pytest.raises(ValueError, match="objective='colours', expected one of 'classes', 'labels', 'numbers', "):
        dataclasses.replace(RECIPE, objective="colours")
