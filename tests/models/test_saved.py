"""Models saved whole: as .h5, and quantized by Keras."""

import keras
import numpy as np
import pytest

import keras_vit

RESNET = keras_vit.ResNet((1,), (128,), 32)
KINDS = {
    "vit": (keras_vit.Variant(8, 16, 2, 2, 24), {}),
    "gated": (keras_vit.Variant(8, 16, 1, 2, 24, register_tokens=2, layer_scale=0.1, swiglu=True), {}),
    "map": (keras_vit.Variant(8, 16, 1, 2, 24, pooling="map"), {"representation_size": 6}),
    "distilled": (keras_vit.Variant(8, 16, 1, 2, 24, pooling="token+distillation", distillation_token=True), {}),
    "hybrid": (keras_vit.Variant(1, 16, 1, 2, 24, stem=RESNET), {}),
    "bit": (RESNET, {}),
}
PIXELS = keras_vit.Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(3, 24, 24, 3)).astype("float32")


def built(kind):
    row, options = KINDS[kind]
    model = keras_vit.build(row, input_shape=(24, 24, 3), classes=5, **options)
    model.pixels = PIXELS
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(scale=0.1, size=weight.shape))
    return model


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images))  # not `predict`, which compiles each model anew


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_loads_from_h5_as_it_was_saved(kind, images, tmp_path):
    model, path = built(kind), tmp_path / "model.h5"
    model.save(path)
    expected = outputs(model, images)
    for load in (
        lambda: keras.saving.load_model(path, compile=False),
        lambda: keras.saving.load_model(path, {"VisionModel": keras_vit.VisionModel}, compile=False),
        lambda: keras_vit.load(path),
        lambda: keras_vit.load(path, input_shape=(24, 24, 3)),
        lambda: keras_vit.build(KINDS[kind][0], weights=path),
    ):
        loaded = load()
        np.testing.assert_array_equal(outputs(loaded, images), expected)
        assert loaded.pixels == PIXELS


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_model_loads_as_it_was_saved(kind, mode, images, tmp_path):
    model, path = built(kind), tmp_path / "model.keras"
    before = outputs(model, images)
    model.quantize(mode)
    expected = outputs(model, images)
    assert 0 < np.abs(expected - before).max() < 0.05
    for _ in range(2):  # what was loaded can be saved again
        model.save(path)
        model = keras.saving.load_model(path, compile=False)
        np.testing.assert_array_equal(outputs(model, images), expected)
    with pytest.raises(ValueError, match="end in .keras"):
        model.save(tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_the_quantization_configuration_is_kept(images, tmp_path):
    model, path = built("vit"), tmp_path / "model.keras"
    in_groups = keras.quantizers.Int4QuantizationConfig(block_size=8)
    model.quantize(config=in_groups, filters=lambda layer: layer.name == "hidden")
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
    block = loaded.get_layer("block_01")
    assert block.mlp.hidden.quantization_config.block_size == 8
    assert block.attention.query.quantization_mode is None
