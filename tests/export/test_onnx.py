import json
import logging
import sys

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.export import to_onnx
from keras_vit.export.serving import make_serving
from keras_vit.export.to_onnx import write_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

SIZE = (14, 10)
NAMES = ("ash", "élan", "oak", "pine", "yew")
OUTPUTS = ("probabilities", "features", "rollout")
PIXEL_CONTRACT = keras_vit.Pixels(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
FACTS = {"name": "trees", "description": "leaves", "version": "2", "author": "Zoë", "license": "MIT"}
PIXELS = np.random.default_rng(0).integers(0, 256, (7, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    tiny = keras_vit.Variant(patch_size=2, hidden_size=12, num_layers=2, num_heads=3, mlp_dim=20)
    model = keras_vit.build(tiny, input_shape=(*SIZE, 3), classes=len(NAMES), gelu="erf")
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(12, len(NAMES))))
    return model


@pytest.fixture(scope="module", params=["uint8", "scaled"])
def exported(request, model, tmp_path_factory):
    """The `Serving`, and a session of its file."""
    serving = make_serving(
        model, NAMES, input_type=request.param, extra_outputs=OUTPUTS[1:], pixels=PIXEL_CONTRACT, facts=FACTS
    )
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    write_onnx(serving, path)
    return serving, onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_file_agrees_with_the_model_for_any_batch(exported):
    serving, session = exported
    (entry,) = session.get_inputs()
    kind = {"uint8": "tensor(uint8)", "scaled": "tensor(float)"}[serving.input_type]
    assert (entry.name, entry.type, entry.shape) == ("images", kind, ["batch", *SIZE, 3])
    assert tuple(end.name for end in session.get_outputs()) == OUTPUTS
    for count in (1, 7):
        images = serving.client_inputs(PIXELS[:count])
        for name, value in zip(OUTPUTS, session.run(None, {"images": images})):
            np.testing.assert_allclose(value, serving.model(images)[name], atol=1e-5, err_msg=name)


def test_the_license_of_the_checkpoint_is_among_the_facts(model):
    licensed = keras_vit.VisionModel(model.input, model.output, license={"name": "mit", "origin": "README.md"})
    facts = make_serving(licensed, NAMES, facts=FACTS).facts
    assert facts["license"].startswith("MIT. Checkpoint: mit (README.md): copies keep")
    assert make_serving(licensed, NAMES, facts=facts).facts == facts
    assert make_serving(model, NAMES, facts=FACTS).facts["license"] == "MIT"


def test_the_metadata_describe_input_and_outputs(exported):
    serving, session = exported
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata.pop("labels"))) == NAMES
    # What a client of a "scaled" file does: the same to all colours; the rest is inside.
    assert (json.loads(metadata.pop("mean")), json.loads(metadata.pop("std"))) == ([0.5] * 3, [0.5] * 3)
    assert json.loads(metadata.pop("outputs")) == list(OUTPUTS)
    assert len(metadata.pop("sha256")) == 64
    assert metadata == {"input_type": serving.input_type, "returns": "probabilities", **FACTS}


def of_layers(*layers):
    x = images = keras.Input((*SIZE, 3))
    for layer in (keras.layers.Flatten(), *layers, keras.layers.Dense(len(NAMES))):
        x = layer(x)
    return make_serving(keras.Model(images, x), NAMES, pixels="-1..1", outputs="logits")


def test_nothing_is_printed(tmp_path, capfd, caplog):
    with caplog.at_level(logging.INFO, "tf2onnx"):
        write_onnx(of_layers(), tmp_path / "model.onnx")
    said = [line for line in capfd.readouterr().err.splitlines() if "tf2onnx" in line or "Unsupported" in line]
    assert not said and not [record for record in caplog.records if record.name.startswith("tf2onnx")]


@keras.saving.register_keras_serializable(package="tests")
class Sorted(keras.layers.Layer):
    def call(self, x):
        return keras.ops.cast(keras.ops.erfinv(keras.ops.tanh(x)), "float32")


@pytest.mark.parametrize("layer, operator", [(keras.layers.Activation("gelu"), "Erfc"), (Sorted(), "Erfinv")])
def test_an_operator_that_onnx_does_not_have_is_named(tmp_path, layer, operator, capfd):
    with pytest.raises(ValueError, match=rf"opset 18.*Received: {operator}\. .*keras.ops.erf.*SavedModel"):
        write_onnx(of_layers(layer), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    assert "Unsupported" not in capfd.readouterr().err


@pytest.mark.parametrize("change", [lambda y: y + 2e-3, lambda y: np.where(y == y.max(), np.nan, y)])
def test_a_file_that_does_not_agree_is_refused(tmp_path, monkeypatch, change):
    run = onnxruntime.InferenceSession.run
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", lambda *words: [change(y) for y in run(*words)])
    with pytest.raises(ValueError, match=r"differ from the model's .*on 3 images, probabilities by"):
        write_onnx(of_layers(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_onnxruntime_cannot_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(to_onnx, "_refuse_unknown", lambda onnx, file: None)
    with pytest.raises(ValueError, match="Expected a file that onnxruntime runs.*Erfc"):
        write_onnx(of_layers(keras.layers.Activation("gelu")), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_more_weights_than_a_file_holds_are_refused(tmp_path, model, monkeypatch):
    monkeypatch.setattr(to_onnx, "MAX_WEIGHT_BYTES", 4 * model.count_params() - 1)
    with pytest.raises(ValueError, match=f"Received: {4 * model.count_params():,}"):
        write_onnx(make_serving(model, NAMES), tmp_path / "model.onnx")


def test_without_the_extra_the_error_names_it(tmp_path, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match='extra "onnx": pip install tf2onnx'):
        write_onnx(make_serving(model, NAMES), tmp_path / "model.onnx")


def test_another_backend_is_refused(tmp_path, model, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="backend='jax'. Start again with KERAS_BACKEND=tensorflow"):
        write_onnx(make_serving(model, NAMES), tmp_path / "model.onnx")
