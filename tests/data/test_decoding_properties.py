"""Properties of decoding that hold for images of any size and mode."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from keras_vit.data.damage import damage
from keras_vit.data.decoding import decode, decode_with_info, orientation_of
from keras_vit.runtime.images import upright

LOSSLESS = {"PNG": {}, "BMP": {}, "WEBP": {"lossless": True, "exact": True}, "GIF": {}}
properties = settings(max_examples=60, deadline=None, derandomize=True, database=None)
sides = st.integers(1, 40)


@st.composite
def images(draw, channels=(3,), dtype=np.uint8):
    return draw(arrays(dtype, (draw(sides), draw(sides), *channels)))


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **LOSSLESS[format], **options)
    return file.getvalue()


def assert_read(data, pixels):
    for read in (decode, upright):
        np.testing.assert_array_equal(read(data), pixels)
    assert damage(data) == ""


@properties
@given(images(), st.sampled_from(["PNG", "BMP", "WEBP"]))
def test_colours_come_back(pixels, format):
    assert_read(encoded(Image.fromarray(pixels), format), pixels)


@properties
@given(images(()), st.sampled_from(["PNG", "BMP", "WEBP", "GIF"]))
def test_greys_come_back(grey, format):
    assert_read(encoded(Image.fromarray(grey), format), np.stack([grey] * 3, -1))


@properties
@given(images((), np.uint16))
def test_16_bit_greys_come_back_rounded(deep):
    assert_read(encoded(Image.fromarray(deep), "PNG"), np.stack([(deep / 257).round().astype(np.uint8)] * 3, -1))


@properties
@given(images((), np.bool_), st.sampled_from(["PNG", "BMP", "GIF"]))
def test_black_and_white_comes_back(bits, format):
    assert_read(encoded(Image.fromarray(bits), format), np.stack([bits * np.uint8(255)] * 3, -1))


@properties
@given(images(()), st.integers(1, 256), st.randoms(use_true_random=False), st.sampled_from(["PNG", "BMP", "GIF"]))
def test_palettes_come_back(indices, colours, random, format):
    indices = (indices.astype(int) % colours).astype(np.uint8)
    palette = np.frombuffer(random.randbytes(3 * colours), np.uint8).reshape(-1, 3)
    image = Image.fromarray(indices).convert("L")
    image.putpalette(palette.tobytes())
    assert_read(encoded(image, format), palette[indices])


@properties
@given(images((4,)), st.sampled_from(["PNG", "WEBP"]))
def test_transparent_pixels_show_white(pixels, format):
    alpha = pixels[..., 3:].astype(float) / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    for read in (decode, upright):
        assert np.abs(read(encoded(Image.fromarray(pixels), format)) - expected).max() <= 1


@properties
@given(images(), st.integers(0, 65535), st.sampled_from(["PNG", "WEBP"]))
def test_orientation(pixels, orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned, info = decode_with_info(data := encoded(Image.fromarray(pixels), format, exif=exif))
    assert info.orientation == (orientation if 1 <= orientation <= 8 else 1)
    # What the top and the left of the stored image become: TIFF 6.0, Orientation.
    expected = pixels.swapaxes(0, 1) if info.orientation >= 5 else pixels
    expected = expected[::-1] if info.orientation in (3, 4, 7, 8) else expected
    expected = expected[:, ::-1] if info.orientation in (2, 3, 6, 7) else expected
    np.testing.assert_array_equal(turned, expected)
    np.testing.assert_array_equal(upright(data), expected)


@properties
@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_any_exif_has_an_orientation(block, start):
    assert orientation_of(b"Exif\0\0" + start + block) in range(1, 9)


@properties
@given(st.binary(max_size=400), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""]))
def test_damage_is_told_of_any_bytes(block, start):
    assert isinstance(damage(start + block), str)
