import keras
import numpy as np
import pytest

from keras_vit.layers import PatchEncoder, Patches

P, GRID, CHANNELS, WIDTH = 3, (5, 7), 2, 11


def numbered():
    """Two images whose every number is another."""
    shape = (2, GRID[0] * P, GRID[1] * P, CHANNELS)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_patches_are_cut_row_by_row_and_flattened_pixel_by_pixel():
    images = numbered()
    patches = np.asarray(Patches(P)(images))
    assert patches.shape == (2, 35, P * P * CHANNELS)
    for image in range(2):
        for row in range(GRID[0]):
            for column in range(GRID[1]):
                cut = images[image, row * P : (row + 1) * P, column * P : (column + 1) * P]
                np.testing.assert_array_equal(patches[image, row * GRID[1] + column], cut.ravel())


@pytest.mark.parametrize("shape", [(15, 20, 2), (16, 21, 2), (2, 21, 2)])
def test_a_size_that_does_not_fit_the_patches_raises(shape):
    with pytest.raises(ValueError, match=rf"multiples of the patch size, 3 pixels.*{shape[0]}, {shape[1]}"):
        Patches(P)(np.zeros((1, *shape), np.float32))


def test_an_open_number_of_patches_raises():
    with pytest.raises(ValueError, match="known number of patches"):
        PatchEncoder(WIDTH)(keras.KerasTensor((None, None, 18)))


@pytest.mark.parametrize("class_token", [True, False])
def test_encoding_is_the_convolution_of_the_paper_then_token_and_positions(class_token):
    rng = np.random.default_rng(0)
    images = rng.normal(size=numbered().shape).astype(np.float32)
    patches, encoder = Patches(P)(images), PatchEncoder(WIDTH, class_token)
    encoder.build(patches.shape)
    encoder.set_weights([rng.normal(size=weight.shape) for weight in encoder.weights])
    kernel = keras.ops.reshape(encoder.projection.kernel, (P, P, CHANNELS, WIDTH))
    convolved = keras.ops.conv(images, kernel, strides=P, padding="valid", data_format="channels_last")
    tokens = np.asarray(convolved).reshape(2, 35, WIDTH) + np.asarray(encoder.projection.bias)
    if class_token:
        own = np.broadcast_to(np.asarray(encoder.class_token), (2, 1, WIDTH))
        tokens = np.concatenate([own, tokens], axis=1)
    expected = tokens + np.asarray(encoder.position_embedding)
    np.testing.assert_allclose(encoder(patches), expected, atol=1e-5)


def test_dropout_follows_the_positions():
    keras.utils.set_random_seed(0)
    encoder = PatchEncoder(WIDTH, dropout=0.25)
    patches = keras.random.normal((2, 35, 18))
    kept = np.asarray(encoder(patches, training=False))
    dropped = np.asarray(encoder(patches, training=True))
    zero = dropped == 0
    assert 0.15 < zero.mean() < 0.35
    assert zero[:, 0].any()  # the class token's too
    np.testing.assert_allclose(dropped[~zero], kept[~zero] / 0.75, rtol=1e-5)
