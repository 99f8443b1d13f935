import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.export import proof
from keras_vit.export.card import write_card
from keras_vit.export.targets import TARGETS, Target, with_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4, 6, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    tiny = keras_vit.Variant(patch_size=2, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)
    model = keras_vit.build(tiny, input_shape=(4, 6, 3), classes=5)
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(8, 5)))
    return model


@pytest.fixture
def target(monkeypatch, model):
    """Puts an export into the table whose file answers as the test says."""

    def put(answer, **bounds):
        def write(serving, path):
            path.write_text("weights")

        def run(path, entries):
            assert path.read_text() == "weights" and entries.dtype == np.uint8
            return answer(model.predict(keras_vit.preprocess_input(entries), verbose=0))

        monkeypatch.setitem(TARGETS, "file", Target("file.bin", write, run, bounds, tie=0.01))

    return put


EXACT = {"largest_difference": (0.0, 1e-3), "top1_or_tie": (0.99, 1.0)}


def test_a_file_that_answers_alike_gets_its_name_and_its_figures(tmp_path, model, target):
    target(lambda expected: expected + np.float32(2e-4), **EXACT)
    labels = np.arange(20) % 5
    (agreement,) = proof.export(model, tmp_path, ["file"], PIXELS, labels=labels)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]
    expected = model.predict(keras_vit.preprocess_input(PIXELS), verbose=0)
    assert agreement.largest_difference == pytest.approx(2e-4, rel=1e-2)
    assert agreement.accuracy == np.mean(expected.argmax(axis=1) == labels)
    assert (agreement.top1_agreement, agreement.top1_or_tie, agreement.pictures) == (1.0, 1.0, 20)
    assert agreement.bytes == len("weights")


def spoil(change):
    def answer(expected):
        expected = expected.copy()
        change(expected)
        return expected

    return answer


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda y: y.__setitem__((7, 2), y[7, 2] + 1 / 64), "largest_difference is 0.0156"),
        (lambda y: y.__setitem__((slice(None), 0), np.nan), "largest_difference is nan"),
        (lambda y: y.__setitem__(slice(None), y[:, ::-1].copy()), "top1_or_tie is"),
    ],
)
def test_a_file_that_answers_otherwise_is_not_kept(tmp_path, model, target, change, words):
    (tmp_path / "file.bin").write_text("older and good")
    target(spoil(change), **EXACT)
    with pytest.raises(ValueError, match=f"(?s)file.bin does not answer like the model on 20 pictures.*{words}"):
        proof.export(model, tmp_path, ["file"], PIXELS)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]
    assert (tmp_path / "file.bin").read_text() == "older and good"


def test_a_near_tie_counts_as_agreement_only_where_it_is_one(tmp_path, model, target):
    def answer(swapped_by):
        def swap(y):
            order = np.argsort(-y[3])
            y[3, order[1]] = y[3, order[0]] + 1e-6  # the second class comes first
            y[3, order[0]] -= swapped_by

        return spoil(swap)

    expected = model.predict(keras_vit.preprocess_input(PIXELS), verbose=0)
    first, second = np.sort(expected[3])[::-1][:2]
    target(answer(0.0), top1_or_tie=(0.0, 1.0))
    (agreement,) = proof.export(model, tmp_path, ["file"], PIXELS)
    assert agreement.top1_agreement == pytest.approx(0.95)
    assert agreement.top1_or_tie == pytest.approx(1.0 if first - second <= 0.01 else 0.95)


def test_a_failure_while_writing_leaves_nothing(tmp_path, model, monkeypatch):
    def write(serving, path):
        path.mkdir()
        (path / "half").write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(TARGETS, "file", Target("folder", write, None, {}, 0.0))
    with pytest.raises(OSError, match="disk full"):
        proof.export(model, tmp_path, ["file"], PIXELS)
    assert not list(tmp_path.iterdir())


def test_unknown_names_are_refused_before_anything_is_written(tmp_path, model):
    with pytest.raises(ValueError, match="savedmodel, tflite-float32, tflite-int8. Received: onnx"):
        proof.export(model, tmp_path / "out", ["onnx"], PIXELS)
    with pytest.raises(ValueError, match="uint8.*Received: 'bytes'"):
        proof.export(model, tmp_path / "out", ["savedmodel"], PIXELS, takes="bytes")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("takes, scale", [("uint8", 1), ("float32", 1), ("scaled", None)])
def test_the_scaling_is_inside_but_for_scaled(model, takes, scale):
    entries = PIXELS.astype("uint8" if takes == "uint8" else "float32")
    entries = entries if scale else keras_vit.preprocess_input(PIXELS)
    serving = with_pixels(model, takes)
    assert serving.inputs[0].dtype == entries.dtype
    expected = model.predict(keras_vit.preprocess_input(PIXELS), verbose=0)
    np.testing.assert_allclose(serving.predict(entries, verbose=0), expected, atol=1e-6)


def test_the_tflite_graph_fits_a_phone(tmp_path, model):
    """Fixed batch, builtin operators alone, and no tensor above 4-D: what delegates ask for."""
    import tensorflow as tf

    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        proof.export(model, tmp_path, ["tflite-float32", "tflite-int8"], PIXELS)
        for name in ("model_float32.tflite", "model_int8.tflite"):
            interpreter = tf.lite.Interpreter(str(tmp_path / name))
            details = interpreter.get_tensor_details()
            assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 4, 6, 3]
            assert max(len(tensor["shape"]) for tensor in details) <= 4
            assert not any((tensor["shape_signature"] == -1).any() for tensor in details)
            operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
            assert not any(name.startswith(("Flex", "CUSTOM")) for name in operators)
            assert not operators & {"SHAPE", "PACK", "GATHER", "BROADCAST_TO", "VAR_HANDLE"}


def test_the_card_says_what_the_file_takes_and_how_well(tmp_path):
    facts = dict.fromkeys(
        ("title", "variant", "parameters", "num_classes", "class_names", "data", "version", "rows", "columns"), "x"
    )
    facts |= dict.fromkeys(("accuracy", "seed", "machine", "scaled", "train", "validation", "test"), "y")
    row = proof.Agreement("m.tflite", 1_500_000, 360, 0.0123, 0.995, 1.0, 0.98, 1.5)
    write_card(tmp_path / "card.md", exports=[row], takes="uint8", bad=3, **facts)
    text = (tmp_path / "card.md").read_text()
    assert "| m.tflite | 1.50 MB | 1.2e-02 | 99.50% of 360 | 98.00% | 1.50 ms |" in text
    assert "whole numbers from 0 to 255, uint8" in text and "3 pictures could not be read" in text
    assert "$" not in text
