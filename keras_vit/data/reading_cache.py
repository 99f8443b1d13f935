"""What earlier readings of images have shown, so that images that have not changed since are not decoded again."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import operator
import os
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from keras_vit._atomic import written_aside
from keras_vit.data.decoding import RANGE_SETTING, EncodedImage, FileRange, ImageInfo, max_pixels

WORTH_SECONDS = 1.0  # readings that take less are not kept
_SETTING = "KERAS_VIT_IMAGE_CACHE"
_FORMAT = 2  # of the file; another number where the same bytes are read to other values
_COARSE = 2_000_000_000  # ns between two times of files on the coarsest file system (FAT)
_FIELDS = [field.name for field in fields(ImageInfo)]
_values = operator.attrgetter(*_FIELDS)
_START = b'{"sha256": "%s", "content": '
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

    Args:
        source: path of the folder or file that lists the images.
        channels: with which they are decoded; an image that can be decoded with one number may not be with another.
    """

    def __init__(self, source: str, channels: int = 3) -> None:
        self._path = _path_of(source, channels)
        self._readings = _load(self._path) if self._path else {}
        self._settled = time.time_ns() - _COARSE  # a change after the reading could leave a later time as it is
        self._states: dict[str, tuple[int, ...] | None] = {}
        self._info = functools.cache(ImageInfo)  # most images of a source share theirs

    def find(self, file: EncodedImage) -> ImageReading | None:
        """Returns the earlier reading of an image, or None if there is none or the file has changed."""
        row = self._readings.get(_key(file))
        if not row or self._state(file) != tuple(row[:3]):
            return None
        *info, notes = row[5:]
        return ImageReading(row[3], self._info(*info, tuple(notes)), row[4])

    def write(self, images: Iterable[tuple[EncodedImage, ImageReading]]) -> None:
        """Writes the readings of all images of the source. Call `find` for each before it is read."""
        if not self._path:
            return
        rows = {}
        for file, reading in images:
            state = self._state(file)
            if state and state[1] < self._settled:
                rows[_key(file)] = [*state, reading.digest, reading.look, *_values(reading.info)]
        content = json.dumps({"of": _versions(), "images": rows}).encode()
        try:
            with written_aside(self._path) as aside:
                aside.write_bytes(_START % _digest(content) + content + b"}")
        except OSError as error:
            _log.info("%s is not written (%s): the images will be read again in the next run", self._path, error)

    def _state(self, file: EncodedImage) -> tuple[int, ...] | None:
        """Returns (size, time of change, time of the entry's change) of an image's file when it was first asked for."""
        if isinstance(file, bytes):
            return None
        path = file.path if isinstance(file, FileRange) else os.fspath(file)
        if path not in self._states:
            self._states[path] = None
            with contextlib.suppress(OSError, ValueError):
                status = os.stat(path)
                self._states[path] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return self._states[path]


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


def _load(path: Path) -> dict[str, list[Any]]:
    """Returns the rows of a file; none if it is absent, damaged, or of other versions."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    start = len(_START % _digest(b""))
    content = data[start:-1]
    if data[:start] != _START % _digest(content):
        _log.info("%s is damaged: the images are read again", path)
        return {}
    known = json.loads(content)
    return known["images"] if known["of"] == _versions() else {}


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _key(file: EncodedImage) -> str:
    if isinstance(file, bytes):
        return ""
    return f"{file.path}\0{file.offset}\0{file.length}" if isinstance(file, FileRange) else os.fspath(file)


def _versions() -> list[Any]:
    """Returns all that a reading depends on besides the bytes."""
    versions = []
    for name in ("keras_vit", "pillow", "simplejpeg", "tifffile", "imagecodecs", "pillow-heif"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(importlib.metadata.version(name))
    return [_FORMAT, *versions, max_pixels(), os.environ.get(RANGE_SETTING, ""), _FIELDS]
