import contextlib
import io
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from keras_vit.data import decoding as decode_module
from keras_vit.data.decoding import FileRange, decode, decode_with_info, read_file
from keras_vit.runtime.images import upright

pytestmark = pytest.mark.filterwarnings("error")

ROWS, COLUMNS = 13, 7  # primes, and different, so that a swapped axis cannot pass
JPEG_LOSS = 6  # levels, on the smooth image at quality 95 without chroma subsampling; 3 was seen


def colours() -> np.ndarray:
    """A smooth image whose four corners differ, so that JPEG hurts little and every flip shows."""
    rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
    return np.stack([rows * 19, columns * 40, 255 - rows * 8 - columns * 20], -1).clip(0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, format, **options)
    return file.getvalue()


def png(depth: int, colour_type: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """Writes a PNG that Pillow cannot write; `rows` are the packed bytes of each row."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    raw = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in rows)
    columns = rows.shape[1] * 8 // (depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour_type])
    head = struct.pack(">IIBBBBB", columns, len(rows), depth, colour_type, 0, 0, 0)
    body = b"".join(chunk(kind, data) for kind, data in chunks)
    end = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + end


def assert_pixels(actual: np.ndarray, expected: np.ndarray, tolerance: int = 0):
    assert actual.dtype == np.uint8
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize("format, options", [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_back_every_pixel(format, options):
    assert_pixels(decode(encode(colours(), format, **options)), colours())


def test_jpeg():
    assert_pixels(decode(encode(colours(), "JPEG", quality=95, subsampling=0)), colours(), JPEG_LOSS)


def test_lossy_webp():
    flat = np.full((ROWS, COLUMNS, 3), (200, 100, 50), np.uint8)
    assert_pixels(decode(encode(flat, "WEBP", quality=95)), flat, 3)  # its YUV has a coarser step than RGB


def test_mpo_gives_its_first_image():
    first, second = Image.fromarray(colours()), Image.new("RGB", (5, 3), "red")
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=95, subsampling=0)
    pixels, info = decode_with_info(data)
    assert_pixels(pixels, colours(), JPEG_LOSS)
    assert info.format == "JPEG"


def test_path_str_and_bytes_agree_and_the_name_has_no_say(tmp_path):
    path = tmp_path / "really a png.jpg"
    path.write_bytes(encode(colours(), "PNG"))
    for image in (path, str(path), path.read_bytes()):
        assert_pixels(decode(image), colours())


def test_result_can_be_written_to():
    decode(encode(colours(), "PNG"))[0, 0] = 0


# What each orientation asks for, told by where the stored first row and first column are to be seen
# (EXIF 2.32, table on Orientation): as indices of the seen image into the stored one.
SEEN = {
    1: lambda r, c: (r, c),
    2: lambda r, c: (r, COLUMNS - 1 - c),  # first column is seen on the right
    3: lambda r, c: (ROWS - 1 - r, COLUMNS - 1 - c),
    4: lambda r, c: (ROWS - 1 - r, c),  # first row is seen at the bottom
    5: lambda r, c: (c, r),  # first row is seen on the left, first column at the top
    6: lambda r, c: (ROWS - 1 - c, r),  # first row is seen on the right, first column at the top
    7: lambda r, c: (ROWS - 1 - c, COLUMNS - 1 - r),
    8: lambda r, c: (c, COLUMNS - 1 - r),  # first row is seen on the left, first column at the bottom
}


def seen(stored: np.ndarray, orientation: int) -> np.ndarray:
    rows, columns = (COLUMNS, ROWS) if orientation >= 5 else (ROWS, COLUMNS)
    return np.array([[stored[SEEN[orientation](r, c)] for c in range(columns)] for r in range(rows)])


def exif(orientation: int, order: str = "<") -> bytes:
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entries = struct.pack(order + "HHII", 0x0100, 4, 1, 99)  # another tag in front
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(format, order, orientation):
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[format]
    pixels, info = decode_with_info(encode(colours(), format, exif=exif(orientation, order), **options))
    assert_pixels(pixels, seen(colours(), orientation), JPEG_LOSS if format == "JPEG" else 0)
    assert (info.height, info.width, info.orientation) == (*pixels.shape[:2], orientation)


@pytest.mark.parametrize(
    "block",
    [
        exif(0),
        exif(9),
        exif(6)[:20],
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 60000),
        exif(6).replace(struct.pack("<HHI", 0x0112, 3, 1), struct.pack("<HHI", 0x0112, 2, 1)),
    ],
    ids=["zero", "nine", "cut", "bare", "far", "many", "text"],
)
def test_exif_that_makes_no_sense_turns_nothing_and_warns_of_nothing(block):
    for format in ("JPEG", "PNG"):
        pixels, info = decode_with_info(encode(colours(), format, exif=block))
        assert pixels.shape == (ROWS, COLUMNS, 3)
        assert info.orientation == 1


def test_orientation_of_16_bit_grey():
    deep = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS) * 257
    stored = np.repeat((deep // 257).astype(np.uint8)[..., None], 3, -1)
    assert_pixels(decode(encode(deep, "PNG", exif=exif(6))), seen(stored, 6))


def test_grey_and_black_and_white():
    grey = colours()[..., 0]
    assert_pixels(decode(encode(grey, "PNG")), np.repeat(grey[..., None], 3, -1))
    bits = (grey > 99).astype(np.uint8) * 255
    pixels, info = decode_with_info(encode(Image.fromarray(grey > 99), "PNG"))
    assert_pixels(pixels, np.repeat(bits[..., None], 3, -1))
    assert info.mode == "black and white"


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF"])
def test_palette(format):
    palette = np.array([[9, 80, 200], [255, 0, 3], [1, 2, 3], [77, 66, 55]], np.uint8)
    indices = (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 4).astype(np.uint8)
    image = Image.fromarray(indices, "L").copy()
    image.putpalette(palette.tobytes())
    assert_pixels(decode(encode(image, format)), palette[indices])


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.floor(rgb * share + 255 * (1 - share) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("format, options", [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_alpha_is_laid_on_white(format, options):
    alpha = (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) * 255 // (ROWS * COLUMNS - 1)).astype(np.uint8)
    pixels, info = decode_with_info(encode(np.dstack([colours(), alpha]), format, **options))
    assert_pixels(pixels, on_white(colours(), alpha))
    assert (pixels[0, 0] == 255).all()  # alpha 0: nothing of the hidden colour
    assert info.mode == "colour with transparency"


def test_grey_with_alpha_is_laid_on_white():
    grey = colours()[..., 0]
    alpha = colours()[..., 1]
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    assert_pixels(decode(encode(image, "PNG")), on_white(np.repeat(grey[..., None], 3, -1), alpha))


@pytest.mark.parametrize("transparency", [2, bytes([255, 128, 0, 255])], ids=["one", "many"])
def test_transparent_palette_entries(transparency):
    palette = np.array([[9, 80, 200], [255, 0, 3], [1, 2, 3], [77, 66, 55]], np.uint8)
    alphas = np.array([255, 255, 0, 255] if transparency == 2 else list(transparency), np.uint8)
    indices = (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 4).astype(np.uint8)
    image = Image.fromarray(indices, "L").copy()
    image.putpalette(palette.tobytes())
    data = encode(image, "PNG", transparency=transparency)
    assert_pixels(decode(data), on_white(palette[indices], alphas[indices]))


def test_one_transparent_colour():
    grey = np.arange(ROWS * COLUMNS, dtype=np.uint8).reshape(ROWS, COLUMNS)
    expected = np.repeat(grey[..., None], 3, -1)
    expected[grey == 5] = 255
    assert_pixels(decode(encode(grey, "PNG", transparency=5)), expected)
    rgb = colours()
    expected = rgb.copy()
    expected[2, 3] = 255
    data = encode(rgb, "PNG", transparency=tuple(int(value) for value in rgb[2, 3]))
    assert_pixels(decode(data), expected)


def test_one_transparent_grey_of_1_2_4_and_16_bits():
    one = png(1, 0, np.array([[0b10110000]]), (b"tRNS", b"\0\0"))
    assert decode(one)[0, :, 0].tolist() == [255] * 8  # black is transparent, white is white
    two = png(2, 0, np.array([[0b00011011]]), (b"tRNS", b"\0\2"))
    assert decode(two)[0, :, 0].tolist() == [0, 85, 255, 255]
    four = png(4, 0, np.array([[0x07, 0xAF]]), (b"tRNS", b"\0\x07"))
    assert decode(four)[0, :, 0].tolist() == [0, 255, 170, 255]
    sixteen = png(16, 0, np.array([[1, 2, 1, 3]]), (b"tRNS", b"\1\2"))
    assert decode(sixteen)[0, :, 0].tolist() == [255, 1]  # 0x0103 is not the key, though its high byte is


def test_16_bit_grey_is_scaled_and_rounded():
    values = np.array([[0, 128, 129, 513, 32767, 32896, 65406, 65407, 65535]], np.uint16)
    pixels, info = decode_with_info(encode(values, "PNG"))
    # a level is 257 wide: 128 / 257 is below a half, 129 / 257 above; cutting would give 0, 2 (513) and 254
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 2, 127, 128, 254, 255, 255]
    assert (pixels == pixels[..., :1]).all()
    assert info.mode == "16-bit grey (0 to 65535)"


def test_16_bit_colour_is_scaled_and_rounded():
    row = np.array([[0x12, 0x34, 0x56, 0xE0, 0x9A, 0xBC, 0xFF, 0xFF, 0, 0, 0x80, 0x80]])
    pixels, info = decode_with_info(png(16, 2, row))
    assert pixels.tolist() == [[[0x12, 0x57, 0x9A], [0xFF, 0, 0x80]]]  # 0x56E0 is nearer to 0x57 * 257
    assert info.mode == "16-bit colour (0 to 65535)"
    keyed = png(16, 2, row, (b"tRNS", bytes([0x12, 0x34, 0x56, 0xE0, 0x9A, 0xBC])))
    assert decode(keyed).tolist() == [[[255, 255, 255], [0xFF, 0, 0x80]]]
    alpha = png(16, 6, np.array([[0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0, 0]]))
    assert decode(alpha).tolist() == [[[255, 255, 255]]]


def test_cmyk_jpeg():
    cmyk = np.zeros((ROWS, COLUMNS, 4), np.uint8)
    cmyk[..., 0], cmyk[..., 3] = 255, 51  # full cyan, a fifth of black
    pixels, info = decode_with_info(
        encode(Image.frombytes("CMYK", (COLUMNS, ROWS), cmyk.tobytes()), "JPEG", quality=95)
    )
    assert_pixels(pixels, np.full((ROWS, COLUMNS, 3), (0, 204, 204), np.uint8), 3)  # JPEG's rounding
    assert info.mode == "CMYK"


def test_ycck_jpeg():
    # Pillow stores CMYK inverted and unconverted. Here the stored numbers are called YCCK: Y, Cb, Cr of 100,
    # 128, 198 are R, G, B of 198, 50, 100 (JFIF). Of these a YCCK file keeps the complement in its inverted
    # C, M, Y (libjpeg's jdcolor.c), and inverted ink, with no black, is the light that is seen.
    stored = np.full((ROWS, COLUMNS, 4), (255 - 100, 255 - 128, 255 - 198, 0), np.uint8)
    data = encode(Image.frombytes("CMYK", (COLUMNS, ROWS), stored.tobytes()), "JPEG", quality=95)
    adobe = data.index(b"Adobe")
    assert data[adobe + 11] == 0
    data = data[: adobe + 11] + b"\2" + data[adobe + 12 :]
    assert_pixels(decode(data), np.full((ROWS, COLUMNS, 3), (57, 205, 155), np.uint8), 3)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animation_shows_its_first_image(format):
    frames = [Image.new("RGB", (COLUMNS, ROWS), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50, **options)
    assert_pixels(decode(data), np.full((ROWS, COLUMNS, 3), (255, 0, 0), np.uint8))


@pytest.mark.parametrize("disposal", [0, 2, 3])
def test_transparent_gif_animation(disposal):
    first = Image.new("RGBA", (COLUMNS, ROWS), (255, 0, 0, 255))
    first.paste((0, 0, 0, 0), (0, 0, 2, 3))
    second = Image.new("RGBA", (COLUMNS, ROWS), (0, 0, 255, 255))
    data = encode(first, "GIF", save_all=True, append_images=[second], disposal=disposal)
    expected = np.full((ROWS, COLUMNS, 3), (255, 0, 0), np.uint8)
    expected[:3, :2] = 255
    assert_pixels(decode(data), expected)


def test_a_spoilt_animation_of_a_png_warns_of_nothing():
    row = np.array([[10, 20, 30]])
    assert decode(png(8, 0, row, (b"acTL", bytes(8)))).shape == (1, 3, 3)


def test_gif_with_less_palette_than_indices_and_none_at_all():
    assert decode(encode(colours()[..., 0], "GIF")).shape == (ROWS, COLUMNS, 3)


BOMBS = {
    "png": png(8, 0, np.zeros((1, 1), int))[:16] + struct.pack(">II", 60000, 60000),
    "bmp": b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, *[0] * 6),
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", 60000, 60000, 0, 0, 0)
    + b","
    + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    + b"\2",
    "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + 2 * (60000 - 1).to_bytes(3, "little"),
    "webp lossless": b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + (16383 | 16383 << 14).to_bytes(4, "little") + bytes(9),
    "webp lossy": b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0" + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383),
}
_crc = zlib.crc32(BOMBS["png"][12:24] + b"\x08\0\0\0\0")
BOMBS["png"] += b"\x08\0\0\0\0" + struct.pack(">I", _crc) + png(8, 0, np.zeros((1, 1), int))[33:]
_jpeg = encode(colours(), "JPEG", progressive=True)
_frame = _jpeg.index(b"\xff\xc2")
BOMBS["jpeg"] = _jpeg[: _frame + 5] + struct.pack(">HH", 60000, 60000) + _jpeg[_frame + 9 :]


@pytest.mark.parametrize("name", BOMBS)
def test_a_size_that_is_only_claimed_is_refused_before_decoding(name, monkeypatch):
    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)  # Pillow's own guard is not what is tested
    with pytest.raises(ValueError, match=r"bytes: claims (60,000 x 60,000|16,38\d x 16,38\d) pixels"):
        decode(BOMBS[name])


def test_the_bound_is_inclusive_and_large_images_do_not_warn(monkeypatch):
    data = encode(colours(), "PNG")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10)  # Pillow would warn from 11 pixels on
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(ROWS * COLUMNS))
    assert decode(data).shape == (ROWS, COLUMNS, 3)
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(ROWS * COLUMNS - 1))
    with pytest.raises(ValueError, match="claims 7 x 13 pixels.*at most 90.*KERAS_VIT_MAX_PIXELS"):
        decode(data)
    for value in ("0", "-1", "many", "1e9"):
        monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", value)
        with pytest.raises(ValueError, match=f"Received: KERAS_VIT_MAX_PIXELS='{value}'") as caught:
            decode(data)
        assert not isinstance(caught.value, decode_module.ImageError)  # no reason to leave the image out


@pytest.mark.parametrize("most, scale", [(90 * 150, 1), (90 * 150 - 1, 2), (45 * 75 - 1, 4), (23 * 38 - 1, 8)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_above_the_limit_is_decoded_at_a_reduced_scale(most, scale, mode, monkeypatch):
    whole = Image.fromarray(colours()).resize((150, 90), Image.Resampling.BILINEAR)
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(most))
    pixels, info = decode_with_info(encode(whole.convert(mode), "JPEG", quality=95))
    assert pixels.shape == (-(-90 // scale), -(-150 // scale), 3) == (info.height, info.width, 3)
    assert np.array_equal(upright(encode(whole.convert(mode), "JPEG", quality=95)), pixels)
    small = np.asarray(whole.convert(mode).convert("RGB").resize(pixels.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(pixels.astype(int) - small)[:-1, :-1].mean() < 6  # 90 / 8 is no whole number


def in_two_scans(jpeg: bytes) -> bytes:
    """Makes the first scan of a JPEG one of a single component."""
    scan = jpeg.index(b"\xff\xda")
    assert jpeg[scan + 4] == 3
    return jpeg[:scan] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + jpeg[scan + 14 :]


LARGE = Image.new("RGB", (150, 90))


@pytest.mark.parametrize(
    "data",
    [
        encode(LARGE, "JPEG", progressive=True),
        in_two_scans(encode(LARGE, "JPEG")),
        *(encode(LARGE, format) for format in ("PNG", "GIF", "BMP", "WEBP")),
    ],
    ids=["progressive", "two scans", "png", "gif", "bmp", "webp"],
)
def test_what_would_be_in_memory_as_a_whole_is_refused(data, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(90 * 150 - 1))
    with pytest.raises(ValueError, match="claims 150 x 90 pixels"):
        decode(data)
    with pytest.raises(ValueError, match="150 x 90 pixels"):
        upright(data)


def test_images_that_are_decoded_at_once_share_the_limit(monkeypatch):
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(5 * ROWS * COLUMNS // 2))
    together, most = [], []
    real = decode_module._converted

    def flat(*args):
        together.append(1)
        most.append(len(together))
        time.sleep(0.01)
        together.pop()
        return real(*args)

    monkeypatch.setattr(decode_module, "_converted", flat)
    data = [encode(colours(), "PNG"), encode(colours(), "WEBP"), encode(colours(), "PNG")[:-30]] * 4

    def decode_or_refuse(data):
        with contextlib.suppress(ValueError):
            decode(data)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode_or_refuse, data))
    assert max(most) == 2


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html>not found</html>", "web page"),
        (b"<!-- saved -->\n<HTML>", "web page"),
        (b"GIF", "not an image in a format that is read"),
        (b"BMore text than image", "BMP that is damaged"),
        (b"hello", "convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(9), 'a HEIC that is damaged or cut short|extra "heic"'),
        (b"\0\0\0\x18ftypavif" + bytes(9), "an AVIF that is damaged or cut short"),
        (b"\0\0\0\x18ftypcrx " + bytes(9), "a camera's raw file is not read"),
        (b"8BPS\0\1", "Photoshop"),
        (b"<?xml version='1.0'?>\n<svg>", "SVG is not read"),
        (encode(colours(), "TIFF")[:100], 'a TIFF that is damaged or cut short|extra "tiff"'),
        (png(8, 0, np.zeros((0, 1), int)), "damaged or cut short"),  # no rows
        (b"GIF89a" + bytes(7) + b"," + bytes(9) + b"\2;", "damaged or cut short"),  # 0 x 0
    ],
)
def test_what_is_no_image_is_named_with_the_reason_in_one_line(tmp_path, content, reason):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"^bytes: .*{reason}"):
        decode(content)


def test_missing_file_folder_and_wrong_type(tmp_path):
    with pytest.raises(ValueError, match="gone.jpg: no such file"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match="not a file but a folder"):
        decode(tmp_path)
    with pytest.raises(TypeError, match="Received: ndarray"):
        decode(colours())


def samples() -> dict[str, bytes]:
    frames = [Image.new("P", (COLUMNS, ROWS), index) for index in (3, 4)]
    return {
        "jpeg": encode(colours(), "JPEG", exif=exif(6)),
        "progressive jpeg": encode(colours(), "JPEG", progressive=True),
        "png": encode(colours(), "PNG", exif=exif(6)),
        "16-bit png": encode(colours()[..., 0].astype(np.uint16) * 257, "PNG"),
        "apng": encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "bmp": encode(colours(), "BMP"),
        "gif": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "webp": encode(colours(), "WEBP", exif=exif(6)),
        "lossless webp": encode(colours(), "WEBP", lossless=True),
    }


@pytest.mark.parametrize("name", samples())
def test_a_file_cut_anywhere_is_refused_or_complete(name):
    data = samples()[name]
    whole = decode(data)
    refused = 0
    for length in range(len(data)):
        try:
            pixels = decode(data[:length])
        except ValueError:
            refused += 1
        else:  # only what comes after the pixels may be missing; EXIF may come after them in a WebP
            assert_pixels(pixels, whole)
    assert refused > len(data) * 0.4


@pytest.mark.parametrize("name", samples())
def test_damaged_bytes_raise_nothing_but_value_errors(name):
    data = np.frombuffer(samples()[name], np.uint8)
    random = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as warned:  # as errors they would end as ValueErrors, unseen
        warnings.simplefilter("always")
        for _ in range(300):
            _decode_spoilt(data, random)
    assert not warned


def _decode_spoilt(data, random):
    spoilt = data.copy()
    places = random.integers(2, len(data), random.integers(1, 6))
    spoilt[places] = random.integers(0, 256, len(places))
    try:
        pixels = decode(spoilt.tobytes())
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


def test_threads_leave_the_warning_filters_as_they_were():
    before = list(warnings.filters)
    data = [samples()["gif"], samples()["apng"]] * 20
    threads = [threading.Thread(target=decode, args=(item,)) for item in data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_a_record_is_read_from_its_place(tmp_path, image):
    path = tmp_path / "many.bin"
    path.write_bytes(b"before" + image(1) + image(2) + b"after")
    record = FileRange(str(path), 6 + len(image(1)), len(image(2)))
    assert read_file(record) == image(2)
    assert (decode(record) == decode(image(2))).all()
    with pytest.raises(ValueError, match="many.bin, 9 bytes from 6 on: a PNG that is damaged or cut short"):
        decode(FileRange(str(path), 6, 9))
    with pytest.raises(ValueError, match="many.bin, 10 bytes from 9,999 on: the file ends before it does"):
        decode(FileRange(str(path), 9999, 10))
    with pytest.raises(ValueError, match="no such file"):
        decode(FileRange(str(tmp_path / "gone.bin"), 0, 10))
