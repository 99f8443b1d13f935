"""Finds the images in a folder of class folders, and tells its layout; never writes there."""

import contextlib
import difflib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, ListedImage, Listing
from keras_vit.data.names import few, printable

# What lies in a folder, {name: a tree, or anything that stands for a file}; a zip file's content is laid out so, too.
Tree = dict[str, Any]

_FORMAT_OF_ENDING = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif", "mpo"), "JPEG"),
    **{"png": "PNG", "bmp": "BMP", "dib": "BMP", "gif": "GIF", "webp": "WebP"},
    # Not read, and reported instead of passed over; the second line is cameras' raw files.
    **dict.fromkeys(("tif", "tiff", "heic", "heif", "avif", "ico", "psd", "svg", "jp2", "jxl"), ""),
    **dict.fromkeys(("dng", "nef", "nrw", "cr2", "cr3", "arw", "orf", "rw2", "raf", "pef", "srw"), ""),
}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_TABLES = (".tsv", ".txt", ".xlsx", ".xls", ".ods", ".json", ".jsonl", ".parquet")


def list_folder(data: str | os.PathLike, class_depth: int | None = None) -> Listing:
    """Finds classes, splits and images in a folder without opening a file.

    Args:
        data: the folder.
        class_depth: as of `list_tree`.

    Raises:
        ValueError: if it is not a folder. What is wrong inside is in `problems`.
    """
    root = Path(data)
    if not root.is_dir():
        raise ValueError(
            f"Expected a folder with a folder of images for each class. Received: {str(root)!r}, {what_instead(root)}"
        )
    unlisted = {}
    tree = _read_tree(root, unlisted)
    return list_tree(str(root), root.resolve().name, tree, unlisted, class_depth)


def list_tree(
    path: str,
    name: str,
    tree: Tree,
    unlisted: dict[str, str] | None = None,
    class_depth: int | None = None,
) -> Listing:
    """Finds classes, splits and images in a tree; an image's `file` is what stands for it there.

    Args:
        path: what the tree is of, for messages.
        name: of the source.
        tree: without hidden files; its names are printable.
        unlisted: {path of a folder that could not be listed, below the tree: reason}.
        class_depth: how many folders down the class folders lie, 1 at the top or directly inside train/; the folders
            above group them and name nothing. None is 1 where no other depth is as likely, and else a problem.
    """
    problems, notes, images, other, stray, empty = [], [], [], [], [], []
    split_folders = _split_folders(tree, problems)
    tops = split_folders or [("train", "", tree)]
    if class_depth is None:
        _ask_for_depth(tops[0][2], problems, notes)
    classes = defaultdict(set)  # split -> names of its class folders
    for split, top, inside in tops:
        for depth in range(class_depth or 1):
            for above, holder in _at_depth(top, inside, depth):
                stray += [name for name, _ in _sort_files(above, _files(holder).items(), other)]
        for above, holder in _at_depth(top, inside, (class_depth or 1) - 1):
            for class_name, folder in _folders(holder).items():
                classes[split].add(class_name)
                here = f"{above}{class_name}/"
                found = _sort_files(here, _walk(folder), other)
                images += [ListedImage(file, name, class_name, split) for name, file in found]
                if not found and here.removesuffix("/") not in (unlisted or {}):
                    empty.append(here.removesuffix("/"))
    if split_folders:
        stray += [name for name, _ in _sort_files("", _files(tree).items(), other)]
        stray += [f"{name}/" for name in _folders(tree) if name.casefold() not in SPLIT_OF_NAME]
    for folder, reason in (unlisted or {}).items():
        if folder.split("/")[0] + "/" not in stray:
            problems.append(f"{Path(path) / folder} cannot be listed ({reason})")
    in_folder = {top or "train/": classes[split] for split, top, _ in tops}
    problems += _class_problems(path, tree, in_folder, images, stray, empty, other, class_depth)
    splits = [split for split, *_ in split_folders]
    given = tuple(split for split in SPLITS if split in splits)
    names = tuple(sorted(set().union(*classes.values())))
    return Listing(path, name, given, names, *map(tuple, (images, other, stray, empty, problems, notes)))


def _at_depth(top: str, tree: Tree, depth: int) -> Iterator[tuple[str, Tree]]:
    """Yields ("path/", tree) of the folders so many levels below a tree; of the tree itself at 0."""
    if not depth:
        yield top, tree
        return
    for name, folder in _folders(tree).items():
        yield from _at_depth(f"{top}{name}/", folder, depth - 1)


def _ask_for_depth(tree: Tree, problems: list[str], notes: list[str]) -> None:
    """Asks how far down the classes lie, where the folders at the top hold no images but folders of them alone.

    Folders of the same names in several of them are likely to be the classes: region/class. Other folders may be parts
    of a class, or its kinds: that is worth a note.
    """
    level, depth, noted = list(_folders(tree).items()), 1, False
    while len(level) > 1 and not any(map(_has_image, (_files(folder) for _, folder in level))):
        below = [(name, folder) for _, above in level for name, folder in _folders(above).items()]
        count = Counter(name for name, folder in below if any(_has_image({n: f}) for n, f in _walk(folder)))
        if len(count) > 1 and max(count.values()) > 1:
            problems.append(_two_depths(few(sorted({name for name, _ in level})), sorted(count), depth))
            return
        if len(count) > 1 and not noted:
            tops, inner = (few(sorted({name for name, _ in some})) for some in (level, below))
            notes.append(
                f"the folders {tops} hold no images but folders of them, {inner}: each is taken for one class. "
                f"If the folders inside are the classes, set class_depth={depth + 1}"
            )
            noted = True
        level, depth = below, depth + 1


def _two_depths(above: str, inner: list[str], depth: int) -> str:
    what = f"the folders {above} hold no images but folders of the same names, {few(inner)}"
    if all(name.casefold() in SPLIT_OF_NAME for name in inner):
        return (
            f"{what}: splits inside classes. Put the classes inside the splits, as {inner[0]}/CLASS, "
            f"or set class_depth={depth} to draw the splits anew from all images"
        )
    return (
        f"{what}. If {few(inner)} are the classes, set class_depth={depth + 1} (keras-vit check "
        f"--class-depth {depth + 1}); if {above} are, set class_depth={depth}"
    )


def _has_image(files: Tree) -> bool:
    return any(named_format(name) is not None for name in files)


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
        beside = ", ".join(f"{name}/" for _, name in found)
        problems.append(f"no train/ folder beside {beside}; add one, or name one of these to draw all splits from it")
    for split, number in count.items():
        if number > 1:
            names = ", ".join(f"{name}/" for kind, name in found if kind == split)
            problems.append(f"{names} are all taken for the {split} split; keep one of them")
    found.sort(key=lambda item: SPLITS.index(item[0]))
    return [(split, f"{name}/", folders[name]) for split, name in found]


def _class_problems(
    path: str,
    tree: Tree,
    classes: dict[str, set[str]],
    images: list[ListedImage],
    stray: list[str],
    empty: list[str],
    other: list[str],
    class_depth: int | None,
) -> list[str]:
    loose = [name for name in stray if not name.endswith("/")]
    if not images and loose:
        where = f"put each into a folder named after its class, such as {path}/cat/{Path(loose[0]).name}"
        if (class_depth or 1) > 1:
            where += f", or set a smaller class_depth than {class_depth}"
        return [f"{len(loose)} images lie outside any class folder; {where}"]
    if not images:
        packed = [name for name in other if name.lower().endswith(_ARCHIVES)]
        inside = f". Archives inside it are not opened; unpack {few(packed)}" if packed else ""
        return [f"there is no image in it (expected: a folder of images for each class){inside}"]
    problems = []
    if empty:
        problems.append(f"class folders without an image: {', '.join(empty)}; fill or remove them")
    names = set().union(*classes.values())
    if len(names) == 1:
        (name,) = names
        problems.append(one_class(name) + _inner_folders(path, name, _folders(tree).get(name, {})))
    train, *others = classes
    for other_split in others if train.casefold().startswith("train") else ():
        for one, two in ((train, other_split), (other_split, train)):
            if only := sorted(classes[one] - classes[two]):
                what_to_do = f"add images of them to {two} or remove them from {one}"
                problems.append(f"classes in {one} that {two} does not have: {', '.join(only)}; {what_to_do}")
    return problems


def _inner_folders(path: str, name: str, tree: Tree) -> str:
    """Says which folders inside the one at the top may be the classes; "" if there are none."""
    inside, depth = Path(path) / name, 2
    while len(_folders(tree)) == 1 and not _has_image(_files(tree)):
        ((name, tree),) = _folders(tree).items()
        inside, depth = inside / name, depth + 1
    if not _folders(tree):
        return ""
    meant = f" Is {inside} the folder you mean?" if inside.is_dir() else ""
    return f".{meant} If {few(_folders(tree))} are the classes, class_depth={depth} says so"


def one_class(name: str) -> str:
    """Says that one class is too few."""
    return f"there is one class alone, {name!r}; a classifier tells two or more apart"


def _sort_files(top: str, files, other: list[str]) -> list[tuple[str, Any]]:
    """Returns (name, file) of the images, sorted; puts the names of the rest into `other`."""
    named = sorted(((top + name, file) for name, file in files), key=lambda item: item[0])
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
        entries = sorted(
            (entry for entry in os.scandir(folder) if not hidden(entry.name)), key=lambda entry: entry.name
        )
    except OSError as error:
        unlisted[top] = error.strerror
        return {}
    tree: Tree = {}
    for entry in entries:
        name = printable(entry.name)
        here = f"{top}/{name}".lstrip("/")
        if name in tree:
            unlisted[here] = "another name there is written alike; rename it"
        elif _is_folder(entry):
            tree[name] = _read_tree(Path(entry), unlisted, here, above | {real})
        else:
            tree[name] = entry.path
    return tree


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads around in a circle, or to where one may not look
        return False


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name == "__MACOSX"  # the latter comes in zip files made on a Mac


def named_format(name: str) -> str | None:
    """Tells an image's format by its name; "" for one that is not read, None for what is no image."""
    return _FORMAT_OF_ENDING.get(os.path.splitext(name)[1][1:].lower())


def what_instead(path: Path, names: Iterable[str] = ()) -> str:
    """Says of a path that is no folder what it is, and which folder, or other name, may have been meant."""
    what = _what_file(path.suffix.lower()) if path.is_file() else "which does not exist"
    near = difflib.get_close_matches(str(path), names, 1)
    with contextlib.suppress(OSError):
        folders = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
        near += [str(path.parent / name) for name in difflib.get_close_matches(path.name, folders, 1)]
    return f"{what}." + (f" Did you mean {near[0]!r}?" if near else "")


def _what_file(ending: str) -> str:
    if ending in _TABLES:
        return "which is a file; save a table as .csv, with commas, the columns path and label, in UTF-8"
    if ending == ".py":
        return "which is a recipe; name the data that is in it"
    return "which is a file; unpack it if it is an archive"
