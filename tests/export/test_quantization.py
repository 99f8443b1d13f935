import dataclasses
import sys

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.export.tflite import quantization
from keras_vit.export.tflite.quantization import (
    QUANTIZATION_MODES,
    Calibrated,
    layer_sensitivity,
    quantized,
    run_tflite,
)
from keras_vit.export.tflite.rounding import rounded
from keras_vit.export.tflite.smoothing import smoothed
from keras_vit.models.config import ResNet

pytest.importorskip("ai_edge_quantizer")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")

RANDOM = np.random.default_rng(0)
SHAPE = (8, 12, 3)
PLAIN = keras_vit.Variant(patch_size=4, hidden_size=64, num_layers=2, num_heads=2, mlp_dim=128)
VARIANTS = {
    "plain": (PLAIN, {"representation_size": 7}),
    "gap": (PLAIN, {"pooling": "gap"}),
    "map": (PLAIN, {"pooling": "map"}),
    "hybrid": (keras_vit.Variant(1, 32, 2, 2, 48, stem=ResNet((1,), (128,), 32)), {}),
    "bit": (ResNet((1,), (128,), 32), {}),
}


def made_images(number, seed=0):
    """Images of a few waves: neighbours are alike, as in photographs."""
    waves = np.random.default_rng(seed).normal(size=(number, 3, 3, 3))
    y, x = (np.cos(np.pi * np.arange(3)[:, None] * (np.arange(side) + 0.5) / side) for side in SHAPE[:2])
    return np.tanh(np.einsum("nckl,kr,lq->nrqc", waves, y, x)).astype("float32")


def build(kind):
    """A model whose weights all differ and whose norms give a few channels that dwarf the rest, as trained ones do."""
    variant, arguments = VARIANTS[kind]
    keras.utils.set_random_seed(0)
    model = keras_vit.build(variant, input_shape=SHAPE, classes=5, classifier_activation=None, **arguments)
    model.set_weights([value + RANDOM.normal(0, 0.05, value.shape) for value in model.get_weights()])
    for block in (layer for layer in model.layers if isinstance(layer, keras_vit.layers.TransformerBlock)):
        scale = np.ones(block.mlp_norm.gamma.shape[0])
        scale[[3, 11]] = 60
        for norm, readers in (
            (block.attention_norm, (block.attention.query, block.attention.key, block.attention.value)),
            (block.mlp_norm, (block.mlp.hidden,)),
        ):
            norm.gamma.assign(norm.gamma * scale)
            norm.beta.assign(norm.beta * scale)
            for reader in readers:
                reader.kernel.assign(reader.kernel / scale[:, None])
    return model


def as_tflite(model, folder):
    path = folder / "model.tflite"
    signature = [keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype=model.inputs[0].dtype)]
    model.export(path, format="litert", input_signature=signature, verbose=False)
    return path.read_bytes()


@pytest.fixture(scope="module")
def model():
    return build("plain")


@pytest.fixture(scope="module")
def as_built(model, tmp_path_factory):
    return as_tflite(model, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def smooth(model, tmp_path_factory):
    return as_tflite(smoothed(model, made_images(16)), tmp_path_factory.mktemp("smooth"))


def loss(tflite, model):
    """Mean angle between the file's answers and the model's, in radians, on images that no calibration saw."""
    unseen = made_images(12, seed=1)
    actual, expected = run_tflite(tflite, unseen[:, None]), np.asarray(model.predict(unseen, verbose=0), "float64")
    cosine = (actual * expected).sum(1) / np.linalg.norm(actual, axis=1) / np.linalg.norm(expected, axis=1)
    return np.arccos(np.clip(cosine, -1, 1)).mean()


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_smoothed_model_computes_the_same(kind):
    model, images = build(kind), made_images(9)
    before, expected = model.get_weights(), model.predict(images, verbose=0)
    copy = smoothed(model, images[:5])
    np.testing.assert_allclose(copy.predict(images, verbose=0), expected, atol=2e-5 * abs(expected).max())
    assert type(copy) is type(model) and copy.pixels == model.pixels
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights()))
    changed = [not np.array_equal(old, new) for old, new in zip(before, copy.get_weights())]
    assert any(changed) == (kind != "bit")


def test_channels_of_a_smoothed_model_are_alike():
    model, images = build("plain"), made_images(16)
    copy = smoothed(model, images)

    def spread(some):
        block = some.get_layer("block_01")
        values = np.asarray(block.attention_norm(keras.Model(some.input, block.input)(images))).reshape(-1, 64)
        ranges = values.max(0) - values.min(0)
        return ranges.max() / np.median(ranges)

    assert spread(model) > 30 and spread(copy) < 10


@pytest.mark.parametrize(("alpha", "number"), [(-0.1, 3), (1.1, 3), (0.5, 0)])
def test_smoothing_refuses(model, alpha, number):
    with pytest.raises(ValueError, match="alpha from 0 to 1 and at least one image"):
        smoothed(model, made_images(3)[:number], alpha)


@pytest.mark.parametrize(("bits", "block"), [(8, 0), (4, 0), (4, 32)])
def test_rounding_regards_what_the_weights_multiply(bits, block):
    kernel = RANDOM.normal(size=(40, 96)).astype("float32")
    inputs = RANDOM.normal(size=(500, 12)) @ RANDOM.normal(size=(12, 96)) + RANDOM.normal(0, 0.1, (500, 96))
    weights, scales = rounded(kernel, np.cov(inputs.T), bits, block)
    steps = np.repeat(scales, 96 // scales.shape[1], axis=1)
    assert scales.shape == (40, 96 // block if block else 1)
    np.testing.assert_array_equal(weights, np.rint(weights / steps) * steps)
    assert abs(weights / steps).max() < 2 ** (bits - 1) - 0.5
    nearest = np.rint(kernel / steps) * steps

    def lost(some):
        return np.square((kernel - some) @ inputs.T).mean()

    assert lost(weights) < 0.3 * lost(nearest)


def test_a_token_that_hardly_varies_is_rounded():
    """The class token of few images, whose covariance has less than full rank and lies far below its mean."""
    statistics = quantization._Statistics(is_input=True)
    tokens = (100 + 1e-3 * np.random.default_rng(0).normal(size=(16, 1, 64))).astype("float32")
    for token in tokens:
        statistics.add(token)
    np.testing.assert_allclose(statistics.mean(), tokens.mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(statistics.covariance(), np.cov(tokens[:, 0].T, bias=True), atol=1e-8)
    weights, _ = rounded(np.ones((3, 64), "float32"), statistics.covariance(), 8)
    np.testing.assert_allclose(weights, 1, atol=0.01)


def test_static_int8_holds_where_scale_was_moved(model, as_built, smooth):
    kept = loss(quantized(smooth, "static-int8", made_images(16)), model)
    assert kept < 0.04
    assert kept < 0.1 * loss(quantized(as_built, "static-int8", made_images(16)), model)


def test_int4_holds(model, smooth):
    calibrated = Calibrated(smooth, made_images(16))
    four, eight = calibrated.file("int4"), calibrated.file("int8")
    assert loss(four, model) < 0.15 and loss(eight, model) < 0.02
    finer = calibrated.file("int4", finer=["block_00/mlp/out", "block_01/attention/value"])
    assert len(four) < len(finer) < len(eight)


@pytest.mark.parametrize("mode", quantization.QUANTIZATION_MODES)
def test_only_products_with_weights_are_rounded(smooth, mode):
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType
    from ai_edge_litert.tools import flatbuffer_utils

    file = flatbuffer_utils.read_model_from_bytearray(bytearray(quantized(smooth, mode, made_images(16))))
    (graph,) = file.subgraphs
    kinds = [file.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    types = {kind: set() for kind in kinds}
    for kind, operator in zip(kinds, graph.operators):
        types[kind].add(graph.tensors[operator.inputs[0]].type)
    assert BuiltinOperator.CUSTOM not in kinds and max(len(tensor.shape) for tensor in graph.tensors) <= 4
    assert types[BuiltinOperator.BATCH_MATMUL] == types[BuiltinOperator.SOFTMAX] == {TensorType.FLOAT32}
    assert (TensorType.INT8 in types[BuiltinOperator.FULLY_CONNECTED]) == (mode == "static-int8")
    weights = {tensor.type for tensor in graph.tensors if tensor.type in (TensorType.INT4, TensorType.INT8)}
    assert (TensorType.INT4 in weights) == (mode == "int4")


def test_a_hybrid_of_pixels(tmp_path):
    inner = smoothed(build("hybrid"), made_images(16))
    images = keras.Input(SHAPE, dtype="uint8", name="images")
    model = keras.Model(images, inner(keras.ops.cast(images, "float32") / 127.5 - 1))
    pixels = np.clip(127.5 + 127.5 * made_images(16), 0, 255).astype("uint8")
    tflite = as_tflite(model, tmp_path)
    file = quantized(tflite, "static-int8", [{"images": one[None]} for one in pixels])
    actual, expected = run_tflite(file, pixels[:, None]), run_tflite(tflite, pixels[:, None])
    assert len(file) < 0.6 * len(tflite)
    assert np.linalg.norm(actual - expected) < 0.05 * np.linalg.norm(expected)


def test_a_map_whose_pixels_are_the_tokens_is_laid_out(tmp_path):
    """The converter feeds the map itself, of four axes, to the projection where no class token stands between."""
    variant = keras_vit.Variant(1, 32, 1, 2, 48, stem=ResNet((1,), (128,), 32), pooling="gap")
    model = keras_vit.build(variant, input_shape=SHAPE, classes=5)
    model.get_layer("head").kernel.assign(RANDOM.normal(0, 0.3, (32, 5)))
    agreement = keras_vit.export.tflite(model, tmp_path / "model.tflite", mode="int8")
    assert 0 < agreement.probabilities["max_difference"] < 0.05


def test_the_layers_that_lose_most_keep_8_bits_up_to_a_share_of_the_size(model, smooth):
    calibrated = Calibrated(smooth, made_images(16))
    none, all_ = (dataclasses.replace(QUANTIZATION_MODES["int4"], share=share) for share in (0, 1))
    four, eight = calibrated.file(none), calibrated.file(all_)
    share = (len(four) + len(eight)) / 2 / len(smooth)
    mixed = calibrated.file(dataclasses.replace(none, share=share))
    assert len(four) < len(mixed) < 1.02 * share * len(smooth) < len(eight)
    assert loss(eight, model) < loss(mixed, model) < loss(four, model)
    spared = ["block_00/mlp/out", "block_01/mlp/out"]
    kept = calibrated.file(dataclasses.replace(none, share=share), in_float=spared)
    assert len(kept) < 1.02 * share * len(smooth) or kept == calibrated.file(none, in_float=spared)


def test_the_sensitivity_is_that_of_the_bits_of_the_mode(smooth):
    modes = (dataclasses.replace(QUANTIZATION_MODES["int4"], share=share) for share in (0, 1))
    one, other = (layer_sensitivity(smooth, mode, made_images(16)) for mode in modes)
    assert one == other


def test_sensitivity_of_each_layer(smooth):
    losses = layer_sensitivity(smooth, "int4", made_images(16))
    assert {layer for layer, _ in losses} == {
        "encoder/projection",
        "pre_logits",
        "head",
        *(f"block_{i:02d}/attention/{part}" for i in range(2) for part in ("query", "key", "value", "out")),
        *(f"block_{i:02d}/mlp/{part}" for i in range(2) for part in ("hidden", "out")),
    }
    assert [value for _, value in losses] == sorted((value for _, value in losses), reverse=True)
    worst = losses[0][0]
    spared = quantized(smooth, "int4", made_images(16), in_float=[worst])
    expected, whole = run_tflite(smooth, made_images(16)[:, None]), quantized(smooth, "int4", made_images(16))

    def lost(file):
        return np.linalg.norm(run_tflite(file, made_images(16)[:, None]) - expected)

    assert lost(spared) < lost(whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "int5"}, "a mode out of int8, static-int8, int4. Received: 'int5'"),
        ({"calibration": made_images(15)}, "at least 16 images to calibrate on. Received: 15"),
        (
            {"input_type": "scaled", "calibration": 255 * made_images(16)},
            "scaled pixels, about -3 to 3. Received: float32 from -",
        ),
        ({"input_type": "float32"}, "pixels from 0 to 255. Received: float32 from -"),
        (
            {"input_type": "uint8", "calibration": abs(made_images(16))},
            "uint8 pixels from 0 to 255. Received: float32 from 0",
        ),
        ({"input_type": "uint8", "calibration": abs(made_images(16)).astype("uint8")}, "Received: uint8 from 0 to 0"),
        ({"input_type": "bytes"}, "input_type to be one of uint8, float32, scaled. Received: input_type='bytes'"),
        ({"calibration": made_images(16)[:, :5]}, r"shape \(8, 12, 3\). Received: \(5, 12, 3\)"),
        ({"in_float": ["neck"], "finer": ["tail"]}, "layers out of encoder/projection, .* Received: neck, tail"),
    ],
)
def test_bad_arguments_are_refused(smooth, change, words):
    arguments = {"mode": "int4", "calibration": made_images(16), **change}
    with pytest.raises(ValueError, match=words):
        quantized(smooth, **arguments)


def test_the_extra_is_named(smooth, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(ImportError, match='the extra "mobile": pip install ai-edge-quantizer'):
        quantized(smooth, "int4", made_images(16))
