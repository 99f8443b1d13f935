"""TIFF, HEIC, AVIF, .npy and deep PNG files, which other tools write and, where they can, read for comparison."""

import io
import logging
import os
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_vit.data.check import check_folder
from keras_vit.data.decoding import ImageError, decode, decode_with_info, notes_of, read_for_clients, recognize
from keras_vit.runtime.images import upright, upright_size

cv2 = pytest.importorskip("cv2")
tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")
pytestmark = pytest.mark.filterwarnings("error")

RANDOM = np.random.default_rng(0)
HEIGHT, WIDTH = 13, 7


def noise(dtype=np.uint8, channels=3) -> np.ndarray:
    """Numbers over the whole range of their type."""
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    if np.dtype(dtype).kind == "f":
        return RANDOM.random(shape).astype(dtype)
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def tiff(numbers, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, numbers, metadata=None, **options)
    return file.getvalue()


def npy(numbers, **options) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(numbers), **options)
    return file.getvalue()


def pillow(image, format, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def heic(image, **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    pytest.importorskip("pillow_heif").from_pillow(image).save(file, **({"quality": -1, "chroma": 444} | options))
    return file.getvalue()


def levels(numbers, top=None) -> np.ndarray:
    """Returns numbers as levels of RGB, rounded: by all bits of an integer, 0 to 1 of a float."""
    top = top or (1 if numbers.dtype.kind == "f" else np.iinfo(numbers.dtype).max)
    scaled = np.floor(numbers.astype(np.float64) * 255 / top + 0.5).astype(np.uint8)
    return scaled[..., None].repeat(3, -1) if scaled.ndim == 2 else scaled


def assert_read(data: bytes, expected, tolerance: int = 0):
    """Asserts the pixels of both decoders, which share no code."""
    for read in (decode, upright):
        pixels = read(data)
        assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).max() <= tolerance
    assert upright_size(data) == expected.shape[:2]


TYPES = [np.uint8, np.uint16, np.uint32, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_are_scaled_by_their_range(dtype, channels):
    numbers = noise(dtype, channels)
    photometric = {1: "minisblack", 3: "rgb"}[channels]
    for data in (tiff(numbers, photometric=photometric), npy(numbers)):
        assert_read(data, levels(numbers))
        mode = decode_with_info(data)[1].mode
        assert mode.split(" (")[0].endswith("grey" if channels == 1 else "colour")
        assert ("float" in mode) == (numbers.dtype.kind == "f")


LAYOUTS = {
    "big endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "planes": {"planarconfig": "separate"},
    "strips": {"rowsperstrip": 3},
    "tiles": {"tile": (16, 16)},
    "deflate": {"compression": "zlib"},
    "LZW": {"compression": "lzw"},
    "LZW, predictor": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "compressed tiles of planes": {"tile": (16, 32), "compression": "zlib", "planarconfig": "separate"},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_a_tiff(name, dtype):
    numbers = noise(dtype)
    planes = LAYOUTS[name].get("planarconfig") == "separate"
    stored = np.moveaxis(numbers, -1, 0) if planes else numbers
    assert_read(tiff(stored, photometric="rgb", **LAYOUTS[name]), levels(numbers))


MODES = ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"]
OF_LIBTIFF = [
    *((mode, kind) for mode in MODES for kind in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma")),
    *((mode, "jpeg") for mode in ("RGB", "L", "CMYK")),
]


@pytest.mark.parametrize("mode, compression", OF_LIBTIFF)
def test_tiff_files_of_libtiff_are_read_as_by_it(mode, compression):
    smooth = Image.fromarray(noise(channels=4)).resize((70, 50), Image.Resampling.BICUBIC)
    image = smooth.convert("RGB").quantize(16) if mode == "P" else smooth.convert(mode)
    data = pillow(image, "TIFF", compression=compression)
    seen = Image.open(io.BytesIO(data))
    shown = Image.new("RGBA", seen.size, "white")
    shown.alpha_composite(seen.convert("RGBA"))
    assert_read(data, np.asarray(shown.convert("RGB")), 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_files_of_opencv(dtype):
    numbers = noise(dtype)
    for kind in (".tiff", ".png"):
        if kind == ".tiff" or dtype != np.float32:
            data = cv2.imencode(kind, numbers[..., ::-1])[1].tobytes()
            assert_read(data, levels(numbers))


def test_white_may_be_zero():
    numbers = noise(np.uint16, 1)
    assert_read(tiff(numbers, photometric="miniswhite"), 255 - levels(numbers))


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_bits_that_fill_no_bytes(bits):
    numbers = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH), np.uint16 if bits > 8 else np.uint8)
    assert_read(
        tiff(numbers, photometric="minisblack", bitspersample=bits, compression=None), levels(numbers, 2**bits - 1)
    )


@pytest.mark.parametrize("top", [65535, 255])
def test_a_palette_of_16_bits_or_of_8_written_as_16(top):
    table, indices = RANDOM.integers(0, top, (3, 256), np.uint16, endpoint=True), noise(channels=1)
    table[0, 0] = top
    assert_read(tiff(indices, photometric="palette", colormap=table), levels(table.T[indices], top))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_transparency_of_a_tiff_shows_white(kind, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    colours, alpha = noise(np.float64), RANDOM.random((HEIGHT, WIDTH, 1))
    expected = colours * alpha + 1 - alpha
    stored = np.concatenate([colours * alpha if kind == "assocalpha" else colours, alpha], -1) * top
    data = tiff(
        (stored if dtype == np.float32 else stored.round()).astype(dtype), photometric="rgb", extrasamples=[kind]
    )
    assert_read(data, np.rint(expected * 255), 2)
    assert "transparency" in decode_with_info(data)[1].mode


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}], ids=["TIFF", "BigTIFF"])
def test_orientation_of_a_tiff(orientation, options):
    shown = noise()
    stored = shown[::-1] if orientation in (3, 4, 7, 8) else shown  # TIFF 6.0, Orientation
    stored = stored[:, ::-1] if orientation in (2, 3, 6, 7) else stored
    stored = stored.swapaxes(0, 1) if orientation >= 5 else stored
    data = tiff(np.ascontiguousarray(stored), photometric="rgb", extratags=[(274, 3, 1, orientation, True)], **options)
    assert_read(data, shown)
    assert decode_with_info(data)[1].orientation == orientation


def test_the_first_of_many_pages_is_read_and_noted():
    file, pages = io.BytesIO(), [noise() for _ in range(3)]
    with tifffile.TiffWriter(file) as writer:
        for page in pages:
            writer.write(page, photometric="rgb", metadata=None)
    assert_read(file.getvalue(), pages[0])
    (note,) = decode_with_info(file.getvalue())[1].notes
    assert "several images" in note


def test_bands_beside_the_colours_are_noted_and_bands_without_colours_refused():
    numbers = noise(np.uint16, 5)
    data = tiff(numbers, photometric="rgb", planarconfig="contig", extrasamples=["unspecified", "unspecified"])
    assert_read(data, levels(numbers[..., :3]))
    (note,) = notes_of(data)
    assert "2 bands" in note
    data = tiff(numbers, photometric="minisblack", planarconfig="contig")
    for read in (decode, upright):
        with pytest.raises(ValueError, match="5 bands"):
            read(data)


RAW = {
    "DNG": {"photometric": "rgb", "extratags": [(50706, 1, 4, b"\1\4\0\0", True)]},
    "thumbnail": {"photometric": "rgb", "subfiletype": 1},
    "sensor": {"photometric": "cfa"},
}


@pytest.mark.parametrize("name", RAW)
def test_raw_files_of_cameras_are_refused(name):
    data = tiff(noise(channels=1 if name == "sensor" else 3), **RAW[name])
    for read in (decode, upright):
        with pytest.raises(ValueError):
            read(data)
    with pytest.raises(ImageError, match="camera's raw file"):
        decode(data)
    with pytest.raises(ImageError, match="camera's raw file"):
        decode(b"II*\0\x10\0\0\0CR\2\0")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.complex64])
def test_numbers_without_a_range_are_refused_until_it_is_stated(dtype, monkeypatch):
    numbers = np.array([[-1000, -300], [50, 400]]).astype(dtype)
    data = tiff(numbers, photometric="minisblack"), npy(numbers)
    for read in (decode, upright):
        for item in data:
            with pytest.raises(ValueError, match=str(np.dtype(dtype))):
                read(item)
    if dtype != np.complex64:
        monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", "-1000,400")
        for item in data:
            assert_read(item, levels(numbers + 1000, 1400))
        assert decode_with_info(data[0])[1].mode == f"{8 * numbers.itemsize}-bit signed grey (-1000 to 400)"


@pytest.mark.parametrize("worst", [-0.01, 1.01, 255, np.nan, np.inf, -1e300])
def test_floats_out_of_range_are_refused(worst):
    numbers = noise(np.float64)
    numbers[3, 4, 1] = worst
    for data in (tiff(numbers, photometric="rgb"), npy(numbers)):
        for read in (decode, upright):
            with pytest.raises(ValueError, match="KERAS_VIT_VALUE_RANGE|NaN or infinite"):
                read(data)


def test_sums_that_leave_the_range_by_their_rounding_are_read():
    numbers = np.array([[1.0000001, -1e-9, 0.5]], np.float32)
    assert_read(npy(numbers), np.array([[[255] * 3, [0] * 3, [128] * 3]]))


def test_a_stated_range_holds_for_more_than_8_bits_alone(monkeypatch):
    monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", "100,4195")
    deep = np.array([[0, 100, 2147, 4195, 65535]], np.uint16)
    expected = np.array([0, 0, 127, 255, 255], np.uint8)[None, :, None].repeat(3, -1)
    for data in (tiff(deep, photometric="minisblack"), npy(deep), pillow(deep, "PNG"), npy(deep.astype(np.float32))):
        assert_read(data, expected, 1)
    for data in (tiff(noise(), photometric="rgb"), pillow(noise(), "PNG")):
        unstated = decode(data)
        monkeypatch.delenv("KERAS_VIT_VALUE_RANGE")
        assert decode(data).tobytes() == unstated.tobytes()
        monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", "100,4195")


@pytest.mark.parametrize("value", ["1", "1,1", "2,1", "0,nan", "a,b", "0,1,2", "-1e308,1e308"])
def test_a_range_that_makes_no_sense_is_no_fault_of_an_image(value, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", value)
    with pytest.raises(ValueError, match=f"Received: KERAS_VIT_VALUE_RANGE='{value}'") as caught:
        decode(pillow(noise(), "PNG"))
    assert not isinstance(caught.value, ImageError)


@pytest.mark.parametrize("top, dark", [(4095, True), (16000, True), (17000, False), (65535, False)])
def test_numbers_of_fewer_bits_than_their_type_are_noted(top, dark):
    numbers = np.array([[0, top // 2, top]], np.uint16)
    for data in (pillow(numbers, "PNG"), npy(numbers), tiff(numbers, photometric="minisblack")):
        notes = decode_with_info(data)[1].notes
        assert any("lowest quarter of their 16 bits" in note for note in notes) == dark


@pytest.mark.parametrize("shape", [(5,), (5, 7, 2), (5, 7, 4), (2, 5, 7, 3), (3, 5, 7), (0, 7), ()])
def test_arrays_of_other_shapes_are_refused(shape):
    for read in (decode, upright):
        with pytest.raises(ValueError):
            read(npy(np.zeros(shape, np.uint8)))


def test_arrays_by_columns_of_any_byte_order_and_version():
    numbers = noise(np.uint16)
    for array in (np.asfortranarray(numbers), numbers.astype(">u2"), numbers[..., :1]):
        for version in ((1, 0), (2, 0)):
            assert_read(npy(array, version=version), levels(numbers if array.shape[2] == 3 else numbers[..., 0]))
    bits = noise(channels=1) > 100
    assert_read(npy(bits), levels(bits.astype(np.uint8), 1))


@pytest.mark.parametrize("array", [np.array([[object()]]), np.array([["text"]]), np.zeros((2, 3), [("a", "u1")])])
def test_arrays_of_other_types_are_refused(array):
    for read in (decode, upright):
        with pytest.raises(ValueError):
            read(npy(array))


CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


def deep_png(kind: int, numbers: np.ndarray, *chunks: bytes) -> bytes:
    """Returns a PNG with 16 bits a channel, which libpng in OpenCV or a few lines here write."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", numbers.shape[1], len(numbers), 16, kind, 0, 0, 0))
    middle = b"".join(chunk(b"tRNS", body) for body in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", CHANNELS)
def test_pngs_of_16_bits_keep_them(kind):
    numbers = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, CHANNELS[kind]), np.uint16)
    colours = levels(numbers[..., : 3 if kind & 2 else 1]).astype(float) * np.ones(3)
    if kind & 4:
        alpha = numbers[..., -1:] / 65535
        assert_read(deep_png(kind, numbers), np.rint(colours * alpha + 255 * (1 - alpha)), 1)
    else:
        assert_read(deep_png(kind, numbers), colours.astype(np.uint8))
        key = numbers[2, 3]
        numbers[5, 5] = key + np.uint16(1) if key[0] < 65535 else key - np.uint16(1)  # the same high byte, or nearly
        colours = levels(numbers).astype(float) * np.ones(3)
        colours[2, 3] = 255
        assert_read(deep_png(kind, numbers, key.astype(">u2").tobytes()), colours.astype(np.uint8))


def test_interlaced_and_rotated_pngs_of_16_bits():
    numbers = noise(np.uint16)
    interlaced = cv2.imencode(".png", numbers[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    assert_read(interlaced, levels(numbers))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_and_avif_are_upright(orientation):
    smooth = Image.fromarray(noise()).resize((64, 48), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes()
    expected = np.asarray(smooth.transpose({3: 3, 6: 4, 8: 2}[orientation]) if orientation > 1 else smooth)
    written = {
        "AVIF": pillow(smooth, "AVIF", quality=100, subsampling="4:4:4", exif=block),
        "HEIC": heic(smooth, exif=block),
    }
    for name, data in written.items():
        assert recognize(data) == name
        assert_read(data, expected, 6)


def test_transparency_of_heic_and_avif_shows_white():
    pixels = np.full((32, 48, 4), (200, 100, 50, 255), np.uint8)
    pixels[:16, :, 3] = 0
    expected = np.where(pixels[..., 3:] == 0, 255, pixels[..., :3])
    for data in (pillow(pixels, "AVIF", quality=100, subsampling="4:4:4"), heic(pixels)):
        assert_read(data, expected, 6)


def test_the_brand_of_the_container_alone():
    """A file may name that of the container first, and its own among the others."""
    for data in (pillow(noise(), "AVIF", quality=100, subsampling="4:4:4"), heic(Image.new("RGB", (64, 64), "red"))):
        name = recognize(data)
        (size,) = struct.unpack_from(">I", data)
        brands = data[:8] + b"mif1" + data[12:16] + b"mif1miaf" + data[8:12]
        other = struct.pack(">I", len(brands)) + brands[4:] + data[size:]
        assert recognize(other) == name


def samples() -> dict[str, bytes]:
    smooth = Image.fromarray(noise()).resize((40, 30), Image.Resampling.BICUBIC)
    deep = np.asarray(smooth).astype(np.uint16) * 257
    return {
        "tiff": tiff(deep, photometric="rgb"),
        "tiff, LZW": tiff(deep, photometric="rgb", compression="lzw", predictor=True),
        "tiff, deflate tiles": tiff(deep, photometric="rgb", compression="zlib", tile=(16, 16)),
        "tiff of libtiff": pillow(smooth, "TIFF", compression="tiff_lzw"),
        "tiff, JPEG": pillow(smooth, "TIFF", compression="jpeg"),
        "tiff, palette": pillow(smooth.quantize(16), "TIFF"),
        "npy": npy(deep),
        "png": deep_png(2, deep),
        "avif": pillow(smooth, "AVIF"),
        "heic": heic(smooth),
    }


@pytest.mark.parametrize("name", samples())
def test_a_file_cut_anywhere_is_refused_or_complete(name):
    data = samples()[name]
    whole = decode(data)
    lengths = range(0, len(data), max(1, len(data) // 150))
    refused = 0
    for length in lengths:
        try:
            pixels = decode(data[:length])
        except ValueError:
            refused += 1
        else:
            assert pixels.tobytes() == whole.tobytes()
    assert refused > len(lengths) * 0.7


@pytest.mark.parametrize("name", samples())
def test_damaged_bytes_raise_nothing_but_value_errors(name, caplog, capfd):
    data = np.frombuffer(samples()[name], np.uint8)
    random = np.random.default_rng(1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(150):
            spoilt = data.copy()
            places = random.integers(4, min(len(data), random.choice([60, 400, len(data)])), random.integers(1, 6))
            spoilt[places] = random.integers(0, 256, len(places))
            try:
                pixels = decode(spoilt.tobytes())
            except ValueError as error:
                assert "\n" not in str(error)
            else:
                assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert not warned
    if name not in ("tiff, LZW", "tiff of libtiff"):  # libtiff writes to stderr why it refuses LZW
        assert capfd.readouterr() == ("", "")


def claimed_tiff(width: int, height: int, **options) -> bytes:
    data = bytearray(tiff(noise(), photometric="rgb", **options))
    for tag, number in ((256, width), (257, height)):
        place = data.index(struct.pack("<H", tag), 8)
        struct.pack_into("<HII", data, place + 2, 4, 1, number)
    return bytes(data)


def claimed_tiles(side: int) -> bytes:
    data = bytearray(tiff(noise(), photometric="rgb", tile=(16, 16), compression="zlib"))
    for tag in (322, 323):
        place = data.index(struct.pack("<H", tag), 8)
        struct.pack_into("<HII", data, place + 2, 4, 1, side)
    return bytes(data)


CLAIMS = {
    "tiff": claimed_tiff(60000, 60000),
    "tiff of tiles": claimed_tiles(60000 // 16 * 16),
    "npy": npy(noise(channels=1)).replace(b"(13, 7)", b"(60000, 60000)", 1).replace(b" " * 14, b"", 1),
    "png": deep_png(2, noise(np.uint16))[:16] + struct.pack(">II", 60000, 60000) + deep_png(2, noise(np.uint16))[24:],
    "avif": pillow(noise(), "AVIF").replace(struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", 60000, 60000)),
    "heic": heic(Image.new("RGB", (64, 64))).replace(struct.pack(">II", 64, 64), struct.pack(">II", 30000, 30000)),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_size_that_is_only_claimed_is_refused_before_decoding(name):
    for read in (decode, upright):
        tracemalloc.start()
        with pytest.raises(ValueError):
            read(CLAIMS[name])
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 5e6


def test_the_limit_of_pixels_holds_for_every_format(monkeypatch):
    for name, data in samples().items():
        size = decode(data).shape
        monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", str(size[0] * size[1] - 1))
        for read in (decode, upright):
            with pytest.raises(ValueError, match="pixels.*KERAS_VIT_MAX_PIXELS"):
                read(data)
        monkeypatch.delenv("KERAS_VIT_MAX_PIXELS")
        assert recognize(data).lower() in name


@pytest.mark.parametrize(
    "package, name, extra",
    [("tifffile", "tiff", "tiff"), ("imagecodecs", "tiff", "tiff"), ("pillow_heif", "heic", "heic")],
)
def test_a_package_that_is_missing_is_named(package, name, extra, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if module == package else find(module))
    with pytest.raises(ImageError, match=f'need the extra "{extra}": pip install'):
        decode(samples()[name])


def test_what_clients_may_not_read_is_a_png_for_them():
    for name, data in samples().items():
        sent = read_for_clients(data)
        assert (sent == data) == (name == "png")
        assert decode(sent).tobytes() == decode(data).tobytes()


def test_check_names_formats_types_and_notes(tmp_path, caplog):
    files = samples()
    for index, (name, data) in enumerate(files.items()):
        for kind in ("a", "b"):
            path = tmp_path / kind / f"{index}.{name[:4].strip(',')}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    (tmp_path / "a/dark.npy").write_bytes(npy(noise(np.uint16, 1) // 16))
    with caplog.at_level(logging.WARNING):
        report = check_folder(tmp_path)
    assert not report.bad and not report.misnamed
    assert report.formats == {"TIFF": 12, "NPY": 3, "PNG": 2, "AVIF": 2, "HEIC": 2}
    assert report.modes["16-bit colour (0 to 65535)"] == 10
    assert any(note.startswith("a/dark.npy: its numbers") for note in report.notes)


def test_notes_and_ranges_outlive_the_cache_of_readings(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("keras_vit.data.listing.WORTH_SECONDS", -1)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        path = tmp_path / f"images/{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(npy(noise(np.uint16, 1) // 16))
        os.utime(path, (1e9, 1e9))
    first, second = (check_folder(tmp_path / "images", test=0.5) for _ in range(2))
    assert first.notes == second.notes and "lowest quarter" in first.notes[-1]
    monkeypatch.setenv("KERAS_VIT_VALUE_RANGE", "0,4095")
    assert check_folder(tmp_path / "images", test=0.5).modes == {"16-bit grey (0 to 4095)": 4}
