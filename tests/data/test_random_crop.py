import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.data import crop as crops
from keras_vit.data.crop import cut, resize_pixels, whole_window
from keras_vit.data.decoding import FileRange, decode
from keras_vit.data.sources import Examples

ROWS, COLUMNS = 61, 83
SIZE = (13, 17)


def scene(number=0, rows=ROWS, columns=COLUMNS, channels=3):
    coarse = np.random.default_rng(number).integers(0, 256, (rows // 4 + 1, columns // 4 + 1, channels), np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)[:rows, :columns]


def encoded(pixels, format="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, format, **options)
    return file.getvalue()


EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
IMAGES = {
    "4:4:4": encoded(scene(0), subsampling=0),
    "4:2:2": encoded(scene(1), subsampling=1),
    "4:2:0": encoded(scene(2), subsampling=2),
    "progressive": encoded(scene(3), progressive=True),
    "restarts": encoded(scene(4), restart_marker_blocks=2),
    "grey": encoded(scene(5, channels=1)),
    "lying on its side": encoded(scene(6), exif=EXIF),
    "PNG": encoded(scene(7), "PNG"),
    "WebP": encoded(scene(8), "WebP"),
    "small": encoded(scene(9, 5, 3)),
}


def examples(images=None):
    images = tuple(IMAGES.values() if images is None else images)
    return Examples(images, np.zeros(len(images), np.int64), tuple(IMAGES)[: len(images)])


def made_images(examples, crop="inception", times=3, **settings):
    """Reads every image a few times inside tf.data, as the rows of a run are."""
    read = crops.cropped(examples, SIZE, crop, seed=5, **settings)
    count = len(examples.images)
    data = tf.data.Dataset.range(count * times).map(lambda n: read({"index": n % count, "number": n}), 2)
    return np.stack([*data.as_numpy_iterator()])


@pytest.mark.parametrize("name", ["4:4:4", "4:2:2", "4:2:0", "progressive", "restarts", "grey"])
def test_a_window_decoded_alone_is_the_window_of_the_image(name):
    whole, run = decode(IMAGES[name]), tf.function(crops.decode_window)
    random = np.random.default_rng(0)
    for _ in range(120):
        height, width = random.integers(1, (ROWS + 1, COLUMNS + 1))
        top, left = random.integers(0, (ROWS - height + 1, COLUMNS - width + 1))
        window = tf.constant([top, left, height, width], tf.int32)
        got = run(IMAGES[name], tf.constant([ROWS, COLUMNS]), window).numpy()
        assert np.abs(got.astype(int) - whole[top : top + height, left : left + width]).max() <= 1
    np.testing.assert_array_equal(cut(tf.constant(whole), window), whole[top : top + height, left : left + width])


@pytest.mark.parametrize("crop", ["inception", "random"])
def test_both_decoders_show_the_same(crop, monkeypatch):
    by_both = made_images(examples(), crop)
    assert by_both.shape == (30, *SIZE, 3) and by_both.dtype == np.uint8
    assert len({image.tobytes() for image in by_both}) > 24  # windows of their own; 9 places are there for "random"
    monkeypatch.setattr(crops, "plain_jpeg_size", lambda data: None)
    assert np.abs(made_images(examples(), crop).astype(int) - by_both).max() <= 1


@pytest.mark.parametrize("crop_from, size", [(None, (15, 19)), (19, (19, 19))])
def test_a_random_crop_is_a_part_of_the_whole_image_at_a_larger_size(crop_from, size):
    whole = np.stack([resize_pixels(decode(image), size) for image in IMAGES.values()] * 3)
    parts = np.lib.stride_tricks.sliding_window_view(whole, (*SIZE, 3), axis=(1, 2, 3))[:, :, :, 0]
    result = made_images(examples(), "random", crop_from=crop_from)
    alike = np.abs(parts.astype(int) - result[:, None, None]).max(axis=(3, 4, 5)) <= 1
    assert alike.any(axis=(1, 2)).all()
    assert crop_from or alike.any(axis=0).all()  # every place is taken by one image or another


def test_the_whole_window_is_the_whole_image():
    np.testing.assert_array_equal(whole_window(tf.constant([5, 7]), None), [0, 0, 5, 7])


def test_paths_bytes_and_records_are_read_alike(tmp_path):
    exact = made_images(examples())
    paths = []
    for number, data in enumerate(IMAGES.values()):
        paths.append(str(tmp_path / f"grün {number}"))
        with open(paths[-1], "wb") as file:
            file.write(data)
    (tmp_path / "all").write_bytes(b"".join(IMAGES.values()))
    ends = np.cumsum([len(data) for data in IMAGES.values()]).tolist()
    records = [FileRange(str(tmp_path / "all"), end - len(data), len(data)) for end, data in zip(ends, IMAGES.values())]
    np.testing.assert_array_equal(made_images(examples(paths)), exact)
    np.testing.assert_array_equal(made_images(examples(records)), exact)
    mixed = [*paths[:3], *records[3:6], *examples().images[6:]]
    np.testing.assert_array_equal(made_images(examples(mixed)), exact)


def test_each_file_is_judged_once(monkeypatch):
    judged = []
    monkeypatch.setattr(crops, "plain_jpeg_size", lambda data: judged.append(data))
    made_images(examples())
    assert len(judged) == 10


@pytest.mark.parametrize("name", ["4:2:0", "PNG"])
def test_an_image_that_cannot_be_read_is_named(name, tmp_path):
    cut_short = {**IMAGES, name: IMAGES[name][:-60]}
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}: a .* that is damaged or cut short"):
        made_images(examples(cut_short.values()))
    with pytest.raises(tf.errors.NotFoundError, match="gone.jpg"):
        made_images(examples([str(tmp_path / "gone.jpg")]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="4:4:4: no such file"):
        made_images(examples([FileRange(str(tmp_path / "gone"), 0, 3)]))
