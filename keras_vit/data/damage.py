"""Tells of damage that decoders pass over: JPEGs that libjpeg warns of, PNGs with wrong checksums."""

import struct
import zlib
from collections.abc import Callable

import simplejpeg

from keras_vit.data.decoding import jpeg_segments, max_pixels, room

_IGNORED = {*range(0xE0, 0xF0), 0xFE}  # application segments and comments
_HARMLESS = "Invalid SOS parameters for sequential JPEG"


def damage(data: bytes) -> str:
    """Returns what is wrong with the bytes of an image that `decode` has read all the same; "" if nothing is.

    Only a part of all damage can be found: GIF, BMP and WebP have no checksums, and damage to a JPEG may by chance
    make another valid one. The cost is less than that of decoding the image.
    """
    return next((reason(data) for start, reason in _REASONS.items() if data.startswith(start)), "")


def _jpeg(data: bytes) -> str:
    data = _bare(data)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        layout = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
        with room(int(height) * int(width), max_pixels()):  # the coefficients of a progressive JPEG
            simplejpeg.decode_jpeg(data, layout, min_factor=8, min_height=1, min_width=1)  # at 1/8 of the size
    except ValueError as error:
        if str(error) != _HARMLESS:
            return f"a JPEG that is damaged inside (libjpeg: {error})"
    return ""


def _bare(data: bytes) -> bytes:
    """Returns a JPEG without application segments and comments: libjpeg tells its first warning alone."""
    parts, place = [data[:2]], 2
    for kind, start, place in jpeg_segments(data):
        if kind not in _IGNORED:
            parts.append(data[start:place])
    return b"".join([*parts, data[place:]])


def _png(data: bytes) -> str:
    place = 8
    while place + 12 <= len(data) and data[place + 4 : place + 8] != b"IEND":
        (length,) = struct.unpack_from(">I", data, place)
        kind, body, check = data[place + 4 : place + 8], data[place + 8 : place + 8 + length], place + 8 + length
        # Pillow checks all but those of the pixels.
        if kind == b"IDAT" and zlib.crc32(kind + body).to_bytes(4, "big") != data[check : check + 4]:
            return "a PNG that is damaged inside (the checksum of its pixels is wrong)"
        place = check + 4
    return ""


_REASONS: dict[bytes, Callable[[bytes], str]] = {b"\xff\xd8\xff": _jpeg, b"\x89PNG\r\n\x1a\n": _png}
