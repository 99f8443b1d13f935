"""Reads files of numbers as images: TIFF, .npy, and PNG with 16 bits a channel.

The readers have the form of Pillow's: opening one reads the header alone, `load` decodes it.
"""

import io
import logging
import math
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin

from keras_vit._arguments import counted
from keras_vit.data.decoding import RANGE_SETTING, ImageError, checked, jpeg_size, max_pixels, value_range
from keras_vit.data.levels import range_of, to_levels

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it writes to stderr what is wrong with a file

_KINDS = "buif"  # of NumPy's types: bool, unsigned and signed integers, floats
_CHANNELS = {"L": 1, "RGB": 3, "CMYK": 4}
_DEEP_PNG = {"I;16B": ("L", ""), "LA;16B": ("L", "A"), "RGB;16B": ("RGB", ""), "RGBA;16B": ("RGB", "A")}
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# TIFF 6.0: tags, photometric interpretations, a compression, and the extra samples that are transparency.
_ORIENTATION, _INK_SET, _ICC_PROFILE, _DNG_VERSION = 274, 332, 34675, 50706
_MIN_IS_WHITE, _PALETTE, _YCBCR, _SENSOR, _LINEAR_SENSOR = 0, 3, 6, 32803, 34892
_COLOURS = {_MIN_IS_WHITE: "L", 1: "L", 2: "RGB", _PALETTE: "RGB", 5: "CMYK", _YCBCR: "RGB"}
_JPEG, _DEFLATE = 7, 8
# None, JPEG (checked below), deflate, LZMA and zstd: they expand to the size in the header at most.
_COMPRESSIONS = (1, _JPEG, _DEFLATE, 32946, 34925, 50000)
# LZW and PackBits, which libtiff expands: imagecodecs can end the process on damaged ones.
_OF_LIBTIFF = (5, 32773)
_LARGEST_PART = 2**26  # bytes of a strip; Pillow warns from 89 million on
_ALPHA = {1: "a", 2: "A"}
# Tags that the pixels depend on: the kinds of image, number and colour, places and tables.
_OF_PIXELS = {*range(254, 263), 266, 273, 274, 277, 278, 279, 284, 317, *range(320, 326), 338, 339, 347}


class ArrayFile(ImageFile.ImageFile):
    """A file of numbers, which `load` scales to levels of 8 bits."""

    colours, alpha = "L", ""  # of Pillow's modes; the transparency is "a" if the colours are multiplied by it
    pages = 1  # images of the file, of which the first is read
    bands = 0  # all channels of the file; 0 if they are not read as they are
    unread = 0  # of these, those that are neither colours nor transparency
    fault = ""  # why there are no colours
    number: np.dtype[Any] = np.dtype(np.uint8)
    bits = 8  # of an integer
    inverted = False  # whether 0 is white
    orientation = 0  # 1 to 8, or 0 if it is in `info["exif"]`
    decoded = False

    def _describe(self, width: int, height: int) -> None:
        """Ends `_open`, which sets the fields above."""
        self._size, self._mode = (width, height), self.colours + self.alpha.upper()
        self.low, self.high = range_of(self.number, self.bits, value_range())
        self.notes: list[str] = []

    @property
    def data(self) -> bytes:
        """The encoded file."""
        file: Any = self.fp
        return file.getvalue()

    @property
    def memory(self) -> int:
        """The memory of a pixel, in pixels of an RGB image of 8 bits; at least 1."""
        return max(1, self.number.itemsize * max(len(self.mode), self.bands) // 4)

    def stores(self, channels: int) -> bool:
        """Returns whether the file has as many bands as an image has channels, and other ones than colours."""
        return channels != 3 and channels == self.bands != _CHANNELS[self.colours] + len(self.alpha)

    def in_words(self, mode: str) -> str:
        """Returns a mode with the type of the numbers and those that are black and white, if these are not 8 bits."""
        if self.bits <= 8:
            return mode
        kind = {"f": "float ", "i": "signed "}.get(self.number.kind, "")
        return f"{self.bits}-bit {kind}{mode} ({self.low:.10g} to {self.high:.10g})"

    def read_numbers(self) -> np.ndarray:
        """Decodes the file: (height, width, channels), the colours first."""
        raise NotImplementedError

    def read_bands(self) -> np.ndarray:
        """Decodes the file: (height, width, bands)."""
        return self.read_numbers()

    def load_bands(self) -> np.ndarray:
        """Decodes the file and scales all its bands: (height, width, bands) uint8."""
        return self._levels(self.read_bands())

    def load(self) -> Any:
        """Decodes the file and scales its numbers."""
        if not self.decoded:
            self.decoded = True
            if self.unread:
                self.notes.append(f"beside its colours, it has {counted(self.unread, 'band')}, not read")
            self.im = self._scaled(self.read_numbers()).im
        return super().load()

    def _scaled(self, numbers: np.ndarray) -> Image.Image:
        colours, alpha = np.split(numbers, [_CHANNELS[self.colours]], axis=-1)
        levels = self._levels(colours)
        if self.alpha:
            levels = np.concatenate([levels, to_levels(alpha, *range_of(self.number, self.bits, None))], -1)
        mode = self.colours + self.alpha
        image = Image.frombuffer(mode, self.size, levels, "raw", mode, 0, 1)
        return image if mode == self.mode else image.convert(self.mode)

    def _levels(self, numbers: np.ndarray) -> np.ndarray:
        levels = to_levels(numbers, self.low, self.high, clip=value_range() is not None)
        if self.number.kind == "u" and self.high == 2**self.bits - 1 > 255 and levels.max() < 64 and numbers.any():
            self.notes.append(
                f"its numbers are in the lowest quarter of their {self.bits} bits, and the image is as dark as that; "
                f"if a smaller number is white, set the environment variable {RANGE_SETTING}=0,NUMBER"
            )
        return 255 - levels if self.inverted else levels


class DeepPngFile(ArrayFile):
    """A PNG with 16 bits a channel, of which Pillow's reader keeps 8 in colours."""

    format = "PNG"
    number, bits = np.dtype(np.uint16), 16

    def _open(self) -> None:
        png = PngImagePlugin.PngImageFile(io.BytesIO(self.data))
        self._layout = str(png.tile[0].args)
        self.colours, self.alpha = _DEEP_PNG[self._layout]
        self._key = png.info.get("transparency")  # one number or colour that is transparent
        if self._key is not None:
            self.alpha = "A"
        if "icc_profile" in png.info:
            self.info["icc_profile"] = png.info["icc_profile"]
        self._describe(*png.size)

    def _decoded(self, layout: str) -> np.ndarray:
        """Decodes the bytes of the pixels as if they had another layout of as many bits."""
        png = PngImagePlugin.PngImageFile(io.BytesIO(self.data))
        png.tile = [png.tile[0]._replace(args=layout)]
        png.load()
        if "exif" in png.info:  # may come behind the pixels
            self.info["exif"] = png.info["exif"]
        return np.asarray(png)

    def read_numbers(self) -> np.ndarray:
        if self._layout == "I;16B":
            numbers = self._decoded(self._layout)[..., None]
        elif self._layout == "LA;16B":  # four channels of 8 bits
            numbers = self._decoded("RGBA").view(">u2")
        else:  # high bytes, and low ones: the high bytes of numbers that begin with the low one
            high, low = (self._decoded(layout).astype(np.uint16) for layout in (self._layout, self._layout[:-1] + "L"))
            numbers = high << 8 | low
        if self._key is None:
            return numbers
        opaque = (numbers != np.array(self._key)).any(-1, keepdims=True)
        return np.concatenate([numbers, opaque * np.uint16(65535)], -1)


class NpyFile(ArrayFile):
    """A NumPy array of the shape (height, width) or (height, width, bands), of which three are RGB."""

    format = "NPY"

    def _open(self) -> None:
        file = io.BytesIO(self.data)
        shape, self._by_columns, self.number = _NPY_HEADERS[np.lib.format.read_magic(file)](file)
        self._start = file.tell()
        if self.number.kind not in _KINDS:
            raise ImageError(f"an array of the type {self.number}; expected integers or floats")
        if len(shape) not in (2, 3) or 0 in shape:
            raise ImageError(f"an array of the shape {shape}; expected (height, width) or (height, width, channels)")
        self._shape = shape if shape[2:] else (*shape, 1)
        self.bands = self._shape[2]
        if self.bands not in (1, 3):
            self.fault = (
                f"an array of the shape {shape}; expected (height, width), or (height, width, 1 or 3), or to be read "
                f"with channels={self.bands}"
            )
        if self._start + math.prod(self._shape) * self.number.itemsize > len(self.data):
            raise EOFError("it ends before its last number")
        self.colours = "RGB" if self.bands == 3 else "L"
        self.bits = 1 if self.number.kind == "b" else 8 * self.number.itemsize
        self._describe(shape[1], shape[0])

    def read_numbers(self) -> np.ndarray:
        numbers = np.frombuffer(self.data, self.number, math.prod(self._shape), self._start)
        return numbers.reshape(self._shape, order="F" if self._by_columns else "C")


class TiffFile(ArrayFile):
    """The first image of a TIFF."""

    format = "TIFF"

    def _open(self) -> None:
        import tifffile

        pages = tifffile.TiffFile(io.BytesIO(self.data)).pages
        page: Any = pages.first
        if _OF_PIXELS & (_tags(self.data, page) - {tag.code for tag in page.tags}):
            raise EOFError("it lacks what its directory refers to")
        photometric = int(page.photometric)
        if _DNG_VERSION in page.tags or photometric in (_SENSOR, _LINEAR_SENSOR) or page.subfiletype & 1:
            raise ImageError("a camera's raw file, or a TIFF that begins with a thumbnail, is not read; convert it")
        planes, depth, height, width, channels = page.shaped
        if (
            photometric not in _COLOURS
            or (photometric == _YCBCR and page.compression != _JPEG)
            or page.tags.valueof(_INK_SET, 1) != 1
            or page.dtype is None
            or page.dtype.kind not in _KINDS
            or page.compression not in _COMPRESSIONS + _OF_LIBTIFF
            or page.planarconfig not in (1, 2)
            or depth != 1
        ):
            kind = f"{page.photometric.name}, {page.dtype}, {page.compression.name}, {depth} slices"
            raise ImageError(f"a TIFF of this kind is not read ({kind}); convert it to JPEG or PNG")
        if page.is_tiled:
            checked(page.tilewidth, page.tilelength, max_pixels())
        places = list(zip(page.dataoffsets, page.databytecounts))
        if page.is_contiguous:
            places = [(page.dataoffsets[0], page.nbytes)]
        elif len(places) != math.prod(page.chunked):
            raise EOFError(f"{len(places)} of {math.prod(page.chunked)} parts")
        if any(not size or start + size > len(self.data) for start, size in places):
            raise EOFError("it ends before its last pixel")
        if page.compression == _JPEG:
            most = max(width * height, page.tilewidth * page.tilelength)
            for start, size in places:
                checked(*jpeg_size(self.data[start : start + size]), most)
        self._page, self._has_palette = page, photometric == _PALETTE
        self.colours, self.inverted = _COLOURS[photometric], photometric == _MIN_IS_WHITE
        if not self._has_palette:
            self.number, self.bits = page.dtype, page.bitspersample
        self._choose_bands(planes * channels)
        orientation = page.tags.valueof(_ORIENTATION, 1)
        self.orientation = orientation if orientation in range(1, 9) else 1
        if _ICC_PROFILE in page.tags:
            self.info["icc_profile"] = page.tags.valueof(_ICC_PROFILE)
        self._describe(width, height)
        self.pages = len(pages)
        if self.pages > 1:
            self.notes.append("it has several images, of which the first is read")

    def _choose_bands(self, bands: int) -> None:
        """Sets the bands to read as colours, and as a transparency."""
        colours = 1 if self._has_palette else _CHANNELS[self.colours]
        if bands < colours:
            raise EOFError(f"{bands} bands of {self.colours} colours")
        extra = [_ALPHA.get(kind, "") for kind in self._page.extrasamples][: bands - colours]
        self._bands = list(range(colours))
        if any(extra) and self.colours != "CMYK":
            self.alpha = next(filter(None, extra))
            self._bands.append(colours + extra.index(self.alpha))
        self.bands, self.unread = 0 if self._has_palette else bands, bands - len(self._bands)
        if self.unread and self.colours == "L":
            all_of_them = "" if bands == 3 else f", or read all of them with channels={bands}"
            self.fault = (
                f"a TIFF of {bands} bands, and nothing says which are red, green and blue; save these three as RGB"
                f"{all_of_them}"
            )

    def read_bands(self) -> np.ndarray:
        page = self._page
        if page.compression in _OF_LIBTIFF:
            page = _expanded(self.data, page)
        planes = page.asarray(squeeze=False, maxworkers=1)[:, 0]  # (planes, height, width, channels)
        return np.moveaxis(planes, 0, 2).reshape(*planes.shape[1:3], -1)

    def read_numbers(self) -> np.ndarray:
        bands = self.read_bands()[..., self._bands]
        if not self._has_palette:
            return bands
        table = np.asarray(self._page.colormap)  # (3, colours) of 16 bits; of 8 in the files of some programs
        return to_levels(table, 0, 65535 if table.max() > 255 else 255).T[bands[..., 0]]


def _tags(data: bytes, page: Any) -> set[int]:
    """Returns the tags in the directory of an image; tifffile leaves out those whose values are beyond the file."""
    form = page.parent.tiff
    (count,) = struct.unpack_from(form.tagnoformat, data, page.offset)
    start = page.offset + form.tagnosize
    places = range(start, min(start + count * form.tagsize, len(data) - 1), form.tagsize)
    return {struct.unpack_from(f"{form.byteorder}H", data, place)[0] for place in places}


def _expanded(data: bytes, page: Any) -> Any:
    """Returns the image of a TIFF with LZW or PackBits as one with deflate, which is only packed in it."""
    import tifffile

    file = io.BytesIO(data)
    tags = tifffile.TiffFile(file, mode="r+").pages.first.tags
    width, length = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    in_plane = len(page.dataoffsets) // page.shaped[0]
    row = -(-width * page.shaped[4] * page.bitspersample // 8)  # bytes
    places, sizes = [], []
    for index, (start, size) in enumerate(zip(page.dataoffsets, page.databytecounts)):
        rows = length if page.is_tiled else min(length, page.imagelength - index % in_plane * length)
        content = zlib.compress(_expand(data[start : start + size], int(page.compression), row, rows), level=0)
        places.append(file.seek(0, io.SEEK_END))
        sizes.append(file.write(content))
    names = ("TileOffsets", "TileByteCounts") if page.is_tiled else ("StripOffsets", "StripByteCounts")
    for name, values in zip(names, (places, sizes)):
        tags[name].overwrite(values, dtype="I")
    tags["Compression"].overwrite(_DEFLATE)
    file.seek(0)
    return tifffile.TiffFile(file).pages.first


def _expand(part: bytes, compression: int, row: int, rows: int) -> bytes:
    """Expands `rows` rows of `row` bytes with libtiff: as a grey TIFF of 8 bits, which is what it does least to."""
    if row * rows > _LARGEST_PART:
        raise ImageError(f"a TIFF with strips of {row * rows:,} bytes; save it with smaller ones, or with deflate")
    tags = {256: row, 257: rows, 258: 8, 259: compression, 262: 1, 273: 122, 277: 1, 278: rows, 279: len(part)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + part
    return TiffImagePlugin.TiffImageFile(io.BytesIO(tiff)).tobytes()
