import io
import re
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.data.decoding import MAX_PIXELS, ImageError, decode
from keras_vit.data.jpeg import plain_jpeg_size

ROWS, COLUMNS = 29, 41


def scene(channels=3, rows=ROWS, columns=COLUMNS):
    """Returns soft shapes with hard colours: what a wrong decoder shows."""
    coarse = np.random.default_rng(0).integers(0, 256, (rows // 4 + 1, columns // 4 + 1, channels), np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)[:rows, :columns]


def jpeg(pixels, mode=None, format="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode).save(file, format, **options)
    return file.getvalue()


def exif(orientation):
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


PLAIN = {
    "4:4:4": jpeg(scene(), subsampling=0),
    "4:2:2": jpeg(scene(), subsampling=1),
    "4:2:0": jpeg(scene(), subsampling=2),
    "grey": jpeg(scene(1)),
    "progressive": jpeg(scene(), progressive=True),
    "progressive grey": jpeg(scene(1), progressive=True),
    "restarts": jpeg(scene(), restart_marker_blocks=2),
    "own tables": jpeg(scene(), optimize=True, quality=100),
    "upright": jpeg(scene(), exif=exif(1)),
    "colour profile and comment": jpeg(scene(), icc_profile=b"\xff\xd9" * 99, comment="words"),
    "several in one file": jpeg(scene(), format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
    "something behind it": jpeg(scene()) + b"\xff\xd8 and more",
}
CUT_SHORT = {f"{name}, cut short": data[:-40] for name, data in PLAIN.items() if "in" not in name.split()}
OTHER = {
    **CUT_SHORT,
    "no end": jpeg(scene())[:-2],
    "header alone": jpeg(scene())[:200],
    "four colours": jpeg(scene(4), "CMYK"),
    "RGB, said by Adobe": jpeg(scene(), keep_rgb=True),
    "no JPEG": jpeg(scene(), format="PNG"),
    "nothing": b"",
    **{f"orientation {n}": jpeg(scene(), exif=exif(n)) for n in range(2, 9)},
    "arithmetic codes": jpeg(scene()).replace(b"\xff\xc0", b"\xff\xc9", 1),
    "too large": re.sub(rb"(\xff\xc0..\x08)....", lambda m: m[1] + b"\xff" * 4, jpeg(scene()), flags=re.DOTALL),
    "no tables": re.sub(rb"\xff\xc4.*?(?=\xff\xda)", b"", jpeg(scene()), flags=re.DOTALL),
    "twice the frame": re.sub(rb"(\xff\xc0.{17})", rb"\1\1", jpeg(scene()), flags=re.DOTALL),
    "a scan is missing": re.sub(
        rb"(\xff\xda(?:(?!\xff\xda).)*)(?=\xff\xd9$)", b"", PLAIN["progressive"], flags=re.DOTALL
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_one_is_decoded_by_tensorflow_as_by_us(name):
    assert plain_jpeg_size(PLAIN[name]) == (ROWS, COLUMNS)
    assert_alike(PLAIN[name])


@pytest.mark.parametrize("name", OTHER)
def test_any_other_is_for_the_careful_decoder(name):
    assert plain_jpeg_size(OTHER[name]) is None


def test_they_are_what_their_names_say():
    assert all(OTHER[name] != PLAIN["4:2:0"] for name in OTHER)
    for name in ("four colours", "orientation 5", "a scan is missing", "RGB, said by Adobe"):
        assert decode(OTHER[name]).shape[2] == 3  # good images
    for name in ("too large", "twice the frame", *CUT_SHORT):
        with pytest.raises(ImageError):
            decode(OTHER[name])
    assert 0xFFFF**2 > MAX_PIXELS


def test_one_above_the_limit_is_for_the_careful_decoder(monkeypatch):
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(ROWS * COLUMNS - 1))
    assert plain_jpeg_size(PLAIN["4:2:0"]) is None


def assert_alike(data):
    pixels = tf.image.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    assert np.abs(pixels.astype(int) - decode(data)).max() <= 1


def test_no_damage_gets_through_that_the_careful_decoder_refuses_or_shows_otherwise():
    random = np.random.default_rng(0)
    files, plain = list(PLAIN.values()), 0
    for _ in range(1500):
        data = bytearray(files[random.integers(len(files))])
        codes = data.index(b"\xff\xda") + 14
        for place in random.integers(2, [codes, len(data)][random.integers(2)], 2):  # the header is hit in most cases
            if random.random() < 0.2:
                del data[place : place + random.integers(1, 30)]
            else:
                data[place % len(data)] = random.integers(256)
        size = plain_jpeg_size(bytes(data))
        if size and size[0] * size[1] < 10**6:  # a header may claim gigabytes, which are not worth the wait
            assert_alike(bytes(data))
            plain += 1
    assert plain > 300
