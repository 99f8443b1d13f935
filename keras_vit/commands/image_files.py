"""Lists the image files that a command line names, and reads them batch by batch at the input size of a model."""

import codecs
import collections
import concurrent.futures
import contextlib
import functools
import glob
import logging
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_vit._arguments import counted
from keras_vit.data.damage import damage
from keras_vit.data.decoding import EncodedImage, ImageError, decode, notes_of, read_file, recognize
from keras_vit.data.folder import MOST_FOLDERS, hidden, named_format
from keras_vit.data.listing import THREADS
from keras_vit.data.messages import listed, one_line

logger = logging.getLogger("keras_vit")

_BATCH_SIZE = 64  # images


class ImageBatch(NamedTuple):
    """Images at the input size of a model.

    Args:
        images: paths of those that can be read.
        pixels: uint8 (images, height, width, channels).
        faults: a line with the name and the reason for each of the others.
    """

    images: list[Any]
    pixels: np.ndarray
    faults: list[str]


def image_paths(arguments: str | os.PathLike[str] | Iterable[Any]) -> Iterator[Any]:
    """Yields the paths of the images that arguments name, in order, one by one.

    An image that is named twice is yielded twice. Names are held in memory for one folder or one pattern at a time.

    Args:
        arguments: one or several, each the path of an image; of a folder, for the images in it and in the folders
            inside, sorted by name; a pattern of files as in `glob`, with "**" for any folders, unless a file has this
            name; "@FILE", a list of images and folders in UTF-8, one path a line; or "-", such a list from the
            standard input.

    Yields:
        The paths, and in place of an argument without an image an `ImageError` that says so.
    """
    for argument in [arguments] if isinstance(arguments, str | os.PathLike) else arguments:
        name = os.fspath(argument) if isinstance(argument, str | os.PathLike) else ""
        if name == "-":
            yield from _in_list(sys.stdin.buffer, "standard input")
        elif name.startswith("@"):
            try:
                with open(name[1:], "rb") as file:
                    yield from _in_list(file, name)
            except OSError as error:
                yield ImageError(f"{name}: a list that cannot be read ({error.strerror}); of an image, write ./{name}")
        elif glob.has_magic(name) and not os.path.lexists(name):
            files: list[Any] = sorted(path for path in glob.iglob(name, recursive=True) if not os.path.isdir(path))
            yield from files or [ImageError(f"{name}: no file has a name of this pattern")]
        else:
            yield from _at(argument)


def _in_list(lines: Iterable[bytes], name: str) -> Iterator[Any]:
    """Yields the images that a list names, a path a line."""
    count = 0
    for line in lines:
        path = line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if "\0" in path:
            yield ImageError(f"{name}: expected a list in UTF-8, one path a line; this one has NUL bytes")
            return
        if path:
            count += 1
            yield from _at(path)
    if not count:
        yield ImageError(f"{name}: a list without a path")


def _at(path: Any) -> Iterator[Any]:
    """Yields the path of a file, or the images in a folder by the endings of their names."""
    if not isinstance(path, str | os.PathLike) or not os.path.isdir(path):
        yield path
        return
    images = others = 0
    for file in _files_in(os.fspath(path)):
        if isinstance(file, ImageError) or named_format(file) is not None:
            images += 1
            yield file
        else:
            others += 1
    if not images:
        yield ImageError(f"{path}: a folder without images; {counted(others, 'file')} without the ending of one")
    elif others:
        count = counted(others, "file")
        logger.info("%s: left out: %s without an ending of an image", one_line(str(path)), count)


def _files_in(folder: str, above: frozenset[str] = frozenset()) -> Iterator[Any]:
    """Yields the files in a folder and those inside, sorted; a link to a folder above it is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    if len(above) > MOST_FOLDERS:
        yield ImageError(f"{folder}: more than {MOST_FOLDERS} folders deep")
        return
    try:
        names = sorted(name for name in os.listdir(folder) if not hidden(name))
    except OSError as error:
        yield ImageError(f"{folder}: cannot be listed ({error.strerror})")
        return
    for path in (os.path.join(folder, name) for name in names):
        if os.path.isdir(path):
            yield from _files_in(path, above | {real})
        else:
            yield path


def read_batches(model: Any, images: Iterable[Any], size: int = _BATCH_SIZE) -> Iterator[ImageBatch]:
    """Yields images at the input size of a model, batch by batch, in order.

    Threads read the next batch while the caller uses one: at most two batches are in memory. Logs a warning for each
    image that is damaged or unusual and can be decoded all the same.

    Args:
        model: an `ImageModel` or an exported file.
        images: as `image_paths` yields them.
        size: number of images in a batch; fewer where so many others cannot be read.
    """
    read: list[tuple[Any, np.ndarray]] = []
    faults: list[str] = []
    with contextlib.closing(_ahead(functools.partial(_read, model), images, size)) as results:
        for image, pixels, reason in results:
            if isinstance(pixels, str):
                faults.append(one_line(pixels))
            else:
                read.append((image, pixels))
            if reason:
                logger.warning("%s: %s", _name(image), reason)
            if max(len(read), len(faults)) == size:
                yield _batch(read, faults)
                read, faults = [], []
    if read or faults:
        yield _batch(read, faults)


def _batch(read: list[tuple[Any, np.ndarray]], faults: list[str]) -> ImageBatch:
    pixels = np.stack([pixels for _, pixels in read]) if read else np.empty((0, 0, 0, 3), np.uint8)
    return ImageBatch([image for image, _ in read], pixels, faults)


def _ahead(function: Callable[[Any], Any], items: Iterable[Any], count: int) -> Generator[Any, None, None]:
    """Yields function(item) for each item, in order; threads compute those of the next `count` items meanwhile."""
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(model: Any, image: Any) -> tuple[Any, np.ndarray | str, str]:
    """Returns an image, its pixels or else a line on why it cannot be read, and what is damaged or unusual in it."""
    if isinstance(image, ImageError):
        return image, str(image), ""
    try:
        data = read_file(image)
        recognize(data)  # its reasons are better than those of an exported file's decoder
    except ImageError as error:
        return image, f"{_name(image)}: {error}", ""
    try:
        return image, model.read(data), "; ".join(filter(None, (damage(data), *notes_of(data, model.channels))))
    except ValueError as error:  # it names the bytes; its cause is the reason alone
        return image, f"{_name(image)}: {str(error.__cause__ or '') or error}", ""


def _name(image: Any) -> str:
    return "bytes" if isinstance(image, bytes) else one_line(str(image))


def read_images(model: Any, images: Iterable[Any]) -> np.ndarray:
    """Returns images at the input size of a model, uint8 (images, height, width, channels).

    Args:
        model: an `ImageModel` or an exported file.
        images: paths.

    Raises:
        ValueError: if images cannot be read; one message lists them all.
    """
    batches = list(read_batches(model, images))
    refuse_unread(fault for batch in batches for fault in batch.faults)
    return np.concatenate([batch.pixels for batch in batches])


def refuse_unread(faults: Iterable[str]) -> None:
    """Raises a ValueError that lists the images that cannot be read, if there are `faults` of `ImageBatch`."""
    if faults := list(faults):
        raise ValueError("\n".join(["Images cannot be read:", *listed(faults)]))


def thumbnail(image: EncodedImage, side: int, channels: int = 3) -> np.ndarray:
    """Returns a small image for a page, uint8 (height, width, 3), with its aspect ratio.

    Args:
        image: as in `keras_vit.data.decode`.
        side: the larger side, pixels.
        channels: of the image: the first three are shown as RGB; of fewer, the first as grey.

    Raises:
        ValueError: if the image cannot be read.
    """
    pixels = decode(image, channels)
    shown = Image.fromarray(pixels[..., :3] if channels >= 3 else pixels[..., 0]).convert("RGB")
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(shown)
