"""Files with activations of 16 bits, for NPUs."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import _compat
from keras_vit.export.serving import make_serving
from keras_vit.export.tflite import integer
from keras_vit.export.tflite.conversion import converted
from keras_vit.export.tflite.quantization import Calibrated, run_tflite
from keras_vit.models.config import ResNet

SCHEMA = _compat.tflite_schema()
PLAIN = keras_vit.Variant(patch_size=4, hidden_size=64, num_layers=2, num_heads=2, mlp_dim=128)
VARIANTS = {
    "token": (PLAIN, {}),
    "map": (PLAIN, {"pooling": "map", "classifier_activation": "sigmoid"}),
    "hybrid": (keras_vit.Variant(1, 32, 1, 2, 48, stem=ResNet((1,), (128,), 32)), {"pooling": "gap"}),
    "bit": (ResNet((1,), (128,), 32), {}),
}


def pixels(number, seed, height=16):
    """Images of a few waves: neighbours are alike, as in photographs."""
    waves = np.random.default_rng(seed).normal(size=(number, 3, 3, 3))
    y, x = (np.cos(np.pi * np.arange(3)[:, None] * (np.arange(side) + 0.5) / side) for side in (height, 24))
    return (127.5 + 127 * np.tanh(np.einsum("nckl,kr,lq->nrqc", waves, y, x))).astype("uint8")


def build(kind):
    variant, options = VARIANTS[kind]
    keras.utils.set_random_seed(0)
    model = keras_vit.build(variant, input_shape=(16, 24, 3), classes=5, weights=None, **options)
    noise = np.random.default_rng(0)
    model.set_weights([value + noise.normal(0, 0.02, value.shape) for value in model.get_weights()])
    return model


def types_and_operators(path):
    file = _compat.read_flatbuffer(path.read_bytes())
    (graph,) = file.subgraphs
    names = {number: name for name, number in vars(SCHEMA.BuiltinOperator).items()}
    kinds = [names[file.operatorCodes[operator.opcodeIndex].builtinCode] for operator in graph.operators]
    outputs = [{graph.tensors[index].type for index in operator.outputs} for operator in graph.operators]
    return kinds, outputs


@pytest.mark.parametrize("kind", VARIANTS)
def test_operators_compute_in_integers(tmp_path, kind):
    model = build(kind)
    agreement = keras_vit.export.tflite(
        model, tmp_path / "model.tflite", "npu", images=pixels(40, 1), calibration=pixels(24, 0)
    )
    assert agreement.probabilities["percentile_95"] < 0.002 and agreement.top1_agreement_or_tie == 1
    kinds, outputs = types_and_operators(tmp_path / "model.tflite")
    in_float = [kind for kind, types in zip(kinds, outputs) if SCHEMA.TensorType.FLOAT32 in types]
    assert in_float.pop() == kinds[-1] == "DEQUANTIZE"  # of the probabilities
    assert {*in_float} <= {"DEQUANTIZE", "MUL", "MEAN", "RESHAPE", "ADD", "RSQRT"}  # of variances
    assert not {"SQUARED_DIFFERENCE", "CAST"} & {*kinds}


def test_a_small_class_token_among_patches_keeps_its_variance(monkeypatch):
    """The class token of the first block is the same in each image, and has a thousandth of the patches' variance."""
    model = converted(make_serving(build("token"), input_type="uint8").model, fold_norms=False)
    calibrated = Calibrated(model, pixels(24, 0), input_type="uint8")
    expected = run_tflite(model, pixels(24, 1)[:, None])

    def lost():
        return abs(run_tflite(integer.in_integers(calibrated), pixels(24, 1)[:, None]) - expected).max()

    kept = lost()
    monkeypatch.setattr(integer, "LEAST_RSQRT", 0)
    assert kept < 0.1 * lost()


def test_pixels_of_other_types_and_sizes_and_features(tmp_path):
    model = build("token")
    for input_type, height in (("float32", 32), ("scaled", 16)):
        agreement = keras_vit.export.tflite(
            model,
            tmp_path / f"{input_type}.tflite",
            "npu",
            input_type=input_type,
            input_size=(height, 24),
            extra_outputs=["features"],
            images=pixels(16, 1, height),
            calibration=pixels(24, 0, height),
        )
        assert agreement.extra_outputs["features"] < 0.03
        kinds, _ = types_and_operators(tmp_path / f"{input_type}.tflite")
        assert kinds[0] == "QUANTIZE" and kinds[-2:] == ["DEQUANTIZE"] * 2


def test_an_operator_without_a_kernel_stays_in_float(caplog):
    images = keras.Input((16, 24, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Dense(8)(keras.ops.sin(keras.layers.Flatten()(x)))
    float_file = converted(keras.Model(images, x))
    caplog.set_level("INFO")
    file = integer.in_integers(Calibrated(float_file, pixels(16, 0), input_type="uint8"))
    assert "SIN" in caplog.text
    expected, actual = (run_tflite(one, pixels(8, 1)[:, None]) for one in (float_file, file))
    assert abs(actual - expected).max() < 0.02 * abs(expected).max()


def test_calibration_images_are_needed(tmp_path):
    with pytest.raises(ValueError, match="calibration images for npu"):
        keras_vit.export.tflite(build("token"), tmp_path / "model.tflite", "npu", images=pixels(16, 1))
    assert not any(tmp_path.iterdir())
