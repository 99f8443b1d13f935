"""Patches of another size, cut and embedded with the weights of a model as they are."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.patch_size import check_patch_sizes, patch_size_of

SHAPE = (24, 24, 3)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype("float32")


def built(**fields):
    keras.utils.set_random_seed(0)
    row = keras_vit.Variant(6, 8, 2, 2, 11, **fields)
    model = keras_vit.build(row, input_shape=SHAPE, classes=7, classifier_activation=None)
    draw = np.random.default_rng(1)
    model.set_weights([weight + draw.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model


def output(model):
    return keras.ops.convert_to_numpy(model(IMAGES))


@pytest.mark.parametrize("patch_size", [4, 6, 12])
@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_it_is_what_loading_with_that_patch_size_computes(tmp_path, pooling, patch_size):
    model = built(pooling=pooling)
    keras_vit.save_checkpoint(model, tmp_path / "model.npz")
    options = {"num_heads": 2, "classifier_activation": None, "pooling": pooling, "input_shape": SHAPE}
    loaded = keras_vit.load(tmp_path / "model.npz", patch_size=patch_size, **options)
    before = output(model)
    with patch_size_of(model, patch_size):
        inside = output(model)
    np.testing.assert_allclose(inside, output(loaded), atol=1e-5)
    np.testing.assert_array_equal(output(model), before)
    assert (np.abs(inside - before).max() > 1e-3) == (patch_size != 6)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"rotary": keras_vit.Rotary()}, "RotaryAttention"),
        ({"relative_bias": True}, "BiasAttention"),
        ({"positions": "sincos-2d"}, "Positions"),
        ({"attention_window": 2}, "WindowAttention"),
        ({}, r"patch_sizes=\(5, 6\)"),
    ],
)
def test_what_needs_its_own_grid_is_refused(fields, words):
    check_patch_sizes(built(), (4, 12))
    with pytest.raises(ValueError, match=words):
        check_patch_sizes(built(**fields), (5, 6))
