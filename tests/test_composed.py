"""What users compose around our layers goes the whole way: predicted, evaluated, exported and run as by hand."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers
from PIL import Image

import keras_vit
from keras_vit.commands.cli import main
from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.predict import iterate_predictions, open_predictor, predict
from keras_vit.export import export_model
from keras_vit.preprocessing import CONTRACTS
from keras_vit.runtime.files import open_exported

LEVELS = {"dark": 60, "light": 180, "middle": 120}  # classes in the order of their names
NAMES, SIZE = tuple(LEVELS), (8, 12)
IMAGENET = CONTRACTS["imagenet"]


def command(*words):
    return CliRunner().invoke(main, list(map(str, words)))


@pytest.fixture(scope="module", autouse=True)
def measured_once_a_kind(measured_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_vit.export.writing.latency_and_memory", measured_once)
        yield


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """A folder of three classes told apart by brightness, ten images each."""
    folder, rng = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for name, level in LEVELS.items():
        (folder / name).mkdir()
        for i in range(10):
            image = np.clip(rng.normal(level, 12, (*SIZE, 3)), 0, 255).astype("uint8")
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def images(shades):
    paths = sorted(shades.glob("*/*.png"))
    return paths, np.stack([np.asarray(Image.open(path)) for path in paths]), np.repeat(np.arange(3), 10)


def brightness(contract):
    """A body of our layers on pixels of a contract, whose features are those pixels' means; no training needed."""
    entry = keras.Input((*SIZE, 3))
    x = keras_vit.layers.Patches(4, pixels=contract)(entry)
    return keras.Model(entry, layers.GlobalAveragePooling1D()(x))


def classes_by(contract, units=None, activation="softmax"):
    """A head that tells three brightnesses apart, given the mean of the pixels; or one number, their brightness."""
    centers = np.array([np.mean(level * np.float32(contract.scale) + contract.offset) for level in LEVELS.values()])
    near = 20 / np.square(np.diff(np.sort(centers)).min())
    if units == 1:
        head = layers.Dense(1, activation=activation)
        kernel, bias = np.full((48, 1), 1 / 48), np.zeros(1)
    else:
        head = layers.Dense(3, activation=activation)
        kernel, bias = np.tile(2 * near * centers / 48, (48, 1)), -near * np.square(centers)
    head.build((None, 48))
    head.set_weights([kernel, bias])
    return head


def functional():
    body = brightness(IMAGENET)
    return keras.Model(body.input, classes_by(IMAGENET)(body.output)), IMAGENET


def cloned():
    model, contract = functional()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone, contract


def sequential():
    official = CONTRACTS["-1..1"]
    stack = [keras.Input((*SIZE, 3)), layers.RandomFlip(), layers.Rescaling(1 / 127.5, -1), brightness(official)]
    return keras.Sequential([*stack, classes_by(official)]), CONTRACTS["raw"]


def logits():
    body = brightness(IMAGENET)
    x = layers.Dropout(0.1)(classes_by(IMAGENET, activation=None)(body.output))
    return keras.Model(body.input, layers.Activation("linear", dtype="float32")(x)), IMAGENET


def nested():
    entry = keras.Input((*SIZE, 3))
    return keras.Model(entry, logits()[0](entry)), IMAGENET


COMPOSED = {"functional": functional, "cloned": cloned, "Sequential": sequential, "logits": logits, "nested": nested}


@pytest.fixture(params=COMPOSED.values(), ids=COMPOSED, scope="module")
def composed(request, tmp_path_factory):
    """A saved model with the names of its classes beside, and the contract that it was made for."""
    model, contract = request.param()
    folder = tmp_path_factory.mktemp("composed")
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder / "model.keras", contract


def test_a_composed_classifier_is_right_by_hand_in_evaluation_and_on_the_phone(composed, shades, images, tmp_path):
    path, contract = composed
    paths, pixels, labels = images
    by_hand = keras.saving.load_model(path).predict(keras_vit.preprocess_input(pixels, contract), verbose=0)
    assert (by_hand.argmax(axis=1) == labels).all()
    done = command("evaluate", path, shades)
    assert "accuracy 100.00% on 30 images" in done.output and contract.description in done.output
    assert "WARNING" not in done.output
    best = [result[0] for result in predict(path, paths[::10])]
    assert [name for name, _ in best] == list(NAMES) and min(share for _, share in best) > 0.9
    done = command("export", path, "--to", "tflite-float32", "--data", shades, "--output", tmp_path)
    assert done.exit_code == 0, done.output
    file = open_exported(tmp_path / "model_float32.tflite")
    assert file.class_names == NAMES
    assert (file.predict(pixels)["probabilities"].argmax(axis=1) == labels).all()


def test_a_contract_that_is_said_wins_and_is_doubted(composed, shades):
    path, contract = composed
    other = "0..1" if contract == CONTRACTS["raw"] else "raw"
    done = command("evaluate", path, shades, "--pixels", other)
    assert done.exit_code == 0 and CONTRACTS[other].description in done.output
    assert "WARNING" in done.output and "100.0% on 30 images" in done.output


def test_a_regression_is_numbers_everywhere(images, shades, tmp_path):
    body = brightness(CONTRACTS["raw"])
    model = keras.Model(body.input, classes_by(CONTRACTS["raw"], 1, None)(body.output))
    model.save(tmp_path / "model.keras")
    paths, pixels, _ = images
    expected = pixels.mean(axis=(1, 2, 3), keepdims=False)
    for (name, value), mean in zip((result[0] for result in predict(tmp_path / "model.keras", paths)), expected):
        assert name == "numbers" and value == pytest.approx(mean, abs=0.01)
    line = command("predict", tmp_path / "model.keras", paths[0]).stdout.strip()
    assert float(line.split(": ")[1]) == pytest.approx(expected[0], abs=0.01) and "%" not in line
    refused = command("evaluate", tmp_path / "model.keras", shades)
    assert refused.exit_code == 2 and "returns numbers" in refused.output
    targets = ["tflite-float32", "tflite-int8", "savedmodel", "onnx", "openvino"]
    result = export_model(model, tmp_path / "out", targets, class_names=["metres"])
    for item, bound in zip(result, (1e-3, 0.1, 1e-3, 1e-3, 1e-3)):
        assert item.numbers["relative_difference"] <= bound and item.top1_agreement is None and item.accuracy is None
        file = open_exported(tmp_path / "out" / item.file)
        assert file.class_names == () and file.outputs == ("numbers",)
        np.testing.assert_allclose(file.predict(pixels)["numbers"][:, 0], expected, rtol=max(bound, 1e-4))
    assert not (tmp_path / "out" / "labels.txt").exists()
    shown = command("predict", tmp_path / "out" / "model_float32.tflite", paths[0]).stdout.strip()
    assert float(shown.split(": ")[1]) == pytest.approx(expected[0], abs=0.01)


def test_a_file_of_numbers_is_proven_by_its_numbers(tmp_path, monkeypatch):
    body = brightness(CONTRACTS["raw"])
    model = keras.Model(body.input, classes_by(CONTRACTS["raw"], 1, None)(body.output))
    run = keras_vit.runtime.tflite.TFLiteFile.predict
    monkeypatch.setattr(
        "keras_vit.runtime.tflite.TFLiteFile.predict",
        lambda self, pixels: {name: values * 1.002 for name, values in run(self, pixels).items()},
    )
    with pytest.raises(ValueError, match=r"numbers.relative_difference is 0.00(2|1999)"):
        keras_vit.export.tflite(model, tmp_path / "a.tflite", mode="float32")
    assert not list(tmp_path.iterdir())


def test_a_binary_head_takes_two_names(images, tmp_path):
    body = brightness(IMAGENET)
    model = keras.Model(body.input, classes_by(IMAGENET, 1, "sigmoid")(body.output))
    _, pixels, _ = images
    share = model.predict(keras_vit.preprocess_input(pixels, IMAGENET), verbose=0)[:, 0]
    keras_vit.export.tflite(model, tmp_path / "a.tflite", mode="float32", class_names=["no", "yes"])
    file = open_exported(tmp_path / "a.tflite")
    assert file.class_names == ("no", "yes")
    np.testing.assert_allclose(file.predict(pixels)["probabilities"], np.stack([1 - share, share], 1), atol=1e-5)


def test_scores_stand_each_by_itself(images, shades, tmp_path):
    body = brightness(IMAGENET)
    model = keras.Model(body.input, classes_by(IMAGENET, activation="sigmoid")(body.output))
    model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    result = evaluate(tmp_path / "model.keras", shades)
    assert result.kind == "scores" and result.calibration is None and "calibration" not in result.text()
    _, pixels, _ = images
    export_model(model, tmp_path / "out", ["tflite-float32"], class_names=NAMES)
    expected = model.predict(keras_vit.preprocess_input(pixels, IMAGENET), verbose=0)
    given = open_exported(tmp_path / "out" / "model_float32.tflite").predict(pixels)["probabilities"]
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_two_outputs_are_refused_or_served_by_name(images, tmp_path):
    body = brightness(IMAGENET)
    outputs = {"shade": classes_by(IMAGENET)(body.output), "level": classes_by(IMAGENET, 1, None)(body.output)}
    model = keras.Model(body.input, outputs)
    model.save(tmp_path / "model.keras")
    refused = command("export", tmp_path / "model.keras", "--to", "tflite-float32", "--output", tmp_path / "out")
    assert refused.exit_code == 2 and "one output" in refused.output and not (tmp_path / "out").exists()
    words = ("--to", "tflite-float32", "--to", "savedmodel", "--outputs", "numbers", "--output", tmp_path / "out")
    done = command("export", tmp_path / "model.keras", *words)
    assert done.exit_code == 0, done.output
    _, pixels, _ = images
    expected = model.predict(keras_vit.preprocess_input(pixels, IMAGENET), verbose=0)
    for name in ("model_float32.tflite", "saved_model"):
        result = open_exported(tmp_path / "out" / name).predict(pixels)
        assert result.keys() == {"shade", "level"}
        for output, values in expected.items():
            np.testing.assert_allclose(result[output], values, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_exported_in_float32(policy, images, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        vit = keras_vit.build(
            keras_vit.Variant(4, 8, 1, 2, 11), include_top=False, pooling="token", input_shape=(*SIZE, 3)
        )
        x = layers.Activation("softmax", dtype="float32")(layers.Dense(3)(vit.output))
        model = keras.Model(vit.input, x)
    finally:
        keras.config.set_dtype_policy(before)
    (result,) = export_model(model, tmp_path, ["tflite-float32"])
    assert result.top1_agreement_or_tie == 1.0
    _, pixels, _ = images
    expected = model.predict(keras_vit.preprocess_input(pixels), verbose=0)
    given = open_exported(tmp_path / "model_float32.tflite").predict(pixels)["probabilities"]
    np.testing.assert_allclose(given, expected, atol=0.03)  # the model itself rounds to 16 bits


def test_features_are_exported_where_it_is_said(images, tmp_path):
    vit = keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 11), include_top=False, pooling="token", input_shape=(*SIZE, 3))
    with pytest.raises(ValueError, match="--outputs"):
        keras_vit.export.tflite(vit, tmp_path / "a.tflite", mode="float32")
    keras_vit.export.tflite(vit, tmp_path / "a.tflite", mode="float32", outputs="numbers")
    _, pixels, _ = images
    expected = vit.predict(vit.preprocess_input(pixels), verbose=0)
    np.testing.assert_allclose(open_exported(tmp_path / "a.tflite").predict(pixels)["numbers"], expected, atol=1e-5)


def test_prediction_holds_no_more_than_a_batch(images, tmp_path, monkeypatch):
    functional()[0].save(tmp_path / "model.keras")
    predictor, sizes = open_predictor(tmp_path / "model.keras"), []
    run = type(predictor).predict
    monkeypatch.setattr(
        type(predictor), "predict", lambda self, pixels: (sizes.append(len(pixels)), run(self, pixels))[1]
    )
    paths = images[0]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(ValueError, match="bad.png"):
        seen = [path for path, _ in iterate_predictions(predictor, [*paths * 5, bad, *paths])]
    assert len(sizes) == 3 and max(sizes) == 64 and sum(sizes) == 180
    seen = [path for path, _ in iterate_predictions(predictor, paths * 3)]
    assert seen == paths * 3
