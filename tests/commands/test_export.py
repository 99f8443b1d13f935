"""Exports of a run, of a model alone and from Python, and the files that they write."""

import dataclasses
import json
import sys
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import keras_vit
from keras_vit.commands import export as export_module
from keras_vit.commands import fit as fit_module
from keras_vit.commands.bench import bench
from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.export import export
from keras_vit.commands.fit import fit
from keras_vit.commands.predict import predict
from keras_vit.export import proof as proof_module
from keras_vit.export.android.kotlin import kotlin_code
from keras_vit.models.config import Variant
from keras_vit.runtime.files import open_exported
from keras_vit.training.recipe import Recipe

TINY = Variant(patch_size=4, hidden_size=16, num_layers=2, num_heads=2, mlp_dim=24)
MEASURED = True  # each exported file by itself
BESIDE = ("labels.txt", "proof.json", "report.html")
DIGITS = Recipe(data="digits", variant=TINY, image_size=8, epochs=3, batch_size=128, learning_rate=5e-3, exports=())


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that exported nothing, and its exports, made afterwards into its own folder."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    fit(DIGITS, folder)
    _, agreements = export(folder, ["tflite", "tflite-float16", "savedmodel"], bundle=True)
    return folder, agreements


@pytest.fixture
def images(tmp_path):
    """A folder of 60 digits as PNGs of twice their size, in class folders."""
    digits = load_digits()
    for i in range(60):
        folder = tmp_path / "images" / str(digits.target[i])
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.round(digits.images[i] / 16 * 255).astype(np.uint8))
        image.resize((16, 16)).save(folder / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def model(run):
    return keras.saving.load_model(run[0] / "model.keras")


def test_an_export_returns_its_measurements(run):
    folder, agreements = run
    assert [item.target for item in agreements] == ["tflite-int8", "tflite-float16", "savedmodel"]
    proof = json.loads((folder / "proof.json").read_text())["files"]
    assert set(proof) == {"model_int8.tflite", "model_float16.tflite", "saved_model"}
    for item in agreements:
        assert item.images == 360 and item.from_encoded["images"] == 360
        assert item.accuracy == pytest.approx(item.keras_accuracy, abs=0.02)
        assert item.latency_ms["2"] > 0 and 10 * 2**20 < item.peak_memory < 2 * 2**30
        assert proof[item.file] == json.loads(json.dumps(dataclasses.asdict(item)))
    assert agreements[0].operators["FULLY_CONNECTED"] == 1 + 2 * 6 + 1
    assert agreements[0].lint["webgpu"] == [] and not agreements[2].operators
    sizes = [(folder / item.file).stat().st_size for item in agreements[:2]]
    assert [item.bytes for item in agreements[:2]] == sizes


def test_the_report_and_the_card_list_the_files(run):
    folder, agreements = run
    for name in ("report.html", "card.md"):
        text = (folder / name).read_text()
        assert "No exported files" not in text
        for item in agreements:
            assert item.file in text


@pytest.mark.parametrize("name", ["web", "web-float32"])
def test_a_missing_runtime_is_reported_before_the_model_is_read(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(export_module, "open_model", lambda *_, **__: pytest.fail("the model was read"))
    with pytest.raises(ValueError, match="(?s)no folder .*nowhere.*npm install --save-exact @litertjs/core"):
        export(run[0], ["tflite-float32", name], tmp_path / "page", runtime=tmp_path / "nowhere")
    assert not (tmp_path / "page").exists()


def test_all_missing_requirements_are_in_one_error(run, tmp_path, monkeypatch):
    for name in ("onnxruntime", "openvino", "ai_edge_quantizer"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    monkeypatch.chdir(tmp_path)  # without node_modules
    with pytest.raises(ImportError) as caught:
        export(run[0], ["onnx", "openvino", "tflite-int4", "tflite-static-int8", "web", "web-float32"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4  # each once
    commands = ("pip install tf2onnx", "pip install openvino", "pip install ai-edge-quantizer", "npm install")
    for line, words in zip(lines, commands):
        assert words in line


def test_fit_and_python_report_a_missing_runtime_before_the_long_work(run, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without node_modules
    monkeypatch.setattr(fit_module, "train", lambda *_: pytest.fail("the training has begun"))
    with pytest.raises(ValueError, match="npm install"):
        fit(dataclasses.replace(DIGITS, exports=("web",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(proof_module, "Reference", lambda *_, **__: pytest.fail("the model was run"))
    with pytest.raises(ValueError, match="npm install"):
        keras_vit.export.web(model, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_predict_and_evaluate_run_the_file_itself(run, tmp_path, monkeypatch, images):
    folder, agreements = run
    lone = tmp_path / "lone.tflite"
    lone.write_bytes((folder / "model_float16.tflite").read_bytes())
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("the Keras model was loaded"))
    image = next(images.rglob("*.png"))
    (classes,) = predict(lone, [image], top=10)
    file = open_exported(lone)
    output = file.predict(file.read(image)[None])["probabilities"][0]
    assert dict(classes) == {str(i): pytest.approx(float(p)) for i, p in enumerate(output)}
    evaluation = evaluate(lone, images)
    assert len(evaluation.scores.labels) == 60 and evaluation.class_names == tuple("0123456789")
    scores = evaluate(folder / "model_float16.tflite").scores  # in the folder of its run: the test images of the run
    assert len(scores.labels) == 360
    assert scores.accuracy == pytest.approx(agreements[1].accuracy, abs=0.01)
    with pytest.raises(ValueError, match="(?s)cannot be read.*none.png"):
        predict(lone, [tmp_path / "none.png"])
    with pytest.raises(ValueError, match="a folder of class folders"):
        evaluate(lone)


def test_the_bundle_has_all_files_to_test_a_device(run):
    with zipfile.ZipFile(run[0] / "model_int8.zip") as bundle:
        names = set(bundle.namelist())
        expected = json.loads(bundle.read("expected.json"))
        assert bundle.read("labels.txt").decode().split() == list("0123456789")
        assert {f"images/{name}" for name in expected} <= names and len(expected) == 8
        assert bundle.read("model/model_int8.tflite") == (run[0] / "model_int8.tflite").read_bytes()
        assert "model_int8.tflite" in bundle.read("README.txt").decode()
        kotlin = {name.removeprefix("android/"): bundle.read(name).decode() for name in names if "android/" in name}
        assert kotlin == kotlin_code(run[0] / "model_int8.tflite")
        assert "const val HEIGHT = 8\n" in kotlin["LiteRtModel.kt"] and "maxResults = 10" in kotlin["SelfTest.kt"]
        file = open_exported(run[0] / "model_int8.tflite")
        for name, probabilities in expected.items():
            output = file.predict_encoded([bundle.read(f"images/{name}")])["probabilities"][0]
            np.testing.assert_allclose(output, [probabilities[label] for label in file.class_names], atol=1e-6)


def test_bench_puts_files_side_by_side(run, images):
    folder, agreements = run
    rows = list(bench([folder / item.file for item in agreements]))
    assert [row["accuracy"] for row in rows] == [f"{item.accuracy:.2%}" for item in agreements]
    assert [row["size"] for row in rows] == [f"{item.bytes / 1e6:.2f} MB" for item in agreements]
    assert all(row["2 threads"].endswith("ms") and row["memory"].endswith("MiB") for row in rows)
    (row,) = bench([folder / "model_int8.tflite"], images)
    scores = evaluate(folder / "model_int8.tflite", images).scores
    assert row["accuracy"] == f"{scores.accuracy:.2%}"
    assert f"accuracy {scores.accuracy:.2%} with the client's own resize;" in row["note"]  # 16 pixels to 8
    assert [row["note"] for row in rows] == [""] * 3  # scans of 8 pixels need none
    with pytest.raises(ValueError, match="Expected a .tflite, .onnx or .xml file.*labels.txt"):
        list(bench([folder / "model_int8.tflite", folder / "labels.txt"]))


def test_an_export_to_another_folder_copies_the_card_of_the_run(run, tmp_path, images):
    folder, (agreement,) = export(
        run[0], ["tflite-float32"], tmp_path / "phone", images, facts={"author": "me", "name": None}
    )
    assert {path.name for path in folder.iterdir()} == {
        "model_float32.tflite",
        "labels.txt",
        "proof.json",
        "report.html",
        "card.md",
    }
    assert agreement.images == 45  # the others set ranges where ranges are set
    facts = open_exported(folder / "model_float32.tflite").description.facts
    assert facts["author"] == "me" and facts["name"] == "digits" and "10 classes" in facts["description"]
    card = (folder / "card.md").read_text()
    assert "model_float32.tflite" in card and "model_float16.tflite" not in card.split("## Exported files")[1]


def test_an_export_is_compared_on_images_of_all_classes_and_ranges_are_set_on_others(run, images, monkeypatch):
    seen = {}
    monkeypatch.setattr(export_module, "PROOF_IMAGES", 20)
    monkeypatch.setattr(export_module, "export_model", lambda *_, **options: seen.update(options) or [])
    monkeypatch.setattr(export_module, "update_pages", lambda *_: None)
    export(run[0], ["tflite"], data=images)
    assert len(seen["images"]) == 20 and set(seen["labels"]) == set(range(10))
    assert len(seen["calibration"]) == 15 and not set(seen["calibration"]) & set(seen["images"])


def test_without_a_run_synthetic_images_are_used(run, tmp_path):
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "m.keras").write_bytes((run[0] / "model.keras").read_bytes())
    folder, (agreement,) = export(tmp_path / "lone" / "m.keras", ["tflite-float32"])
    assert folder == tmp_path / "lone" and agreement.accuracy is None and agreement.images == 64
    assert not agreement.from_encoded
    assert {path.name for path in folder.iterdir()} == {
        "m.keras",
        "model_float32.tflite",
        "labels.txt",
        "proof.json",
        "report.html",
    }
    with pytest.raises(ValueError, match="a folder of class folders"):
        evaluate(tmp_path / "lone" / "m.keras")


@pytest.mark.parametrize("input_type", ["uint8", "float32", "scaled"])
def test_from_python_with_outputs_beside_the_probabilities(model, tmp_path, input_type):
    keras.utils.set_random_seed(0)
    names = [f"Zahl {i}, größer" for i in range(10)]
    agreement = keras_vit.export.tflite(
        model,
        tmp_path / "a.tflite",
        "float32",
        class_names=names,
        input_type=input_type,
        extra_outputs=("rollout", "features"),
    )
    assert agreement.extra_outputs["features"] < 1e-4 and agreement.extra_outputs["rollout"] < 1e-4
    file = open_exported(tmp_path / "a.tflite")
    assert file.class_names == tuple(names) and file.description.outputs == ("probabilities", "rollout", "features")
    output = file.predict(np.zeros((2, 8, 8, 3), np.uint8))
    assert {name: values.shape for name, values in output.items()} == {
        "probabilities": (2, 10),
        "rollout": (2, 2, 2),
        "features": (2, 16),
    }


def test_a_file_may_take_images_of_another_size(run, tmp_path, images):
    _, (agreement,) = export(run[0], ["tflite-float32"], tmp_path / "a", images, input_size=(16, 16))
    file = open_exported(tmp_path / "a" / "model_float32.tflite")
    assert file.image_size == (16, 16)
    # The images have that size: a client does not resize them, and the file rounds no level where evaluation does.
    assert agreement.from_encoded["file_max_difference"] < 1e-5 and agreement.from_encoded["max_difference"] < 0.02


@pytest.mark.soak
def test_one_file_with_two_accuracies_says_so(tmp_path):
    """Scans of 8 x 8 pixels, a file of 20 x 20: a client's resize is not evaluation's."""
    folder = tmp_path / "run"
    recipe = dataclasses.replace(DIGITS, image_size=20, epochs=2, exports=("tflite-float32",))
    (exported,) = fit(recipe, folder)["exports"]
    path = folder / "model_float32.tflite"
    through_client, as_evaluated = exported["from_encoded"]["accuracy"], exported["accuracy"]
    assert through_client != as_evaluated
    result = evaluate(path)
    assert result.scores.accuracy == pytest.approx(through_client)
    both = f"{through_client:.2%} with the client's own resize, and {as_evaluated:.2%} with the resize of evaluation"
    (row,) = bench([path])
    for note in (*result.notes, row["note"]):
        assert both in note and "20 x 20 pixels" in note and "--input-size HEIGHT WIDTH" in note
    assert row["accuracy"] == f"{as_evaluated:.2%}" and len(result.notes) == 1
    (note,) = evaluate(path, "digits").notes  # the images in proof.json can be others
    assert f"accuracy {through_client:.2%} with the client's own resize;" in note
    _, (fitting,) = export(folder, ["tflite-float32"], tmp_path / "fitting", input_size=(8, 8))
    assert fitting.from_encoded["accuracy"] == fitting.accuracy == pytest.approx(as_evaluated, abs=0.01)
    assert evaluate(tmp_path / "fitting" / "model_float32.tflite", "digits").notes == ()


def test_a_model_that_returns_logits_gets_a_softmax(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_vit.build(TINY, input_shape=(8, 12, 3), classes=5, classifier_activation=None)
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(16, 5)))
    keras_vit.export.tflite(model, tmp_path / "a.tflite", "float32")
    output = open_exported(tmp_path / "a.tflite").predict(np.full((1, 8, 12, 3), 77, np.uint8))["probabilities"]
    assert output.sum() == pytest.approx(1, abs=1e-5)


def test_a_file_that_disagrees_is_not_kept_and_a_mode_that_passes_is_named(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_vit.build(Variant(4, 48, 1, 4, 96), input_shape=(8, 12, 3), classes=5)
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(48, 5)))
    (tmp_path / "a.tflite").write_bytes(b"older and good")
    with pytest.raises(
        ValueError, match="(?s)a.tflite .* does not agree.*logits.max_difference is .*tflite-float16 keeps"
    ):
        keras_vit.export.tflite(model, tmp_path / "a.tflite", bounds={"logits.max_difference": (0.0, 0.02)})
    assert files(tmp_path) == {"a.tflite"} and (tmp_path / "a.tflite").read_bytes() == b"older and good"


class Determinant(keras.layers.Layer):
    """An operation that has no counterpart among TFLite's own operators."""

    def call(self, x):
        import tensorflow as tf

        return x * tf.linalg.det(tf.matmul(x[:, :, None], x[:, None]))[:, None]


def broken(change, model, folder):
    """Calls an export that cannot work."""
    inputs = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(inputs)
    options = {"class_names": list("abc"), "images": np.zeros((3, 8, 8, 3), np.uint8), "pixels": "-1..1"}
    lone = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="head")(flat))
    change(options)
    keras_vit.export.tflite(
        options.pop("model", lone), folder / "sub" / "a.tflite", options.pop("mode", "int8"), **options
    )


def unconvertible():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(3, "softmax")(Determinant()(keras.layers.Flatten()(inputs))))


FAULTS = {
    "a layer that does not convert": (
        lambda o: o.update(model=unconvertible()),
        "does not convert to TFLite.*MatrixDeterminant",
    ),
    "labels that do not match": (lambda o: o.update(class_names=["a"]), "3 class names.*Received: 1"),
    "a label twice": (lambda o: o.update(class_names=["a", "b", "a"]), "two classes: 'a'"),
    "a label of two lines": (lambda o: o.update(class_names=["a", "b", "c\nd"]), r"line break: 'c\\nd'"),
    "scaled pixels": (lambda o: o.update(images=np.zeros((3, 8, 8, 3), "float32")), "uint8.*Received: float32"),
    "images of another size": (lambda o: o.update(images=np.zeros((3, 9, 8, 3), np.uint8)), r"\(3, 9, 8, 3\)"),
    "an unknown input": (lambda o: o.update(input_type="bytes"), "uint8.*Received: input_type='bytes'"),
    "an unknown output": (lambda o: o.update(extra_outputs=("rollout", "map")), "rollout.*map"),
    "an unknown mode": (lambda o: o.update(mode="int3"), "tflite-int4.*Received: tflite-int3"),
    "no attention to look at": (lambda o: o.update(extra_outputs=("rollout",)), "transformer blocks"),
    "no calibration": (lambda o: o.update(mode="static-int8"), "--data"),
    "no encoded images": (lambda o: o.update(bundle=True), "self-test"),
}


@pytest.mark.parametrize("change, words", FAULTS.values(), ids=FAULTS)
def test_a_model_that_cannot_be_exported_is_refused_and_leaves_no_file(model, tmp_path, change, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        broken(change, model, tmp_path)
    assert not {name for name in files(tmp_path) if name.endswith((".tflite", ".json", ".zip"))}


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PermissionError, match="is not a folder. Choose another"):
        keras_vit.export.tflite(model, tmp_path / "file" / "a.tflite")
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root, whom nothing is forbidden
    with pytest.raises(PermissionError, match="cannot be written to"):
        keras_vit.export.tflite(model, tmp_path / "a.tflite")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is not a TFLite file"),
        (b"\0\0\0\0TFL3" + bytes(100), "made by `keras-vit export`"),
        (b"an image, perhaps", "is not a TFLite file"),
    ],
)
def test_a_tflite_file_of_something_else_is_refused(tmp_path, content, words):
    (tmp_path / "other.tflite").write_bytes(content)
    with pytest.raises(ValueError, match=f"{words}|other.tflite"):
        predict(tmp_path / "other.tflite", [])


def test_a_tflite_file_without_metadata_is_refused(model, tmp_path):
    from keras_vit.export.serving import make_serving
    from keras_vit.export.tflite.conversion import converted

    (tmp_path / "bare.tflite").write_bytes(converted(make_serving(model, list("0123456789")).model))
    with pytest.raises(ValueError, match="bare.tflite.*carries no TFLite metadata"):
        predict(tmp_path / "bare.tflite", [])


@pytest.mark.parametrize("mode", ["rounded-int8", "static-int8", "int4"])
def test_fewer_bits_by_images_and_a_layer_that_keeps_its_own(run, tmp_path, mode):
    pytest.importorskip("ai_edge_quantizer")
    keras.utils.set_random_seed(0)
    model = keras_vit.build(Variant(4, 64, 1, 4, 128), input_shape=(8, 8, 3), classes=5)
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(64, 5)))
    pixels = np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3), np.uint8)
    losses = keras_vit.export.sensitivity(model, mode, pixels)
    assert {name for name, _ in losses} >= {"block_00/mlp/out", "encoder/projection", "head"}
    assert all(loss < 0.1 for _, loss in losses) and losses == sorted(losses, key=lambda row: -row[1])
    loose = {"top1_agreement_or_tie": (0.0, 1.0)}
    rest = {"images": pixels[16:], "calibration": pixels[:16], "bounds": loose}
    whole, less = (
        keras_vit.export.tflite(model, tmp_path / f"{i}.tflite", mode, in_float=names, **rest)
        for i, names in enumerate([(), [name for name, _ in losses]])
    )
    assert whole.bytes < less.bytes
    assert 1e-3 < whole.logits["max_difference"] < 3 and less.logits["max_difference"] < 1e-3


def test_probabilities_of_whole_numbers(model, tmp_path):
    names = list("0123456789")
    agreement = keras_vit.export.tflite(model, tmp_path / "a.tflite", class_names=names, output_type="uint8")
    assert agreement.probabilities["max_difference"] < 0.05
    file = open_exported(tmp_path / "a.tflite")
    (end,) = file.interpreter.get_output_details()
    assert end["dtype"] == np.uint8 and end["quantization"] == (pytest.approx(1 / 255), 0)
    output = file.predict(np.zeros((1, 8, 8, 3), np.uint8))["probabilities"]
    np.testing.assert_allclose(output * 255, np.rint(output * 255), atol=1e-4)
    assert output.sum() == pytest.approx(1, abs=10 / 255)
    with pytest.raises(ValueError, match="8 or 4 bits.*tflite-float32"):
        keras_vit.export.tflite(model, tmp_path / "b.tflite", "float32", class_names=names, output_type="uint8")
