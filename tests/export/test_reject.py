"""None of these in exported files: a further output, which is compared with the model's."""

import importlib.util
import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.evaluation import Reject, with_reject
from keras_vit.export import export_model
from keras_vit.export.android.kotlin import kotlin_code
from keras_vit.export.proof import Reference, compare, violations
from keras_vit.export.serving import make_serving
from keras_vit.export.targets import TARGETS
from keras_vit.runtime.files import open_exported

NAMES = ("ant", "bee", "cow")
SIZE = (8, 12)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), np.uint8)
NEEDS = {"onnx": "tf2onnx", "openvino": "openvino"}
INSTALLED = [name for name in NEEDS if importlib.util.find_spec(NEEDS[name])]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(patch_size=4, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=24)
    model = keras_vit.build(variant, input_shape=(*SIZE, 3), classes=3)
    model.class_names = NAMES
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(16, 3)))
    return with_reject(model, [(model.preprocess_input(PIXELS), np.arange(40) % 3)], share=0.25)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """(folder, {target: Agreement})."""
    folder = tmp_path_factory.mktemp("files")
    files = [folder / f"{i}.png" for i in range(len(PIXELS))]
    for file, pixels in zip(files, PIXELS):
        Image.fromarray(pixels).save(file)
    targets = ["savedmodel", "tflite-float32", "tflite-float16", "tflite-int8", *INSTALLED]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_vit.export.writing.latency_and_memory", lambda *_: {})
        made = export_model(model, folder, targets, images=files, bundle=True)
    return folder, dict(zip(targets, made))


def test_every_file_knows_the_images_that_the_model_knows(model, exported):
    folder, agreements = exported
    probabilities = model.predict(model.preprocess_input(PIXELS), verbose=0)
    expected = probabilities.max(axis=1, keepdims=True) - np.float32(model.reject.threshold)
    assert 5 <= (expected < 0).sum() <= 10  # k = 10 of 40
    for name, agreement in agreements.items():
        file = open_exported(folder / agreement.file)
        outputs = file.predict(PIXELS)
        assert file.outputs == ("probabilities", "known") and file.class_names == NAMES
        tolerance = {"tflite-int8": 0.05, "tflite-float16": 1e-2}.get(name, 1e-5)
        np.testing.assert_allclose(outputs["known"], expected, atol=tolerance, rtol=0, err_msg=name)
        assert agreement.reject["agreement_or_tie"] == 1 and agreement.reject["max_difference"] <= tolerance
        assert agreement.reject["rejected"] == (outputs["known"] < 0).mean()
        # On its way through the file it is one operator or two: the highest, minus a constant.
        assert agreement.operators.get("REDUCE_MAX", 1) == 1
    facts = json.loads((folder / "saved_model/1/assets/facts.json").read_text())
    assert facts["outputs"] == ["probabilities", "known"] and Reject(**facts["reject"]) == model.reject


def test_the_bundle_expects_no_class_of_a_rejected_image(exported):
    folder, _ = exported
    with zipfile.ZipFile(folder / "model_float32.zip") as bundle:
        expected = json.loads(bundle.read("expected.json"))
        names = bundle.namelist()
    outputs = open_exported(folder / "model_float32.tflite").predict_encoded(
        [folder / f"{i}.png" for i in np.linspace(0, 39, 8).astype(int)]
    )
    known = outputs["known"][:, 0] >= 0
    assert [len(classes) for classes in expected.values()] == np.where(known, 3, 0).tolist() and not known.all()
    assert "android/MediaPipeClassifier.kt" in names
    code = kotlin_code(folder / "model_float32.tflite")
    assert '"known" to outputs[1]' in code["LiteRtModel.kt"]


def test_other_outputs_and_types_keep_it(model):
    serving = make_serving(model, NAMES, extra_outputs=("features",), output_type="uint8")
    assert serving.outputs == ("probabilities", "features", "known")
    changed = serving.with_changes(extra_outputs=("rollout",), output_type="float32")
    assert changed.outputs == ("probabilities", "rollout", "known") and changed.reject == model.reject
    with pytest.raises(ValueError, match="Expected extra_outputs"):
        make_serving(model, NAMES, extra_outputs=("known",))


def test_a_nested_model_exports_it_too(model):
    images = keras.Input((*SIZE, 3))
    around = keras_vit.VisionModel(images, model(images), class_names=NAMES, reject=model.reject)
    serving = make_serving(around)
    outputs = serving.model.predict(PIXELS[:5], verbose=0)
    expected = outputs["probabilities"].max(axis=1, keepdims=True) - model.reject.threshold
    np.testing.assert_allclose(outputs["known"], expected, atol=1e-6)


class File:
    """A file whose outputs are given."""

    path, class_names, image_size = __file__, NAMES, SIZE

    def __init__(self, **outputs):
        self.outputs, self.values = tuple(outputs), {name: np.float32(value) for name, value in outputs.items()}

    def predict(self, pixels):
        return self.values


def faulty(model, change):
    """The figures, outside of the bounds of a float32 file, of one that is right but for a change to "known"."""
    reference = Reference(model, NAMES, PIXELS, reject=model.reject)
    known = reference.expected.max(axis=1, keepdims=True) - model.reject.threshold
    outputs = {"probabilities": reference.expected} | change(known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_vit.export.proof.size_on_disk", lambda path: 1)
        target = TARGETS["tflite-float32"]
        agreement = compare(File(**outputs), reference, name="a.tflite", target="t", tie=target.tie)
    return [violation.split()[0] for violation in violations(agreement, target.bounds)]


@pytest.mark.parametrize(
    "change, violated",
    [
        (lambda known: known, []),
        (lambda known: known + 0.01, ["reject.max_difference"]),
        (lambda known: known + 0.2, ["reject.agreement_or_tie", "reject.max_difference"]),
        (lambda known: -known, ["reject.agreement_or_tie", "reject.max_difference"]),
        (lambda known: known * np.nan, ["reject.agreement_or_tie", "reject.max_difference"]),
    ],
)
def test_a_fault_is_caught(model, change, violated):
    assert faulty(model, lambda known: {"known": change(known)}) == violated


def test_a_file_without_the_output_is_refused(model):
    with pytest.raises(ValueError, match="Expected the outputs known"):
        faulty(model, lambda known: {})
