"""Turns an encoded image into the upright RGB that a person sees; every route comes through here."""

import contextlib
import io
import os
import re
import struct
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

# Pillow's own bound for an error (twice its MAX_IMAGE_PIXELS): more than cameras take, while the RGB array
# is still half a gigabyte. A file of a few kilobytes can claim far more, so the header is asked first.
MAX_PIXELS = 178_956_970

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> what turns the stored image upright; 1 needs nothing
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MODES = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette", "CMYK": "CMYK"}
_NOT_READ = (  # how files start that people take for images we read
    (rb"II\*\0|MM\0\*", "TIFF (or a camera's raw file)"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp(?:hei|hev|mif1|msf1)", "HEIC"),
    (rb"....ftypcrx", "a camera's raw file"),
    (rb"8BPS", "a Photoshop file"),
    (rb"\x00\x00\x01\x00", "ICO"),
    (rb"%PDF", "PDF"),
    (rb"\0\0\0\x0cjP  ", "JPEG 2000"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
    (rb"\s*(?:<\?xml[^>]*>\s*)?<svg", "SVG"),
)
_quiet_lock = threading.Lock()


class ImageError(ValueError):
    """Says why an image cannot be used."""


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Leaves EXIF unread: Pillow looks for a resolution no one needs, and warns if the block is damaged."""

    def getexif(self):
        return Image.Exif()


# Pillow's readers themselves, not Image.open: that one warns from 89 million pixels on, and a warning cannot
# be silenced in one thread alone. It would also look for more images in an MPO; a JPEG's reader takes one.
_READERS = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), _Jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    "BMP": (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    "WebP": (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
}


@dataclass(frozen=True)
class Facts:
    """What a file turned out to be: format and mode in words, upright size in pixels, EXIF orientation."""

    format: str
    mode: str
    rows: int
    columns: int
    orientation: int


@dataclass(frozen=True, slots=True)
class Record:
    """An image that lies inside a larger file: `length` bytes from `offset` on, as they are."""

    path: str
    offset: int
    length: int

    def __str__(self):
        return f"{self.path}, {self.length:,} bytes from {self.offset:,} on"


def decode(image: str | os.PathLike | bytes | Record) -> np.ndarray:
    """Decodes an image as a person sees it: uint8 RGB of shape (rows, columns, 3), upright.

    Reads JPEG (also MPO), PNG, BMP, GIF and WebP, told apart by content and not by the file's name.
    Transparent pixels show white behind them, an animation shows its first image, all eight EXIF
    orientations are applied. 16-bit grey is scaled and rounded; 16-bit colour keeps its high byte, which is
    all that Pillow holds. Colour profiles are not applied.

    Args:
        image: a path, the bytes of an encoded file, or a `Record`.

    Raises:
        TypeError: if it is none of these.
        ValueError: if there is no such file, it is no image of these formats, it is damaged or cut short,
            or its header claims more than `MAX_PIXELS`. The message names the file and the reason.
    """
    try:
        return examine(read_file(image))[0]
    except ImageError as error:
        name = "bytes" if isinstance(image, bytes) else str(image)
        raise ImageError(f"{name}: {error}") from error


def read_file(image: str | os.PathLike | bytes | Record) -> bytes:
    """Reads the encoded bytes of an image; an ImageError says why it could not."""
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str | os.PathLike | Record):
        raise TypeError(f"Expected a path, a Record or the bytes of an image. Received: {type(image).__name__}")
    path, offset, length = image, 0, -1
    if isinstance(image, Record):
        path, offset, length = image.path, image.offset, image.length
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would wait for ever
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
    return data


def examine(data: bytes) -> tuple[np.ndarray, Facts]:
    """Decodes bytes as `decode` does and tells what they were; an ImageError gives the reason alone."""
    name = recognize(data)
    # Pillow warns of damaged animations and of large GIF frames; of these two formats only, so that the lock
    # holds no one else up.
    warns = name == "GIF" or (name == "PNG" and b"acTL" in data)
    try:
        if name == "WebP":
            _check_size(*_webp_size(data))  # its reader allocates when it is made
        with _no_warnings() if warns else contextlib.nullcontext():
            image = _READERS[name][1](io.BytesIO(data))
            _check_size(image.width, image.height)
            image.load()
        orientation = orientation_of(image.info.get("exif", b""))
        mode = _mode(image, data)
        image = _flat(image, data)
        if orientation != 1:
            image = image.transpose(_UPRIGHT[orientation])
        pixels = np.array(image)  # (rows, columns, 3)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Exception as error:  # a damaged file can make Pillow raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImageError(f"a {name} that is damaged or cut short ({reason})") from error
    return pixels, Facts(name, mode, pixels.shape[0], pixels.shape[1], orientation)


def recognize(data: bytes) -> str:
    """Names the format of encoded bytes by how they start; an ImageError says why they are not read."""
    name = next((name for name, (signature, _) in _READERS.items() if signature.match(data)), None)
    if name is None:
        raise ImageError(_what_instead(data))
    return name


def _what_instead(data: bytes) -> str:
    if not data:
        return "an empty file"
    if re.match(rb"\s*(?:<!--.{,200}?-->\s*)?<(?:!doctype html|html|head|body)\b", data, re.IGNORECASE | re.DOTALL):
        return "a web page (HTML), not an image; the download has probably failed"
    for start, what in _NOT_READ:
        if re.match(start, data, re.DOTALL):
            return f"{what} is not read; convert it to JPEG or PNG"
    return f"not an image in a format that is read ({', '.join(_READERS)}); convert it to JPEG or PNG"


def _check_size(columns: int, rows: int) -> None:
    if columns * rows > MAX_PIXELS:
        raise ImageError(f"claims {columns:,} x {rows:,} pixels; at most {MAX_PIXELS:,} in all are decoded")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Reads (columns, rows) from a WebP's first chunk: lossy, lossless or extended (RFC 9649, 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


@contextlib.contextmanager
def _no_warnings():
    with _quiet_lock, warnings.catch_warnings():  # swaps a list of the whole process: one thread at a time
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
        pass  # the block ends before what it promises
    return 1


def _depth(image: Image.Image, data: bytes) -> int:
    return data[24] if image.format == "PNG" else 8  # bits a channel, from the first chunk of a PNG


def _mode(image: Image.Image, data: bytes) -> str:
    kind = "grey" if image.mode.startswith("I") else _MODES.get(image.mode, "colour")
    deep = "16-bit " if _depth(image, data) == 16 else ""
    return deep + kind + (" with transparency" if image.has_transparency_data else "")


def _flat(image: Image.Image, data: bytes) -> Image.Image:
    """Brings any mode to RGB of 8 bits, on white where the image is transparent."""
    key = image.info.get("transparency")  # an index, a list of alphas, or a PNG's one transparent colour
    depth = _depth(image, data)
    if image.mode.startswith("I"):
        return _flat_deep(image, key).convert("RGB")
    if image.mode == "L" and key is not None:
        top = 2**depth - 1
        image.info["transparency"] = (key & top) * 255 // top  # Pillow stretches 2 and 4 bits to 8, but not the key
    if image.mode == "RGB" and key is not None:
        image.info["transparency"] = tuple(value >> 8 if depth == 16 else value & 255 for value in key)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _flat_deep(image: Image.Image, key: int | None) -> Image.Image:
    deep = np.asarray(image).clip(0, 65535).astype(np.uint32)  # (rows, columns)
    grey = ((deep + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257, so this is the nearest of 256 greys
    if key is not None:
        grey[deep == key] = 255
    return Image.fromarray(grey)
