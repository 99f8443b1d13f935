import keras
import numpy as np
import pytest

from keras_vit.layers import GroupNorm, StdConv


def convolved(x, kernel, strides, before, after):
    """Returns a convolution, pixel by pixel, of images padded with zeros."""
    x = np.pad(x, ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)))
    height, width = kernel.shape[:2]
    return np.stack(
        [
            np.stack(
                [
                    np.einsum("bijc,ijcd->bd", x[:, i : i + height, j : j + width], kernel)
                    for j in range(0, x.shape[2] - width + 1, strides)
                ],
                axis=1,
            )
            for i in range(0, x.shape[1] - height + 1, strides)
        ],
        axis=1,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Of what a stride of 2 needs "same" pads one side less in front; a kernel of 3 on 12 pixels needs one, on 11 two.
@pytest.mark.parametrize(
    "padding, strides, before, after",
    [
        ("same", 1, (1, 1), (1, 1)),
        ("symmetric", 1, (1, 1), (1, 1)),
        ("same", 2, (1, 0), (1, 1)),
        ("symmetric", 2, (1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("epsilon, inside", [(0.3, False), (0.3, True), (1e-5, False)])
def test_convolves_with_a_standardized_kernel(rng, padding, strides, before, after, epsilon, inside):
    layer = StdConv(7, 3, strides, padding, epsilon, inside)
    x = rng.normal(size=(2, 11, 12, 5)).astype("float32")
    layer.build(x.shape)
    kernel = rng.normal(0.5, 2, (3, 3, 5, 7)).astype("float32")
    layer.kernel.assign(kernel)
    mean, std = kernel.mean((0, 1, 2)), kernel.std((0, 1, 2))
    standardized = (kernel - mean) / (np.sqrt(std**2 + epsilon) if inside else std + epsilon)
    np.testing.assert_allclose(layer(x), convolved(x, standardized, strides, before, after), atol=2e-5)


def test_a_kernel_is_as_good_scaled_and_shifted(rng):
    layer = StdConv(7, 3)
    x = rng.normal(size=(1, 5, 5, 3)).astype("float32")
    before = np.array(layer(x))
    layer.kernel.assign(layer.kernel * 10 + 3)
    np.testing.assert_allclose(layer(x), before, rtol=1e-2, atol=1e-3)


def test_one_by_one_with_a_stride_reads_every_second_pixel(rng):
    x = rng.normal(size=(1, 5, 7, 3)).astype("float32")
    full, strided = StdConv(4, 1), StdConv(4, 1, 2, "symmetric")
    full.build(x.shape)
    strided.build(x.shape)
    strided.kernel.assign(full.kernel)
    np.testing.assert_allclose(strided(x), np.array(full(x))[:, ::2, ::2], atol=1e-6)


def test_there_is_no_bias():
    layer = StdConv(4, 3)
    layer.build((None, 5, 5, 3))
    assert [weight.path.split("/")[-1] for weight in layer.weights] == ["kernel"]


def test_unknown_padding():
    with pytest.raises(ValueError, match="padding='valid'"):
        StdConv(4, 3, padding="valid")


@pytest.mark.parametrize("channels, group", [(32, 1), (96, 3)])
def test_normalizes_over_pixels_and_a_group_of_channels(rng, channels, group):
    x = (rng.normal(size=(2, 5, 7, channels)) * 3 + rng.normal(size=channels) * 50).astype("float32")
    layer = GroupNorm(1e-3)
    layer.build(x.shape)
    gamma, beta = rng.normal(size=(2, channels)).astype("float32")
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    groups = x.astype("float64").reshape(2, 35, 32, group)
    mean, variance = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    expected = ((groups - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape) * gamma + beta
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)


def test_agrees_with_keras_own(rng):
    x = rng.normal(1, 2, (2, 5, 7, 64)).astype("float32")
    np.testing.assert_allclose(GroupNorm(1e-5)(x), keras.layers.GroupNormalization(32, epsilon=1e-5)(x), atol=1e-5)


@pytest.mark.parametrize("channels", [48, 16, None])
def test_channels_that_make_no_groups(channels):
    with pytest.raises(ValueError, match="Received: input_shape="):
        GroupNorm().build((None, 5, 5, channels))
