"""What earlier readings of images have shown, so that images that have not changed since are not decoded again."""

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import logging
import operator
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from keras_vit._atomic import written_aside
from keras_vit.data.decoding import RANGE_SETTING, EncodedImage, FileRange, ImageInfo, max_pixels, shared_info

WORTH_SECONDS = 1.0  # readings that take less are not kept
_SETTING = "KERAS_VIT_IMAGE_CACHE"
_FORMAT = 3  # of the file; another number where the same bytes are read to other values
_COARSE = 2_000_000_000  # ns between two times of files on the coarsest file system (FAT)
_FIELDS = [field.name for field in fields(ImageInfo)]
_values = operator.attrgetter(*_FIELDS)
_log = logging.getLogger("keras_vit")


class ImageReading(NamedTuple):
    """What the reading of an image has shown: the SHA-256 of its bytes, format and size, and the perceptual hash."""

    digest: str
    info: ImageInfo
    look: int | None


class ReadingCache:
    """The readings of the images of one source, in a file of the user's cache folder.

    A reading counts as long as the image's file has the same path, size, and times of change (of the content and of the
    file's entry), and the same versions decode it. Images that could not be read are read again.

    The file has a line for the versions, one for each image, and the SHA-256 of these lines. It is read and written by
    lines, which are parsed when they are needed: all rows of 100,000 images, parsed, would take 100 MB.

    Args:
        source: path of the folder or file that lists the images.
        channels: with which they are decoded; an image that can be decoded with one number may not be with another.
    """

    def __init__(self, source: str, channels: int = 3) -> None:
        self._path = _path_of(source, channels)
        self._lines = _load(self._path) if self._path else {}
        self._settled = time.time_ns() - _COARSE  # a change after the reading could leave a later time as it is
        self._unknown: dict[bytes, list[int]] = {}  # {key: state of the file} before the reading

    def find(self, file: EncodedImage) -> ImageReading | None:
        """Returns the earlier reading of an image, or None if there is none or the file has changed."""
        key, state = _key(file), _state(file)
        if self._path and state:
            if line := self._lines.get(key):
                *known, digest, look, (*info, notes) = json.loads(line)
                if known == state:
                    return ImageReading(digest, shared_info(*info, tuple(notes)), look)
            self._unknown[key] = state
        return None

    def write(self, images: Iterable[tuple[EncodedImage, ImageReading]]) -> None:
        """Writes the readings of all images of the source. Call `find` for each before it is read."""
        if not self._path:
            return
        digest = hashlib.sha256()
        try:
            with written_aside(self._path) as aside, aside.open("wb") as opened:
                for line in itertools.chain([_versions()], self._rows(images)):
                    digest.update(line)
                    opened.write(line)
                opened.write(_last(digest))
        except OSError as error:
            _log.info("%s is not written (%s): the images will be read again in the next run", self._path, error)

    def _rows(self, images: Iterable[tuple[EncodedImage, ImageReading]]) -> Iterator[bytes]:
        """Yields the lines of those images whose files are old enough for their times to tell of a change."""
        for file, reading in images:
            key = _key(file)
            if state := self._unknown.get(key):
                row = [*state, reading.digest, reading.look, _values(reading.info)]
                line = json.dumps(row).encode() + b"\n" if state[1] < self._settled else b""
            else:
                line = self._lines.get(key, b"")
            if line:
                yield key + b"\t" + line


def _state(file: EncodedImage) -> list[int] | None:
    """Returns [size, time of change, time of the entry's change] of an image's file; None without one."""
    if not isinstance(file, bytes):
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(file.path if isinstance(file, FileRange) else file)
            return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return None


def _path_of(source: str, channels: int) -> Path | None:
    """Returns the file of a source's readings; None where nothing is to be written."""
    setting = os.environ.get(_SETTING)
    if setting == "0":
        return None
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path("~", ".cache"), "keras_vit", "images")
    real = os.path.realpath(source)
    suffix = "" if channels == 3 else f"-{channels}"
    name = f"{Path(real).name[:40]}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}{suffix}.json"
    try:
        path = Path(setting or default).expanduser().resolve() / name
    except RuntimeError:  # a user without a home
        return None
    return None if path.is_relative_to(real) else path  # nothing is written into the data


def _load(path: Path) -> dict[bytes, bytes]:
    """Returns {key: values} of the lines of a file; none if it is absent, damaged, or of other versions."""
    lines, line, digest = {}, b"", hashlib.sha256()
    try:
        with path.open("rb") as opened:
            if opened.readline() != (versions := _versions()):
                return {}
            digest.update(versions)
            for line in opened:
                key, tab, values = line.partition(b"\t")
                if not tab:
                    break
                digest.update(line)
                lines[key] = values
    except OSError:
        return {}
    if line != _last(digest):
        _log.info("%s is damaged: the images are read again", path)
        return {}
    return lines


def _last(digest: Any) -> bytes:
    return digest.hexdigest().encode()


def _key(file: EncodedImage) -> bytes:
    """Returns the path of an image's file, or the place in it, as JSON, which has no tabs and line breaks."""
    if isinstance(file, bytes):
        return b""
    return json.dumps(
        [file.path, file.offset, file.length] if isinstance(file, FileRange) else os.fspath(file)
    ).encode()


def _versions() -> bytes:
    """Returns a line of all that a reading depends on besides the bytes."""
    versions = []
    for name in ("keras_vit", "pillow", "simplejpeg", "tifffile", "imagecodecs", "pillow-heif"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(importlib.metadata.version(name))
    return json.dumps([_FORMAT, *versions, max_pixels(), os.environ.get(RANGE_SETTING, ""), _FIELDS]).encode() + b"\n"
