import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.data import crop


def noise(rows, columns):
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)


def windows(size, count=300):
    run = tf.function(lambda i: crop.inception_window(tf.constant(size), tf.stack([3, i])))
    drawn = np.stack([run(i) for i in tf.range(count, dtype=tf.int64)])
    np.testing.assert_array_equal(crop.inception_window(tf.constant(size), [3, 4]), drawn[4])
    return drawn


def test_an_inception_window_lies_inside_with_its_area_and_ratio_of_sides():
    rows, columns = 373, 499
    top, left, height, width = windows((rows, columns)).T
    assert top.min() >= 0 and left.min() >= 0 and (top + height).max() <= rows and (left + width).max() <= columns
    share, ratio = height * width / (rows * columns), width / height
    assert 0.05 * 0.97 <= share.min() < 0.1 and 0.8 < share.max() <= 1
    assert 0.75 * 0.98 <= ratio.min() < 0.8 and 1.25 < ratio.max() <= 1.33 * 1.02  # sides are whole pixels
    assert len(set(top)) > 50 and len(set(left)) > 50


def test_a_window_that_cannot_be_found_is_the_whole_image():
    np.testing.assert_array_equal(windows((3, 500), count=5), [[0, 0, 3, 500]] * 5)


def test_a_random_part_is_cut_from_an_image_a_little_larger():
    assert crop.size_before_crop((224, 384)) == (256, 448)
    assert crop.size_before_crop((70, 91)) == (80, 104)
    image = noise(9, 8)
    parts = [crop.random_window(tf.constant(image), (7, 5), (0, i)).numpy() for i in range(60)]
    whole = np.lib.stride_tricks.sliding_window_view(image, (7, 5, 3))[:, :, 0]  # (3, 4, 7, 5, 3)
    places = {tuple(map(tuple, np.argwhere((whole == part).all(axis=(2, 3, 4))))) for part in parts}
    assert len(places) == 12 and all(len(place) == 1 for place in places)


@pytest.mark.parametrize("name", crop.PROTOCOLS)
@pytest.mark.parametrize("size", [(37, 53), (53, 37), (20, 20), (8, 31), (23, 29)])
@pytest.mark.parametrize("image_size", [(23, 23), (23, 29), (29, 17)])
def test_every_protocol_gives_the_model_its_size(name, size, image_size):
    pixels = crop.PROTOCOLS[name](noise(*size), image_size)
    assert pixels.shape == (*image_size, 3) and pixels.dtype == np.uint8


def areas(old, new):
    """Returns (new, old) weights: how much of each old pixel a new one covers."""
    edges = np.arange(new + 1) * old / new
    low, high = edges[:-1, None], edges[1:, None]
    return np.clip(np.minimum(high, np.arange(old) + 1) - np.maximum(low, np.arange(old)), 0, None) * new / old


@pytest.mark.parametrize(
    "rows, columns, whole", [(400, 611, (256, 391)), (701, 520, (345, 256)), (300, 300, (256, 256))]
)
def test_big_vision_averages_areas_and_takes_the_middle(rows, columns, whole):
    image = noise(rows, columns)
    exact = np.einsum("ar,bc,rcd->abd", areas(rows, whole[0]), areas(columns, whole[1]), image / 1, optimize=True)
    top, left = (whole[0] - 224) // 2, (whole[1] - 224) // 2
    got = crop.PROTOCOLS["big_vision"](image, (224, 224))
    # Cut off to whole levels, as there, so up to one below; a level more where float32 falls just short of one.
    below = exact[top : top + 224, left : left + 224] - got
    assert below.min() > -0.01 and below.max() < 1.01


def test_big_vision_at_384_comes_from_448():
    halves = noise(448, 448).repeat(2, 0).repeat(2, 1)
    got = crop.PROTOCOLS["big_vision"](halves, (384, 384))
    np.testing.assert_array_equal(got, halves[64:-64:2, 64:-64:2])


@pytest.mark.parametrize(
    "rows, columns, side, whole, corner",
    [
        (400, 611, 224, (248, 378), (12, 77)),  # 248 * 611 / 400 = 378.8
        (701, 520, 224, (334, 248), (55, 12)),
        (401, 503, 384, (384, 481), (0, 48)),  # 48.5: to the even one
        (401, 506, 384, (384, 484), (0, 50)),
        (100, 100, 224, (248, 248), (12, 12)),
    ],
)
def test_timm_is_pillows_bicubic_and_the_middle(rows, columns, side, whole, corner):
    image = noise(rows, columns)
    exact = np.array(Image.fromarray(image).resize(whole[::-1], Image.Resampling.BICUBIC))
    exact = exact[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    np.testing.assert_array_equal(crop.PROTOCOLS["timm"](image, (side, side)), exact)


def test_bicubic_is_smoothed_where_it_makes_smaller():
    # Written out, not Pillow's: Keys' kernel with a = -0.5, as wide as the images are to one another.
    image = noise(91, 67)
    x = (np.arange(37) + 0.5) * 67 / 37 - 0.5
    distance = np.abs(x[:, None] - np.arange(67)) * 37 / 67
    near, far = 1.5 * distance**3 - 2.5 * distance**2 + 1, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    exact = np.einsum("bc,rcd->rbd", weights, image.astype(float)).clip(0, 255)
    got = np.array(Image.fromarray(image).resize((37, 91), Image.Resampling.BICUBIC))
    assert np.abs(got - exact).max() <= 1
