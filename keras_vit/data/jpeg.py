"""Recognizes plain JPEG files: those that TensorFlow and Pillow decode to the same pixels."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from keras_vit.data.decoding import SCAN, max_pixels, orientation_of
from keras_vit.data.profiles import changes_colours

_PROGRESSIVE, _END = 0xC2, 0xD9  # markers
_IGNORED = {*range(0xE0, 0xF0), 0xFE}  # application segments and comments
_SAMPLING = {b"\x11", b"\x11\x11\x11", b"\x21\x11\x11", b"\x22\x11\x11"}  # grey, 4:4:4, 4:2:2, 4:2:0
_ALL = 2**64 - 1  # a bit for each of a block's coefficients


def _need(*conditions: object) -> None:
    """Raises a ValueError, which ends the parsing, for a file that is not plain."""
    if not all(conditions):
        raise ValueError


@dataclass
class _Header:
    """The contents of a file's segments so far."""

    size: tuple[int, int] | None = None  # (height, width)
    progressive: bool = False
    quantization_of: dict[int, int] = field(default_factory=dict)  # component -> number of its table
    complete: dict[int, int] = field(default_factory=dict)  # component -> coefficients complete to their last bit
    quantization: set[int] = field(default_factory=set)  # tables
    huffman: set[int] = field(default_factory=set)  # tables: 16 * (0 for DC, 1 for AC) + number
    exif: bytes = b""
    profile: list[bytes] = field(default_factory=list)  # the segments that it is cut into


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Returns (height, width) of a plain JPEG, None for any other file.

    A plain JPEG is a complete, upright image of at most `max_pixels()`, baseline or progressive with 8 bits, grey or
    YCbCr at 4:4:4, 4:2:2 or 4:2:0, that defines every table it uses, without a colour profile other than that of sRGB.
    TensorFlow decodes it as `decode` does. All other files, valid or not, are left to `decode`.

    Source: ITU-T T.81, annex B; the checks of libjpeg in jdmarker.c, jdhuff.c and jdphuff.c.
    """
    header = _Header()
    try:
        _need(data.startswith(b"\xff\xd8"))
        for kind, body in _segments(data):
            if kind in _SEGMENT_READERS:
                _SEGMENT_READERS[kind](header, kind, body)
            else:
                _need(kind in _IGNORED)
        # Versions of libjpeg differ in how they fill in missing coefficients.
        _need(header.complete, all(bits == _ALL for bits in header.complete.values()))
        _need(orientation_of(header.exif) == 1)
        profile = b"".join(part[14:] for part in sorted(header.profile))
        _need(not profile or not changes_colours(profile, "L" if len(header.complete) == 1 else "RGB"))
    except (IndexError, ValueError):
        return None
    return header.size


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (kind, body) of each segment up to the image's end; the codes of a scan follow its segment."""
    place, marks = 2, _marks(data)
    while (kind := data[place + 1]) != _END:
        end = place + 2 + _number(data, place + 2)
        _need(data[place] == 0xFF, place + 4 <= end <= len(data))
        yield kind, data[place + 4 : end]
        place = end
        if kind == SCAN:
            place += int(np.argmax(marks[end:]))  # 0 if there is none, where the next check fails
    _need(data[place] == 0xFF)


def _marks(data: bytes) -> np.ndarray:
    """Returns where a marker may be among the codes of a scan: a 255 that no stuffed zero or restart follows."""
    codes = np.frombuffer(data, np.uint8)
    after = codes[1:]
    return (codes[:-1] == 0xFF) & (after != 0) & (after != 0xFF) & (after & 0xF8 != 0xD0)


def _number(body: bytes, place: int) -> int:
    return body[place] << 8 | body[place + 1]


def _read_frame(header: _Header, kind: int, body: bytes) -> None:
    _need(header.size is None, body[0] == 8, len(body) == 6 + 3 * body[5])
    names = body[6::3]
    _need(body[7::3] in _SAMPLING, len(set(names)) == len(names), names != b"RGB")
    header.size = _number(body, 1), _number(body, 3)
    _need(0 < header.size[0] * header.size[1] <= max_pixels())
    header.progressive = kind == _PROGRESSIVE
    header.quantization_of = dict(zip(names, body[8::3], strict=True))
    header.complete = dict.fromkeys(names, 0)


def _read_quantization(header: _Header, kind: int, body: bytes) -> None:
    _need(len(body) % 65 == 0, all(number < 4 for number in body[::65]))  # 8 bits each; rarer ones have 16
    header.quantization.update(body[::65])


def _read_huffman(header: _Header, kind: int, body: bytes) -> None:
    header.huffman.update(_huffman_tables(body))


@functools.lru_cache(maxsize=256)  # most files of a set have the same tables
def _huffman_tables(body: bytes) -> frozenset[int]:
    """Returns the numbers of the Huffman tables in a segment, if libjpeg accepts them all."""
    place, tables = 0, set()
    while place < len(body):
        number, counts = body[place], body[place + 1 : place + 17]
        values = body[place + 17 : place + 17 + sum(counts)]
        _need(number & 0xEF < 4, len(counts) == 16, len(values) == sum(counts) <= 256)
        _need(number >= 16 or all(value < 16 for value in values))
        code = 0
        for bits, count in enumerate(counts, start=1):
            code += count
            _need(code < 2**bits or not any(counts[bits - 1 :]))  # no code is all ones
            code *= 2
        tables.add(number)
        place += 17 + len(values)
    return frozenset(tables)


def _read_restarts(header: _Header, kind: int, body: bytes) -> None:
    _need(len(body) == 2)


def _read_exif(header: _Header, kind: int, body: bytes) -> None:
    if body.startswith(b"Exif\0\0"):
        header.exif += body[6:] if header.exif else body  # a long block has several segments


def _read_profile(header: _Header, kind: int, body: bytes) -> None:
    if body.startswith(b"ICC_PROFILE\0"):
        header.profile.append(body)


def _read_adobe(header: _Header, kind: int, body: bytes) -> None:
    _need(not body.startswith(b"Adobe") or (len(body) >= 12 and body[11] == 1))  # 1: YCbCr


def _read_scan(header: _Header, kind: int, body: bytes) -> None:
    count = body[0]
    _need(header.size is not None, len(body) == 4 + 2 * count, 0 < count)
    names, tables, (first, last, bits) = body[1:-3:2], body[2:-3:2], body[-3:]
    before, now = bits >> 4, bits & 15  # bits of each coefficient that are missing before and after the scan
    _need(len(set(names)) == count, all(name in header.complete for name in names))
    _need(all(header.quantization_of[name] in header.quantization for name in names))
    if header.progressive:
        _need(last == 0 if first == 0 else count == 1 and first <= last <= 63)
        _need(now <= 13, before in (0, now + 1))
        dc, ac = first == 0 and before == 0, first > 0
    else:
        _need(count == len(header.complete), (first, last, bits) == (0, 63, 0), not any(header.complete.values()))
        dc = ac = True
    for name, table in zip(names, tables, strict=True):
        _need(not dc or table >> 4 in header.huffman, not ac or 16 | table & 15 in header.huffman)
        coefficients = 2 ** (last + 1) - 2**first
        header.complete[name] = header.complete[name] & ~coefficients | (coefficients if now == 0 else 0)


_SEGMENT_READERS: dict[int, Callable[[_Header, int, bytes], None]] = {
    0xC0: _read_frame,
    _PROGRESSIVE: _read_frame,
    0xC4: _read_huffman,
    SCAN: _read_scan,
    0xDB: _read_quantization,
    0xDD: _read_restarts,
    0xE1: _read_exif,
    0xE2: _read_profile,
    0xEE: _read_adobe,
}
