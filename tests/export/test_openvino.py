"""OpenVINO models: what is in them, what they return in float32 and bfloat16, and which are refused."""

import contextlib
import json
import shutil
import sys

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import _compat
from keras_vit.commands.bench import bench
from keras_vit.export.serving import make_serving
from keras_vit.export.to_openvino import write_openvino
from keras_vit.runtime.files import is_exported, open_exported

with contextlib.suppress(ImportError):
    _compat.openvino_without_telemetry()
openvino = pytest.importorskip("openvino")

SIZE = (14, 10)
NAMES = ("ash", "élan", 'o"ak <&>', "pine", "yew")
OUTPUTS = ("probabilities", "rollout", "features")
PIXEL_CONTRACT = keras_vit.Pixels(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
FACTS = {"name": "trees", "description": "leaves\nand <needles>", "version": "2", "author": "Zoë", "license": ""}
PIXELS = np.random.default_rng(0).integers(0, 256, (7, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    tiny = keras_vit.Variant(patch_size=2, hidden_size=12, num_layers=2, num_heads=3, mlp_dim=20)
    model = keras_vit.build(tiny, input_shape=(*SIZE, 3), classes=len(NAMES), gelu="erf")
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(12, len(NAMES))))
    for norm in layers_named(model, "norm"):
        norm.beta.assign(np.random.default_rng(2).normal(size=12))
    return model


def layers_named(model, end):
    return [layer for layer in _compat.layers_inside(model) if layer.name.endswith(end)]


@pytest.fixture(scope="module", params=["uint8", "scaled"])
def exported(request, model, tmp_path_factory):
    """The `Serving`, and the folder of its model."""
    serving = make_serving(
        model, NAMES, input_type=request.param, extra_outputs=OUTPUTS[1:], pixels=PIXEL_CONTRACT, facts=FACTS
    )
    path = tmp_path_factory.mktemp("exported") / "openvino_model"
    write_openvino(serving, path)
    return serving, path


@pytest.fixture(scope="module")
def proven(model, tmp_path_factory):
    """The folder of a model that agrees with Keras, and its `Agreement`."""
    path = tmp_path_factory.mktemp("proven") / "trees"
    return path, keras_vit.export.openvino(model, path, class_names=NAMES, images=PIXELS, labels=np.arange(7) % 5)


def test_a_model_agrees_with_keras_for_any_batch(exported):
    serving, path = exported
    compiled = openvino.Core().compile_model(path / "1/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (entry,) = compiled.inputs
    kind = {"uint8": openvino.Type.u8, "scaled": openvino.Type.f32}[serving.input_type]
    assert (entry.any_name, entry.element_type) == ("images", kind)
    assert entry.partial_shape == openvino.PartialShape([-1, *SIZE, 3])
    assert tuple(end.any_name for end in compiled.outputs) == OUTPUTS
    for count in (1, 7):
        images = serving.client_inputs(PIXELS[:count])
        results = compiled(images)
        for name in OUTPUTS:
            np.testing.assert_allclose(results[name], serving.model(images)[name], atol=1e-5, err_msg=name)


def test_each_layer_norm_is_one_operation_and_each_gelu_part_of_another(exported, model):
    compiled = openvino.Core().compile_model(exported[1] / "1/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops()]
    assert kinds.count("MVN") == len(layers_named(model, "norm")) == 5
    assert not {"Gelu", "Erf"} & set(kinds)


def test_the_metadata_describe_input_and_outputs(exported):
    serving, path = exported
    model = openvino.Core().read_model(path / "1/model.xml")
    names = ("labels", "mean", "std", "outputs", "input_type", "returns", *FACTS)
    metadata = {name: model.get_rt_info(["keras_vit", name]).astype(str) for name in names}
    assert tuple(json.loads(metadata.pop("labels"))) == NAMES
    # What a client of a "scaled" file does: the same to all colours; the rest is inside.
    assert (json.loads(metadata.pop("mean")), json.loads(metadata.pop("std"))) == ([0.5] * 3, [0.5] * 3)
    assert json.loads(metadata.pop("outputs")) == list(OUTPUTS)
    assert metadata == {"input_type": serving.input_type, "returns": "probabilities", **FACTS}


@pytest.mark.parametrize("name", ["", "1", "1/model.xml"])
def test_a_model_is_opened_by_its_folder_or_its_xml(exported, name):
    serving, path = exported
    assert is_exported(path / name)
    file = open_exported(path / name)
    assert (file.path, file.class_names, file.outputs, file.image_size) == (path, NAMES, OUTPUTS, SIZE)
    expected = serving.model(serving.client_inputs(PIXELS))
    for output, values in file.predict(PIXELS).items():
        np.testing.assert_allclose(values, expected[output], atol=1e-5, err_msg=output)


START = """
import json, sys
import keras_vit_command
import numpy as np
from keras_vit.runtime.files import open_exported
file = open_exported(sys.argv[1])
file.predict(np.zeros((1, *file.image_size, 3), np.uint8))
heavy = ("keras", "tensorflow", "jax", "torch", "openvino_telemetry")
print(json.dumps([name for name in heavy if sys.modules.get(name)]))
"""


def test_a_model_runs_without_keras_and_without_telemetry(exported, run_python):
    assert run_python("-c", START, exported[1]) == []


def test_the_proof_is_of_float32_and_says_what_bfloat16_changes(proven):
    path, agreement = proven
    assert agreement.logits["max_difference"] < 1e-4 and agreement.top1_agreement == 1
    assert agreement.bytes == sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    if "bfloat16" not in open_exported(path).precisions:
        assert agreement.bfloat16 == {}
        return
    float32, bfloat16 = (open_exported(path, precision=name).predict(PIXELS) for name in ("float32", "bfloat16"))
    difference = np.abs(bfloat16["probabilities"] - float32["probabilities"]).max()
    assert 1e-4 < difference < 0.1
    assert agreement.bfloat16["probabilities"]["max_difference"] == pytest.approx(difference, abs=1e-4)
    assert agreement.bfloat16["latency_ms"]["1"] > 0 and 0 <= agreement.bfloat16["accuracy"] <= 1


def test_bench_has_a_line_for_each_precision(proven):
    path, agreement = proven
    precisions = open_exported(path).precisions
    rows = list(bench([path / "1/model.xml"]))
    assert [row["file"] for row in rows] == [f"{path}/1/model.xml", f"{path}/1/model.xml, bfloat16"][: len(precisions)]
    accuracies = [agreement.accuracy, agreement.bfloat16.get("accuracy")]
    assert [row["accuracy"] for row in rows] == [f"{value:.2%}" for value in accuracies[: len(precisions)]]
    assert all(row["1 threads"].endswith("ms") and row["2 threads"].endswith("ms") for row in rows)


def test_a_model_that_does_not_agree_is_refused(model, tmp_path, monkeypatch):
    run = keras_vit.runtime.openvino.OpenVINOFile.predict
    changed = lambda self, pixels: {name: values**1.01 for name, values in run(self, pixels).items()}  # noqa: E731
    monkeypatch.setattr("keras_vit.runtime.openvino.OpenVINOFile.predict", changed)
    with pytest.raises(ValueError, match="logits.max_difference is 0.0"):
        keras_vit.export.openvino(model, tmp_path / "model", images=PIXELS)
    assert not list(tmp_path.iterdir())


def test_the_newest_version_is_opened(proven, tmp_path):
    shutil.copytree(proven[0] / "1", tmp_path / "model" / "2")
    (tmp_path / "model" / "1").mkdir()
    assert keras_vit.runtime.is_exported(tmp_path / "model")
    file = open_exported(tmp_path / "model")
    assert (file.path, file.model_path) == (tmp_path / "model", tmp_path / "model" / "2" / "model.xml")
    assert open_exported(file.model_path).path == tmp_path / "model"


def changed_byte(folder, name, at):
    file = bytearray((folder / name).read_bytes())
    file[int(at * len(file))] ^= 1
    (folder / name).write_bytes(file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: changed_byte(folder, "model.bin", 0.5),
        lambda folder: changed_byte(folder, "model.xml", 0.1),
        lambda folder: changed_byte(folder, "model.xml", 0.99),
        lambda folder: (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:-1]),
        lambda folder: (folder / "model.bin").unlink(),
    ],
)
@pytest.mark.parametrize("name", ["", "1/model.xml"])
def test_a_damaged_model_is_refused(proven, tmp_path, damage, name):
    shutil.copytree(proven[0], tmp_path / "model")
    damage(tmp_path / "model/1")
    with pytest.raises(ValueError, match=f"{tmp_path}.*model.*(another|no) 'model.(xml|bin)'"):
        open_exported(tmp_path / "model" / name)


@pytest.mark.parametrize(
    "section, changes, words",
    [
        ("other", {}, "lacks the metadata labels, outputs, input_type"),
        ("keras_vit", {"labels": "3"}, "other values than texts"),
        ("keras_vit", {"labels": '["ash"]'}, "1 class names"),
        ("keras_vit", {"labels": "[" * 5000}, "cannot be used"),
        ("keras_vit", {"outputs": '["probabilities", "features"]'}, "names 2 outputs of 1"),
        ("keras_vit", {"mean": "[0.5]"}, "no mean of 3 channels"),
        ("keras_vit", {"shape": [-1, 18]}, "input of shape"),
        ("keras_vit", {"shape": [-1, -1, -1, 3]}, "input of shape"),
    ],
)
def test_other_metadata_are_refused(tmp_path, section, changes, words):
    from openvino import opset8

    facts = {"labels": json.dumps(NAMES[:3]), "outputs": '["probabilities"]', "input_type": "scaled"}
    facts |= {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]", **changes}
    images = opset8.parameter(facts.pop("shape", [-1, 2, 3, 3]), np.float32)
    flat = opset8.reshape(images, np.array([-1, 18]), False)
    model = openvino.Model([opset8.matmul(flat, np.ones((18, 3), np.float32), False, False)], [images])
    for name, text in facts.items():
        model.set_rt_info(text, [section, name])
    openvino.save_model(model, tmp_path / "model.xml")
    with pytest.raises(ValueError, match=words) as caught:
        open_exported(tmp_path / "model.xml").predict(np.zeros((1, 2, 3, 3), np.uint8))
    assert str(tmp_path) in str(caught.value) and len(str(caught.value)) < 2000


def test_what_openvino_does_not_read_is_refused(tmp_path):
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(ValueError, match="Expected an OpenVINO model made by `keras-vit export`"):
        open_exported(tmp_path / "model.xml")


@keras.saving.register_keras_serializable(package="tests")
class Inverse(keras.layers.Layer):
    def call(self, x):
        return keras.ops.cast(keras.ops.erfinv(keras.ops.tanh(x)), "float32")


def test_an_operation_that_openvino_does_not_have_is_named(tmp_path, capfd):
    images = keras.Input((*SIZE, 3))
    x = keras.layers.Dense(len(NAMES))(Inverse()(keras.layers.Flatten()(images)))
    serving = make_serving(keras.Model(images, x), NAMES, pixels="-1..1", outputs="logits")
    with pytest.raises(ValueError, match=r"that OpenVINO has\. Received: Erfinv\. .*SavedModel"):
        write_openvino(serving, tmp_path / "model")
    assert not list(tmp_path.iterdir()) and not capfd.readouterr().out


def test_without_the_extra_the_error_names_it(proven, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match='extra "openvino": pip install openvino'):
        write_openvino(make_serving(model, NAMES), tmp_path / "model")
    with pytest.raises(ImportError, match='extra "openvino": pip install openvino'):
        open_exported(proven[0])


def test_another_backend_is_refused(tmp_path, model, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="backend='jax'. Start again with KERAS_BACKEND=tensorflow"):
        write_openvino(make_serving(model, NAMES), tmp_path / "model")


ON_OPENVINO = """
import json, sys
sys.modules["openvino_telemetry"] = None
import keras, numpy as np
import keras_vit
model = keras.saving.load_model(sys.argv[1])
pixels = np.random.default_rng(0).integers(0, 256, (7, *model.input_shape[1:]), np.uint8)
print(json.dumps([keras.backend.backend(), model.predict(model.preprocess_input(pixels), verbose=0).tolist()]))
"""


def test_a_model_predicts_on_the_openvino_backend_of_keras(model, tmp_path, run_python):
    model.save(tmp_path / "model.keras")
    backend, probabilities = run_python("-c", ON_OPENVINO, tmp_path / "model.keras", KERAS_BACKEND="openvino")
    assert backend == "openvino"
    expected = model.predict(model.preprocess_input(PIXELS), verbose=0)
    np.testing.assert_allclose(probabilities, expected, atol=0.05)  # it may compute in bfloat16
