"""Mutants of images: the two decoders agree on what they refuse, and on the pixels of what they read."""

import io
import os
import random
import struct
import zlib

import numpy as np
import tensorflow as tf
from outcome import LONGEST_MESSAGE, Outcome
from PIL import Image

from keras_vit.data.damage import damage
from keras_vit.data.decoding import decode, recognize
from keras_vit.data.jpeg import plain_jpeg_size
from keras_vit.runtime.images import upright

SHARE = 0.06
GOOD = {"equal", "refused"}
_MOST = 300_000  # pixels: a mutant may claim any size, and is to be quick
_HEIGHT, _WIDTH = 37, 53


def encoded(pixels, kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def deep_png(channels, pixels, *chunks):
    """Writes a PNG of 16 bits, which Pillow writes in grey alone."""
    kinds = {1: 0, 2: 4, 3: 2, 4: 6}
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels[..., :channels].astype(int) * 251)
    head = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 16, kinds[channels], 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, parts))


def chunk(part):
    kind, body = part
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def seeds():
    levels = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(levels.integers(0, 256, (9, 7, 4), np.uint8)).resize((_WIDTH, _HEIGHT)))
    rgb, grey = pixels[..., :3], pixels[..., 0]
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    more = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1])]
    several = {"save_all": True, "append_images": more, "duration": 40}
    return {
        "JPEG baseline": encoded(rgb, "JPEG"),
        "JPEG 4:4:4": encoded(rgb, "JPEG", subsampling=0),
        "JPEG progressive": encoded(rgb, "JPEG", progressive=True),
        "JPEG CMYK": encoded(rgb, "JPEG", "CMYK"),
        "JPEG grey": encoded(grey, "JPEG", "L"),
        "JPEG rotated": encoded(rgb, "JPEG", exif=exif),
        "JPEG restarts": encoded(rgb, "JPEG", restart_marker_blocks=2),
        "PNG 8 bits": encoded(rgb, "PNG"),
        "PNG rotated": encoded(rgb, "PNG", exif=exif),
        "PNG alpha": encoded(pixels, "PNG", "RGBA"),
        "PNG palette": encoded(rgb, "PNG", "P", transparency=3),
        "PNG grey, transparent level": encoded(grey, "PNG", "L", transparency=int(grey[3, 4])),
        "PNG 1 bit": encoded(grey, "PNG", "1"),
        "PNG 16-bit grey": deep_png(1, pixels),
        "PNG 16-bit colour": deep_png(3, pixels, (b"tRNS", (rgb[3, 4].astype(">u2") * 251).tobytes())),
        "PNG 16-bit alpha": deep_png(4, pixels),
        "APNG": encoded(rgb, "PNG", **several),
        "WebP lossy": encoded(rgb, "WEBP"),
        "WebP lossless": encoded(rgb, "WEBP", lossless=True),
        "WebP alpha": encoded(pixels, "WEBP", "RGBA", exif=exif),
        "WebP animated": encoded(rgb, "WEBP", **several),
        "GIF": encoded(rgb, "GIF", "P"),
        "GIF animated": encoded(rgb, "GIF", **several),
        "BMP": encoded(rgb, "BMP"),
        "BMP palette": encoded(rgb, "BMP", "P"),
        "BMP 1 bit": encoded(grey, "BMP", "1"),
    }


def prepare(folder):
    os.environ["KERAS_VIT_MAX_PIXELS"] = str(_MOST)
    files = seeds()
    for name, data in files.items():
        if (reason := damage(data)) or disagreement(data):
            raise ValueError(f"{name}: {reason} {disagreement(data)}")
    return list(files.items())


def mutated(data, chance, others):
    """Changes some bytes of a file, more often in its first 200; or puts the checksums of a PNG right afterwards."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = chance.randrange(min(len(data), chance.choice((40, 200, len(data)))) or 1)
        length = chance.choice((1, 2, 4, 20, 200))
        match chance.randrange(8):
            case 0 | 1:
                data[place : place + 1] = bytes([data[place] ^ 1 << chance.randrange(8)]) if data else b""
            case 2:
                data[place : place + length] = chance.randbytes(len(data[place : place + length]))
            case 3:
                data[place : place + length] = bytes(len(data[place : place + length]))
            case 4:
                del data[place : place + length]
            case 5:
                data[place:place] = chance.choice((chance.randbytes(length), data[place : place + length]))
            case 6:
                del data[place:]
            case 7:
                other = chance.choice(others)[1]
                data[place:] = other[chance.randrange(len(other)) :]
        if not data:
            break
    return bytes(data)


def with_right_checksums(data):
    place, parts = 8, [data[:8]]
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if place + 12 + length > len(data):
            break
        parts.append(chunk((data[place + 4 : place + 8], data[place + 8 : place + 8 + length])))
        place += 12 + length
    return b"".join([*parts, data[place:]])


def disagreement(data):
    """Returns where the decoders differ; "" if both read the same pixels, "refused" if both refuse the file."""
    messages, results = [], []
    for read in (decode, upright):
        try:
            results.append(read(data))
        except ValueError as error:
            messages.append(str(error))
    if any(len(message) > LONGEST_MESSAGE or "\n" in message for message in messages):
        return f"a message of {max(map(len, messages))} characters"
    if len(messages) == 2:
        return "refused"
    if messages:
        return f"refused by one alone: {messages[0][:200]}"
    one, other = results
    if one.shape != other.shape:
        return f"shapes {one.shape} and {other.shape}"
    if (difference := np.abs(one.astype(int) - other).max(initial=0)) > 0:
        return f"a difference of {difference} levels"
    if recognize(data) == "JPEG" and (size := plain_jpeg_size(data)):
        fast = tf.image.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        if size != one.shape[:2] or np.abs(fast.astype(int) - one).max() > 1:
            return f"TensorFlow: {size} {fast.shape}"
    return ""


def case(state, number, random: random.Random):
    name, data = state[number % len(state)]
    data = mutated(data, random, state)
    if name.startswith(("PNG", "APNG")) and random.random() < 0.7:
        data = with_right_checksums(data)
    result = disagreement(data)
    if result == "":
        damage(data)  # raises nothing
    return Outcome(name, result if result == "refused" else "differs" if result else "equal", result, limit_mb=40)
