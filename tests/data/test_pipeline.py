import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.data import pipeline
from keras_vit.data.augmentation import Augmentation, augment
from keras_vit.data.sources import Examples

COUNT, ROWS, COLUMNS = 11, 5, 7


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def examples():
    """Pictures that tell their own number: every pixel of picture i is 10 * i."""
    pictures = tuple(png(np.full((ROWS, COLUMNS, 3), 10 * i, np.uint8)) for i in range(COUNT))
    return Examples(pictures, np.arange(COUNT) % 3, tuple(f"picture {i}" for i in range(COUNT)))


def numbers(batches):
    """Returns which pictures a stream gave, and checks that labels went with them."""
    seen = []
    for images, labels in batches:
        picture = np.round((images.numpy()[:, 0, 0, 0] + 1) * 12.75).astype(int)
        np.testing.assert_array_equal(labels.numpy().argmax(axis=1), picture % 3)
        np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1, :1, :1], images.shape))
        seen.append(picture)
    return np.concatenate(seen)


@pytest.fixture(params=["in memory", "decoded each time"])
def memory(request, monkeypatch):
    monkeypatch.setattr(pipeline, "MEMORY", 0 if request.param == "decoded each time" else 2**30)


def stream(examples, **settings):
    settings = {"batch_size": 4, "steps": 11, "seed": 0, **settings}
    return pipeline.training_batches(examples, (ROWS, COLUMNS), 3, **settings)


def test_each_pass_gives_every_picture_once_in_another_order(examples, memory):
    seen = numbers(stream(examples)).reshape(4, COUNT)  # 11 steps of 4 are 4 passes of 11
    for one_pass in seen:
        assert sorted(one_pass) == list(range(COUNT))
    assert len({tuple(one_pass) for one_pass in seen}) == 4


def test_a_stream_can_be_taken_up_at_any_step(examples, memory):
    whole = numbers(stream(examples))
    np.testing.assert_array_equal(numbers(stream(examples, first_step=5)), whole[20:])


def test_the_seed_is_the_order(examples):
    assert (numbers(stream(examples)) == numbers(stream(examples))).all()
    assert (numbers(stream(examples)) != numbers(stream(examples, seed=1))).any()


def test_a_batch_may_be_larger_than_the_data(examples):
    seen = numbers(stream(examples, batch_size=33, steps=1))
    assert sorted(seen) == sorted([*range(COUNT)] * 3)


def test_augmented_batches_repeat_with_their_step(examples):
    twist = Augmentation(rotate=30.0, shift=0.2, zoom=0.3, shear=0.2, flip=True)
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, ROWS, COLUMNS, 3), np.uint8)
    examples = Examples(tuple(map(png, noise)), examples.labels, examples.names)
    whole = [images.numpy() for images, _ in stream(examples, augmentation=twist)]
    again = [images.numpy() for images, _ in stream(examples, augmentation=twist, first_step=9)]
    np.testing.assert_array_equal(np.stack(whole[9:]), np.stack(again))
    plain = [images.numpy() for images, _ in stream(examples)]
    assert not np.allclose(whole[0], plain[0])


def test_evaluation_gives_every_picture_once_in_order(examples, memory):
    batches = list(pipeline.evaluation_batches(examples, (ROWS, COLUMNS), batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 3]
    pixels = np.concatenate([images for images, _ in batches])[:, 0, 0, 0]
    np.testing.assert_allclose(pixels, np.arange(COUNT) * 10 / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), examples.labels)


def test_a_file_name_that_is_no_ascii_is_read_in_every_route(tmp_path, examples, memory):
    path = tmp_path / "grün é.png"
    path.write_bytes(examples.pictures[3])
    named = Examples((str(path),), np.array([0]), ("grün",))
    ((images, _),) = pipeline.evaluation_batches(named, (ROWS, COLUMNS))
    np.testing.assert_allclose(images, 30 / 127.5 - 1, atol=1e-6)


def test_resizing_is_tensorflows_half_pixel_bilinear_in_whole_levels():
    picture = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)
    got = pipeline.read_pixels(png(picture), (ROWS, COLUMNS))
    assert got.dtype == np.uint8
    # Written out: each result pixel looks at the four around its own middle; nothing is averaged over a wider area.
    y, x = (np.arange(ROWS) + 0.5) * 13 / ROWS - 0.5, (np.arange(COLUMNS) + 0.5) * 17 / COLUMNS - 0.5
    weights_y = np.maximum(0, 1 - np.abs(y[:, None] - np.arange(13)))
    weights_x = np.maximum(0, 1 - np.abs(x[:, None] - np.arange(17)))
    exact = np.einsum("ai,bj,ijc->abc", weights_y, weights_x, picture.astype(float))
    assert np.abs(got - exact).max() <= 0.5 + 1e-3  # rounding alone


def test_a_picture_of_the_right_size_is_left_alone():
    picture = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)
    np.testing.assert_array_equal(pipeline.read_pixels(png(picture), (ROWS, COLUMNS)), picture)


def spot(row, column):
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, row, column] = 1
    return image


def where(images):
    """Returns the centre of mass of each picture, (row, column) from the middle."""
    images = images.numpy()[..., 0]
    mass = images.sum(axis=(1, 2))
    offsets = np.arange(9) - 4
    return np.stack([images.sum(axis=2) @ offsets / mass, images.sum(axis=1) @ offsets / mass], axis=1)


def many(image, augmentation, count=64):
    run = tf.function(lambda seed: augment(tf.repeat(image, count, axis=0), augmentation, seed))
    eager = augment(tf.repeat(image, count, axis=0), augmentation, tf.constant([3, 5]))
    np.testing.assert_allclose(run(tf.constant([3, 5])), eager, atol=1e-5)
    return eager


def test_nothing_asked_for_changes_nothing():
    image = np.random.default_rng(0).random((2, 9, 8, 3), np.float32)
    np.testing.assert_allclose(augment(image, Augmentation(), [0, 0]), image, atol=1e-6)


def test_a_flip_mirrors_half_of_the_pictures_and_only_left_to_right():
    places = where(many(spot(2, 1), Augmentation(flip=True)))
    np.testing.assert_allclose(places[:, 0], -2, atol=1e-5)
    assert set(np.round(places[:, 1])) == {-3, 3}
    assert 16 < (places[:, 1] > 0).sum() < 48


def test_a_shift_moves_within_its_bound_in_both_directions():
    places = where(many(spot(4, 4), Augmentation(shift=0.2)))
    assert np.abs(places).max() <= 0.2 * 9 + 1e-3
    assert (places.max(axis=0) > 1).all() and (places.min(axis=0) < -1).all()


def test_a_rotation_keeps_the_distance_and_stays_within_its_angle():
    places = where(many(spot(4, 7), Augmentation(rotate=40.0)))
    angles = np.degrees(np.arctan2(places[:, 0], places[:, 1]))
    assert np.abs(angles).max() <= 42 and angles.max() > 25 and angles.min() < -25
    np.testing.assert_allclose(np.hypot(*places.T), 3, atol=0.15)  # bilinear weights pull a little


def test_a_zoom_goes_both_ways_about_the_middle():
    places = where(many(spot(4, 6), Augmentation(zoom=0.4)))
    np.testing.assert_allclose(places[:, 0], 0, atol=1e-3)
    assert places[:, 1].max() > 2.3 and places[:, 1].min() < 1.7


def test_a_shear_moves_columns_with_their_row():
    up, middle = where(many(spot(1, 4), Augmentation(shear=0.3))), where(many(spot(4, 4), Augmentation(shear=0.3)))
    np.testing.assert_allclose(middle, 0, atol=1e-5)
    np.testing.assert_allclose(up[:, 0], -3, atol=1e-5)
    assert up[:, 1].max() > 0.4 and up[:, 1].min() < -0.4
