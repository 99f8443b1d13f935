"""Decodes JPEG, PNG, GIF, BMP and WebP files into upright RGB images."""

import contextlib
import io
import math
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from keras_vit.data.messages import one_line

# Where Pillow warns. A file of a few kilobytes can claim far more, so the header is checked first.
MAX_PIXELS = 89_478_485
_SETTING = "KERAS_VIT_MAX_PIXELS"
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


# Pillow's readers in place of Image.open, which warns from 89 million pixels on (a warning cannot be silenced in one
# thread alone) and reads all images of an MPO, where a JPEG's reader reads one.
_READERS: dict[str, tuple[re.Pattern[bytes], Any]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), _Jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    "BMP": (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    "WebP": (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
}


@dataclass(frozen=True)
class ImageInfo:
    """Format and size of an image file.

    Args:
        format: such as "JPEG".
        mode: in words, such as "colour" or "16-bit grey".
        height, width: of the upright image, pixels.
        orientation: EXIF orientation, 1 for upright.
    """

    format: str
    mode: str
    height: int
    width: int
    orientation: int


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


def decode(image: EncodedImage) -> np.ndarray:
    """Decodes an image file into upright RGB.

    The format is recognized by content, not by the file's name: JPEG (also MPO), PNG, BMP, GIF or WebP. Transparent
    pixels become white, an animation its first image, and the EXIF orientation is applied. 16-bit grey is scaled and
    rounded; 16-bit colour keeps its high byte, as in Pillow. Colour profiles are not applied.

    An image of more than 89,478,485 pixels, or than the environment variable KERAS_VIT_MAX_PIXELS, is refused. A JPEG
    that is not progressive is decoded at 1/2, 1/4 or 1/8 of its height and width instead. The images that threads
    decode at the same time have at most this many pixels together.

    Args:
        image: a path, the bytes of an encoded file, or a `FileRange`.

    Returns:
        (height, width, 3) uint8.

    Raises:
        TypeError: if `image` is none of these.
        ValueError: if the file is missing, has another format, is damaged or truncated, or is too large. The message
            has the file and the reason.

    Example:
        ```python
        from PIL import Image

        Image.new("RGB", (64, 48), "red").save("red.png")
        assert keras_vit.data.decode("red.png").shape == (48, 64, 3)
        ```
    """
    try:
        return decode_with_info(read_file(image))[0]
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


def decode_with_info(data: bytes) -> tuple[np.ndarray, ImageInfo]:
    """Decodes bytes as `decode` does, with their format and size; an `ImageError` has the reason alone."""
    name = recognize(data)
    limit = max_pixels()
    # Pillow warns of damaged animations and of large GIF frames. Only these two formats need the lock.
    warns = name == "GIF" or (name == "PNG" and b"acTL" in data)
    try:
        with contextlib.ExitStack() as stack:
            if warns:
                stack.enter_context(_no_warnings())
            if name == "WebP":  # its reader allocates memory when it is created
                stack.enter_context(room(_checked(*_webp_size(data), limit), limit))
            image = _READERS[name][1](io.BytesIO(data))
            if name == "JPEG":
                _reduce(image, data, limit)
            if name != "WebP":
                stack.enter_context(room(_checked(image.width, image.height, limit), limit))
            image.load()
            orientation = orientation_of(image.info.get("exif", b""))
            mode = _mode(image, data)
            image = _flat(image, data)
            if orientation != 1:
                image = image.transpose(_UPRIGHT[orientation])
            shown = np.asarray(image)  # (height, width, 3), of read-only bytes
            del image  # frees its memory before the copy
            pixels = shown.copy()
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Exception as error:  # Pillow raises nearly any exception on a damaged file
        reason = one_line(str(error) or type(error).__name__)
        raise ImageError(f"a {name} that is damaged or cut short ({reason})") from error
    return pixels, ImageInfo(name, mode, pixels.shape[0], pixels.shape[1], orientation)


def recognize(data: bytes) -> str:
    """Returns the format of encoded bytes by how they start, or raises an `ImageError` with the reason."""
    name = next((name for name, (signature, _) in _READERS.items() if signature.match(data)), None)
    if name is None:
        raise ImageError(_other_content(data))
    return name


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


def _checked(width: int, height: int, limit: int) -> int:
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


def _depth(image: Image.Image, data: bytes) -> int:
    return data[24] if image.format == "PNG" else 8  # bits a channel, from the first chunk of a PNG


def _mode(image: Image.Image, data: bytes) -> str:
    kind = "grey" if image.mode.startswith("I") else _MODES.get(image.mode, "colour")
    deep = "16-bit " if _depth(image, data) == 16 else ""
    return deep + kind + (" with transparency" if image.has_transparency_data else "")


def _flat(image: Image.Image, data: bytes) -> Image.Image:
    """Converts any mode to RGB of 8 bits, on white where the image is transparent."""
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
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _flat_deep(image: Image.Image, key: int | None) -> Image.Image:
    deep = np.asarray(image).clip(0, 65535).astype(np.uint32)  # (height, width)
    grey = ((deep + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257, so this is the nearest of 256 greys
    if key is not None:
        grey[deep == key] = 255
    return Image.fromarray(grey)
