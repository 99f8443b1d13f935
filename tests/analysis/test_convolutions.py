import keras
import numpy as np
import pytest

from keras_vit.analysis.convolutions import stage_maps, strongest_channels


def test_the_map_of_each_stage(hybrid, make):
    images = make.made_images(64, 96, 2)
    result = stage_maps(make.nested(hybrid, "functional"), 2 * images)
    assert {name: maps.shape for name, maps in result.items()} == {
        "stem": (2, 32, 48, 32),
        "stage1": (2, 16, 24, 128),
        "stage2": (2, 8, 12, 256),
    }
    last = keras.Model(hybrid.input, hybrid.get_layer("stage2_unit02").output)
    np.testing.assert_allclose(result["stage2"], last.predict(images, verbose=0), atol=1e-5)


def test_a_model_without_convolutions_is_refused(vit, images):
    with pytest.raises(ValueError, match="Expected a model with keras_vit's convolutions"):
        stage_maps(vit, images)


def test_the_channels_that_vary_most_come_first():
    maps = np.zeros((2, 3, 5, 4))
    maps[0, 0, 0] = 1, 9, 0, 4
    maps[1, 1, 1] = 7, 0, 8, 0
    maps[1, ..., 3] = 100  # the same everywhere
    result = strongest_channels(maps, 2)
    np.testing.assert_array_equal(result[0, 0, 0], [9, 4])
    np.testing.assert_array_equal(result[1, 1, 1], [8, 7])
