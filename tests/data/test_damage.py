"""Damage that decoders pass over: found once before training, a warning when predicting."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_vit.commands.image_files import read_batches
from keras_vit.data import check_folder, open_source
from keras_vit.data.damage import damage
from keras_vit.data.decoding import decode, decode_with_info

RANDOM = np.random.default_rng(0)
SMOOTH = Image.fromarray(RANDOM.integers(0, 256, (12, 16, 3), np.uint8)).resize((240, 180))


def encoded(format="JPEG", mode="RGB", **options):
    file = io.BytesIO()
    SMOOTH.convert(mode).save(file, format, **options)
    return file.getvalue()


JPEGS = {
    "baseline": encoded(),
    "progressive": encoded(progressive=True),
    "grey": encoded(mode="L"),
    "CMYK": encoded(mode="CMYK"),
    "YCCK": encoded(mode="CMYK").replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2"),
    "RGB": encoded(keep_rgb=True),
    "restarts": encoded(restart_marker_rows=1),
    "4:4:4": encoded(subsampling=0),
    "4:2:2": encoded(subsampling=1),
    "colour profile": encoded(icc_profile=b"no profile", comment="words"),
    "unknown JFIF": encoded().replace(b"JFIF\0\1\1", b"JFIF\0\0\0"),  # in the wild, and harmless
    "unknown Adobe": encoded(mode="CMYK").replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\7"),
    "several": encoded("MPO", save_all=True, append_images=[SMOOTH]),
    "something behind it": encoded() + b"\xff\xd8 and more",
}
OTHERS = {format: encoded(format) for format in ("PNG", "GIF", "BMP", "WEBP")}


@pytest.mark.parametrize("name", [*JPEGS, *OTHERS])
def test_good_files_raise_no_alarm(name):
    assert damage((JPEGS | OTHERS)[name]) == ""


def broken(data, how, at):
    return data[:at] + (bytes(200) if how == "zeroed" else b"") + data[at + 200 :]


@pytest.mark.parametrize("how", ["zeroed", "missing"])
@pytest.mark.parametrize("name", ["baseline", "progressive", "grey", "CMYK", "restarts", "4:4:4", "unknown JFIF"])
def test_200_bytes_zeroed_or_missing_in_a_jpeg_are_seen_in_most_places(name, how):
    data = JPEGS[name]
    places = range(data.index(b"\xff\xda") + 20, len(data) - 300, len(data) // 20)
    reasons = [damage(broken(data, how, place)) for place in places]
    assert sum("libjpeg" in reason for reason in reasons) > 0.75 * len(reasons)
    decode(broken(data, how, places[len(places) // 2]))  # Pillow says nothing


def test_every_changed_byte_of_a_png_s_pixels_is_seen():
    data = OTHERS["PNG"]
    start = data.index(b"IDAT") + 4
    for place in range(start, len(data) - 13, 4001):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert "checksum" in damage(changed)
    # Bytes after the pixels of the last row, which Pillow does not read.
    extra = zlib.compress(b"")
    assert damage(data[: len(data) - 12] + b"\0\0\0\x08IDAT" + extra + bytes(4) + data[-12:])


def test_damage_stops_check_and_training_and_can_be_skipped(tmp_path):
    for name in ("cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "dog/1.jpg", "dog/2.jpg", "dog/3.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(JPEGS["baseline"] + name.encode())
    bad = tmp_path / "cat" / "bad.jpg"
    bad.write_bytes(broken(JPEGS["baseline"], "missing", 2000))
    assert decode_with_info(bad.read_bytes())
    ((name, reason),) = check_folder(tmp_path).bad
    assert name == "cat/bad.jpg" and "libjpeg: Corrupt JPEG data" in reason
    with pytest.raises(ValueError, match="cat/bad.jpg: a JPEG that is damaged inside"):
        open_source(tmp_path)
    data = open_source(tmp_path, on_bad_image="skip")
    assert str(bad) not in [*data.train.images, *data.validation.images, *data.test.images]


class Reader:
    channels = 3
    read = staticmethod(lambda image: decode(image))


def test_predict_warns_once_for_each_file_and_goes_on(tmp_path, caplog):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad\x1b[31m.jpg"
    good.write_bytes(JPEGS["baseline"])
    bad.write_bytes(broken(JPEGS["baseline"], "missing", 2000))
    (batch,) = read_batches(Reader, [good, bad, JPEGS["grey"]])
    assert batch.images == [good, bad, JPEGS["grey"]] and len(batch.pixels) == 3 and not batch.faults
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "\x1b" not in record.getMessage()
    assert record.getMessage().startswith(str(bad).replace("\x1b", "\\x1b") + ": a JPEG that is damaged inside")
