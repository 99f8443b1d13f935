import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.layers.positions import resize_positions

PLAIN = keras_vit.Variant(8, 32, 2, 4, 48)
HYBRID = keras_vit.Variant(1, 64, 2, 2, 96, stem=keras_vit.ResNet((1, 1), (128, 256)))


def filled(row, **arguments):
    """Builds a model without a weight at 0 or 1."""
    classes = 5 if arguments.get("include_top", True) else None
    model = keras_vit.build(row, classes=classes, **arguments)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.2, weight.shape) for weight in model.weights])
    return model


def weights(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


@pytest.mark.parametrize("mode", ["corner", "half_pixel", "antialias", "torch"])
@pytest.mark.parametrize("pooling, own", [("token", 1), ("gap", 0)])
def test_positions_are_resized_and_all_else_is_copied(mode, pooling, own):
    model = filled(PLAIN, input_shape=(24, 40, 3), pooling=pooling)
    resized = keras_vit.resize(model, (56, 16), mode)
    assert resized.input_shape == (None, 56, 16, 3)
    assert resized.get_layer("encoder").position_resize == mode
    before, after = weights(model), weights(resized)
    expected = resize_positions(before.pop("encoder/position_embedding"), (3, 5), (7, 2), mode)
    result = after.pop("encoder/position_embedding")
    assert result.shape == (1, 14 + own, 32)
    np.testing.assert_array_equal(result, expected)
    assert before.keys() == after.keys()
    for path, array in before.items():
        np.testing.assert_array_equal(array, after[path], err_msg=path)


def test_the_model_itself_stays_and_the_same_size_changes_nothing():
    model = filled(HYBRID, input_shape=(32, 48, 3))
    before = weights(model)
    keras_vit.resize(model, 65)
    for path, array in weights(model).items():
        np.testing.assert_array_equal(array, before[path])
    same = keras_vit.resize(model, (32, 48))
    assert same.get_layer("encoder").position_resize is None
    images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 48, 3))
    np.testing.assert_array_equal(same(images), model(images))


def test_a_hybrids_grid_is_that_of_its_map():
    resized = keras_vit.resize(filled(HYBRID, input_shape=(32, 48, 3)), (33, 79))
    assert resized.get_layer("encoder").position_embedding.shape == (1, 5 * 10 + 1, 64)


def test_a_bit_has_no_positions():
    model = filled(keras_vit.ResNet((1, 1), (128, 256)), input_shape=(32, 32, 3))
    resized = keras_vit.resize(model, (39, 50))
    assert resized.input_shape == (None, 39, 50, 3)
    for ours, theirs in zip(model.weights, resized.weights):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_composed_around_layers_of_keras_vit():
    inner = filled(PLAIN, input_shape=(16, 16, 3), include_top=False, pooling="token")
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(2.0), inner, keras.layers.Dense(3)])
    resized = keras_vit.resize(model, (32, 24))
    assert resized.input_shape == (None, 32, 24, 3) and resized.output_shape == (None, 3)
    table = resized.layers[1].get_layer("encoder").position_embedding
    np.testing.assert_array_equal(
        table, resize_positions(np.array(inner.get_layer("encoder").position_embedding), (2, 2), (4, 3))
    )
    np.testing.assert_array_equal(resized.layers[-1].kernel, model.layers[-1].kernel)


def test_pixels_and_class_names_are_kept(tmp_path):
    pixels = keras_vit.Pixels(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
    model = filled(PLAIN, input_shape=(16, 16, 3))
    model.pixels = pixels
    keras_vit.resize(model, 24, "torch").save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.pixels == pixels
    assert loaded.get_layer("encoder").position_resize == "torch"
    for arguments in ({}, {"classifier_activation": None}):
        again = keras_vit.load(tmp_path / "model.keras", **arguments)
        assert again.pixels == pixels
        assert again.get_layer("encoder").position_resize == "torch"


@pytest.mark.parametrize(
    "size, mode, words",
    [((17, 16), "corner", "multiples of the patch size"), (24, "cubic", "mode"), ((0, 16), "corner", "image_size")],
)
def test_sizes_and_modes_that_are_refused(size, mode, words):
    with pytest.raises(ValueError, match=words):
        keras_vit.resize(filled(PLAIN, input_shape=(16, 16, 3)), size, mode)


def test_a_model_without_our_layers_is_refused():
    with pytest.raises(ValueError, match="Expected a model with keras_vit's layers"):
        keras_vit.resize(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), 32)
