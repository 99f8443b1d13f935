import dataclasses
import pathlib
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.data.sources import open_source
from keras_vit.preprocessing import Pixels
from keras_vit.training import distillation
from keras_vit.training.distillation import DistillationLoss, teacher_columns, teacher_of, with_unlabelled
from keras_vit.training.fit import batches_of, train
from keras_vit.training.losses import CrossEntropy
from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import Plan

TINY = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)
PIXELS = Pixels()
SCRIPT = pathlib.Path(__file__).with_name("one_run.py")


@pytest.fixture(scope="module")
def source():
    return open_source("synthetic:3x16", validation=0.2, test=0.2)


@pytest.fixture(scope="module")
def teacher_file(source, tmp_path_factory):
    """Returns a teacher of other size, contract, class order and one class more, with random weights."""
    keras.utils.set_random_seed(3)
    model = keras_vit.build(TINY, input_shape=(16, 16, 3), classes=4, weights=None)
    head = model.get_layer("head")
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    names = [*source.class_names[::-1], "another"]
    named = keras_vit.VisionModel(model.input, model.output, pixels="imagenet", class_names=names)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    named.save(path)
    return path


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_VIT_TEACHER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recipe(teacher_file):
    return Recipe(
        data="synthetic:3x16",
        variant=TINY,
        image_size=12,
        steps=4,
        batch_size=8,
        flip=True,
        tensorboard=False,
        exports=(),
        teacher=str(teacher_file),
        distill="logits+features",
    )


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("distill", ["logits", "hard", "features", "logits+features"])
def test_the_loss_is_that_of_a_reference(distill):
    random = np.random.default_rng(0)
    truth = np.eye(3)[[0, 2, 1, 0]]
    truth[3] = 0  # without a label
    logits, theirs, ours_f, features = (random.normal(size=(4, n)) for n in (3, 3, 5, 5))
    soft_t, soft_s = log_softmax(theirs / 3), log_softmax(logits / 3)
    teacher = {
        "logits": 9 * (np.exp(soft_t) * (soft_t - soft_s)).sum(-1),
        "hard": -log_softmax(logits)[np.arange(4), theirs.argmax(-1)],
    }
    whitened = (features - features.mean(-1, keepdims=True)) / np.sqrt(features.var(-1, keepdims=True) + 1e-6)
    teacher["features"] = ((ours_f - whitened) ** 2).mean(-1)
    teacher["logits+features"] = teacher["logits"] + teacher["features"]
    labels = -(log_softmax(logits) * (truth * 0.9 + 0.1 / 3)).sum(-1) * (truth.sum(-1) > 0)
    targets = np.concatenate([truth] + [theirs] * (distill != "features") + [features] * ("features" in distill), 1)
    loss = DistillationLoss(CrossEntropy("softmax", 0.1), 3, distill, 3.0, 0.25)
    losses, correct = loss.loss_and_accuracy(
        keras.ops.convert_to_tensor(targets, "float32"),
        keras.ops.convert_to_tensor(np.concatenate([logits, ours_f], 1), "float32"),
    )
    np.testing.assert_allclose(losses, 0.75 * labels + 0.25 * teacher[distill], rtol=1e-4)
    expected = logits.argmax(-1) == np.append(truth[:3].argmax(-1), theirs[3].argmax() if distill != "features" else 0)
    np.testing.assert_array_equal(correct, expected)


def test_cached_outputs_are_those_of_each_batch_and_of_the_classes_by_name(recipe, source, cache, monkeypatch):
    teacher = teacher_of(recipe, source)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(8, 12, 12, 3)).astype("float32")
    cached = teacher_columns(recipe, teacher, source.train, (12, 12), PIXELS)
    assert len(list(cache.iterdir())) == 1

    def targets(columns):
        arguments = (recipe, source, (12, 12), PIXELS, Plan(2, 2, 0), 0, (0, 1, 1))
        return np.concatenate([targets.numpy() for _, targets, _ in batches_of(*arguments, more_targets=columns)])

    monkeypatch.setattr(distillation, "_is_random", lambda recipe: True)
    computed = teacher_columns(recipe, teacher, source.train, (12, 12), PIXELS)
    np.testing.assert_allclose(targets(cached), targets(computed), atol=1e-4)
    features = teacher.features(images, PIXELS)
    levels = keras.ops.convert_to_numpy(keras.ops.image.resize(images * 127.5 + 127.5, (16, 16), antialias=False))
    probabilities = teacher.model.predict(keras_vit.preprocess_input(levels, "imagenet"), verbose=0)
    ours = log_softmax(teacher.logits(features))
    theirs = np.log(probabilities[:, [2, 1, 0]] / probabilities[:, :3].sum(1, keepdims=True))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def values(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def test_a_resumed_run_ends_with_the_same_weights_without_the_teacher(recipe, source, tmp_path):
    recipe = dataclasses.replace(recipe, steps_per_epoch=2, checkpoint_seconds=0, mixup=0.3, accumulation=2)
    model, log = train(recipe, source, tmp_path / "whole")
    assert np.isfinite(log[-1]["loss"])
    assert not {"distillation", "distilled"} & {layer.name for layer in model.layers}
    for newest in list((tmp_path / "whole" / "checkpoints").iterdir()):
        if newest.stem.endswith("4"):
            newest.unlink() if newest.is_file() else shutil.rmtree(newest)
    again, _ = train(recipe, source, tmp_path / "whole")
    assert all(np.array_equal(one, other) for one, other in zip(values(model), values(again)))
    other = keras_vit.build(TINY, input_shape=(16, 16, 3), classes=3, weights=None)
    keras_vit.VisionModel(other.input, other.output, class_names=source.class_names).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="another teacher_sha256"):
        train(dataclasses.replace(recipe, teacher=str(tmp_path / "other.keras")), source, tmp_path / "whole")


@pytest.mark.soak
def test_two_devices_and_jax_distill_like_one(teacher_file, run_warm, tmp_path):
    shutil.copy(teacher_file, tmp_path)
    model = keras_vit.build(TINY, input_shape=(12, 12, 3), classes=3, weights=None)
    keras_vit.save_checkpoint(model, tmp_path / "start.npz")
    jax = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    runs = {"tensorflow-one": {}, "tensorflow-mirrored": {}, "jax-auto": jax}
    for name, environment in runs.items():
        run_warm(SCRIPT, tmp_path, name.partition("-")[2], "sgd", KERAS_VIT_TEACHER_CACHE="0", **environment)
    one, *others = (dict(np.load(tmp_path / f"{name}-sgd.npz")) for name in runs)
    weights = [path for path in one if not path.startswith("log/")]
    for other in others[:1]:
        for path in [*weights, "log/loss"]:
            np.testing.assert_allclose(other[path], one[path], atol=1e-5, err_msg=path)
    # Another backend begins with another projection of the features.
    assert np.isfinite(others[1]["log/loss"]).all() and others[1]["log/loss"][-1] < others[1]["log/loss"][0]


def test_unlabelled_images_and_a_probe(recipe, source, tmp_path, caplog):
    folder = tmp_path / "more"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (12, 12), (80 * i, 0, 0)).save(folder / f"{i}.png")
    other = [f"other {name}" for name in source.class_names]
    renamed = dataclasses.replace(source, class_names=tuple(other))
    recipe = dataclasses.replace(recipe, distill="hard", unlabelled=str(folder))
    assert with_unlabelled(recipe, source).train.labels[-3:].tolist() == [-1] * 3
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.JPG").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"1 image in .*more cannot be read:\n.*broken\.JPG"):
        with_unlabelled(recipe, source)
    skipping = dataclasses.replace(recipe, on_bad_image="skip")
    assert len(with_unlabelled(skipping, source).train.labels) == len(source.train.labels) + 3
    (folder / "broken.JPG").unlink()
    caplog.set_level("INFO", "keras_vit")
    _, log = train(recipe, renamed, tmp_path / "run")
    assert np.isfinite(log[-1]["loss"])
    assert "linear probe" in caplog.text and "3 training images without labels" in caplog.text


def test_errors(recipe, source):
    renamed = dataclasses.replace(source, class_names=("a new class", *source.class_names[1:]))
    with pytest.raises(ValueError, match="a new class"):
        teacher_of(recipe, renamed)
    assert teacher_of(dataclasses.replace(recipe, distill="features"), renamed).kernel is None
    for settings in (
        {"loss": "sigmoid"},
        {"teacher": None, "unlabelled": "x"},
        {"unlabelled": "x", "distill": "features"},
    ):
        with pytest.raises(ValueError, match="teacher"):
            dataclasses.replace(recipe, **settings)
