"""Finds the pictures in a folder of class folders, and tells its layout; never writes there."""

import contextlib
import difflib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, Listing, Picture

# What lies in a folder, {name: a tree, or anything that stands for a file}; a zip file's content is laid out so, too.
Tree = dict[str, Any]

_FORMAT_OF_ENDING = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif", "mpo"), "JPEG"),
    **{"png": "PNG", "bmp": "BMP", "dib": "BMP", "gif": "GIF", "webp": "WebP"},
    # Not read, and reported instead of passed over; the second line is cameras' raw files.
    **dict.fromkeys(("tif", "tiff", "heic", "heif", "avif", "ico", "psd", "svg", "jp2", "jxl"), ""),
    **dict.fromkeys(("dng", "nef", "nrw", "cr2", "cr3", "arw", "orf", "rw2", "raf", "pef", "srw"), ""),
}


def list_folder(data: str | os.PathLike) -> Listing:
    """Finds classes, splits and pictures in a folder without opening a file.

    Raises:
        ValueError: if it is not a folder. What is wrong inside is in `problems`.
    """
    root = Path(data)
    if not root.is_dir():
        raise ValueError(
            f"Expected a folder with a folder of pictures for each class. Received: {str(root)!r}, {what_instead(root)}"
        )
    unlisted = {}
    tree = _read_tree(root, unlisted)
    return list_tree(str(root), root.resolve().name, tree, unlisted)


def list_tree(path: str, name: str, tree: Tree, unlisted: dict[str, str] | None = None) -> Listing:
    """Finds classes, splits and pictures in a tree; a picture's `file` is what stands for it there.

    Args:
        path: what the tree is of, for messages.
        name: of the source.
        tree: without hidden files.
        unlisted: {path of a folder that could not be listed, below the tree: reason}.
    """
    problems, pictures, other, stray, empty = [], [], [], [], []
    split_folders = _split_folders(tree, problems)
    classes = defaultdict(set)  # split -> names of its class folders
    for split, top, inside in split_folders or [("train", "", tree)]:
        stray += [name for name, _ in _sort_files(top, _files(inside).items(), other)]
        for class_name, folder in _folders(inside).items():
            classes[split].add(class_name)
            here = f"{top}{class_name}/"
            found = _sort_files(here, _walk(folder), other)
            pictures += [Picture(file, name, _printable(class_name), split) for name, file in found]
            if not found:
                empty.append(here.removesuffix("/"))
    if split_folders:
        stray += [name for name, _ in _sort_files("", _files(tree).items(), other)]
        stray += [f"{name}/" for name in _folders(tree) if name.casefold() not in SPLIT_OF_NAME]
    for folder, reason in (unlisted or {}).items():
        if folder.split("/")[0] + "/" not in stray:
            problems.append(f"{Path(path) / folder} cannot be listed ({reason})")
    problems += _class_problems(path, tree, classes, pictures, stray, empty)
    splits = [split for split, *_ in split_folders]
    given = tuple(split for split in SPLITS if split in splits)
    names = tuple(sorted(map(_printable, set().union(*classes.values()))))
    return Listing(path, name, given, names, *map(tuple, (pictures, other, stray, empty, problems)))


def _split_folders(tree: Tree, problems: list[str]) -> list[tuple[str, str, Tree]]:
    """Returns (split, "folder/", tree) in the order of SPLITS; none if there are class folders alone.

    A folder named train beside class folders is a class (of vehicles, say): it takes a second split's folder
    beside it, or nothing else, to be the training split.
    """
    folders = _folders(tree)
    found = [(SPLIT_OF_NAME[name.casefold()], name) for name in folders if name.casefold() in SPLIT_OF_NAME]
    count = Counter(split for split, _ in found)
    if len(count) < 2 and len(found) < len(folders):
        return []
    if found and "train" not in count:
        problems.append("no train/ folder beside " + ", ".join(f"{name}/" for _, name in found))
    for split, number in count.items():
        if number > 1:
            names = ", ".join(f"{name}/" for kind, name in found if kind == split)
            problems.append(f"{names} are all taken for the {split} split; keep one of them")
    found.sort(key=lambda item: SPLITS.index(item[0]))
    return [(split, f"{name}/", folders[name]) for split, name in found]


def _class_problems(
    path: str, tree: Tree, classes: dict[str, set[str]], pictures: list[Picture], stray: list[str], empty: list[str]
) -> list[str]:
    loose = [name for name in stray if not name.endswith("/")]
    if not pictures and loose:
        where = f"put each into a folder named after its class, such as {path}/cat/{Path(loose[0]).name}"
        return [f"{len(loose)} pictures lie outside any class folder; {where}"]
    if not pictures:
        return ["there is no picture in it (expected: a folder of pictures for each class)"]
    problems = []
    if empty:
        problems.append(f"class folders without a picture: {', '.join(empty)}; fill or remove them")
    names = set().union(*classes.values())
    if len(names) == 1:
        (name,) = names
        problems.append(one_class(name))
        if len(_folders(_folders(tree).get(name, {}))) > 1:
            problems[-1] += f". Is {Path(path) / name} the folder you mean?"
    for split in sorted(classes.keys() - {"train"}) if "train" in classes else ():
        for one, two in (("train", split), (split, "train")):
            if only := sorted(classes[one] - classes[two]):
                problems.append(f"classes in {one}/ that {two}/ does not have: {', '.join(only)}")
    return problems


def one_class(name: str) -> str:
    """Says that one class is too few."""
    return f"there is one class alone, {name!r}; a classifier tells two or more apart"


def _sort_files(top: str, files, other: list[str]) -> list[tuple[str, Any]]:
    """Returns (name, file) of the pictures, sorted; puts the names of the rest into `other`."""
    named = sorted(((_printable(top + name), file) for name, file in files), key=lambda item: item[0])
    other += [name for name, _ in named if named_format(name) is None]
    return [(name, file) for name, file in named if named_format(name) is not None]


def _walk(tree: Tree, top: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (path below the tree, file) of the files in and below it."""
    for name, entry in tree.items():
        if isinstance(entry, dict):
            yield from _walk(entry, f"{top}{name}/")
        else:
            yield top + name, entry


def _folders(tree: Tree) -> dict[str, Tree]:
    return {name: tree[name] for name in sorted(tree) if isinstance(tree[name], dict)}


def _files(tree: Tree) -> Tree:
    return {name: entry for name, entry in tree.items() if not isinstance(entry, dict)}


def _read_tree(folder: Path, unlisted: dict[str, str], top: str = "", above: frozenset[str] = frozenset()) -> Tree:
    """Lists the files in and below a folder; a link back to a folder above is not followed again."""
    real = os.path.realpath(folder)
    if real in above:
        return {}
    try:
        entries = sorted(path for path in folder.iterdir() if not hidden(path.name))
    except OSError as error:
        unlisted[top] = error.strerror
        return {}
    return {
        path.name: _read_tree(path, unlisted, f"{top}/{path.name}".lstrip("/"), above | {real})
        if path.is_dir()
        else str(path)
        for path in entries
    }


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name == "__MACOSX"  # the latter comes in zip files made on a Mac


def named_format(name: str) -> str | None:
    """Tells a picture's format by its name; "" for one that is not read, None for what is no picture."""
    return _FORMAT_OF_ENDING.get(os.path.splitext(name)[1][1:].lower())


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")  # bytes that are no text could not be printed


def what_instead(path: Path, names: Iterable[str] = ()) -> str:
    """Says of a path that is no folder what it is, and which folder, or other name, may have been meant."""
    what = "which is a file; unpack it if it is an archive" if path.is_file() else "which does not exist"
    near = difflib.get_close_matches(str(path), names, 1)
    with contextlib.suppress(OSError):
        folders = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
        near += [str(path.parent / name) for name in difflib.get_close_matches(path.name, folders, 1)]
    return f"{what}." + (f" Did you mean {near[0]!r}?" if near else "")
