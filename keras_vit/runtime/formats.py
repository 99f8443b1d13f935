"""Opens the images that Pillow's readers alone do not: numbers of any type, and the formats of other packages.

Each function accepts the bytes of a file and a function that raises an error for a width and height that are too large,
and the number of channels that are asked for, or None. It returns an image of Pillow with 8 bits a channel, or `Bands`
where these are no colours.
"""

from __future__ import annotations

import ast
import io
import math
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

Allow = Callable[[int, int], None]


class Bands:
    """An image whose channels are no colours.

    Args:
        levels: (height, width, bands) uint8.
        info: its metadata.
    """

    has_transparency_data = False

    def __init__(self, levels: np.ndarray, info: dict[str, Any]) -> None:
        self.levels, self.info = levels, info
        self.height, self.width, _ = levels.shape
        self.size = self.width, self.height


# Of a TIFF: none, LZW, JPEG, deflate, PackBits, LZMA and zstd, which expand to the size in the header at most.
_COMPRESSIONS = {1, 5, 7, 8, 32946, 32773, 34925, 50000}
# Tags that its pixels depend on: those of the kinds, the colors, the places, and the tables of colors and of JPEG.
_TAGS = {*range(254, 263), 266, 273, 274, 277, 278, 279, 284, 317, *range(320, 326), 338, 339, 347}


def open_avif(data: bytes, allow: Allow, channels: int | None) -> Image.Image:
    """Opens an AVIF."""
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def open_heic(data: bytes, allow: Allow, channels: int | None) -> Image.Image:
    """Opens an HEIC."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ValueError('HEIC files need the extra "heic": pip install pillow-heif') from error
    file = pillow_heif.open_heif(io.BytesIO(data))
    allow(*file.size)
    return file.to_pillow()


def open_npy(data: bytes, allow: Allow, channels: int | None) -> Image.Image | Bands:
    """Opens a NumPy array: (height, width) or (height, width, 1) is grey, (height, width, 3) RGB, another has bands."""
    start, size = (12, "<I") if data[6] > 1 else (10, "<H")
    end = start + struct.unpack_from(size, data, 8)[0]
    header = ast.literal_eval(data[start:end].decode("latin-1"))
    shape, kind = header["shape"], np.dtype(header["descr"])
    if len(header) != 3 or len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"it is an array of the shape {shape}")
    has_colours = shape[2:] in ((), (1,), (3,))
    if not has_colours and channels not in (None, shape[2]):
        raise ValueError(f"it is an array of the shape {shape}, and the model reads {channels} channels")
    allow(shape[1], shape[0])
    numbers = np.frombuffer(data, kind, math.prod(shape), end)
    numbers = numbers.reshape(shape, order="F" if header["fortran_order"] else "C")
    numbers, bits = numbers.reshape(*shape[:2], -1), 8 * kind.itemsize
    return _image(numbers, None, bits) if has_colours else Bands(_levels(numbers, bits, _stated_range()), {})


def open_deep_png(data: bytes, allow: Allow, channels: int | None) -> Image.Image:
    """Opens a PNG with 16 bits a channel."""
    png = PngImagePlugin.PngImageFile(io.BytesIO(data))
    allow(*png.size)
    info = dict(png.info)

    def taken_as(layout: str) -> np.ndarray:
        again = PngImagePlugin.PngImageFile(io.BytesIO(data))
        again.tile = [again.tile[0]._replace(args=layout)]
        again.load()
        info.update(again.info)
        return np.asarray(again).astype(np.uint16)

    kind = data[25]  # 0 grey, 2 RGB, 4 and 6 with transparency
    if kind == 0:
        numbers = taken_as("I;16B")[..., None]
    elif kind == 4:  # Pillow has no layout of 16 bits for it
        halves = taken_as("RGBA")
        numbers = 256 * halves[..., ::2] + halves[..., 1::2]
    else:
        numbers = 256 * taken_as(f"{png.mode};16B") + taken_as(f"{png.mode};16L")
    colours, alpha = numbers[..., : 3 if kind & 2 else 1], numbers[..., -1] if kind & 4 else None
    if "transparency" in info:
        alpha = np.where((colours == info["transparency"]).all(-1), 0, 65535).astype(np.uint16)
    return _image(colours, alpha, 16, {name: info[name] for name in ("exif", "icc_profile") if name in info})


def open_tiff(data: bytes, allow: Allow, channels: int | None) -> Image.Image | Bands:
    """Opens the first image of a TIFF."""
    try:
        import tifffile
    except ImportError as error:
        raise ValueError('TIFF files need the extra "tiff": pip install tifffile imagecodecs') from error
    page: Any = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    allow(page.imagewidth, page.imagelength)
    allow(page.tilewidth, page.tilelength)
    if page.is_reduced or "DNGVersion" in page.tags:
        raise ValueError("it is a camera's raw file, or begins with a thumbnail")
    parts = list(zip(page.dataoffsets, page.databytecounts))
    whole = page.is_contiguous or len(parts) == math.prod(page.chunked)
    parts = [(parts[0][0], page.nbytes)] if page.is_contiguous else parts
    if not whole or not all(size and start + size <= len(data) for start, size in parts) or _lacks_tags(data, page):
        raise ValueError("it is cut short or damaged")
    if page.compression not in _COMPRESSIONS or page.planarconfig not in (1, 2) or page.imagedepth != 1:
        raise ValueError(f"it is a TIFF of another kind: compression {page.compression}, {page.imagedepth} slices")
    if page.compression == 7:
        for start, size in parts:
            width, height = JpegImagePlugin.JpegImageFile(io.BytesIO(data[start : start + size])).size
            if width * height > max(page.imagewidth * page.imagelength, page.tilewidth * page.tilelength):
                raise ValueError("it has a JPEG that is larger than the image")
    kind, bits = tifffile.PHOTOMETRIC(page.photometric).name, page.bitspersample
    count = {"MINISWHITE": 1, "MINISBLACK": 1, "PALETTE": 1, "RGB": 3, "SEPARATED": 4}.get(kind, 0)
    if kind == "YCBCR" and page.compression == 7:
        count = 3
    extra = [int(sample) for sample in page.extrasamples]
    seen = next((place for place, sample in enumerate(extra) if sample in (1, 2)), None)
    bands = page.samplesperpixel
    has_colours = count > 1 or bands <= 1 + (seen == 0)
    in_bands = kind in ("MINISWHITE", "MINISBLACK", "RGB") and bands != 3 and bands != count + (seen is not None)
    in_bands = in_bands and (channels == bands or (channels is None and not has_colours))
    if page.axes not in ("YX", "YXS", "SYX") or not 0 < count <= bands or not (has_colours or in_bands):
        raise ValueError(f"it is a TIFF of another kind: {kind}, {bands} bands")
    if page.compression in (5, 32773):
        page = _unpacked(data, page)
    numbers = page.asarray()
    numbers = {"YX": numbers[..., None], "SYX": np.moveaxis(numbers, 0, -1)}.get(page.axes, numbers)
    turn = page.tags.valueof("Orientation", 1)
    info = {"exif": b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, ExifTags.Base.Orientation, 3, 1, turn, 0, 0)}
    if in_bands:
        levels = _levels(numbers, bits, _stated_range())
        return Bands(255 - levels if kind == "MINISWHITE" else levels, info)
    colours, alpha = numbers[..., :count], None if seen is None or kind == "SEPARATED" else numbers[..., count + seen]
    if kind == "PALETTE":
        wide = page.colormap.max() > 255
        colours, bits = np.rint(page.colormap.T / (257 if wide else 1)).astype(np.uint8)[numbers[..., 0]], 8
    if "InterColorProfile" in page.tags:
        info["icc_profile"] = page.tags.valueof("InterColorProfile")
    return _image(colours, alpha, bits, info, kind, multiplied=seen is not None and extra[seen] == 1)


def _unpacked(data: bytes, page: Any) -> Any:
    """Returns the image with LZW or PackBits expanded by libtiff; imagecodecs may crash where they are damaged."""
    import tifffile

    file, kind = io.BytesIO(data), "Tile" if page.is_tiled else "Strip"
    bits = page.bitspersample * page.shaped[4] * (page.tilewidth or page.imagewidth)
    width, places, sizes = (bits + 7) // 8, list[int](), list[int]()
    for at, size in zip(page.dataoffsets, page.databytecounts):
        first = len(places) % (len(page.dataoffsets) // page.shaped[0]) * page.rowsperstrip
        height = page.tilelength or min(page.rowsperstrip, page.imagelength - first)
        if width * height > 2**26:
            raise ValueError("its strips are too large")
        entries = [(256, width), (257, height), (258, 8), (259, int(page.compression)), (262, 1), (273, 122), (277, 1)]
        entries += [(278, height), (279, size)]
        grey = struct.pack("<2sHIH", b"II", 42, 8, 9) + b"".join(struct.pack("<HHII", k, 4, 1, v) for k, v in entries)
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(grey + bytes(4) + data[at : at + size]))
        places.append(file.seek(0, io.SEEK_END))
        sizes.append(file.write(zlib.compress(image.tobytes(), level=1)))
    file.seek(0)
    tags = tifffile.TiffFile(file, mode="r+").pages.first.tags
    tags[f"{kind}Offsets"].overwrite(places, dtype="I")
    tags[f"{kind}ByteCounts"].overwrite(sizes, dtype="I")
    tags["Compression"].overwrite(8)
    file.seek(0)
    return tifffile.TiffFile(file).pages.first


def _lacks_tags(data: bytes, page: Any) -> bool:
    """Whether tifffile has left out a tag that matters, as its value would be beyond the end of the file."""
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    wide = data[2:4] in (b"+\0", b"\0+")  # a BigTIFF
    first, step = page.offset + (8 if wide else 2), 20 if wide else 12
    count = int.from_bytes(data[page.offset : first], order)
    places = range(first, min(first + step * count, len(data)), step)
    codes = [int.from_bytes(data[place : place + 2], order) for place in places]
    return any(code in _TAGS and code not in page.tags for code in codes)


def _image(
    colours: np.ndarray,
    alpha: np.ndarray | None,
    bits: int,
    info: dict[str, Any] | None = None,
    kind: str = "",
    multiplied: bool = False,
) -> Image.Image:
    """Returns numbers as an image, with its transparency: (height, width, channels) and (height, width)."""
    levels = _levels(colours, bits, _stated_range())
    if kind == "MINISWHITE":
        levels = 255 - levels
    if alpha is not None:
        levels = np.dstack([levels, _levels(alpha, bits, "")])
    mode = "CMYK" if kind == "SEPARATED" else ("L", "LA", "RGB", "RGBA")[levels.shape[2] - 1]
    height, width = levels.shape[:2]
    image = Image.frombytes(mode.replace("A", "a") if multiplied else mode, (width, height), levels.tobytes())
    image = image.convert(mode) if multiplied else image
    image.info.update(info or {})
    return image


def _stated_range() -> str:
    return os.environ.get("KERAS_VIT_VALUE_RANGE", "")


def _levels(numbers: np.ndarray, bits: int, stated: str) -> np.ndarray:
    """Returns numbers as levels of 8 bits, by a range "LOW,HIGH", or by all bits of integers and 0 to 1 of floats."""
    kind = numbers.dtype.kind
    stated = stated if bits > 8 or kind == "i" else ""
    if kind not in "bufi" or (kind == "i" and not stated):
        raise ValueError(f"nothing says which of its numbers, {numbers.dtype}, are black and white")
    try:
        black, white = map(float, stated.split(",")) if stated else (0, 2**bits - 1 if kind == "u" else 1)
    except ValueError as error:
        raise ValueError(f"expected KERAS_VIT_VALUE_RANGE to be two numbers, LOW,HIGH, not {stated!r}") from error
    shares = (numbers.astype(np.float64) - black) / (white - black)
    if not np.isfinite(shares).all():
        raise ValueError("it has numbers that are NaN or infinite")
    if not stated and (shares.min() < -0.5 / 255 or shares.max() > 1 + 0.5 / 255):
        raise ValueError("its floats are not from 0 to 1; set KERAS_VIT_VALUE_RANGE=LOW,HIGH")
    return np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
