import keras
import numpy as np
import pytest

import keras_vit

HYBRID = keras_vit.Variant(2, 64, 2, 2, 96, stem=keras_vit.ResNet((1, 2), (128, 256)))
BIT = keras_vit.ResNet((1, 1, 1), (128, 256, 384))
PLAIN = keras_vit.Variant(8, 32, 3, 4, 48)


def filled(row, **arguments):
    """Builds a model without a weight at 0 or 1."""
    model = keras_vit.build(row, classes=5, **arguments)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.2, weight.shape) for weight in model.weights])
    return model


@pytest.mark.parametrize(
    "row, names, shapes",
    [
        (HYBRID, ["stem", "stage1", "stage2"], [(33, 24, 64), (17, 12, 128), (9, 6, 256)]),
        (HYBRID, ["norm", "block_00"], [(4, 3, 64), (4, 3, 64)]),
        (BIT, ["stem", "stage1", "stage3", "norm"], [(33, 24, 64), (17, 12, 128), (5, 3, 384), (5, 3, 384)]),
    ],
)
def test_maps_and_their_strides(row, names, shapes):
    model = keras_vit.features(filled(row, input_shape=(66, 48, 3)), names)
    assert [shape[1:] for shape in model.output_shape] == shapes
    assert [output.shape[1:] for output in model(np.zeros((2, 66, 48, 3)))] == shapes


@pytest.mark.parametrize("pooling, extra", [("token", 1), ("gap", 0)])
def test_tokens_lie_as_their_patches_did(pooling, extra):
    model = filled(PLAIN, input_shape=(24, 40, 3), pooling=pooling)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 24, 40, 3))
    result = keras.ops.convert_to_numpy(keras_vit.features(model, "block_01")(images))
    tokens = keras.ops.convert_to_numpy(keras.Model(model.input, model.get_layer("block_01").output)(images))
    assert result.shape == (2, 3, 5, 32)
    for row in range(3):
        for column in range(5):
            np.testing.assert_array_equal(result[:, row, column], tokens[:, extra + row * 5 + column])


def test_the_tokens_in_front_are_left_away_also_where_there_are_two():
    row = keras_vit.Variant(8, 32, 1, 4, 48, distillation_token=True)
    model = filled(row, input_shape=(16, 24, 3))
    images = np.random.default_rng(1).uniform(-1, 1, (2, 16, 24, 3))
    result = keras.ops.convert_to_numpy(keras_vit.features(model, "norm")(images))
    tokens = keras.ops.convert_to_numpy(keras.Model(model.input, model.get_layer("norm").output)(images))
    assert tokens.shape[1] == 8
    np.testing.assert_array_equal(result.reshape(2, 6, 32), tokens[:, 2:])


def test_the_weights_are_the_models_own():
    model = filled(PLAIN, input_shape=(16, 16, 3))
    maps = keras_vit.features(model, "block_02")
    images = np.ones((1, 16, 16, 3))
    before = keras.ops.convert_to_numpy(maps(images))
    model.get_layer("block_00").mlp.hidden.kernel.assign(model.get_layer("block_00").mlp.hidden.kernel * 2)
    assert np.abs(keras.ops.convert_to_numpy(maps(images)) - before).max() > 1e-3


def test_of_a_model_inside_another_and_saved(tmp_path):
    inner = filled(HYBRID, input_shape=(32, 32, 3))
    outer = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(2.0), inner, keras.layers.Dense(3)])
    maps = keras_vit.features(outer, ["stage1", "block_01"])
    maps.save(tmp_path / "maps.keras")
    images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3))
    for ours, theirs in zip(maps(images), keras.saving.load_model(tmp_path / "maps.keras")(images)):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_unknown_names_are_refused_together_and_the_nearest_is_named():
    with pytest.raises(ValueError, match=r"stem, stage1, stage2, block_00, block_01, norm.*\['stage3', 'head'\]"):
        keras_vit.features(filled(HYBRID, input_shape=(32, 32, 3)), ["stage1", "stage3", "head"])
    with pytest.raises(ValueError, match=r"Received: \[\]"):
        keras_vit.features(filled(PLAIN, input_shape=(16, 16, 3)), [])


def test_a_model_without_our_layers_is_refused():
    with pytest.raises(ValueError, match="Expected a model with keras_vit's layers"):
        keras_vit.features(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), "norm")
