import dataclasses
import os
import random
import shutil
import signal

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.data.pipeline import validation_batches
from keras_vit.data.sources import open_source
from keras_vit.models.config import Variant
from keras_vit.training import run as run_module
from keras_vit.training import trainer as trainer_module
from keras_vit.training.checkpoints import TrainingCheckpoints
from keras_vit.training.fit import train
from keras_vit.training.lr_finder import search_learning_rate
from keras_vit.training.recipe import Recipe
from keras_vit.training.trainer import make_trainer

RECIPE = Recipe(
    data="synthetic:3x16",
    variant=Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12),
    image_size=12,
    epochs=4,
    batch_size=8,
    learning_rate=3e-3,
    dropout=0.1,
    mixup=0.1,
    tensorboard=False,
    exports=(),
)
DEEP = dataclasses.replace(RECIPE, variant=dataclasses.replace(RECIPE.variant, num_layers=3), epochs=1)


def with_(**settings):
    return dataclasses.replace(RECIPE, **settings)


@pytest.fixture(scope="module")
def source():
    return open_source(RECIPE.data, validation=0.2, test=0.2)


def values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def same(one, other):
    return all(np.array_equal(one[path], other[path]) for path in one)


@pytest.fixture(scope="module")
def plain(source, tmp_path_factory):
    """Returns the weights, the log and the folder of the recipe as it is."""
    folder = tmp_path_factory.mktemp("plain")
    model, history = train(RECIPE, source, folder)
    return values(model), history, folder


def columns(history):
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_second")} for row in history]


def test_a_run_learns_and_its_log_says_so(plain):
    _, history, _ = plain
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["step"] for row in history] == [step * history[0]["step"] for step in (1, 2, 3, 4)]
    assert history[-1]["loss"] < history[0]["loss"]
    expected = {"loss", "accuracy", "gradient_norm", "val_loss", "val_accuracy", "learning_rate", "images_per_second"}
    assert expected < set(history[0])


def test_a_learning_rate_search_does_not_change_a_later_run(source, plain, tmp_path):
    keras.utils.set_random_seed(5)
    state = random.getstate(), np.random.get_state()[1].tolist()
    result = search_learning_rate(RECIPE, source, steps=30)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
    assert keras.random.uniform((3,)).numpy().tolist() == _uniform_after_seed(5)
    model, history = train(RECIPE, source, tmp_path)
    assert same(values(model), plain[0]) and columns(history) == columns(plain[1])
    assert 1e-7 < result.suggestion < 1 and len(result.rates) == len(result.losses) <= 30
    assert result.rates == tuple(sorted(result.rates))
    assert result.text().splitlines()[-1].startswith(f"learning_rate={result.suggestion:.1e}")


def _uniform_after_seed(seed):
    keras.utils.set_random_seed(seed)
    return keras.random.uniform((3,)).numpy().tolist()


@pytest.mark.parametrize("steps", [5, 10001])
def test_a_search_of_nonsense_is_refused(source, steps):
    with pytest.raises(ValueError, match="steps of 10 or more"):
        search_learning_rate(RECIPE, source, steps=steps, lowest=1e-3 if steps == 5 else 2.0)


class Asking(run_module.Run):
    """Receives a signal after a step, as from a user or a machine."""

    number, at = signal.SIGTERM, 5

    def on_train_batch_end(self, batch, logs=None):
        if self.step + 1 == self.at:
            os.kill(os.getpid(), self.number)
        super().on_train_batch_end(batch, logs)


@pytest.mark.parametrize(
    "number, error, stops",
    [(signal.SIGTERM, SystemExit, (2, 9)), (signal.SIGINT, KeyboardInterrupt, (7,))],  # twice, and once
)
def test_a_run_that_receives_a_signal_saves_and_resumes(source, plain, tmp_path, monkeypatch, number, error, stops):
    before = signal.getsignal(number)
    for at in stops:
        with monkeypatch.context() as patch:
            patch.setattr("keras_vit.training.fit.Run", type("At", (Asking,), {"number": number, "at": at}))
            with pytest.raises(error) as raised:
                train(RECIPE, source, tmp_path)
        assert signal.getsignal(number) == before
        assert number == signal.SIGINT or raised.value.code == 143
        assert TrainingCheckpoints(tmp_path / "checkpoints").newest().step == at
    model, history = train(RECIPE, source, tmp_path)
    assert same(values(model), plain[0]) and columns(history) == columns(plain[1])


def test_a_checkpoint_that_is_readable_again_has_its_log(source, plain, tmp_path, monkeypatch):
    def stop(at):
        monkeypatch.setattr("keras_vit.training.fit.Run", type("At", (Asking,), {"at": at}))
        with pytest.raises(SystemExit):
            train(RECIPE, source, tmp_path)

    epoch = plain[1][0]["step"]
    stop(epoch - 1)
    stop(epoch)
    newest = TrainingCheckpoints(tmp_path / "checkpoints").newest().path
    newest.rename(tmp_path / "away")  # a drive that fails for a moment
    monkeypatch.setattr("keras_vit.training.fit.Run", type("Ending", (run_module.Run,), {"on_train_begin": ending}))
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, source, tmp_path)
    (tmp_path / "away").rename(newest)
    monkeypatch.undo()
    model, history = train(RECIPE, source, tmp_path)
    assert same(values(model), plain[0]) and columns(history) == columns(plain[1])


def ending(run, logs=None):
    raise KeyboardInterrupt


def test_a_finished_run_is_not_trained_again(source, plain, monkeypatch):
    weights, rows, folder = plain
    monkeypatch.setattr(run_module.Run, "on_train_batch_end", None)
    model, history = train(RECIPE, source, folder)
    assert same(values(model), weights) and columns(history) == columns(rows)


class Poisoned(run_module.Run):
    """Sets a weight to NaN after a step."""

    at = 7

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.step == self.at:
            weight = self.model.trainable_weights[0]
            weight.assign(np.full(weight.shape, np.nan))


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_a_loss_of_nan_stops_the_run_at_once(source, tmp_path, monkeypatch, seconds):
    monkeypatch.setattr("keras_vit.training.fit.Run", Poisoned)
    with pytest.raises(ValueError) as error:
        train(with_(checkpoint_seconds=seconds, ema=0.9), source, tmp_path)
    message = str(error.value)
    assert "at step 8 of" in message and "loss nan" in message
    newest = TrainingCheckpoints(tmp_path / "checkpoints").newest()
    if seconds:
        assert "last checkpoint: none yet" in message and newest is None
    else:
        assert f"{newest.path} (step 7)" in message
        assert all(np.isfinite(array).all() for array in newest.arrays().values())
    images = message.split("images of the step: ")[1].splitlines()[0].split(", ")
    assert len(images) == 8 and set(images) <= set(source.train.names)
    assert "lower learning_rate" in message


def test_an_exploding_loss_stops_the_run_too(source, tmp_path):
    with pytest.raises(ValueError, match=r"at step 1 of .*loss 1\.\d+, (.|\n)*raise max_loss"):
        train(with_(max_loss=0.5), source, tmp_path)


@pytest.mark.parametrize("keep, epoch", [("best", 2), ("last", 4)])
def test_an_early_end_keeps_the_best_or_the_last_weights(source, tmp_path, monkeypatch, keep, epoch):
    scores = iter([0.2, 0.9, 0.5, 0.4, 0.3])
    kept = {}

    class Scored(run_module.Run):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, {**logs, "val_accuracy": next(scores)})
            kept[epoch + 1] = [keras.ops.convert_to_numpy(weight) for weight in self.model.weights]

    monkeypatch.setattr("keras_vit.training.fit.Run", Scored)
    recipe = with_(epochs=9, early_stopping=2, early_stopping_steps=0, keep_checkpoints=1, keep=keep)
    model, history = train(recipe, source, tmp_path)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    for number, weights in kept.items():
        equal = all(np.array_equal(*pair) for pair in zip(values(model).values(), weights, strict=True))
        assert equal == (number == epoch), number


def test_the_best_weights_are_kept_without_an_early_end(source, tmp_path, monkeypatch):
    scores, kept = iter([0.2, 0.9, 0.5, 0.4]), {}

    class Scored(run_module.Run):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, {**logs, "val_accuracy": next(scores)})
            kept[epoch + 1] = [keras.ops.convert_to_numpy(weight) for weight in self.model.weights]

    monkeypatch.setattr("keras_vit.training.fit.Run", Scored)
    model, history = train(with_(keep="best"), source, tmp_path)
    assert len(history) == 4
    assert all(np.array_equal(*pair) for pair in zip(values(model).values(), kept[2], strict=True))


def test_a_run_of_few_steps_an_epoch_is_patient(source, tmp_path, monkeypatch):
    class Scored(run_module.Run):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, {**logs, "val_accuracy": 0.5})

    monkeypatch.setattr("keras_vit.training.fit.Run", Scored)
    _, history = train(with_(epochs=9, early_stopping=2, early_stopping_steps=15), source, tmp_path)
    per_epoch = history[0]["step"]
    assert 2 * per_epoch < 15
    assert [row["step"] for row in history][-1] == per_epoch + per_epoch * -(-15 // per_epoch)


def test_the_ema_of_the_weights_is_kept_and_validated(source, tmp_path):
    model, history = train(with_(ema=0.7), source, tmp_path)
    arrays = TrainingCheckpoints(tmp_path / "checkpoints").newest().arrays()
    last = [arrays[name] for name in sorted(arrays) if name.startswith("model")]
    assert not any(np.array_equal(value, other) for value in values(model).values() for other in last)
    means = [arrays[name] for name in sorted(arrays) if name.startswith("optimizer")]
    for value in values(model).values():
        assert any(np.array_equal(value, mean) for mean in means)
    batches = validation_batches(source.validation, (12, 12), 3, batch_size=8)
    evaluated = make_trainer(model, label_smoothing=RECIPE.label_smoothing)
    evaluated.compile(loss=None)
    result = evaluated.evaluate(batches, verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-5)


def test_validation_counts_every_image_alike(source, tmp_path):
    labels = source.validation.labels
    weights = np.where(np.arange(len(labels)) % 3, 0.0, 5.0).astype("float32")
    weighted = dataclasses.replace(source, validation=dataclasses.replace(source.validation, weights=weights))
    model, history = train(with_(epochs=1), weighted, tmp_path)
    images = next(iter(validation_batches(source.validation, (12, 12), 3, batch_size=len(labels))))[0]
    right = model.predict_on_batch(images).argmax(axis=1) == labels
    assert history[-1]["val_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert right.mean() != pytest.approx(np.average(right, weights=weights), abs=1e-6)


def trained_paths(model, start):
    return {path for path, value in values(model).items() if not np.array_equal(value, start[path])}


def start_of(recipe, tmp_path):
    """Writes a checkpoint for the recipe to start from, and returns its path and weights."""
    model = keras_vit.build(recipe.variant, input_shape=(12, 12, 3), classes=3)
    keras_vit.save_checkpoint(model, tmp_path / "start.npz")
    return str(tmp_path / "start.npz"), values(model)


def test_frozen_layers_do_not_change(source, tmp_path):
    path, start = start_of(DEEP, tmp_path)
    frozen = dataclasses.replace(DEEP, weights=path, freeze_to="block_01", weight_decay=0.5)
    model, _ = train(frozen, source, tmp_path / "run")
    moved = {path.split("/")[0] for path in trained_paths(model, start)}
    assert moved == {"block_02", "norm", "head"}
    probe, _ = train(dataclasses.replace(frozen, freeze_to="norm"), source, tmp_path / "probe")
    assert trained_paths(probe, start) == {"head/kernel", "head/bias"}


def test_lora_is_merged_and_all_else_but_the_head_is_frozen(source, tmp_path):
    path, start = start_of(DEEP, tmp_path)
    model, _ = train(dataclasses.replace(DEEP, weights=path, lora=2, epochs=2), source, tmp_path / "run")
    moved = trained_paths(model, start)
    attention = {f"block_{i:02d}/attention/{name}/kernel" for i in range(3) for name in ("query", "value")}
    assert moved == attention | {"head/kernel", "head/bias"}
    for path in attention:
        assert np.linalg.matrix_rank(values(model)[path] - start[path], tol=1e-6) <= 2
    assert not any("lora" in weight.path for weight in model.weights)


def test_a_recipe_draws_patch_sizes(source, tmp_path, monkeypatch):
    drawn = []
    context = trainer_module.patch_size_of
    monkeypatch.setattr(trainer_module, "patch_size_of", lambda model, size: drawn.append(size) or context(model, size))
    model, _ = train(with_(patch_sizes=(3, 6), dropout=0.0, epochs=1), source, tmp_path / "run")
    assert {*drawn} == {3, 6} and model.get_layer("patches").patch_size == 4


def test_layer_decay_slows_each_block_below(source, tmp_path):
    path, start = start_of(DEEP, tmp_path)
    settings = {"weights": path, "optimizer": "sgd", "clip_norm": 0.0, "warmup_steps": 0, "mixup": 0.0, "dropout": 0.0}
    recipe = dataclasses.replace(DEEP, steps=1, **settings)
    plain, _ = train(recipe, source, tmp_path / "plain")
    slower, _ = train(dataclasses.replace(recipe, layer_decay=0.5), source, tmp_path / "slower")
    # The head starts at zeros, so that in the first step nothing else has a gradient: decay alone moves the rest.
    depths = {"encoder": 4, "block_00": 3, "block_01": 2, "block_02": 1, "head": 0}
    for name, depth in depths.items():
        path = next(path for path in start if path.startswith(name) and path.endswith("kernel"))
        whole, part = values(plain)[path] - start[path], values(slower)[path] - start[path]
        np.testing.assert_allclose(part, whole * 0.5**depth, rtol=2e-2, atol=1e-7, err_msg=path)
        assert np.abs(whole).max() > 0


def test_bfloat16_leaves_a_float32_model_that_has_learned_and_a_log_for_tensorboard(source, tmp_path):
    model, history = train(with_(precision="mixed_bfloat16", tensorboard=True), source, tmp_path)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    assert history[-1]["loss"] < history[0]["loss"]
    assert list((tmp_path / "tensorboard").glob("*.tfevents.*"))


@pytest.mark.soak
def test_remat_does_not_change_the_result(source, tmp_path):
    # Adam would make steps of the rounding where a gradient is 0, as that of the keys' bias is.
    settings = {"dropout": 0.0, "epochs": 2, "optimizer": "sgd", "learning_rate": 0.01}
    model, history = train(with_(**settings), source, tmp_path / "kept")
    again, same_history = train(with_(**settings, remat=True), source, tmp_path / "again")
    for path, value in values(model).items():
        np.testing.assert_allclose(values(again)[path], value, atol=1e-6, err_msg=path)
    assert same_history[-1]["loss"] == pytest.approx(history[-1]["loss"], rel=1e-5)


def test_class_weights_make_a_rare_class_count(source, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "keras_vit.training.fit.training_batches", lambda examples, *_, **__: seen.setdefault("weights", examples)
    )
    from keras_vit.training.fit import batches_of
    from keras_vit.training.schedules import Plan

    few = np.concatenate([np.flatnonzero(source.train.labels == i)[: 2 + 3 * i] for i in range(3)])
    rare = dataclasses.replace(
        source,
        train=dataclasses.replace(
            source.train,
            images=tuple(source.train.images[i] for i in few),
            labels=source.train.labels[few],
            names=tuple(source.train.names[i] for i in few),
        ),
    )
    batches_of(with_(class_weights="balanced"), rare, (12, 12), None, Plan(1, 1, 0), 0, (0, 1, 1))
    weights, labels = seen["weights"].weights, rare.train.labels
    sums = [weights[labels == i].sum() for i in range(3)]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-6)
    assert weights.sum() == pytest.approx(len(labels), rel=1e-6)
    seen.clear()
    by_hand = ",".join(f"{name}:{i + 2}" for i, name in enumerate(rare.class_names))
    batches_of(with_(class_weights=by_hand), rare, (12, 12), None, Plan(1, 1, 0), 0, (0, 1, 1))
    np.testing.assert_array_equal(seen["weights"].weights, labels + 2)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"freeze_to": "blok_00"}, "Nearest: block_00"),
        ({"freeze_to": "head"}, "leave trainable weights"),
        ({"variant": keras_vit.ResNet((1,), (128,), root_width=32), "lora": 2, "dropout": 0.0}, "model with attention"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(source, tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        train(with_(**settings), source, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_compiled_step_on_pytorch_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="jit_compile=True: PyTorch"):
        train(with_(jit_compile=True), source, tmp_path)


@pytest.mark.parametrize("settings, name", [({"early_stopping": 2}, "early_stopping"), ({"keep": "best"}, "keep=best")])
def test_settings_that_need_validation_images_are_refused_without(source, tmp_path, settings, name):
    none = dataclasses.replace(source.validation, images=(), labels=np.zeros(0, np.int64), names=())
    with pytest.raises(ValueError, match=f"{name} needs validation images; set validation above 0"):
        train(with_(**settings), dataclasses.replace(source, validation=none), tmp_path)


def test_a_checkpoint_of_another_model_is_refused(source, plain, tmp_path):
    folder = shutil.copytree(plain[2], tmp_path / "run")
    other = Variant(patch_size=4, hidden_size=12, num_layers=1, num_heads=2, mlp_dim=12)
    with pytest.raises(ValueError, match="checkpoint of this model and optimizer"):
        train(with_(variant=other), source, folder)


@pytest.mark.soak
def test_a_torn_checkpoint_is_skipped(source, plain, tmp_path, caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_vit.training.fit.Run", type("At", (Asking,), {"at": 6}))
        with pytest.raises(SystemExit):
            train(with_(checkpoint_seconds=0.0), source, tmp_path)
    newest = TrainingCheckpoints(tmp_path / "checkpoints").newest()
    state = newest.path / "state.npz"
    state.write_bytes(state.read_bytes()[:-7])
    assert TrainingCheckpoints(tmp_path / "checkpoints").newest().step == newest.step - 1
    model, history = train(RECIPE, source, tmp_path)
    assert "is skipped" in caplog.text
    assert same(values(model), plain[0]) and columns(history) == columns(plain[1])


def weighted(source, weights):
    return dataclasses.replace(source, train=dataclasses.replace(source.train, weights=np.float32(weights)))


def test_steps_without_weight_change_nothing_and_are_counted(source, tmp_path):
    weights = np.zeros(len(source.train.labels))
    weights[:2] = 2
    recipe = with_(steps=8, steps_per_epoch=1)
    model, history = train(recipe, weighted(source, weights), tmp_path)
    counts = [row["steps_without_weight"] for row in history]
    assert set(counts) == {0, 1}
    assert ["loss" in row for row in history] == ["accuracy" in row for row in history] == [not n for n in counts]
    rates = [row["learning_rate"] for row in history]
    assert [one == other for one, other in zip(rates, rates[1:])] == [count == 1 for count in counts[1:]]
    assert all(np.isfinite(weight).all() for weight in values(model).values())
    assert len(search_learning_rate(recipe, weighted(source, weights), steps=30).losses) < 30


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda weights: weights * 0, "no image to train on has a weight above 0"),
        (lambda weights: weights * 1e-40, "not 0 or from 1e-06 to 1e.06: .* of .* and [0-9]+ more"),
        (lambda weights: weights * 1e38, ": 1e.38 of "),
        (lambda weights: weights * np.nan, ": nan of "),
        (lambda weights: -weights, ": -1 of "),
    ],
)
def test_weights_out_of_range_are_refused_before_anything_is_written(source, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        train(RECIPE, weighted(source, change(np.ones(len(source.train.labels)))), tmp_path / "run")
    assert not (tmp_path / "run").exists()
