"""Lists of images with their classes and splits, from any source, and the one reading of each image."""

import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from keras_vit._arguments import counted
from keras_vit.data.damage import damage
from keras_vit.data.decoding import FileRange, ImageError, ImageInfo, decode_with_info, read_file
from keras_vit.data.messages import few, listed
from keras_vit.data.perceptual_hash import perceptual_hash
from keras_vit.data.reading_cache import WORTH_SECONDS, ImageReading, ReadingCache

Learns = Literal["classes", "labels", "numbers"]  # of each image; see `keras_vit.data.targets`
SPLITS = ("train", "validation", "test")
SPLIT_OF_NAME = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_OF_NAME |= dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
THREADS = min(8, os.cpu_count() or 1)  # decode images of `max_pixels()` together
WEIGHTS = 1e-6, 1e6  # least and largest weight of an image, other than 0; the sums of a batch stay exact enough
_SECONDS_BETWEEN_NEWS = 5.0
_AT_ONCE = 64  # images that a thread reads between two progress messages at most
_log = logging.getLogger("keras_vit")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image of a class. Once it is read, it has a digest of its bytes, and either `info` or a `reason`.

    A prepared data set lists its images with a digest: they are not read again and have no `info`.

    Args:
        file: a path, encoded bytes or a range of a file.
        name: for messages.
        class_name: the class; of an image with labels or numbers, these as one text.
        split: one of `SPLITS`.
        weight: of the image in training, 0 or in the range of `WEIGHTS`.
        group: whose images lie in one split; "" for none.
        digest: SHA-256 of the encoded bytes; "" before it is read.
        info: format and size; None before it is read.
        reason: why it cannot be read; "" if it can.
        look: perceptual hash; None if it has none.
        near: the least digest of its near duplicates and itself; "" if it has none.
        target: the labels or the numbers of the image; None for one class.
    """

    file: str | bytes | FileRange
    name: str
    class_name: str
    split: str
    weight: float = 1.0
    group: str = ""
    digest: str = ""
    info: ImageInfo | None = None
    reason: str = ""
    look: int | None = None
    near: str = ""

    @property
    def content(self) -> str:
        """A text that is the same for copies and near duplicates, and differs for other images."""
        return self.near or self.digest

    target: tuple[Any, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class or the labels of the image; () for numbers."""
        if self.target is None:
            return (self.class_name,)
        return tuple(label for label in self.target if isinstance(label, str))


@dataclass(frozen=True)
class Listing:
    """The images of a source.

    Args:
        path: of the source, for messages.
        name: of the source.
        own_splits: the splits that the source has; () if all images are in one set.
        class_names: of the classes, the labels or the numbers, in the order of the labels.
        images: all of them, in all splits.
        other: files that are not images.
        stray: images outside the class folders, and folders next to train/ and test/.
        empty: class folders without an image.
        problems: those that remain when unreadable images are skipped.
        notes: on unusual things that are not errors.
        learns: what the images have, "classes", "labels" or "numbers"; see `keras_vit.data.targets`.
    """

    path: str
    name: str
    own_splits: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[ListedImage, ...]
    other: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    learns: Learns = "classes"


def weight_faults(weights: Sequence[float] | np.ndarray | None, names: Sequence[str]) -> list[str]:
    """Returns the faults of the weights of training images, a sentence each.

    Args:
        weights: of the images; None for 1.
        names: of the images, for messages.
    """
    if weights is None:
        return []
    array, (least, most) = np.asarray(weights, np.float32), WEIGHTS
    wrong = np.flatnonzero((array != 0) & ~((array >= least) & (array <= most))).tolist()
    if len(wrong):
        received = few(f"{array[i]:g} of {names[i]}" for i in wrong)
        return [f"weights that are not 0 or from {least:g} to {most:g}: {received}; scale or correct them"]
    if len(array) and not array.any():
        return ["no image to train on has a weight above 0; raise weights"]
    return []


class Progress:
    """Logs the number of images read, every few seconds.

    Args:
        total: number of images to read.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._next = time.monotonic() + _SECONDS_BETWEEN_NEWS

    def add(self, count: int = 1) -> None:
        """Adds `count` images."""
        self.done += count
        if time.monotonic() >= self._next:
            _log.info("%d of %d images read", self.done, self.total)
            self._next = time.monotonic() + _SECONDS_BETWEEN_NEWS


def read_listing(listing: Listing, channels: int = 3) -> Listing:
    """Reads, hashes, decodes and checks every image once, in threads. Keeps the size and format, not the pixels.

    Images that have not changed since an earlier reading are not read again.

    Args:
        listing: the images.
        channels: as in `keras_vit.data.decode`.
    """
    read, cache = list(listing.images), ReadingCache(listing.path, channels)
    unread = []
    for index, image in enumerate(read):
        if image.digest or image.reason:
            continue
        if known := cache.find(image.file):
            read[index] = replace(image, **known._asdict())
        else:
            unread.append(index)
    size = min(_AT_ONCE, len(unread) // (8 * THREADS) or 1)
    parts = [unread[start : start + size] for start in range(0, len(unread), size)]
    progress, started = Progress(len(unread)), time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for part, images in zip(
            parts, pool.map(lambda part: [_read_image(read[i], channels) for i in part], parts), strict=True
        ):
            for index, image in zip(part, images, strict=True):
                read[index] = image
            progress.add(len(part))
    if unread and time.monotonic() - started > WORTH_SECONDS:
        cache.write((image.file, ImageReading(image.digest, image.info, image.look)) for image in read if image.info)
    readable: dict[tuple[str, str], bool] = defaultdict(bool)  # {(split, class): whether an image can be read}
    for image in read:
        for name in image.classes:
            readable[image.split, name] |= not image.reason
    lost = [f"{split}/{name}" if listing.own_splits else name for (split, name), good in readable.items() if not good]
    problems = listing.problems
    if lost:
        problems += (f"no image can be read in: {few(lost)}; replace the images or remove the class",)
    noted: dict[str, list[str]] = defaultdict(list)  # {note: images}
    for image in read:
        for note in image.info.notes if image.info else ():
            noted[note].append(image.name)
    notes = [f"{few(names)}: {note}" for note, names in noted.items()]
    return replace(listing, images=tuple(read), problems=problems, notes=(*listing.notes, *notes))


def _read_image(image: ListedImage, channels: int) -> ListedImage:
    digest = ""
    try:
        data = read_file(image.file)
        digest = digest_of(data)
        pixels, info = decode_with_info(data, channels)
        if reason := damage(data):
            raise ImageError(reason)
        return replace(image, digest=digest, info=info, look=perceptual_hash(pixels))
    except ImageError as error:
        return replace(image, digest=digest, reason=str(error))


def digest_of(data: bytes) -> str:
    """Returns the SHA-256 of an image's bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def refuse_unlabelled(data: str, class_names: Sequence[str], faults: Sequence[str]) -> None:
    """Raises a ValueError if there are `faults`: "example: label" of examples whose label is no class."""
    if faults:
        count = counted(len(faults), "example")
        what = f"{count} of {data} with a label that is none of its {counted(len(class_names), 'class')}:"
        raise ValueError("\n".join([what, *listed(faults), "Name splits that have labels."]))
