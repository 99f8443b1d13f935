"""Decodes image files into upright images: grey, RGB or RGBA in sRGB, or the bands of a file."""

import contextlib
import functools
import importlib
import importlib.util
import io
import math
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from keras_vit._arguments import counted
from keras_vit.data.messages import one_line
from keras_vit.data.profiles import changes_colours, profile_fault, to_srgb

# Where Pillow warns. A file of a few kilobytes can claim far more, so the header is checked first.
MAX_PIXELS = 89_478_485
_SETTING = "KERAS_VIT_MAX_PIXELS"
RANGE_SETTING = "KERAS_VIT_VALUE_RANGE"
SCAN = 0xDA  # the segment in front of a JPEG's codes

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> the operation that makes the image upright; 1 needs none
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MODES = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette", "CMYK": "CMYK"}
_NOT_READ = (  # (first bytes, format) of other files that may be expected to work
    (rb"II\*\0....CR|IIR[OS]|IIU\0|....ftypcrx", "a camera's raw file"),
    (rb"8BPS", "a Photoshop file"),
    (rb"\x00\x00\x01\x00", "ICO"),
    (rb"%PDF", "PDF"),
    (rb"\0\0\0\x0cjP  ", "JPEG 2000"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
    (rb"\s*(?:<\?xml[^>]*>\s*)?<svg", "SVG"),
)
_MODE_OF = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's mode
_quiet_lock = threading.Lock()


class ImageError(ValueError):
    """An image that cannot be read or decoded; the message is the reason.

    Example:
        ```python
        try:
            keras_vit.data.decode(b"no image")
        except keras_vit.data.ImageError as error:
            print(error)
        ```
    """


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Ignores EXIF: Pillow reads a resolution that is not needed here, and warns if the block is damaged."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def _later(module: str, name: str) -> Callable[[io.BytesIO], Any]:
    """Returns a reader whose module is imported when it is used."""
    return lambda file: getattr(importlib.import_module(module), name)(file)


def _png(file: io.BytesIO) -> Any:
    deep = file.getvalue()[24:25] == b"\x10"  # bits a channel, from the first chunk
    return (_later("keras_vit.data.array_files", "DeepPngFile") if deep else PngImagePlugin.PngImageFile)(file)


# {format: (how a file begins, its reader)}. Pillow's readers in place of Image.open, which warns from 89 million pixels
# on (a warning cannot be silenced in one thread alone) and reads all images of an MPO, where a JPEG's reader reads one.
_READERS: dict[str, tuple[re.Pattern[bytes], Callable[[io.BytesIO], Any]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), _Jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    "BMP": (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    "WebP": (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    "TIFF": (
        re.compile(rb"(?:II\*\0|MM\0\*)(?!....CR)|II\+\0|MM\0\+", re.DOTALL),
        _later("keras_vit.data.array_files", "TiffFile"),
    ),
    # The first brand of both can be that of the container alone; the list of brands behind it says which it is.
    "AVIF": (
        re.compile(rb"....ftyp(?:avi[fs]|m[is]f1....(?:....){0,15}?avi[fs])", re.DOTALL),
        _later("PIL.AvifImagePlugin", "AvifImageFile"),
    ),
    "HEIC": (re.compile(rb"....ftyp(?:he[iv][cmsx]|m[is]f1)", re.DOTALL), _later("pillow_heif", "HeifImageFile")),
    "NPY": (re.compile(rb"\x93NUMPY"), _later("keras_vit.data.array_files", "NpyFile")),
}
_RARE = ("TIFF", "AVIF", "HEIC", "NPY")  # not read by all apps and servers
_PACKAGES = {"TIFF": ("tiff", ("tifffile", "imagecodecs")), "HEIC": ("heic", ("pillow_heif",))}  # format -> its extra


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Format and size of an image file.

    Args:
        format: such as "JPEG".
        mode: in words, such as "colour" or "16-bit grey".
        height, width: of the upright image, pixels.
        orientation: EXIF orientation, 1 for upright.
        notes: on what is unusual, such as a damaged colour profile; a sentence each.
    """

    format: str
    mode: str
    height: int
    width: int
    orientation: int
    notes: tuple[str, ...] = ()


shared_info = functools.lru_cache(1024)(ImageInfo)  # the same object for the same values: most images share theirs


@dataclass(frozen=True, slots=True)
class FileRange:
    """An image file inside a larger file.

    Args:
        path: of the larger file.
        offset: of the first byte.
        length: number of bytes.
        crc: CRC-32 of the bytes, tested whenever they are read; None where it is not known.

    Example:
        ```python
        import pathlib

        from PIL import Image

        Image.new("RGB", (6, 4)).save("image.png")
        data = pathlib.Path("image.png").read_bytes()
        pathlib.Path("many.bin").write_bytes(b"header" + data)
        image = keras_vit.data.decode(keras_vit.data.FileRange("many.bin", 6, len(data)))
        assert image.shape == (4, 6, 3)
        ```
    """

    path: str
    offset: int
    length: int
    crc: int | None = None

    def __str__(self) -> str:
        return f"{self.path}, {self.length:,} bytes from {self.offset:,} on"


EncodedImage = str | os.PathLike[str] | bytes | FileRange


def decode(image: EncodedImage, channels: int = 3) -> np.ndarray:
    """Decodes an image file into an upright image, by default RGB in sRGB.

    The format is recognized by content, not by the file's name: JPEG (also MPO), PNG, BMP, GIF, WebP, AVIF, HEIC (extra
    "heic"), TIFF (extra "tiff") or a NumPy array, .npy, of the shape (height, width) or (height, width, channels).
    Transparent pixels become white, an animation or a file of several pages its first image, and the orientation is
    applied. Colours are converted to sRGB by the file's ICC profile, such as that of Display P3.

    With one channel, colours become grey, 0.299 R + 0.587 G + 0.114 B (ITU-R 601-2), and grey stays as it is. With
    four, the transparency stays beside RGB, 255 for opaque, and pixels of which nothing is seen are black; a TIFF or
    .npy of four bands keeps them. With any other number, the file is a TIFF or .npy of as many bands, which are read as
    they are.

    Unsigned integers of more than 8 bits are scaled by all their bits, 0 to 65535 for 16, and floats by 0 to 1. Floats
    out of range and signed integers are refused, unless the environment variable KERAS_VIT_VALUE_RANGE=LOW,HIGH states
    which numbers are black and white. It holds for all of these types; numbers outside become black or white.

    An image of more than 89,478,485 pixels, or than the environment variable KERAS_VIT_MAX_PIXELS, is refused. A JPEG
    that is not progressive is decoded at 1/2, 1/4 or 1/8 of its height and width instead. The images that threads
    decode at the same time have at most this many pixels together.

    Args:
        image: a path, the bytes of an encoded file, or a `FileRange`.
        channels: 1 for grey, 3 for RGB, 4 for RGBA, or the number of bands in the file.

    Returns:
        (height, width, channels) uint8.

    Raises:
        TypeError: if `image` is none of these.
        ValueError: if the file is missing, has another format, is damaged or truncated, is too large, or cannot be
            converted to this number of channels. The message has the file and the reason.

    Example:
        ```python
        from PIL import Image

        Image.new("RGB", (64, 48), "red").save("red.png")
        assert keras_vit.data.decode("red.png").shape == (48, 64, 3)
        assert keras_vit.data.decode("red.png", channels=1)[0, 0].tolist() == [76]
        ```
    """
    try:
        return decode_with_info(read_file(image), channels)[0]
    except ImageError as error:
        name = "bytes" if isinstance(image, bytes) else one_line(str(image))
        raise ImageError(f"{name}: {error}") from error


def read_file(image: EncodedImage) -> bytes:
    """Returns the encoded bytes of an image, or raises an `ImageError` with the reason."""
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str | os.PathLike | FileRange):
        raise TypeError(f"Expected a path, a FileRange or the bytes of an image. Received: {type(image).__name__}")
    path, offset, length = (image.path, image.offset, image.length) if isinstance(image, FileRange) else (image, 0, -1)
    try:
        if not os.path.isfile(path) and os.path.exists(path):  # reading a pipe could wait forever
            raise ImageError("not a file" + (" but a folder" if os.path.isdir(path) else ""))
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(length)
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from error
    if len(data) < length:
        raise ImageError("the file ends before it does")
    if isinstance(image, FileRange) and image.crc not in (None, zlib.crc32(data)):
        raise ImageError(f"damaged: its bytes are not those that {path} was made with")
    return data


def decode_with_info(data: bytes, channels: int = 3) -> tuple[np.ndarray, ImageInfo]:
    """Decodes bytes as `decode` does, with their format and size; an `ImageError` has the reason alone."""
    name = recognize(data)
    limit = max_pixels()
    value_range()  # a wrong setting is no fault of the image
    warns = _warns(name, data)
    try:
        with contextlib.ExitStack() as stack, np.errstate(all="ignore"):  # of damaged numbers; of this thread alone
            if warns:
                stack.enter_context(_no_warnings())
            if name == "WebP":  # its reader allocates memory when it is created
                stack.enter_context(room(checked(*_webp_size(data), limit), limit))
            image = _READERS[name][1](io.BytesIO(data))
            if name == "JPEG":
                _reduce(image, data, limit)
            if name != "WebP":
                pixels_of_memory = checked(image.width, image.height, limit) * getattr(image, "memory", 1)
                stack.enter_context(room(pixels_of_memory, limit))
            layers, mode = _layers(image, data, channels)
            orientation = getattr(image, "orientation", None) or orientation_of(image.info.get("exif") or b"")
            notes = _notes(image)
            if orientation != 1:
                layers = [layer.transpose(_UPRIGHT[orientation]) for layer in layers]
            shown = [np.asarray(layer) for layer in layers]  # of read-only bytes
            del image, layers  # frees their memory before the copy
            pixels = np.dstack(shown)  # (height, width, channels)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Exception as error:  # Pillow raises nearly any exception on a damaged file
        reason = one_line(str(error) or type(error).__name__)
        article = "an" if name in ("AVIF", "NPY") else "a"
        raise ImageError(f"{article} {name} that is damaged or cut short ({reason})") from error
    return pixels, shared_info(name, mode, pixels.shape[0], pixels.shape[1], orientation, notes)


def _warns(name: str, data: bytes) -> bool:
    """Returns whether Pillow or NumPy may warn: of damaged animations and EXIF, large GIF frames, old headers."""
    return name in ("GIF", "AVIF", "NPY") or (name == "PNG" and b"acTL" in data)


def recognize(data: bytes) -> str:
    """Returns the format of encoded bytes by how they start, or raises an `ImageError` with the reason."""
    name = next((name for name, (signature, _) in _READERS.items() if signature.match(data)), "")
    if reason := _lack(name) if name else _other_content(data):
        raise ImageError(reason)
    return name


def notes_of(data: bytes, channels: int = 3) -> tuple[str, ...]:
    """Returns the notes on an image, as in `ImageInfo`; one of 8 bits is not decoded.

    None if it cannot be read, or is one of those that may make Pillow or NumPy warn.
    """
    try:
        if _warns(recognize(data), data):  # silencing them is for one thread at a time, and a caller may do so, too
            return ()
        image = _header(data)
        return decode_with_info(data, channels)[1].notes if hasattr(image, "notes") else _notes(image)
    except Exception:  # see `decode_with_info`
        return ()


def read_for_clients(image: EncodedImage, channels: int = 3) -> bytes:
    """Returns the encoded bytes of an image that `decode` reads; as a PNG in sRGB if not all apps and servers read it.

    That is: if its format is AVIF, HEIC, TIFF or NPY, or its colour profile is another than that of sRGB. A file of
    bands, which no PNG can hold, stays as it is.
    """
    data = read_file(image)
    opened = _header(data)
    if channels not in _MODE_OF or (hasattr(opened, "stores") and opened.stores(channels)):
        return data
    profile = opened.info.get("icc_profile")
    if recognize(data) not in _RARE and not (profile and changes_colours(profile, opened.mode)):
        return data
    png = io.BytesIO()
    pixels = decode_with_info(data, channels)[0]
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(png, "PNG")
    return png.getvalue()


def _header(data: bytes) -> Any:
    """Opens an image without decoding it."""
    name = recognize(data)
    with np.errstate(all="ignore"), _no_warnings() if _warns(name, data) else contextlib.nullcontext():
        return _READERS[name][1](io.BytesIO(data))


def _lack(name: str) -> str:
    """Returns what has to be installed to read files of a format; "" if nothing."""
    extra, packages = _PACKAGES.get(name, ("", ()))
    if any(importlib.util.find_spec(package) is None for package in packages):
        return f'{name} files need the extra "{extra}": pip install {" ".join(packages)}'
    if name == "AVIF":
        from PIL import features

        return "" if features.check("avif") else "AVIF files need a Pillow that reads them, as that of its wheels does"
    return ""


def _other_content(data: bytes) -> str:
    if not data:
        return "an empty file"
    if re.match(rb"\s*(?:<!--.{,200}?-->\s*)?<(?:!doctype html|html|head|body)\b", data, re.IGNORECASE | re.DOTALL):
        return "a web page (HTML), not an image; the download has probably failed"
    for start, kind in _NOT_READ:
        if re.match(start, data, re.DOTALL):
            return f"{kind} is not read; convert it to JPEG or PNG"
    return f"not an image in a format that is read ({', '.join(_READERS)}); convert it to JPEG or PNG"


def max_pixels() -> int:
    """Returns the most pixels that are decoded at once: KERAS_VIT_MAX_PIXELS, by default `MAX_PIXELS`."""
    value = os.environ.get(_SETTING) or str(MAX_PIXELS)
    if not value.isdecimal() or not int(value):
        raise ValueError(f"Expected {_SETTING} to be a positive whole number. Received: {_SETTING}={value!r}")
    return int(value)


def value_range() -> tuple[float, float] | None:
    """Returns the numbers that are black and white by KERAS_VIT_VALUE_RANGE=LOW,HIGH; None if it is not set."""
    value = os.environ.get(RANGE_SETTING)
    if not value:
        return None
    try:
        low, high = map(float, value.split(","))
    except ValueError:
        low = high = math.nan
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(
            f"Expected {RANGE_SETTING} to be two numbers, LOW,HIGH, the first below the second. "
            f"Received: {RANGE_SETTING}={value!r}"
        )
    return low, high


def _reduce(image: Any, data: bytes, limit: int) -> None:
    """Makes Pillow decode a JPEG above the limit at 1/2, 1/4 or 1/8 of its sides, if libjpeg's memory is bounded."""
    scans = [data[start + 4 : start + 5] for kind, start, _ in jpeg_segments(data) if kind == SCAN]
    if "progressive" in image.info or scans != [bytes([image.layers])]:
        return  # of several scans, libjpeg keeps the coefficients of the whole image at full size
    width, height = image.size
    scale = next((n for n in (1, 2, 4, 8) if math.ceil(width / n) * math.ceil(height / n) <= limit), 1)
    if scale > 1:
        image.draft(None, (max(1, width // scale), max(1, height // scale)))


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields (kind, start, end) of a JPEG's segments up to that of its first scan; ends early where none follows."""
    kind, end = 0, 2
    while kind != SCAN and data[end : end + 1] == b"\xff" and end + 4 <= len(data):
        kind, start = data[end + 1], end
        end += 2 + int.from_bytes(data[end + 2 : end + 4], "big")
        yield kind, start, end


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Returns (width, height) of a JPEG from its frame segment; raises an EOFError if it has none."""
    for kind, start, _ in jpeg_segments(data):
        if kind & 0xF0 == 0xC0 and kind not in (0xC4, 0xC8, 0xCC):  # those are no frames
            height, width = struct.unpack_from(">HH", data, start + 5)
            return width, height
    raise EOFError("a JPEG without a frame")


def checked(width: int, height: int, limit: int) -> int:
    """Returns the number of pixels of an image, or raises an `ImageError` if it is above the limit."""
    if width * height > limit:
        raise ImageError(
            f"claims {width:,} x {height:,} pixels, of which at most {limit:,} in all are decoded; make it smaller, or "
            f"set the environment variable {_SETTING}"
        )
    return width * height


class _Room:
    """Makes threads wait, in turn, until the images in memory have at most `limit` pixels together, or are none."""

    def __init__(self) -> None:
        self._turn, self._changed, self._pixels = threading.Lock(), threading.Condition(), 0

    @contextlib.contextmanager
    def __call__(self, pixels: int, limit: int) -> Iterator[None]:
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._pixels or self._pixels + pixels <= limit)
            self._pixels += pixels
        try:
            yield
        finally:
            with self._changed:
                self._pixels -= pixels
                self._changed.notify_all()


room = _Room()


def _webp_size(data: bytes) -> tuple[int, int]:
    """Reads (width, height) from a WebP's first chunk: lossy, lossless or extended (RFC 9649, 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with _quiet_lock, warnings.catch_warnings():  # replaces a list of the whole process: one thread at a time
        warnings.simplefilter("ignore")
        yield


def orientation_of(exif: bytes) -> int:
    """Reads the orientation from an EXIF block; 1, upright, where it is absent, damaged or out of range."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}4xI", tiff)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return value if (kind, count) == (3, 1) and 1 <= value <= 8 else 1  # kind 3: a 16-bit number
    except struct.error:
        pass  # the block ends too early
    return 1


def _mode(image: Any) -> str:
    """Returns the mode of a file in words, with the numbers that are black and white where they are not 0 and 255."""
    kind = _MODES.get(image.mode, "colour") + (" with transparency" if image.has_transparency_data else "")
    return image.in_words(kind) if hasattr(image, "in_words") else kind


def _notes(image: Any) -> tuple[str, ...]:
    fault = profile_fault(image.info["icc_profile"], image.mode) if "icc_profile" in image.info else ""
    return (*getattr(image, "notes", ()), *([fault] if fault else []))


def _layers(image: Any, data: bytes, channels: int) -> tuple[list[Image.Image], str]:
    """Decodes an image: one layer of all its colours, or one for each of its bands; also returns its mode in words."""
    if hasattr(image, "stores") and image.stores(channels):
        bands = np.moveaxis(image.load_bands(), -1, 0)
        return [Image.fromarray(band) for band in bands], image.in_words(f"{channels} bands")
    _refuse_channels(image, channels)
    image.load()
    mode = _mode(image)
    return [_converted(image, data, channels)], mode


def _refuse_channels(image: Any, channels: int) -> None:
    """Raises an `ImageError` if an image cannot be converted to a number of channels."""
    bands, pages = getattr(image, "bands", None) or len(image.getbands()), getattr(image, "pages", 1)
    if channels not in _MODE_OF:
        read = f" in the first of its {pages} images, which alone is read" if pages > 1 else ""
        advice = "; save them as the bands of one image" if pages > 1 else ""
        raise ImageError(
            f"has {counted(bands, 'channel')}{read}, expected {channels}{advice}; images of {channels} channels are "
            f".tif and .npy files of {channels} bands"
        )
    if fault := getattr(image, "fault", ""):
        raise ImageError(f"{fault}. Received: channels={channels}")


def _converted(image: Image.Image, data: bytes, channels: int) -> Image.Image:
    """Converts any mode to grey, RGB or RGBA of 8 bits in sRGB; on white where it is transparent, but for RGBA."""
    mode, key = image.mode, image.info.get("transparency")  # an index, a list of alphas, or a PNG's transparent colour
    if mode == "L" and key is not None:
        top = 2 ** (data[24] if image.format == "PNG" else 8) - 1  # the former are the bits of a level
        image.info["transparency"] = (key & top) * 255 // top  # Pillow stretches 2 and 4 bits to 8, but not the key
    if mode == "RGB" and key is not None:
        image.info["transparency"] = tuple(value & 255 for value in key)
    profile = image.info.get("icc_profile")
    transparent = image.has_transparency_data
    if transparent or mode not in ("RGB", "CMYK"):
        image = image.convert("RGBA" if transparent else "RGB")
    if profile:
        image = to_srgb(image, profile, mode)
    if transparent:
        # Of RGBA, the colours of pixels that show none are black: clients such as a browser's canvas do not have them.
        alpha = image.getchannel("A")
        ground = Image.new("RGB", image.size, "white") if channels != 4 else Image.new("RGBA", image.size)
        ground.paste(image, mask=alpha if channels != 4 else alpha.point([0] + [255] * 255))
        image = ground
    elif image.mode != "RGB":
        image = image.convert("RGB")
    return image if image.mode == _MODE_OF[channels] else image.convert(_MODE_OF[channels])
