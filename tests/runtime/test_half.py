"""Half precision of GPUs: what a rewritten file computes, against float16 in NumPy, and norms that hold in it."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_vit
from keras_vit.export.serving import make_serving
from keras_vit.export.tflite.conversion import converted, exported
from keras_vit.runtime import open_exported
from keras_vit.runtime.half import in_half_precision
from keras_vit.runtime.lint import lint_operators, read_operators

SIZE = (8, 12, 3)


def run(file, x):
    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def file_of(function, shape):
    images = keras.Input(shape, batch_size=1)
    return converted(keras.Model(images, function(images)))


@pytest.mark.parametrize("value", [1 / 3, 65504, 65519, 65520, -7e4, 6e-8, 1e-9, np.nan])
def test_a_number_is_rounded_as_in_numpy(value):
    file = in_half_precision(file_of(lambda x: keras.ops.negative(x), (5,)))
    x = np.full((1, 5), value, np.float32)
    with np.errstate(over="ignore"):
        expected = -x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(run(file, x), expected)


def test_squares_overflow_and_the_sum_inside_a_mean_does_not():
    x = np.full((1, 7), 1e4, np.float32)
    half = in_half_precision(file_of(lambda x: keras.ops.mean(x, axis=-1), (7,)))
    assert run(half, x) == pytest.approx(1e4, rel=2**-10)
    half = in_half_precision(file_of(lambda x: keras.ops.mean(keras.ops.square(x), axis=-1), (7,)))
    assert np.isinf(run(half, x)).all()


@pytest.mark.parametrize("mode", ["float32", "float16", "int8"])
def test_weights_are_rounded_and_products_added_up_in_float32(mode):
    keras.utils.set_random_seed(0)
    images = keras.Input((32,), batch_size=1)
    layer = keras.layers.Dense(48, bias_initializer="random_normal", name="head")
    file = converted(keras.Model(images, layer(images)), mode)
    x = np.random.default_rng(0).normal(size=(1, 32)).astype(np.float32)
    kernel, bias = (np.asarray(weight) for weight in layer.weights)
    if mode == "int8":
        scale = np.abs(kernel).max(axis=0) / 127
        kernel = np.round(kernel / scale) * scale
    kernel, bias, source = (part.astype(np.float16).astype(np.float32) for part in (kernel, bias, x))
    expected = (source @ kernel + bias).astype(np.float16).astype(np.float32)
    actual = run(in_half_precision(file), x)
    np.testing.assert_allclose(actual, expected, rtol=2**-10)
    assert (actual == actual.astype(np.float16)).all()


def massive(factor):
    """Returns a small ViT that carries large activations in two channels, its input and the pixels of an image."""
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(patch_size=4, hidden_size=48, num_layers=2, num_heads=2, mlp_dim=64)
    model = keras_vit.build(variant, input_shape=SIZE, classes=5, weights=None)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + rng.normal(size=weight.shape) * 0.2)
    (bias,) = [weight for weight in model.weights if weight.path.endswith("block_00/mlp/out/bias")]
    values = np.array(bias)
    values[[3, 31]] += np.float32([1, -1]) * factor
    bias.assign(values)
    serving = make_serving(model, list("abcde"), input_type="float32")
    return serving, rng.integers(0, 256, (1, *SIZE)).astype(np.float32)


@pytest.mark.parametrize("factor", [0, 500, 20000])
def test_scaled_norms_hold_in_half_precision_and_change_nothing_in_float32(factor):
    serving, pixels = massive(factor)
    plain, scaled = (exported(serving, "float32", scale_norms=flag) for flag in (False, True))
    expected = run(plain, pixels)
    np.testing.assert_allclose(run(scaled, pixels), expected, atol=1e-4)
    np.testing.assert_allclose(run(in_half_precision(scaled), pixels), expected, atol=0.02)
    wrong = np.abs(run(in_half_precision(plain), pixels) - expected).max()
    assert wrong > 0.05 if factor else wrong < 0.02
    assert lint_operators(read_operators(scaled), "gpu", "webgpu") == []


def test_the_export_for_a_gpu_is_compared_in_half_precision(tmp_path):
    model = massive(500)[0].inner
    options = {"class_names": list("abcde"), "input_type": "float32", "delegate": "gpu"}
    (agreement,) = keras_vit.export.export_model(model, tmp_path, ["tflite-float16"], **options)
    assert agreement.float16["images"] == 64 and agreement.operators["REDUCE_MAX"] == 5
    with pytest.raises(ValueError, match=r"float16\.logits\.cosine is"):
        keras_vit.export.export_model(
            model, tmp_path, ["tflite-float16"], **options, bounds={"float16.logits.cosine": (2, 3)}
        )


def test_what_is_no_tflite_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a \.tflite file"):
        in_half_precision(b"PK\3\4" + bytes(40))
    file = tmp_path / "model.onnx"
    file.touch()
    with pytest.raises(ValueError, match=r"page for precision='float16'.*model\.onnx"):
        open_exported(file, precision="float16")
