import io

import numpy as np
import pytest
from PIL import Image

from keras_vit.evaluation.corruptions import CORRUPTIONS, MEDIAN_WINDOWS, corrupt, remove_texture, smear

RANDOM = {"gaussian noise", "shot noise", "impulse noise", "glass blur", "motion blur", "snow", "fog"}
RANDOM |= {"elastic transform"}


def scene(rows, columns):
    """A smooth image with an edge and something dark."""
    down, right = np.mgrid[:rows, :columns] / max(rows, columns)
    planes = [60 + 100 * down, 200 - 120 * right, 90 + 60 * np.sin(9 * (down + right))]
    image = np.stack(planes, axis=2).astype(np.uint8)
    image[rows // 3 : rows // 2, columns // 4 :] //= 3
    return image


def at(image, name, severity, seed=0):
    return corrupt(image, name, severity, np.random.default_rng(seed)).astype(float)


def flat(value, side=224):
    return np.full((side, side, 3), value, np.uint8)


def dot(side=224):
    image = flat(0, side)
    image[side // 2, side // 2] = 255
    return image


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_on_images_of_any_shape(name):
    for shape in ((31, 23), (7, 11), (37, 64)):
        image = scene(*shape)
        before = image.copy()
        for severity in range(1, 6):
            result = corrupt(image, name, severity, np.random.default_rng(5))
            assert result.dtype == np.uint8 and result.shape == image.shape
            again = corrupt(image, name, severity, np.random.default_rng(5))
            np.testing.assert_array_equal(result, again)
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_grow_and_seeds_differ(name):
    image = scene(224, 230)
    change = [np.abs(at(image, name, severity) - image).mean() for severity in (1, 5)]
    if name == "elastic transform":  # the first two bend the whole image, and so change more
        change = [np.abs(at(image, name, severity) - image).mean() for severity in (3, 5)]
    assert 0.2 < change[0] < change[1]
    assert (at(image, name, 3, seed=1) != at(image, name, 3)).any() == (name in RANDOM)


def test_the_table_has_five_severities_of_each():
    assert len(CORRUPTIONS) == 14
    assert {len(settings) for _, settings in CORRUPTIONS.values()} == {5}


def test_noise_has_the_published_strength():
    grey = flat(128)
    assert at(grey, "gaussian noise", 1).std() == pytest.approx(0.08 * 255, rel=0.01)
    assert at(grey, "shot noise", 1).std() == pytest.approx(np.sqrt(128 / 255 / 60) * 255, rel=0.01)
    result = at(grey, "impulse noise", 4)
    assert [np.mean(result == value) for value in (0, 255)] == pytest.approx([0.17 / 2] * 2, abs=0.002)
    assert np.mean(result == 128) == pytest.approx(1 - 0.17, abs=0.003)
    assert at(flat(0), "shot noise", 5).max() == 0


@pytest.mark.parametrize("severity, radius, pixels", [(1, 3, 29), (4, 8, 197)])
def test_defocus_makes_a_dot_a_disc(severity, radius, pixels):
    change, settings = CORRUPTIONS["defocus blur"]
    disc = change(dot() / np.float32(255), None, 1, *settings[severity - 1])[..., 0]
    rows, columns = np.nonzero(disc > disc.max() / 4)
    assert np.ptp(rows) == np.ptp(columns) == 2 * radius
    assert disc.sum() == pytest.approx(1, abs=1e-5)
    assert disc[112, 112] == pytest.approx(1 / pixels, rel=0.03)  # so many lie within the radius


def test_lengths_go_with_the_side():
    """At half the side a dot spreads half as far."""
    change, settings = CORRUPTIONS["defocus blur"]
    for side in (224, 112):
        disc = change(dot(side) / np.float32(255), None, side / 224, *settings[3])[..., 0]
        assert np.ptp(np.nonzero(disc > disc.max() / 4)[0]) == 16 * side / 224


def test_a_smear_by_hand():
    line = np.zeros((9, 11))
    line[4, 5] = 1
    weights = np.exp(-0.5 * (np.arange(5) / 2) ** 2)
    result = smear(line, 2, 2.0, 0)
    np.testing.assert_allclose(result[4, 1:6], (weights / weights.sum())[::-1])
    assert np.count_nonzero(result) == 5
    np.testing.assert_allclose(smear(line, 2, 2.0, 90)[:, 5][:5], (weights / weights.sum())[::-1])
    np.testing.assert_allclose(smear(np.ones((4, 3, 2)), 6, 3.0, 30), 1)


def test_glass_moves_pixels_and_makes_none():
    """Without the smoothing it is a permutation."""
    change, _ = CORRUPTIONS["glass blur"]
    image = np.arange(41 * 53, dtype=np.float64).reshape(41, 53, 1)
    result = change(image.copy(), np.random.default_rng(0), 1, 1e-9, 2, 1)
    np.testing.assert_array_equal(np.sort(result, axis=None), np.sort(image, axis=None))
    from_row, from_column = np.divmod(result[..., 0], 53)
    down, right = np.abs(from_row - np.arange(41)[:, None]), np.abs(from_column - np.arange(53))
    assert np.median(np.maximum(down, right)) in (1, 2, 3)
    assert np.mean(result == image) < 0.1


def test_zoom_leaves_the_middle_and_what_is_even():
    np.testing.assert_allclose(at(flat(77), "zoom blur", 5), 77, atol=1)
    result = at(dot(225), "zoom blur", 3)[..., 0]
    assert result.argmax() == 112 * 225 + 112


def test_brightness_keeps_hue_and_saturation():
    image = np.array([[[100, 50, 20], [0, 0, 0], [250, 125, 0]]], np.uint8)
    result = at(image, "brightness", 2)
    np.testing.assert_allclose(result, [[[151, 75.5, 30.2], [51, 51, 51], [255, 127.5, 0]]], atol=0.6)


def test_contrast_by_hand():
    image = np.array([[[0, 100, 7], [200, 100, 7]]], np.uint8)
    np.testing.assert_array_equal(at(image, "contrast", 1), [[[60, 100, 7], [140, 100, 7]]])


def test_fog_keeps_the_range_and_snow_only_whitens():
    image = scene(100, 140)
    assert at(image, "fog", 5).max() <= image.max()
    assert at(flat(0), "fog", 5).max() == 0
    assert (at(image, "snow", 5) >= image - 1).all()


def test_elastic_displacements_go_with_the_side():
    """An image that tells its own places is bent by the same parts of its side at half the size."""
    bent = []
    for side in (224, 112):
        place = np.mgrid[:side, :side].astype(np.float64)
        change, settings = CORRUPTIONS["elastic transform"]
        result = change(np.stack([*place, place[0]], 2), np.random.default_rng(0), side / 224, *settings[4])[..., :2]
        inside = (result - place.transpose(1, 2, 0))[side // 4 : -side // 4, side // 4 : -side // 4]
        bent.append((inside - inside.mean(axis=(0, 1))).std() / side)
    assert bent[0] * 224 == pytest.approx(2.6, rel=0.2)
    assert bent[1] == pytest.approx(bent[0], rel=0.3)


def test_pixelate_makes_blocks():
    result = at(scene(224, 224), "pixelate", 5)
    blocks = result.reshape(56, 4, 56, 4, 3)
    assert np.ptp(blocks, axis=(1, 3)).max() == 0
    np.testing.assert_allclose(blocks[:, 0, :, 0], scene(224, 224).reshape(56, 4, 56, 4, 3).mean(axis=(1, 3)), atol=1)


def test_jpeg_is_a_jpeg_file():
    image, file = scene(40, 56), io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=7)
    np.testing.assert_array_equal(at(image, "jpeg compression", 5), np.asarray(Image.open(file)))


def test_texture_goes_and_edges_stay():
    image = flat(60)
    image[:, 100:] = 200
    even = image.copy()
    image[::2, ::2] += 30
    for severity, window in enumerate(MEDIAN_WINDOWS, 1):
        result = remove_texture(image, severity)
        np.testing.assert_array_equal(result > 130, image > 130)
        away = [*range(100 - window // 2), *range(100 + window // 2, 224)]
        np.testing.assert_array_equal(result[:, away], even[:, away])
        wide = flat(0)
        wide[:, 50 : 50 + window // 2] = 255
        wide[:, 150 : 150 + window // 2 + 1] = 255
        result = remove_texture(wide, severity)[112, :, 0]
        assert not result[:100].any() and result[100:].sum() == 255 * (window // 2 + 1)


def test_the_window_goes_with_the_side():
    image = flat(0, 448)
    image[:, 100:106] = image[:, 300:307] = 255
    result = remove_texture(image, 3)[224, :, 0]  # 13 pixels where it is 7 at half the side
    assert not result[:200].any() and result[200:].sum() == 255 * 7


@pytest.mark.parametrize(
    "change, received",
    [({"name": "frost"}, "frost"), ({"severity": 6}, "severity=6"), ({"image": np.zeros((8, 8, 3))}, "float64")],
)
def test_arguments_out_of_range_are_refused(change, received):
    arguments = {"image": np.zeros((8, 8, 3), np.uint8), "name": "fog", "severity": 1, **change}
    with pytest.raises(ValueError, match=received):
        corrupt(generator=np.random.default_rng(0), **arguments)
