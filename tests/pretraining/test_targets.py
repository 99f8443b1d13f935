import keras
import numpy as np
import pytest

from keras_vit.preprocessing import Pixels, preprocess_input
from keras_vit.pretraining.targets import colours_of, mean_and_std, mean_colours, number_of_colours

CONTRACTS = {
    "official": Pixels(),
    "ImageNet's": Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}


def classes_in_numpy(pixels):
    """Returns the classes of (batch, patches, pixels of a patch, channels) whole grey levels."""
    means, classes = pixels.astype("float64").mean(axis=2), 0
    for channel in range(pixels.shape[-1]):
        classes = 8 * classes + np.floor(means[..., channel] / 32).astype(int)
    return classes


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_mean_colours_are_those_of_numpy(contract, channels):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 7, 9, channels))
    # Means near the ends of the range, and flat patches right on the edges of the bins, where rounding would tell.
    pixels[1] = rng.integers(200, 256, pixels[1].shape)
    pixels[2] = rng.integers(0, 60, pixels[2].shape)
    pixels[3:] = np.arange(2 * 7).reshape(2, 7, 1, 1) % 8 * 32
    expected = classes_in_numpy(pixels)
    assert expected.min() == 0 and expected.max() == 8**channels - 1
    rules = CONTRACTS[contract].for_channels(channels)
    patches = preprocess_input(pixels, rules).reshape(5, 7, 9 * channels)
    np.testing.assert_array_equal(mean_colours(patches, rules), expected)


@pytest.mark.parametrize("channels, number", [(1, 8), (3, 512)])
def test_the_colour_of_a_class_is_of_that_class(channels, number):
    assert number_of_colours(channels) == number
    classes = np.arange(number).reshape(1, -1)
    colours = keras.ops.convert_to_numpy(colours_of(keras.ops.convert_to_tensor(classes), channels))
    assert colours.shape == (1, number, channels) and colours.min() == 16 and colours.max() == 240
    rules = Pixels().for_channels(channels)
    np.testing.assert_array_equal(mean_colours(preprocess_input(colours, rules), rules), classes)


def test_more_channels_than_colours_can_be_told_of_are_refused():
    with pytest.raises(ValueError, match="1 to 4 channels.*Received: 5"):
        number_of_colours(5)


def test_mean_and_std_are_of_each_patch():
    patches = np.random.default_rng(0).normal(2, 3, (3, 5, 7)).astype("float32")
    patches[0, 0] = 0.25
    mean, std = (keras.ops.convert_to_numpy(some) for some in mean_and_std(patches))
    np.testing.assert_allclose(mean[..., 0], patches.mean(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(std[..., 0], np.sqrt(patches.var(axis=-1) + 1e-6), rtol=1e-4)
    assert mean.shape == std.shape == (3, 5, 1) and std[0, 0] == pytest.approx(1e-3, rel=1e-3)
