import concurrent.futures
import io
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.data.decoding import decode
from keras_vit.runtime import images
from keras_vit.runtime.images import CENTER, CORNER, resized, upright, upright_size

RANDOM = np.random.default_rng(3)
LEVELS = RANDOM.integers(0, 256, (7, 11, 4), np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rgb():
    return Image.fromarray(LEVELS[..., :3])


# What a camera stores: turned over the diagonal, rows or columns from the other end (TIFF 6.0, Orientation).
STORED = {1: "", 2: "c", 3: "rc", 4: "r", 5: "t", 6: "tr", 7: "trc", 8: "tc"}
TURNS = {
    "t": lambda pixels: pixels.swapaxes(0, 1),
    "r": lambda pixels: pixels[::-1],
    "c": lambda pixels: pixels[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
def test_an_image_is_turned_upright(orientation):
    held = LEVELS[..., :3]
    for turn in STORED[orientation]:
        held = TURNS[turn](held)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = encoded(Image.fromarray(np.ascontiguousarray(held)), exif=exif)
    np.testing.assert_array_equal(upright(image), LEVELS[..., :3])
    assert upright_size(image) == (7, 11)


def test_transparency_shows_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = 0, 51, 255
    result = upright(encoded(Image.fromarray(pixels)))
    np.testing.assert_array_equal(result[0], [[255] * 3, [204] * 3, [0] * 3])


def test_deep_grey_is_scaled_not_cut_off():
    grey = np.uint16([[0, 257, 32896, 65535]])
    result = upright(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(result, np.broadcast_to(np.uint8([0, 1, 128, 255])[None, :, None], (1, 4, 3)))


KINDS = {
    "grey": lambda: encoded(rgb().convert("L")),
    "grey and alpha": lambda: encoded(Image.fromarray(LEVELS[..., :2])),
    "black and white": lambda: encoded(rgb().convert("1")),
    "palette": lambda: encoded(rgb().quantize(16)),
    "palette, one colour transparent": lambda: encoded(rgb().quantize(16), transparency=3),
    "one colour transparent": lambda: encoded(rgb(), transparency=tuple(map(int, LEVELS[2, 3, :3]))),
    "alpha": lambda: encoded(Image.fromarray(LEVELS)),
    "JPEG": lambda: encoded(rgb(), "JPEG"),
    "grey JPEG": lambda: encoded(rgb().convert("L"), "JPEG"),
    "CMYK": lambda: encoded(rgb().convert("CMYK"), "JPEG"),
    "WebP": lambda: encoded(Image.fromarray(LEVELS), "WEBP", lossless=True),
    "GIF": lambda: encoded(rgb().quantize(16), "GIF"),
    "BMP": lambda: encoded(rgb(), "BMP"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_decoded_as_in_training(kind):
    """Two decoders that share no line: the proof of an export takes two grey levels between them for a fault."""
    image = KINDS[kind]()
    result = upright(image)
    assert result.dtype == np.uint8 and result.shape == (7, 11, 3)
    assert np.abs(result.astype(int) - decode(image)).max() <= 1


def test_a_path_is_read_like_bytes(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(rgb()))
    for name in (path, str(path)):
        np.testing.assert_array_equal(upright(name), LEVELS[..., :3])


@pytest.mark.parametrize("kind, limit, together", [("JPEG", 1000, True), ("JPEG", 100, False), ("GIF", 1000, False)])
def test_threads_decode_small_images_at_the_same_time(monkeypatch, kind, limit, together):
    """But large ones, and those whose decoder may warn, one after the other."""
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(limit))  # the image has 77
    inside, most, lock, both = [], [], threading.Lock(), threading.Barrier(2)

    def flat(*arguments, own=images._in_channels):
        with lock:
            inside.append(arguments[0])
            most.append(len(inside))
        if together:
            both.wait(30)
        pixels = own(*arguments)
        inside.remove(arguments[0])
        return pixels

    monkeypatch.setattr(images, "_in_channels", flat)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(upright, [encoded(rgb(), kind)] * 2)
    np.testing.assert_array_equal(first, second)
    assert max(most) == (2 if together else 1)


@pytest.mark.parametrize("content", [b"", b"no image", encoded(Image.new("RGB", (50, 50)))[:60]])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Expected an image. Received: .*broken.png, which cannot be read"):
        upright(path)
    with pytest.raises(ValueError, match=f"Received: {len(content)} bytes"):
        upright(content)


def test_an_image_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent.png"):
        upright(tmp_path / "absent.png")


@pytest.mark.parametrize("origin, levels", [(CORNER, [0, 50, 100, 100]), (CENTER, [0, 25, 75, 100])])
def test_resized_by_hand(origin, levels):
    row = np.broadcast_to(np.uint8([0, 100])[None, :, None], (1, 2, 3))
    result = resized(row, (1, 4), origin)
    np.testing.assert_array_equal(result, np.broadcast_to(np.uint8(levels)[None, :, None], (1, 4, 3)))
    np.testing.assert_array_equal(resized(row.swapaxes(0, 1), (4, 1), origin), result.swapaxes(0, 1))


@pytest.mark.parametrize("size", [(5, 3), (2, 29), (31, 13), (1, 1), (7, 23)])
def test_from_the_middle_as_tensorflow_does(size):
    pixels = LEVELS[..., :3]
    expected = tf.raw_ops.ResizeBilinear(images=np.float32(pixels[None]), size=size, half_pixel_centers=True)[0]
    result = resized(pixels, size, CENTER)
    assert result.dtype == np.uint8 and result.shape == (*size, 3)
    np.testing.assert_allclose(result, expected, atol=0.5 + 1e-3)  # half a level, for whole ones


@pytest.mark.parametrize("size", [(14, 22), (28, 44), (7, 44), (1, 1)])
def test_from_the_corner_as_tensorflow_did(size):
    """At sizes whose places between pixels are multiples of 1/32, which are all that MediaPipe knows."""
    pixels = LEVELS[..., :3]
    expected = tf.raw_ops.ResizeBilinear(images=np.float32(pixels[None]), size=size, half_pixel_centers=False)[0]
    np.testing.assert_array_equal(resized(pixels, size, CORNER), np.floor(expected + 0.5))


def test_an_image_of_the_size_stays_as_it_is():
    assert resized(LEVELS[..., :3], (7, 11)).tobytes() == LEVELS[..., :3].tobytes()
