import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.data import pipeline
from keras_vit.data.augmentation import Augmentation, random_affine
from keras_vit.data.order import Order
from keras_vit.data.sources import Examples
from keras_vit.preprocessing import preprocess_input

COUNT, ROWS, COLUMNS = 11, 5, 7


def encoded(array, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format)
    return file.getvalue()


@pytest.fixture
def examples():
    """Images that tell their own number: every pixel of image i is 10 * i."""
    images = tuple(encoded(np.full((ROWS, COLUMNS, 3), 10 * i, np.uint8)) for i in range(COUNT))
    return Examples(images, np.arange(COUNT) % 3, tuple(f"image {i}" for i in range(COUNT)))


def numbers(batches):
    """Returns which images a stream gave, and checks that labels went with them."""
    seen = []
    for images, targets, weights in batches:
        image = np.round((images.numpy()[:, 0, 0, 0] + 1) * 12.75).astype(int)
        np.testing.assert_array_equal(targets, np.eye(3)[image % 3])
        np.testing.assert_array_equal(weights, np.ones(len(image)))
        np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1, :1, :1], images.shape))
        seen.append(image)
    return np.concatenate(seen)


@pytest.fixture(params=["in memory", "decoded each time"])
def memory(request, monkeypatch):
    monkeypatch.setattr(pipeline, "_MEMORY", 0 if request.param == "decoded each time" else 2**30)


def stream(examples, **settings):
    settings = {"batch_size": 4, "steps": 11, "seed": 0, **settings}
    return pipeline.training_batches(examples, (ROWS, COLUMNS), 3, **settings)


def test_each_pass_gives_every_image_once_in_another_order(examples, memory):
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


TWIST = {"rotate": 30.0, "shift": 0.2, "zoom": 0.3, "shear": 0.2, "flip": True}
EVERYTHING = Augmentation(**TWIST, crop="inception", randaugment=(1, 10), mixup=0.4, cutmix=0.7)


@pytest.fixture
def noise(examples):
    """Images, one in three a JPEG, with a weight each."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 13, 17, 3), np.uint8)
    images = tuple(encoded(array, "PNG" if i % 3 else "JPEG") for i, array in enumerate(pixels))
    return Examples(images, examples.labels, examples.names, np.linspace(0.5, 1.5, COUNT, dtype=np.float32))


def whole(batches):
    """Returns everything that a stream gives: (images, targets, weights), each with a first axis of batches."""
    return tuple(np.stack(arrays) for arrays in zip(*batches.as_numpy_iterator()))


def test_affine_batches_are_a_function_of_the_seed_and_the_step(noise, memory):
    got, _, _ = whole(stream(noise, augmentation=Augmentation(**TWIST), seed=7, first_step=5))
    pixels = pipeline.read_all(noise.images, (ROWS, COLUMNS)).astype(np.float32)
    for step, images in enumerate(got, start=5):
        chosen = pixels[Order(COUNT, 4, seed=7).indices(step)]
        # In a graph, as there: of what a run has seen, no bit may change.
        exact = tf.function(random_affine)(chosen, Augmentation(**TWIST), tf.constant([7 + 2**31, step]))
        np.testing.assert_array_equal(images, preprocess_input(exact))


@pytest.mark.parametrize("columns", [COLUMNS, 8])
def test_a_flip_mirrors_whole_images_and_about_half_of_them(noise, memory, columns):
    settings = {"batch_size": 4, "steps": 11}
    plain = whole(pipeline.training_batches(noise, (ROWS, columns), 3, **settings))[0]
    flipped = whole(
        pipeline.training_batches(noise, (ROWS, columns), 3, augmentation=Augmentation(flip=True), **settings)
    )
    mirrored = (flipped[0] == plain[:, :, :, ::-1]).all(axis=(2, 3, 4))
    assert (mirrored ^ (flipped[0] == plain).all(axis=(2, 3, 4))).all()
    assert 11 < mirrored.sum() < 33
    # The affine would give the same, pixel by pixel.
    exact = random_affine(plain[3], Augmentation(flip=True), [2**31, 3])
    np.testing.assert_array_equal(flipped[0][3], exact)


@pytest.mark.parametrize(
    "augmentation, order",
    [
        (EVERYTHING, {"full_batches": False}),
        (Augmentation(**TWIST, mixup=0.4), {}),
        (Augmentation(flip=True), {"full_batches": False}),
        (Augmentation(flip=True, mixup=0.4), {"sampling": "balanced"}),
    ],
)
def test_parts_are_the_whole_batch_bit_for_bit(noise, augmentation, order):
    settings = {"batch_size": 12, "steps": 4, "seed": 3, "augmentation": augmentation, **order}
    exact = whole(stream(noise, **settings))
    assert [array.shape for array in exact] == [(4, 12, ROWS, COLUMNS, 3), (4, 12, 3), (4, 12)]
    assert all(array.dtype == np.float32 for array in exact)
    for cuts in ([0, 1, 2], [0, 3, 4]):  # where each process begins, and the end
        of = cuts[-1]
        given = [whole(stream(noise, parts=(a, b, of), **settings)) for a, b in zip(cuts, cuts[1:])]
        for number, array in enumerate(exact):
            # Each process gives its parts of a step one after another.
            steps = [process[number].reshape(4, -1, *array.shape[2:]) for process in given]
            np.testing.assert_array_equal(np.concatenate(steps, axis=1), array)


@pytest.mark.parametrize("parts", [(0, 1, 1), (1, 3, 4)])
def test_everything_can_be_taken_up_at_any_step(noise, parts):
    settings = {"steps": 7, "augmentation": EVERYTHING, "parts": parts}
    exact, pieces = whole(stream(noise, **settings)), parts[1] - parts[0]
    for array, rest in zip(exact, whole(stream(noise, first_step=5, **settings))):
        np.testing.assert_array_equal(rest, array[5 * pieces :])


def test_everything_changes_with_the_seed(noise):
    one, other = (whole(stream(noise, steps=2, augmentation=EVERYTHING, seed=seed))[0] for seed in (0, 1))
    assert (one != other).any(axis=(2, 3, 4)).all()


@pytest.mark.parametrize(
    "memory, name",
    [
        *(("in memory", name) for name in ("inception", "random", "randaugment")),
        *(("decoded each time", name) for name in ("inception", "random")),
    ],
    indirect=["memory"],
)
def test_what_enters_the_scaling_is_in_whole_levels(noise, memory, name):
    wish = {"randaugment": (2, 10)} if name == "randaugment" else {"crop": name}
    images = whole(stream(noise, augmentation=Augmentation(**wish, flip=True)))[0]
    levels = (images + 1) * 127.5
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert len(np.unique(images.reshape(44, -1), axis=0)) > 22  # 11 images, seen 4 times


def test_an_image_is_mixed_with_that_of_the_next_row(noise):
    wish = {"flip": True, "crop": "inception"}
    images, targets, _ = whole(stream(noise, augmentation=Augmentation(**wish)))
    mixed, mixed_targets, _ = whole(stream(noise, augmentation=Augmentation(**wish, mixup=0.8)))
    next_images, next_targets = np.roll(images, -1, axis=1), np.roll(targets, -1, axis=1)
    shares = []
    for step in range(len(images)):
        away = next_images[step] - images[step]
        shares.append(((mixed[step] - images[step]) * away).sum() / (away**2).sum())
        np.testing.assert_allclose(mixed[step], images[step] + shares[-1] * away, atol=1e-5)
        exact = targets[step] + shares[-1] * (next_targets[step] - targets[step])
        np.testing.assert_allclose(mixed_targets[step], exact, atol=1e-5)
    assert 0 <= min(shares) and max(shares) <= 0.5 and len(set(shares)) == len(shares)


def test_weights_are_the_examples_and_0_where_a_row_only_fills_up(noise, memory):
    weights = whole(stream(noise))[2]
    order = np.stack([Order(COUNT, 4).indices(step) for step in range(11)])
    np.testing.assert_array_equal(weights, noise.weights[order])
    weights = whole(stream(noise, full_batches=False, steps=6))[2].reshape(2, 12)
    np.testing.assert_array_equal(weights == 0, [[False] * 11 + [True]] * 2)
    np.testing.assert_allclose(np.sort(weights)[:, 1:], [noise.weights] * 2)


def test_weights_out_of_range_are_refused(noise):
    with pytest.raises(ValueError, match="weights that are not 0 or from 1e-06 to 1e.06: 1e-38 of "):
        stream(dataclasses.replace(noise, weights=np.full_like(noise.weights, 1e-38)))


@pytest.mark.parametrize("parts", [(0, 0, 1), (1, 1, 2), (0, 3, 2), (-1, 1, 2), (0, 1, 3)])
def test_a_batch_that_cannot_be_cut_so_is_refused(examples, parts):
    with pytest.raises(ValueError, match=r"Received: parts=\(.*batch_size=4"):
        stream(examples, parts=parts)
    with pytest.raises(ValueError, match="Received: parts="):
        pipeline.validation_batches(examples, (ROWS, COLUMNS), 3, batch_size=4, parts=parts)


@pytest.mark.parametrize("wish", [{"crop": "centre"}, {"randaugment": (2,)}, {"mixup": -1}, {"cutmix": -0.1}])
def test_augmentation_refuses_what_it_does_not_know(wish):
    with pytest.raises(ValueError, match="Expected a crop out of resize, inception, random"):
        Augmentation(**wish)


def test_augmentation_takes_lists_from_json():
    from_json = Augmentation(randaugment=[2, 10], keras_cv=["GridMask"])
    assert from_json == Augmentation(randaugment=(2, 10), keras_cv="GridMask")


def test_keras_cvs_layers_come_last_before_the_scaling(examples, monkeypatch):
    monkeypatch.setattr(pipeline, "keras_cv_layers", lambda names: lambda images: 255 - tf.cast(images, tf.float32))
    changed = whole(stream(examples, augmentation=Augmentation(keras_cv=("Invert",))))[0]
    np.testing.assert_allclose(changed, -whole(stream(examples))[0], atol=1e-6)


@pytest.mark.parametrize("crop", ["resize", "inception", "random"])
def test_an_image_that_cannot_be_read_while_training_is_named(examples, monkeypatch, crop):
    monkeypatch.setattr(pipeline, "_MEMORY", 0)
    broken = Examples((*examples.images[:-1], b"not an image"), examples.labels, examples.names)
    with pytest.raises(tf.errors.OpError, match="image 10: not an image"):
        list(stream(broken, augmentation=Augmentation(crop=crop)))


@pytest.mark.parametrize("cuts", [[0, 1], [0, 1, 2], [0, 1, 2, 3, 4]])
def test_validation_gives_every_image_once_and_fills_up(noise, memory, cuts):
    settings = {"batch_size": 4, "protocol": "big_vision"}
    parts = [(a, b, cuts[-1]) for a, b in zip(cuts, cuts[1:])]
    given = [whole(pipeline.validation_batches(noise, (ROWS, COLUMNS), 3, parts=part, **settings)) for part in parts]
    images, targets, weights = (np.concatenate(arrays, axis=1).reshape(12, -1) for arrays in zip(*given))
    exact = pipeline.read_all(noise.images, (ROWS, COLUMNS), protocol="big_vision")
    np.testing.assert_array_equal(images[:COUNT], preprocess_input(exact).reshape(COUNT, -1))
    np.testing.assert_array_equal(targets[:COUNT], np.eye(3)[noise.labels])
    np.testing.assert_array_equal(weights[:, 0], [1] * COUNT + [0])  # not those that the examples have in training
    assert (exact != pipeline.read_all(noise.images, (ROWS, COLUMNS))).any()


def test_evaluation_gives_every_image_once_in_order(examples, memory):
    batches = list(pipeline.evaluation_batches(examples, (ROWS, COLUMNS), batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 3]
    pixels = np.concatenate([images for images, _ in batches])[:, 0, 0, 0]
    np.testing.assert_allclose(pixels, np.arange(COUNT) * 10 / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), examples.labels)


def test_images_that_fit_into_memory_are_decoded_once_when_they_are_needed(examples, monkeypatch):
    decoded, read = [], pipeline.read_file
    monkeypatch.setattr(pipeline, "read_file", lambda image: decoded.append(image) or read(image))
    batches = iter(stream(examples, steps=6))
    assert len(decoded) < COUNT
    for _ in range(6):
        next(batches)
    assert sorted(decoded) == sorted(examples.images)


def test_evaluation_keeps_no_images(examples, monkeypatch):
    decoded, read = [], pipeline.read_file
    monkeypatch.setattr(pipeline, "read_file", lambda image: decoded.append(image) or read(image))
    batches = pipeline.evaluation_batches(examples, (ROWS, COLUMNS), batch_size=4)
    assert sum(len(labels) for _ in range(2) for _, labels in batches) == len(decoded) == 2 * COUNT


def test_a_file_name_that_is_no_ascii_is_read_in_every_route(tmp_path, examples, memory):
    path = tmp_path / "grün é.png"
    path.write_bytes(examples.images[3])
    named = Examples((str(path),), np.array([0]), ("grün",))
    ((images, _),) = pipeline.evaluation_batches(named, (ROWS, COLUMNS))
    np.testing.assert_allclose(images, 30 / 127.5 - 1, atol=1e-6)


def test_resizing_is_tensorflows_half_pixel_bilinear_in_whole_levels():
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)
    got = pipeline.read_pixels(encoded(image), (ROWS, COLUMNS))
    assert got.dtype == np.uint8
    # Written out: each result pixel looks at the four around its own middle; nothing is averaged over a wider area.
    y, x = (np.arange(ROWS) + 0.5) * 13 / ROWS - 0.5, (np.arange(COLUMNS) + 0.5) * 17 / COLUMNS - 0.5
    weights_y = np.maximum(0, 1 - np.abs(y[:, None] - np.arange(13)))
    weights_x = np.maximum(0, 1 - np.abs(x[:, None] - np.arange(17)))
    exact = np.einsum("ai,bj,ijc->abc", weights_y, weights_x, image.astype(float))
    assert np.abs(got - exact).max() <= 0.5 + 1e-3  # rounding alone


def test_an_image_of_the_right_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)
    np.testing.assert_array_equal(pipeline.read_pixels(encoded(image), (ROWS, COLUMNS)), image)


def spot(row, column):
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, row, column] = 1
    return image


def where(images):
    """Returns the centre of mass of each image, (row, column) from the middle."""
    images = images.numpy()[..., 0]
    mass = images.sum(axis=(1, 2))
    offsets = np.arange(9) - 4
    return np.stack([images.sum(axis=2) @ offsets / mass, images.sum(axis=1) @ offsets / mass], axis=1)


def many(image, augmentation, count=64):
    run = tf.function(lambda seed: random_affine(tf.repeat(image, count, axis=0), augmentation, seed))
    eager = random_affine(tf.repeat(image, count, axis=0), augmentation, tf.constant([3, 5]))
    np.testing.assert_allclose(run(tf.constant([3, 5])), eager, atol=1e-5)
    return eager


def test_nothing_asked_for_changes_nothing():
    image = np.random.default_rng(0).random((2, 9, 8, 3), np.float32)
    np.testing.assert_allclose(random_affine(image, Augmentation(), [0, 0]), image, atol=1e-6)


def test_a_flip_mirrors_half_of_the_images_and_only_left_to_right():
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
