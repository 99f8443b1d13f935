"""Decodes, turns upright and resizes an encoded image to the pixels of a file's input, as clients do.

It reads the formats that `keras_vit.data.decode` reads, with code of its own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import pathlib
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, ExifTags, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

# Where a resize samples the first pixel, in parts of a pixel: MediaPipe's warp at the corner of the image; TensorFlow,
# Pillow, Android and browsers at the center of a pixel.
CORNER, CENTER = 0.0, 0.5

_MOST_PIXELS = 89_478_485  # where Pillow warns
_one_at_a_time = threading.Lock()  # warnings are silenced for the whole process, and large images fill the memory
_READERS: dict[bytes, Any] = {  # `Image.open` would limit the pixels at sizes of its own
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"GIF87a": GifImagePlugin.GifImageFile,
    b"GIF89a": GifImagePlugin.GifImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
}
# How other files begin, and the function of `runtime.formats` that opens them.
_OTHERS = {
    rb"\x89PNG.{20}\x10": "open_deep_png",
    rb"II[*+]\0|MM\0[*+]": "open_tiff",
    rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,15}?avi[fs])": "open_avif",
    rb".{4}ftyp(?:he[iv][cmsx]|m[is]f1)": "open_heic",
    rb"\x93NUMPY": "open_npy",
}
# EXIF orientation -> the steps (down, right) through the pixels that make the image upright, from 5 on after it was
# turned over its diagonal.
_STEPS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}


def upright(image: str | os.PathLike[str] | bytes, channels: int = 3) -> np.ndarray:
    """Decodes an image as (height, width, channels) uint8, turned upright by its orientation.

    One channel is grey, three are RGB in sRGB, both on white where the image is transparent; four are RGBA, black where
    nothing is seen. Formats, bands, ranges of numbers and colour profiles are as in `keras_vit.data.decode`. A large
    JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as there.

    Args:
        image: a path, or the bytes of an encoded file.
        channels: of the result.

    Raises:
        ValueError: if it is no image of a format that is read, is damaged, has other channels, or has more pixels than
            the environment variable KERAS_VIT_MAX_PIXELS, by default 89,478,485; names the file.
    """
    with _opened(image, channels) as (opened, bits):
        pixels = opened.levels if hasattr(opened, "levels") else _in_channels(opened, bits, channels)
        orientation = _orientation(opened)
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down, right = _STEPS[orientation]
    return np.ascontiguousarray(pixels[::down, ::right])


def upright_size(image: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """Returns the upright (height, width) of `upright` in pixels; most formats' headers alone are read."""
    with _opened(image, None) as (opened, _):
        width, height = opened.size
        return (width, height) if _orientation(opened) >= 5 else (height, width)


@contextlib.contextmanager
def _opened(image: str | os.PathLike[str] | bytes, channels: int | None) -> Iterator[tuple[Any, int]]:
    """Opens an image and yields it and the bits of its levels; whatever fails is a ValueError that names the file."""
    limit = int(os.environ.get("KERAS_VIT_MAX_PIXELS") or _MOST_PIXELS)
    try:
        data = image if isinstance(image, bytes) else pathlib.Path(image).read_bytes()
        with contextlib.ExitStack() as alone:
            alone.enter_context(_one_at_a_time)
            alone.enter_context(warnings.catch_warnings())  # of damaged EXIF and animations
            warnings.simplefilter("ignore")
            opened = _open(data, limit, channels)
            may_warn = isinstance(opened, GifImagePlugin.GifImageFile) or b"acTL" in data  # of damaged animations
            if not may_warn and opened.width * opened.height <= limit // 4:
                alone.close()  # threads decode such images at the same time
            yield opened, data[24] if isinstance(opened, PngImagePlugin.PngImageFile) else 8
    except Exception as error:  # Pillow raises nearly any exception on a damaged file
        name = f"{len(image)} bytes" if isinstance(image, bytes) else image
        raise ValueError(f"Expected an image. Received: {name}, which cannot be read: {error}") from error


def _open(data: bytes, limit: int, channels: int | None) -> Any:
    """Returns an image of Pillow, whose header alone may be read yet."""

    def allow(width: int, height: int) -> None:
        if width * height > limit:
            raise ValueError(f"it has {width} x {height} pixels; KERAS_VIT_MAX_PIXELS allows {limit} in all")

    for start, name in _OTHERS.items():
        if re.match(start, data, re.DOTALL):
            opened = getattr(importlib.import_module("keras_vit.runtime.formats"), name)(data, allow, channels)
            break
    else:
        reader = next((reader for start, reader in _READERS.items() if data.startswith(start)), None)
        if reader is None:
            raise ValueError("it is no JPEG, PNG, GIF, BMP, WebP, AVIF, HEIC, TIFF or .npy file")
        opened = reader(io.BytesIO(data))
        width, height = opened.size
        if width * height > limit and reader is JpegImagePlugin.JpegImageFile and not _is_buffered(data):
            by = next((by for by in (2, 4) if -(-width // by) * -(-height // by) <= limit), 8)
            opened.draft(None, (max(1, width // by), max(1, height // by)))
    allow(*opened.size)
    return opened


def _is_buffered(jpeg: bytes) -> bool:
    """Whether libjpeg keeps a whole JPEG in memory at full size: its first scan lacks components or is progressive."""
    place, components = 2, 0
    while place + 10 <= len(jpeg) and jpeg[place] == 0xFF:
        kind, length = jpeg[place + 1], 256 * jpeg[place + 2] + jpeg[place + 3]
        if kind in (0xC0, 0xC1, 0xC9):  # a frame that is not progressive
            components = jpeg[place + 9]
        elif kind == 0xDA:
            return jpeg[place + 4] != components
        place += 2 + length
    return True


def _orientation(opened: Any) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 if it is absent or damaged (TIFF 6.0, section 2)."""
    block = (opened.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    if block[:2] not in (b"II", b"MM"):
        return 1

    def number(start: int, size: int) -> int:
        return int.from_bytes(block[start : start + size], "little" if block[:1] == b"I" else "big")

    start = number(4, 4)
    for entry in range(start + 2, min(start + 2 + 12 * number(start, 2), len(block) - 9), 12):
        if number(entry, 2) == ExifTags.Base.Orientation:
            one_short = number(entry + 2, 2) == 3 and number(entry + 4, 4) == 1
            return number(entry + 8, 2) if one_short and 1 <= number(entry + 8, 2) <= 8 else 1
    return 1


def _in_channels(opened: Any, bits: int, channels: int) -> np.ndarray:
    """Returns the pixels of an image of colours: (height, width, 1, 3 or 4) uint8.

    Args:
        opened: the image.
        bits: of a level in the file.
        channels: of the result.
    """
    if channels not in (1, 3, 4):
        raise ValueError(f"it is no .tif or .npy file of {channels} bands")
    opened.load()
    key, most, alpha = opened.info.get("transparency"), 2**bits - 1, None
    if opened.mode in ("L", "RGB") and key is not None:
        # Pillow compares the color that is transparent to levels that it has stretched to 8 bits.
        colors = opened.convert("RGB")
        levels = [(level & most) * 255 // most for level in np.atleast_1d(key)]
        alpha = Image.fromarray((np.asarray(colors) != levels).any(-1) * np.uint8(255))
    elif opened.has_transparency_data:
        colors = opened.convert("RGBA")
        alpha, colors = colors.getchannel("A"), colors.convert("RGB")
    else:
        colors = opened if opened.mode in ("RGB", "CMYK") else opened.convert("RGB")
    to_srgb = _to_srgb(opened.info.get("icc_profile"), opened.mode)
    colors = to_srgb(colors) if to_srgb else colors if colors.mode == "RGB" else colors.convert("RGB")
    if channels == 4:
        opacity = np.asarray(alpha or Image.new("L", colors.size, 255))[..., None]
        return np.dstack([np.where(opacity > 0, np.asarray(colors), 0).astype(np.uint8), opacity])
    shown = Image.composite(colors, Image.new("RGB", colors.size, "white"), alpha) if alpha else colors
    if channels == 3:
        return np.asarray(shown)
    # ITU-R 601-2, in whole numbers as in Pillow.
    sums = np.asarray(shown).astype(np.int32) @ np.array([19595, 38470, 7471], np.int32)
    return ((sums + 32768) // 65536).astype(np.uint8)[..., None]


@functools.lru_cache(4)
def _to_srgb(profile: bytes | None, mode: str) -> Any:
    """Returns what converts an image by an ICC profile to sRGB, or None if none fits, or it is that of sRGB."""
    if not profile:
        return None
    from PIL import ImageCms

    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        entry = "CMYK" if mode == "CMYK" else "L" if space == "GRAY" and mode in ("1", "L", "LA") else "RGB"
        if space != {"L": "GRAY"}.get(entry, entry):
            return None
        srgb, flags = ImageCms.createProfile("sRGB"), ImageCms.Flags.NOOPTIMIZE if entry == "L" else 0
        transform = ImageCms.buildTransform(source, srgb, entry, "RGB", flags=ImageCms.Flags(flags))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None

    def convert(image: Image.Image) -> Any:
        return ImageCms.applyTransform(image if image.mode == entry else image.convert(entry), transform)

    # All colors of 16 levels a channel; another profile of sRGB moves none by more than a level.
    red, green, blue = np.indices((16, 16, 16), np.uint8).reshape(3, 64, 64) * 17
    colors = Image.fromarray(np.dstack([red, green, blue]) if entry == "RGB" else red)
    change = 256 if entry == "CMYK" else np.asarray(convert(colors), int) - np.asarray(colors.convert("RGB"))
    return convert if np.abs(change).max() > 1 else None


def resized(pixels: np.ndarray, size: Sequence[int], origin: float = CORNER) -> np.ndarray:
    """Resizes an image by bilinear interpolation, both sides on their own, to whole grey levels.

    Args:
        pixels: (height, width, 3) uint8.
        size: (height, width) in pixels.
        origin: `CORNER` or `CENTER`.

    Source: MediaPipe's image_to_tensor_converter_opencv.cc for `CORNER`: exact, except for sides that 64 divides,
    where a position may lie exactly between two that OpenCV represents.
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    for axis, new in enumerate(size):
        old = pixels.shape[axis]
        at = (np.arange(new, dtype=np.float32) + origin) * np.float32(old / new) - origin
        if origin == CORNER:  # OpenCV represents positions to 1/32 of a pixel
            at = np.rint(np.arange(new) * (32 * old / new)) / 32
        at = at.clip(0, old - 1)
        low = at.astype(int)
        part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = pixels.take(low, axis) * (1 - part) + pixels.take(np.minimum(low + 1, old - 1), axis) * part
    # OpenCV rounds halves up, the others to the even level.
    return (np.floor(pixels + 0.5) if origin == CORNER else np.rint(pixels)).astype(np.uint8)
