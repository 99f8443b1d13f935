import numpy as np
import pytest

from keras_vit.weights.channels import CHANNELS, adapt_channels

KERNEL = np.random.default_rng(0).standard_normal((5, 7, 3, 11)).astype(np.float32)
RED, GREEN, BLUE = np.moveaxis(KERNEL, 2, 0)


def stacked(*channels):
    return np.stack([np.zeros_like(RED) if channel is None else channel for channel in channels], axis=2)


@pytest.mark.parametrize(
    "how, channels, expected",
    [
        ("average", 1, stacked(RED + GREEN + BLUE)),
        ("average", 2, stacked(*[(RED + GREEN + BLUE) / 2] * 2)),
        ("average", 13, stacked(*[(RED + GREEN + BLUE) / 13] * 13)),
        ("repeat", 1, stacked(RED * 3)),
        ("repeat", 2, stacked(RED, GREEN) * 3 / 2),
        ("repeat", 7, stacked(RED, GREEN, BLUE, RED, GREEN, BLUE, RED) * 3 / 7),
        ("slice", 1, stacked(RED)),
        ("slice", 2, stacked(RED, GREEN)),
        ("slice", 5, stacked(RED, GREEN, BLUE, None, None)),
    ],
)
def test_other_channels(how, channels, expected):
    adapted = adapt_channels(KERNEL, channels, how)
    assert adapted.dtype == np.float32
    np.testing.assert_allclose(adapted, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", CHANNELS)
def test_as_many_channels_change_nothing(how):
    np.testing.assert_array_equal(adapt_channels(KERNEL, 3, how), KERNEL)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_average_keeps_the_response_to_a_grey_image(channels):
    grey = np.random.default_rng(1).standard_normal((5, 7, 1)).astype(np.float32)
    response = np.einsum("rck,rckd->d", np.repeat(grey, channels, 2), adapt_channels(KERNEL, channels, "average"))
    np.testing.assert_allclose(response, np.einsum("rck,rckd->d", np.repeat(grey, 3, 2), KERNEL), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kernel, channels, how, received",
    [
        (KERNEL, 2, "nearest", "how='nearest'"),
        (KERNEL, 0, "slice", "channels=0"),
        (KERNEL[0], 2, "slice", r"\(7, 3, 11\)"),
    ],
)
def test_what_cannot_be(kernel, channels, how, received):
    with pytest.raises(ValueError, match=f"Expected.*Received.*{received}"):
        adapt_channels(kernel, channels, how)
