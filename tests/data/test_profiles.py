"""Embedded ICC profiles, against published numbers: each profile is built here, byte by byte."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from keras_vit.data.decoding import decode, decode_with_info
from keras_vit.data.jpeg import plain_jpeg_size
from keras_vit.runtime.images import upright

pytestmark = pytest.mark.filterwarnings("error")

# The red, green and blue of Display P3 relative to D50, as in Apple's profile.
P3 = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]
# From linear Display P3 to linear sRGB: CSS Color 4, "Sample code for color conversions".
TO_SRGB = np.array([[1.2249402, -0.2249402, 0], [-0.0420570, 1.0420570, 0], [-0.0196376, -0.0786360, 1.0982736]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def xyz(*numbers: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*numbers)


def curve(*parameters: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", {1: 0, 5: 3}[len(parameters)], 0) + fixed(*parameters)


def icc(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", version: int = 4) -> bytes:
    """Returns a profile: ICC.1:2010, 7.2 (header) and 7.3 (table of tags)."""
    body, table, place = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"none", version << 24, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + table + body


def rgb_profile(colorants=P3, parameters=SRGB_CURVE) -> bytes:
    names = zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants)
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249), **{name: xyz(*colorant) for name, colorant in names}}
    return icc(b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(*parameters)))


DISPLAY_P3 = rgb_profile()
LINEAR_GREY = icc(b"GRAY", b"XYZ ", {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": curve(1.0)})
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def ink_profile() -> bytes:
    """Returns a CMYK profile of which only black has a colour: the lightness falls from 100 to 0, as L* does."""
    ramp = bytes(range(256))
    nodes = b"".join(bytes((0 if black else 255, 128, 128)) for _ in range(8) for black in (False, True))
    matrix = fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + 4 * ramp + nodes + 3 * ramp
    return icc(b"CMYK", b"Lab ", {b"wtpt": xyz(0.9642, 1, 0.8249), b"A2B0": table}, b"prtr", version=2)


def linear(levels) -> np.ndarray:
    values = np.asarray(levels) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded_levels(light) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def encode(pixels: np.ndarray, format: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    if format == "HEIC":
        pytest.importorskip("pillow_heif").from_pillow(image).save(file, **options)
    else:
        image.save(file, format, **options)
    return file.getvalue()


def assert_both(data: bytes, expected, tolerance: float = 1):
    for read in (decode, upright):
        np.testing.assert_allclose(read(data).astype(float), expected, atol=tolerance, rtol=0)


def patches() -> np.ndarray:
    """Colours in patches of 16 x 16 pixels, so that a lossy format keeps them."""
    colours = [[(200, 60, 50), (60, 180, 90), (70, 80, 210)], [(190, 170, 40), (128, 128, 128), (50, 160, 190)]]
    return np.array(colours, np.uint8).repeat(16, 0).repeat(16, 1)


@pytest.mark.parametrize(
    "p3, srgb",
    [
        ((234, 51, 35), (255, 0, 0)),  # sRGB's red, green and blue in Display P3
        ((117, 251, 76), (0, 255, 0)),
        ((0, 0, 245), (0, 0, 255)),
        ((128, 128, 128), (128, 128, 128)),
        ((255, 0, 0), (255, 0, 0)),  # outside of sRGB: its nearest
    ],
)
def test_published_colours_of_display_p3(p3, srgb):
    # The numbers of Display P3 are rounded, which is up to four of the darkest levels of sRGB.
    assert_both(encode(np.full((5, 7, 3), p3, np.uint8), "PNG", icc_profile=DISPLAY_P3), np.full((5, 7, 3), srgb), 4)


LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
LOSSY = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIC": {"quality": -1, "chroma": 444},
}


@pytest.mark.parametrize("format", [*LOSSLESS, *LOSSY])
def test_display_p3_is_converted_in_every_format(format):
    pixels = patches()
    data = encode(pixels, format, icc_profile=DISPLAY_P3, **(LOSSLESS | LOSSY)[format])
    expected = encoded_levels(linear(pixels) @ TO_SRGB.T)
    assert np.abs(expected - pixels).max() > 15
    assert_both(data, expected, 1.5 if format in LOSSLESS else 5)


def test_transparency_and_palettes_are_converted_before_they_are_laid_on_white():
    pixels, alpha = patches(), np.full(patches().shape[:2], 102, np.uint8)
    colours = encoded_levels(linear(pixels) @ TO_SRGB.T)
    data = encode(np.dstack([pixels, alpha]), "PNG", icc_profile=DISPLAY_P3)
    assert_both(data, colours * 0.4 + 255 * 0.6, 1.5)
    assert_both(encode(Image.fromarray(pixels).quantize(8), "PNG", icc_profile=DISPLAY_P3), colours, 3)


def test_a_grey_profile():
    grey = np.arange(256, dtype=np.uint8)[None]
    expected = encoded_levels(grey / 255)[..., None].repeat(3, -1)
    assert_both(encode(grey, "PNG", icc_profile=LINEAR_GREY), expected)
    with_alpha = np.dstack([grey, np.full_like(grey, 255)])
    assert_both(encode(with_alpha, "PNG", icc_profile=LINEAR_GREY), expected)


def test_a_grey_image_with_a_profile_of_colours():
    grey = np.full((4, 6), 77, np.uint8)
    assert_both(encode(grey, "JPEG", quality=100, icc_profile=DISPLAY_P3), np.full((4, 6, 3), 77))


def test_a_cmyk_profile():
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 3] = 128
    image = Image.frombytes("CMYK", (16, 16), ink.tobytes())
    data = encode(image, "JPEG", quality=100, icc_profile=ink_profile())
    assert_both(data, np.full((16, 16, 3), 119), 2)  # L* = 50 is level 119 of sRGB
    assert_both(encode(image, "JPEG", quality=100), np.full((16, 16, 3), 128), 2)
    assert_both(encode(image, "TIFF", icc_profile=ink_profile()), np.full((16, 16, 3), 119), 2)


def test_the_profile_of_srgb_changes_nothing():
    pixels = patches()
    data = encode(pixels, "PNG", icc_profile=SRGB)
    assert decode(data).tobytes() == pixels.tobytes()
    assert decode_with_info(data)[1].notes == ()


@pytest.mark.parametrize(
    "profile, words",
    [
        (DISPLAY_P3[:200], "damaged"),
        (b"no profile", "damaged"),
        (LINEAR_GREY, "for GRAY images"),
        (ink_profile(), "for CMYK images"),
        (icc(b"Lab ", b"XYZ ", {}), "for Lab images"),
    ],
    ids=["cut", "text", "grey", "inks", "lab"],
)
def test_a_profile_that_cannot_be_used_is_noted(profile, words):
    pixels = patches()
    data = encode(pixels, "PNG", icc_profile=profile)
    read, info = decode_with_info(data)
    assert read.tobytes() == upright(data).tobytes() == pixels.tobytes()
    (note,) = info.notes
    assert words in note and "read as sRGB" in note


def test_an_incomplete_profile_of_a_jpeg_is_noted():
    data = encode(patches(), "JPEG", icc_profile=DISPLAY_P3)
    place = data.index(b"ICC_PROFILE\0") + 13  # how many parts there are
    data = data[:place] + b"\2" + data[place + 1 :]
    (note,) = decode_with_info(data)[1].notes
    assert "damaged" in note


@pytest.mark.parametrize("profile, plain", [(None, True), (SRGB, True), (b"none", True), (DISPLAY_P3, False)])
def test_tensorflow_decodes_no_jpeg_whose_colours_a_profile_changes(profile, plain):
    data = encode(patches(), "JPEG", icc_profile=profile)
    assert (plain_jpeg_size(data) is not None) == plain


def test_a_long_profile_in_many_segments():
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249), b"pad ": b"text\0\0\0\0" + bytes(150_000)}
    names = zip((b"rXYZ", b"gXYZ", b"bXYZ"), P3)
    tags |= {name: xyz(*colorant) for name, colorant in names}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(*SRGB_CURVE))
    data = encode(patches(), "JPEG", quality=100, subsampling=0, icc_profile=icc(b"RGB ", b"XYZ ", tags))
    assert_both(data, encoded_levels(linear(patches()) @ TO_SRGB.T), 4)
    assert plain_jpeg_size(data) is None
