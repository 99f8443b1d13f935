import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from keras_vit.data import randaugment as module
from keras_vit.data.randaugment import OPERATIONS, randaugment

ROWS, COLUMNS = 37, 53
NEGATIVE, POSITIVE = [0.2, 0.3, 0.6], [0.8, 0.3, 0.6]  # draws: the sign, and the place of the hole


def noise(rows=ROWS, columns=COLUMNS, seed=0, least=0, most=255):
    return np.random.default_rng(seed).integers(least, most + 1, (rows, columns, 3), np.uint8)


def smooth():
    """An image with few levels, more in one channel than in another."""
    waves = np.sin(np.arange(ROWS) / 6)[:, None, None] * np.cos(np.arange(COLUMNS) / 9)[:, None]
    return (90 + waves * [10, 40, 80]).astype(np.uint8)


IMAGES = {
    "noise": noise(),
    "narrow": noise(seed=1, least=70, most=131),
    "smooth": smooth(),
    "one level": np.full((ROWS, COLUMNS, 3), [0, 90, 255], np.uint8),
    "two levels": np.where(noise() < 60, 17, 201).astype(np.uint8),
}


@pytest.fixture(params=IMAGES)
def image(request):
    return IMAGES[request.param]


@functools.cache
def graph(name, magnitude):
    """An operation in a graph that knows no size."""
    signature = [tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((3,))]
    return tf.function(lambda *inputs: OPERATIONS[name](inputs[0], magnitude / 10, inputs[1]), signature)


def act(name, image, magnitude, draws=POSITIVE):
    """Runs an operation eagerly and in a graph, and checks that both agree."""
    eager = OPERATIONS[name](tf.constant(image), magnitude / 10, tf.constant(draws)).numpy()
    np.testing.assert_array_equal(graph(name, magnitude)(image, draws), eager)
    assert eager.dtype == np.uint8
    return eager


def pillow(image, change, *arguments):
    return np.asarray(change(Image.fromarray(image), *arguments))


def factor(magnitude):
    return magnitude / 10 * 1.8 + 0.1


def test_equalize_is_pillows(image):
    np.testing.assert_array_equal(act("Equalize", image, 15), pillow(image, ImageOps.equalize))


def test_invert_is_pillows(image):
    np.testing.assert_array_equal(act("Invert", image, 15), pillow(image, ImageOps.invert))


@pytest.mark.parametrize("magnitude", [0, 5, 10, 15, 20, 30])
@pytest.mark.parametrize("name", ["Color", "Brightness"])
def test_blends_are_pillows(name, magnitude, image):
    enhancer = getattr(ImageEnhance, name)(Image.fromarray(image))
    np.testing.assert_array_equal(act(name, image, magnitude), enhancer.enhance(factor(magnitude)))


@pytest.mark.parametrize("rows, columns, grey", [(ROWS, COLUMNS, 7), (224, 224, 196), (257, 263, 255)])
@pytest.mark.parametrize("magnitude", [0, 5, 10, 20])
def test_contrast_is_about_a_grey_that_is_the_images_size(magnitude, rows, columns, grey):
    image = noise(rows, columns)
    flat = Image.new("RGB", (columns, rows), (grey,) * 3)
    expected = pillow(image, lambda image: Image.blend(flat, image, factor(magnitude)))
    np.testing.assert_array_equal(act("Contrast", image, magnitude), expected)


def test_autocontrast_stretches_each_channel(image):
    got = act("AutoContrast", image, 15)
    for channel in range(3):
        values = image[..., channel].astype(int)
        least, most = values.min(), values.max()
        expected = values if most == least else 255 * (values - least) // (most - least)
        np.testing.assert_array_equal(got[..., channel], expected)
    assert np.abs(got.astype(int) - pillow(image, ImageOps.autocontrast)).max() <= 1  # Pillow cuts off 254.99…


@pytest.mark.parametrize("magnitude", [0, 5, 15, 30])
def test_sharpness_leaves_the_edge(magnitude, image):
    smoothed = image.astype(int)
    inner = 4 * smoothed[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            inner = inner + image[row : ROWS - 2 + row, column : COLUMNS - 2 + column]
    smoothed[1:-1, 1:-1] = inner // 13
    blended = Image.blend(Image.fromarray(smoothed.astype(np.uint8)), Image.fromarray(image), factor(magnitude))
    got = act("Sharpness", image, magnitude)
    np.testing.assert_array_equal(got, blended)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        np.testing.assert_array_equal(got[edge], image[edge])


@pytest.mark.parametrize("magnitude, bits", [(0, 1), (2, 1), (5, 2), (10, 4), (15, 6), (19, 7), (20, 8), (23, 1)])
def test_posterize_keeps_the_highest_bits(magnitude, bits):
    image = IMAGES["noise"]
    np.testing.assert_array_equal(act("Posterize", image, magnitude), pillow(image, ImageOps.posterize, bits))


@pytest.mark.parametrize("magnitude, threshold", [(0, 0), (5, 128), (9, 230), (10, 0), (15, 128), (20, 0), (25, 128)])
def test_solarize_begins_again_at_256(magnitude, threshold):
    image = IMAGES["noise"]
    np.testing.assert_array_equal(act("Solarize", image, magnitude), pillow(image, ImageOps.solarize, threshold))


@pytest.mark.parametrize("magnitude, added", [(0, 0), (7, 77), (10, 110), (15, 165), (30, 330)])
def test_solarize_add_lightens_what_is_dark(magnitude, added):
    image = IMAGES["noise"].astype(int)
    expected = np.where(image < 128, np.minimum(image + added, 255), image)
    np.testing.assert_array_equal(act("SolarizeAdd", IMAGES["noise"], magnitude), expected)


def transformed(image, a, b, c, d, e, f):
    """TensorFlow's own resampling, which big_vision goes through: nearest pixel, grey from outside."""
    image = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=[[a, b, c, d, e, f, 0.0, 0.0]],
        output_shape=image.shape[:2],
        fill_value=128.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    return image[0].numpy()


def rotation(angle):
    """As TensorFlow Addons makes it."""
    right, bottom, cos, sin = COLUMNS - 1, ROWS - 1, np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return (
        (cos, -sin, (right - (cos * right - sin * bottom)) / 2)  # of the column
        + (sin, cos, (bottom - (sin * right + cos * bottom)) / 2)  # of the row
    )


MATRICES = {
    "Rotate": lambda level: rotation(30 * level),
    "ShearX": lambda level: (1, 0.3 * level, 0, 0, 1, 0),
    "ShearY": lambda level: (1, 0, 0, 0.3 * level, 1, 0),
    "TranslateX": lambda level: (1, 0, 100 * level * SHARE, 0, 1, 0),
    "TranslateY": lambda level: (1, 0, 0, 0, 1, 100 * level * SHARE),
}
SHARE = min(ROWS, COLUMNS) / 224  # lengths in pixels are those of 224, or as much less


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("magnitude", [0, 1, 3, 13, 19])  # at none does a pixel fall half-way between two
@pytest.mark.parametrize("name", MATRICES)
def test_movements_are_tensorflows(name, magnitude, sign):
    image = IMAGES["noise"]
    got = act(name, image, magnitude, NEGATIVE if sign < 0 else POSITIVE)
    expected = transformed(image, *map(float, MATRICES[name](sign * magnitude / 10)))
    np.testing.assert_array_equal(got, expected)
    assert (magnitude == 0) == (got == image).all()


@pytest.mark.parametrize("magnitude", [0, 1, 3, 10, 30])
@pytest.mark.parametrize("place", [(0.0, 0.0), (0.3, 0.6), (0.99, 0.01), (0.9999999, 0.9999999)])
def test_the_hole_is_about_a_pixel_and_cut_off_at_the_edge(place, magnitude):
    expected, half = IMAGES["noise"].copy(), int(4 * magnitude * SHARE)
    row, column = int(place[0] * ROWS), int(place[1] * COLUMNS)
    expected[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 128
    np.testing.assert_array_equal(act("Cutout", IMAGES["noise"], magnitude, [0.5, *place]), expected)


def test_from_224_pixels_on_lengths_are_the_published_ones():
    image = np.full((227, 251, 3), 7, np.uint8)
    moved = act("TranslateY", image, 10, POSITIVE)
    assert (moved[:127] == 7).all() and (moved[127:] == 128).all()
    assert (act("Cutout", image, 10, [0.5, 0.5, 0.5]) == 128).all(axis=2).sum() == 80 * 80


@pytest.mark.parametrize("magnitude", range(31))
def test_every_magnitude_runs(magnitude):
    image = noise(5, 7)
    for name, operation in OPERATIONS.items():
        got = operation(tf.constant(image), magnitude / 10, tf.constant(POSITIVE))
        assert got.shape == image.shape and got.dtype == tf.uint8, name


def in_data(image, layers, magnitude, count):
    """The images of seeds (7, 0), (7, 1) … as tf.data makes them, several at once."""
    seeds = tf.data.Dataset.range(count).map(lambda i: tf.stack([tf.constant(7, tf.int64), i]))
    data = seeds.map(lambda seed: randaugment(image, layers, magnitude, seed), num_parallel_calls=4)
    return np.stack(list(data.as_numpy_iterator()))


def test_each_operation_is_drawn_both_signs_too_and_tf_data_agrees():
    count, image, seen, expected = 96, tf.constant(noise(13, 17)), set(), []
    for seed in range(count):
        first, second = tf.random.stateless_uniform((2, 4), [7, seed]).numpy()
        result = image
        for draws in (first, second):
            name = list(OPERATIONS)[int(draws[0] * 16)]
            seen.add((name, draws[1] < 0.5))
            result = OPERATIONS[name](result, 1.5, tf.constant(draws[1:]))
        expected.append(result)
    assert seen == {(name, negative) for name in OPERATIONS for negative in (False, True)}
    np.testing.assert_array_equal(in_data(image, 2, 15, count), np.stack(expected))
    for seed in range(8):
        eager = randaugment(image, 2, 15, tf.constant([7, seed], tf.int64))
        np.testing.assert_array_equal(eager, expected[seed])


def test_operations_are_drawn_with_equal_chance(monkeypatch):
    def paint(number):
        return lambda image, level, draws: image * 0 + number

    monkeypatch.setattr(module, "OPERATIONS", {str(n): paint(tf.constant(n, tf.uint8)) for n in range(16)})
    drawn = np.bincount(in_data(tf.zeros((3, 3, 3), tf.uint8), 1, 10, 3200)[:, 0, 0, 0], minlength=16)
    assert np.abs(drawn - 200).max() < 4 * np.sqrt(200)


def test_magnitude_0_is_not_nothing():
    image = noise(13, 17)
    changed = (in_data(tf.constant(image), 2, 0, 64) != image).any(axis=(1, 2, 3))
    assert 32 < changed.sum() < 64  # movements, the hole and the adding do nothing then


def test_a_size_that_is_not_known_beforehand():
    run = tf.function(lambda image: randaugment(image, 2, 15, [1, 2]))
    unknown = run.get_concrete_function(tf.TensorSpec((None, None, 3), tf.uint8))
    for image in (noise(11, 13), noise(3, 5)):
        np.testing.assert_array_equal(unknown(tf.constant(image)), randaugment(image, 2, 15, [1, 2]))


@pytest.mark.parametrize(
    "settings, error, said",
    [
        ({"layers": 0}, ValueError, "layers=0"),
        ({"layers": 2.0}, TypeError, "layers=2.0"),
        ({"layers": True}, TypeError, "layers=True"),
        ({"magnitude": 31}, ValueError, "magnitude=31"),
        ({"magnitude": -1}, ValueError, "magnitude=-1"),
        ({"magnitude": 0.5}, TypeError, "magnitude=0.5"),
        ({"image": np.zeros((5, 7, 3), np.float32)}, TypeError, "image.dtype=<dtype: 'float32'>"),
        ({"image": np.zeros((5, 7), np.uint8)}, ValueError, r"image.shape=\(5, 7\)"),
        ({"image": np.zeros((1, 5, 7, 3), np.uint8)}, ValueError, r"image.shape=\(1, 5, 7, 3\)"),
        ({"image": np.zeros((2, 7, 3), np.uint8)}, ValueError, "sides of 3 pixels or more"),
    ],
)
def test_what_is_refused(settings, error, said):
    settings = {"image": noise(5, 7), "layers": 2, "magnitude": 15, "seed": [0, 0], **settings}
    with pytest.raises(error, match=said):
        randaugment(**settings)
