"""Lists images with their classes and splits, wherever they come from, and reads each of them once."""

import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from keras_vit.data.decoding import Facts, ImageError, Record, examine, read_file
from keras_vit.data.names import one_line

SPLITS = ("train", "validation", "test")
SPLIT_OF_NAME = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_OF_NAME |= dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
THREADS = min(8, os.cpu_count() or 1)  # each may hold a whole image of MAX_PIXELS
_SECONDS_BETWEEN_NEWS = 5.0
_AT_ONCE = 64  # images handed to the threads between two looks at the clock
_LISTED = 20  # faults of one kind in an error
_log = logging.getLogger("keras_vit")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image of a class. Once read, it has a digest of its bytes, and facts or the reason for none.

    A source that vouches for its images hands them out with a digest: they are not read again, and have no facts.
    """

    file: str | bytes | Record
    name: str
    class_name: str
    split: str
    weight: float = 1.0
    digest: str = ""
    facts: Facts | None = None
    reason: str = ""


@dataclass(frozen=True)
class Listing:
    """What a source holds; `problems` are those that no skipping of images cures."""

    path: str  # as it was given, for messages
    name: str
    given: tuple[str, ...]  # the splits that the source has of its own; () where there is but one heap
    class_names: tuple[str, ...]
    images: tuple[ListedImage, ...]
    other: tuple[str, ...] = ()  # files that are not images
    stray: tuple[str, ...] = ()  # images outside every class folder, and folders beside train/ and test/
    empty: tuple[str, ...] = ()  # class folders without an image
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what is odd and no reason to refuse


class Progress:
    """Logs how many images of `total` are read, every few seconds."""

    def __init__(self, total: int):
        self.total, self.done = total, 0
        self._next = time.monotonic() + _SECONDS_BETWEEN_NEWS

    def add(self, count: int = 1) -> None:
        self.done += count
        if time.monotonic() >= self._next:
            _log.info("%d of %d images read", self.done, self.total)
            self._next = time.monotonic() + _SECONDS_BETWEEN_NEWS


def read_listing(listing: Listing) -> Listing:
    """Reads, hashes and decodes every image once, in threads; keeps what was found, not the pixels."""
    read = list(listing.images)
    unread = [index for index, image in enumerate(read) if not image.digest and not image.reason]
    progress = Progress(len(unread))
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(unread), _AT_ONCE):
            some = unread[start : start + _AT_ONCE]
            for index, image in zip(some, pool.map(_read_image, [read[index] for index in some]), strict=True):
                read[index] = image
            progress.add(len(some))
    alive = defaultdict(bool)  # (split, class) -> whether one of its images can be read
    for image in read:
        alive[image.split, image.class_name] |= not image.reason
    lost = [f"{split}/{name}" if listing.given else name for (split, name), good in alive.items() if not good]
    problems = listing.problems
    if lost:
        problems += (f"no image can be read in: {', '.join(lost)}; replace the images or remove the class",)
    return replace(listing, images=tuple(read), problems=problems)


def _read_image(image: ListedImage) -> ListedImage:
    digest = ""
    try:
        data = read_file(image.file)
        digest = digest_of(data)
        return replace(image, digest=digest, facts=examine(data)[1])
    except ImageError as error:
        return replace(image, digest=digest, reason=str(error))


def digest_of(data: bytes) -> str:
    """Returns the sha256 of an image's bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def listed(lines: Iterable[str]) -> list[str]:
    """Indents the lines of an error, and cuts a long list."""
    lines = list(map(one_line, lines))
    more = [f"  and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return [f"  {line}" for line in lines[:_LISTED]] + more


def refuse_unlabelled(data: str, class_names: Sequence[str], faults: Sequence[str]) -> None:
    """Raises a ValueError if there are `faults`: "example: number" of examples whose number is no class."""
    if faults:
        what = f"{len(faults):,} examples of {data} have a label that is none of its {len(class_names)} classes:"
        raise ValueError("\n".join([what, *listed(faults), "Name splits that have labels."]))
