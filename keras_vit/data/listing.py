"""Lists pictures with their classes and splits, wherever they come from, and reads each of them once."""

import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from keras_vit.data.decode import Facts, PictureError, Record, examine, read_file
from keras_vit.data.names import one_line

SPLITS = ("train", "validation", "test")
SPLIT_OF_NAME = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_OF_NAME |= dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
THREADS = min(8, os.cpu_count() or 1)  # each may hold a whole picture of MAX_PIXELS
_SECONDS_BETWEEN_NEWS = 5.0
_AT_ONCE = 64  # pictures handed to the threads between two looks at the clock
_LISTED = 20  # faults of one kind in an error
_log = logging.getLogger("keras_vit")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a class. Once read, it has a digest of its bytes, and facts or the reason for none.

    A source that vouches for its pictures hands them out with a digest: they are not read again, and have no facts.
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
    """What a source holds; `problems` are those that no skipping of pictures cures."""

    path: str  # as it was given, for messages
    name: str
    given: tuple[str, ...]  # the splits that the source has of its own; () where there is but one heap
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    other: tuple[str, ...] = ()  # files that are not pictures
    stray: tuple[str, ...] = ()  # pictures outside every class folder, and folders beside train/ and test/
    empty: tuple[str, ...] = ()  # class folders without a picture
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what is odd and no reason to refuse


class Progress:
    """Logs how many pictures of `total` are read, every few seconds."""

    def __init__(self, total: int):
        self.total, self.done = total, 0
        self._next = time.monotonic() + _SECONDS_BETWEEN_NEWS

    def add(self, count: int = 1) -> None:
        self.done += count
        if time.monotonic() >= self._next:
            _log.info("%d of %d pictures read", self.done, self.total)
            self._next = time.monotonic() + _SECONDS_BETWEEN_NEWS


def read_pictures(listing: Listing) -> Listing:
    """Reads, hashes and decodes every picture once, in threads; keeps what was found, not the pixels."""
    read = list(listing.pictures)
    unread = [index for index, picture in enumerate(read) if not picture.digest and not picture.reason]
    progress = Progress(len(unread))
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(unread), _AT_ONCE):
            some = unread[start : start + _AT_ONCE]
            for index, picture in zip(some, pool.map(_read_picture, [read[index] for index in some]), strict=True):
                read[index] = picture
            progress.add(len(some))
    alive = defaultdict(bool)  # (split, class) -> whether one of its pictures can be read
    for picture in read:
        alive[picture.split, picture.class_name] |= not picture.reason
    lost = [f"{split}/{name}" if listing.given else name for (split, name), good in alive.items() if not good]
    problems = listing.problems
    if lost:
        problems += (f"no picture can be read in: {', '.join(lost)}; replace the pictures or remove the class",)
    return replace(listing, pictures=tuple(read), problems=problems)


def _read_picture(picture: Picture) -> Picture:
    digest = ""
    try:
        data = read_file(picture.file)
        digest = digest_of(data)
        return replace(picture, digest=digest, facts=examine(data)[1])
    except PictureError as error:
        return replace(picture, digest=digest, reason=str(error))


def digest_of(data: bytes) -> str:
    """Returns the sha256 of a picture's bytes, in hexadecimal."""
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
