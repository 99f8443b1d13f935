"""Finds and reads the pictures in a folder of class folders; never writes there."""

import difflib
import hashlib
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from keras_vit.data.decode import Facts, PictureError, examine, read_file

SPLITS = ("train", "validation", "test")
_FORMAT_OF_ENDING = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif", "mpo"), "JPEG"),
    **{"png": "PNG", "bmp": "BMP", "dib": "BMP", "gif": "GIF", "webp": "WebP"},
    # Not read, and reported instead of passed over; the second line is cameras' raw files.
    **dict.fromkeys(("tif", "tiff", "heic", "heif", "avif", "ico", "psd", "svg", "jp2", "jxl"), ""),
    **dict.fromkeys(("dng", "nef", "nrw", "cr2", "cr3", "arw", "orf", "rw2", "raf", "pef", "srw"), ""),
}
_SPLIT_OF_NAME = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLIT_OF_NAME |= dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
_SECONDS_BETWEEN_NEWS = 5.0
_AT_ONCE = 64  # pictures handed to the threads between two looks at the clock
_THREADS = min(8, os.cpu_count() or 1)  # each may hold a whole picture of MAX_PIXELS
_log = logging.getLogger("keras_vit")


@dataclass(frozen=True)
class Picture:
    """A file in a class folder. Once read, it has a digest of its bytes, and facts or the reason for none."""

    path: str
    name: str
    class_name: str
    split: str
    digest: str = ""
    facts: Facts | None = None
    reason: str = ""


@dataclass(frozen=True)
class Folder:
    """What lies in a folder of class folders; `problems` are those that no skipping of pictures cures."""

    path: str
    given: tuple[str, ...]  # the splits that have folders; () where there are class folders alone
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    other: tuple[str, ...]  # files that are not pictures
    stray: tuple[str, ...]  # pictures outside every class folder, and folders beside train/ and test/
    empty: tuple[str, ...]  # class folders without a picture
    problems: tuple[str, ...]


def list_folder(data: str | os.PathLike) -> Folder:
    """Finds classes, splits and pictures in a folder without opening a file.

    Raises:
        ValueError: if it is not a folder. What is wrong inside is in `problems`.
    """
    root = Path(data)
    if not root.is_dir():
        raise ValueError(_no_folder(root))
    problems, pictures, other, stray, empty = [], [], [], [], []
    split_folders = _split_folders(root, problems)
    classes = defaultdict(set)  # split -> names of its class folders
    for split, top in split_folders or [("train", root)]:
        folders, files = _entries(top, problems)
        stray += [name for name, _ in _sort_files(root, files, other)]
        classes[split] |= {path.name for path in folders}
        for class_folder in folders:
            found = [
                Picture(str(path), name, class_folder.name, split)
                for name, path in _sort_files(root, _walk(class_folder, problems), other)
            ]
            pictures += found
            if not found:
                empty.append(_name(root, class_folder))
    if split_folders:
        folders, files = _entries(root, problems)
        stray += [name for name, _ in _sort_files(root, files, other)]
        stray += [_name(root, path) + "/" for path in folders if path.name.casefold() not in _SPLIT_OF_NAME]
    problems += _class_problems(root, classes, pictures, stray, empty)
    given = tuple(split for split in SPLITS if split in dict(split_folders))
    names = tuple(sorted(set().union(*classes.values())))
    return Folder(str(root), given, names, *map(tuple, (pictures, other, stray, empty, problems)))


def read_pictures(folder: Folder) -> Folder:
    """Reads, hashes and decodes every picture once, in threads; keeps what was found, not the pixels."""
    read, total = [], len(folder.pictures)
    next_news = time.monotonic() + _SECONDS_BETWEEN_NEWS
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, total, _AT_ONCE):
            read += pool.map(_read_picture, folder.pictures[start : start + _AT_ONCE])
            if time.monotonic() >= next_news:
                _log.info("%d of %d pictures read", len(read), total)
                next_news = time.monotonic() + _SECONDS_BETWEEN_NEWS
    alive = defaultdict(bool)  # (split, class) -> whether one of its pictures can be read
    for picture in read:
        alive[picture.split, picture.class_name] |= not picture.reason
    lost = [f"{split}/{name}" if folder.given else name for (split, name), good in alive.items() if not good]
    problems = folder.problems
    if lost:
        problems += (f"no picture can be read in: {', '.join(lost)}; replace the pictures or remove the class",)
    return replace(folder, pictures=tuple(read), problems=problems)


def _read_picture(picture: Picture) -> Picture:
    digest = ""
    try:
        data = read_file(picture.path)
        digest = hashlib.sha256(data).hexdigest()
        return replace(picture, digest=digest, facts=examine(data)[1])
    except PictureError as error:
        return replace(picture, digest=digest, reason=str(error))


def _split_folders(root: Path, problems: list[str]) -> list[tuple[str, Path]]:
    """Returns (split, folder) in the order of SPLITS; none if the folder holds class folders alone.

    A folder named train beside class folders is a class (of vehicles, say): it takes a second split's folder
    beside it, or nothing else, to be the training split.
    """
    folders = _entries(root, [])[0]
    found = [(_SPLIT_OF_NAME[path.name.casefold()], path) for path in folders if path.name.casefold() in _SPLIT_OF_NAME]
    count = Counter(split for split, _ in found)
    if len(count) < 2 and len(found) < len(folders):
        return []
    if found and "train" not in count:
        problems.append("no train/ folder beside " + ", ".join(f"{path.name}/" for _, path in found))
    for split, number in count.items():
        if number > 1:
            names = ", ".join(f"{path.name}/" for name, path in found if name == split)
            problems.append(f"{names} are all taken for the {split} split; keep one of them")
    return sorted(found, key=lambda item: SPLITS.index(item[0]))


def _class_problems(
    root: Path, classes: dict[str, set[str]], pictures: list[Picture], stray: list[str], empty: list[str]
) -> list[str]:
    loose = [name for name in stray if not name.endswith("/")]
    if not pictures and loose:
        where = f"put each into a folder named after its class, such as {root}/cat/{Path(loose[0]).name}"
        return [f"{len(loose)} pictures lie outside any class folder; {where}"]
    if not pictures:
        return ["there is no picture in it (expected: a folder of pictures for each class)"]
    problems = []
    if empty:
        problems.append(f"class folders without a picture: {', '.join(empty)}; fill or remove them")
    names = set().union(*classes.values())
    if len(names) == 1:
        (name,) = names
        problems.append(f"there is one class alone, {name!r}; a classifier tells two or more apart")
        if (root / name).is_dir() and len(_entries(root / name, [])[0]) > 1:
            problems[-1] += f". Is {root / name} the folder you mean?"
    for split in sorted(classes.keys() - {"train"}) if "train" in classes else ():
        for one, two in (("train", split), (split, "train")):
            if only := sorted(classes[one] - classes[two]):
                problems.append(f"classes in {one}/ that {two}/ does not have: {', '.join(only)}")
    return problems


def _sort_files(root: Path, files: Iterable[Path], other: list[str]) -> list[tuple[str, Path]]:
    """Returns (name, path) of the pictures, sorted; puts the names of the rest into `other`."""
    named = sorted((_name(root, path), path) for path in files)
    other += [name for name, _ in named if named_format(name) is None]
    return [(name, path) for name, path in named if named_format(name) is not None]


def _walk(folder: Path, problems: list[str], seen: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yields the files in and below a folder; a link back to a folder above is not followed again."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    folders, files = _entries(folder, problems)
    yield from files
    for inner in folders:
        yield from _walk(inner, problems, seen | {real})


def _entries(folder: Path, problems: list[str]) -> tuple[list[Path], list[Path]]:
    """Lists (folders, files) right inside, sorted, without the hidden ones."""
    try:
        entries = sorted(path for path in folder.iterdir() if not _hidden(path.name))
    except OSError as error:
        problems.append(f"{folder} cannot be listed ({error.strerror})")
        return [], []
    return [path for path in entries if path.is_dir()], [path for path in entries if not path.is_dir()]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # the latter comes in zip files made on a Mac


def named_format(name: str) -> str | None:
    """Tells a picture's format by its name; "" for one that is not read, None for what is no picture."""
    return _FORMAT_OF_ENDING.get(os.path.splitext(name)[1][1:].lower())


def _name(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    return os.fsencode(name).decode("utf-8", "replace")  # bytes that are no text could not be printed


def _no_folder(root: Path) -> str:
    near = difflib.get_close_matches(str(root), ["digits"], 1)
    if root.parent.is_dir():
        folders = [path.name for path in _entries(root.parent, [])[0]]
        near += [str(root.parent / name) for name in difflib.get_close_matches(root.name, folders, 1)]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    what = "which is a file; unpack it if it is an archive" if root.is_file() else "which does not exist"
    expected = 'data must be "digits" or a folder with a folder of pictures for each class.'
    return f"{expected} Received: data={str(root)!r}, {what}.{hint}"
