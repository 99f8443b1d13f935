import numpy as np
import pytest

from keras_vit.evaluation.brightness import measure_brightness


def squares(background, foreground, count=10, height=16, width=24):
    images = np.full((count, height, width, 3), background, np.uint8)
    images[:, height // 4 : -(height // 4), width // 4 : -(width // 4)] = foreground
    return images


def test_a_bright_square_on_a_dark_page():
    measured = measure_brightness(squares(51, 204))
    assert measured.images == 10
    assert (measured.border, measured.centre) == (pytest.approx(0.2), pytest.approx(0.8))
    assert measured.mean == pytest.approx(0.2 + 0.6 / 4)  # a quarter of the area
    assert (measured.darker_border, measured.brighter_border) == (1.0, 0.0)
    assert measured.polarity == "bright on dark"
    inverted = measure_brightness(255 - squares(51, 204))
    assert inverted.polarity == "dark on bright" and inverted.border == pytest.approx(0.8)


def test_images_without_a_common_polarity():
    mixed = np.concatenate([squares(20, 200, 7), squares(200, 20, 3)])
    measured = measure_brightness(mixed)
    assert (measured.darker_border, measured.polarity) == (0.7, None)
    assert measure_brightness(squares(100, 110)).polarity is None  # a contrast of 4 %
    grey = measure_brightness(squares(100, 100))
    assert (grey.darker_border, grey.brighter_border, grey.polarity) == (0.0, 0.0, None)


def test_the_border_is_an_eighth_on_each_side():
    images = np.zeros((1, 16, 24, 3), np.uint8)
    images[:, :2] = images[:, -2:] = images[:, :, :3] = images[:, :, -3:] = 255
    measured = measure_brightness(images)
    assert (measured.border, measured.centre) == (1.0, 0.0)


@pytest.mark.parametrize(
    "images", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.float32)]
)
def test_other_arrays_are_refused(images):
    with pytest.raises(ValueError, match=r"Received: shape=.*dtype="):
        measure_brightness(images)
