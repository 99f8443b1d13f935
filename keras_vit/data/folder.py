"""Lists the images in a folder of class folders, with or without split folders. Never writes there."""

import contextlib
import difflib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_vit._arguments import counted
from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, ListedImage, Listing
from keras_vit.data.messages import few, printable

# The contents of a folder or a zip file: {name: a tree, or an object for a file}
Tree = dict[str, Any]

_FORMAT_OF_ENDING = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif", "mpo"), "JPEG"),
    **{"png": "PNG", "bmp": "BMP", "dib": "BMP", "gif": "GIF", "webp": "WebP", "avif": "AVIF", "npy": "NPY"},
    **dict.fromkeys(("tif", "tiff"), "TIFF"),
    **dict.fromkeys(("heic", "heif", "hif"), "HEIC"),
    # Not read, and reported; the second line has the raw files of cameras.
    **dict.fromkeys(("ico", "psd", "svg", "jp2", "jxl"), ""),
    **dict.fromkeys(("dng", "nef", "nrw", "cr2", "cr3", "arw", "orf", "rw2", "raf", "pef", "srw"), ""),
}
MOST_FOLDERS = 100  # folders inside each other; deeper ones are no classes of images but an attack or a circle
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_TABLES = (".tsv", ".txt", ".xlsx", ".xls", ".ods", ".json", ".jsonl", ".parquet")


def list_folder(data: str | os.PathLike[str], class_depth: int | None = None) -> Listing:
    """Lists the classes, splits and images of a folder without opening a file.

    Args:
        data: the folder.
        class_depth: as in `list_tree`.

    Raises:
        ValueError: if it is not a folder. The listing's `problems` are those of the contents.
    """
    root = Path(data)
    if not root.is_dir():
        raise ValueError(
            f"Expected a folder with a folder of images for each class. Received: {str(root)!r}, "
            f"{describe_other_path(root)}"
        )
    unlisted: dict[str, str] = {}
    tree = _read_tree(root, unlisted)
    return list_tree(str(root), root.resolve().name, tree, unlisted, class_depth)


def list_tree(
    path: str,
    name: str,
    tree: Tree,
    unlisted: dict[str, str] | None = None,
    class_depth: int | None = None,
) -> Listing:
    """Lists the classes, splits and images of a tree. An image's `file` is its object in the tree.

    Args:
        path: of the folder or zip file, for messages.
        name: of the source.
        tree: without hidden files, with printable names.
        unlisted: {path in the tree of a folder that cannot be listed: reason}.
        class_depth: depth of the class folders, 1 at the top or directly inside train/; the folders above are groups
            without a meaning. None is 1, but a problem if another depth is as likely.
    """
    problems: list[str] = []
    notes: list[str] = []
    images: list[ListedImage] = []
    other: list[str] = []
    stray: list[str] = []
    empty: list[str] = []
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
                files = _sort_files(here, _walk(folder), other)
                images += [ListedImage(file, name, class_name, split) for name, file in files]
                if not files and here.removesuffix("/") not in (unlisted or {}):
                    empty.append(here.removesuffix("/"))
    if split_folders:
        stray += [name for name, _ in _sort_files("", _files(tree).items(), other)]
        stray += [f"{name}/" for name in _folders(tree) if name.casefold() not in SPLIT_OF_NAME]
    folders_of = defaultdict(list)
    for unlisted_folder, reason in (unlisted or {}).items():
        if unlisted_folder.split("/")[0] + "/" not in stray:
            folders_of[reason].append(str(Path(path) / unlisted_folder))
    problems += [f"{few(folders)} cannot be listed ({reason})" for reason, folders in folders_of.items()]
    if "labels.json" in other:
        notes.append(
            "labels.json is not used: each image has the class of its folder; for its labels, set objective=labels"
        )
    in_folder = {top or "train/": classes[split] for split, top, _ in tops}
    problems += _class_problems(path, tree, in_folder, images, stray, empty, other, class_depth)
    splits = [split for split, *_ in split_folders]
    return Listing(
        path,
        name,
        own_splits=tuple(split for split in SPLITS if split in splits),
        class_names=tuple(sorted({name for names in classes.values() for name in names})),
        images=tuple(images),
        other=tuple(other),
        stray=tuple(stray),
        empty=tuple(empty),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _at_depth(top: str, tree: Tree, depth: int) -> Iterator[tuple[str, Tree]]:
    """Yields ("path/", tree) of the folders at a depth below a tree; of the tree itself at 0."""
    if not depth:
        yield top, tree
        return
    for name, folder in _folders(tree).items():
        yield from _at_depth(f"{top}{name}/", folder, depth - 1)


def _ask_for_depth(tree: Tree, problems: list[str], notes: list[str]) -> None:
    """Adds a problem or a note if the folders at the top hold no images but folders of images.

    Folders with the same names in several of them are likely to be the classes, as in region/class: a problem, as the
    depth is not clear. Other folders may be parts of a class: a note.
    """
    level, depth, noted = list(_folders(tree).items()), 1, False
    while len(level) > 1 and not any(map(_has_image, (_files(folder) for _, folder in level))):
        below = [(name, folder) for _, above in level for name, folder in _folders(above).items()]
        count = Counter(name for name, folder in below if _has_image(dict(_walk(folder))))
        if len(count) > 1 and max(count.values()) > 1:
            problems.append(_two_depths(few(sorted({name for name, _ in level})), sorted(count), depth))
            return
        if len(count) > 1 and not noted:
            tops, inner = few(sorted({name for name, _ in level})), few(sorted({name for name, _ in below}))
            notes.append(
                f"the folders {tops} hold no images but folders of images, {inner}: each of {tops} is one class. "
                f"If the folders inside are the classes, set class_depth={depth + 1}"
            )
            noted = True
        level, depth = below, depth + 1


def _two_depths(above: str, inner: list[str], depth: int) -> str:
    folders = f"the folders {above} hold no images but folders of the same names, {few(inner)}"
    if all(name.casefold() in SPLIT_OF_NAME for name in inner):
        return (
            f"{folders}: splits inside classes. Put the classes inside the splits, as {inner[0]}/CLASS, "
            f"or set class_depth={depth} to draw the splits anew from all images"
        )
    return (
        f"{folders}. If {few(inner)} are the classes, set class_depth={depth + 1} (keras-vit check "
        f"--class-depth {depth + 1}); if {above} are, set class_depth={depth}"
    )


def _has_image(files: Tree) -> bool:
    return any(named_format(name) is not None for name in files)


def _split_folders(tree: Tree, problems: list[str]) -> list[tuple[str, str, Tree]]:
    """Returns (split, "folder/", tree) in the order of SPLITS; none if there are only class folders.

    A folder named train next to class folders is a class (of vehicles, for example). It is the training split if it is
    next to another split's folder, or alone.
    """
    folders = _folders(tree)
    named = [(SPLIT_OF_NAME[name.casefold()], name) for name in folders if name.casefold() in SPLIT_OF_NAME]
    count = Counter(split for split, _ in named)
    if len(count) < 2 and len(named) < len(folders):
        return []
    if named and "train" not in count:
        others = ", ".join(f"{name}/" for _, name in named)
        problems.append(f"no train/ folder next to {others}; add one, or name one of these to draw all splits from it")
    for split, number in count.items():
        if number > 1:
            names = few(f"{name}/" for kind, name in named if kind == split)
            problems.append(f"{names} are all names of the {split} split; keep one of them")
    named.sort(key=lambda item: SPLITS.index(item[0]))
    return [(split, f"{name}/", folders[name]) for split, name in named]


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
        if "labels.json" in other:
            where += ", or set objective=labels for the labels in labels.json"
        return [f"{counted(len(loose), 'image')} outside any class folder; {where}"]
    if not images:
        packed = [name for name in other if name.lower().endswith(_ARCHIVES)]
        inside = f". Archives inside it are not opened; unpack {few(packed)}" if packed else ""
        return [f"there is no image in it (expected: a folder of images for each class){inside}"]
    problems = []
    if empty:
        problems.append(f"class folders without an image: {few(empty)}; fill or remove them")
    names = {name for names in classes.values() for name in names}
    if len(names) == 1:
        (name,) = names
        problems.append(one_class(name) + _inner_folders(path, name, _folders(tree).get(name, {})))
    train, *others = classes
    for other_split in others if train.casefold().startswith("train") else ():
        for one, two in ((train, other_split), (other_split, train)):
            if only := sorted(classes[one] - classes[two]):
                advice = f"add images of them to {two} or remove them from {one}"
                problems.append(f"classes in {one} that {two} does not have: {few(only)}; {advice}")
    return problems


def _inner_folders(path: str, name: str, tree: Tree) -> str:
    """Returns advice on the folders inside the one at the top that may be the classes; "" without any."""
    inside, depth = Path(path) / name, 2
    while len(_folders(tree)) == 1 and not _has_image(_files(tree)):
        ((name, tree),) = _folders(tree).items()
        inside, depth = inside / name, depth + 1
    if not _folders(tree):
        return ""
    question = f" Is {inside} the folder you mean?" if inside.is_dir() else ""
    return f".{question} If {few(_folders(tree))} are the classes, set class_depth={depth}"


def one_class(name: str) -> str:
    """Returns the problem of a source with one class."""
    return f"there is one class alone, {name!r}; a classifier needs two or more"


def _sort_files(top: str, files: Iterable[tuple[str, Any]], other: list[str]) -> list[tuple[str, Any]]:
    """Returns (name, file) of the images, sorted; adds the names of other files to `other`."""
    named = sorted(((top + name, file) for name, file in files), key=lambda item: item[0])
    other += [name for name, _ in named if named_format(name) is None]
    return [(name, file) for name, file in named if named_format(name) is not None]


def _walk(tree: Tree, top: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (path in the tree, file) of all files in it."""
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
    """Lists all files in a folder; a link to a folder above it is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return {}
    if len(above) > MOST_FOLDERS:
        unlisted[top] = f"more than {MOST_FOLDERS} folders deep"
        return {}
    try:
        entries = sorted(
            (entry for entry in os.scandir(folder) if not hidden(entry.name)), key=lambda entry: entry.name
        )
    except OSError as error:
        unlisted[top] = error.strerror or str(error)
        return {}
    tree: Tree = {}
    for entry in entries:
        name = printable(entry.name)
        here = f"{top}/{name}".lstrip("/")
        if name in tree:
            unlisted[here] = "another name in the folder is written alike; rename it"
        elif _is_folder(entry):
            tree[name] = _read_tree(Path(entry), unlisted, here, above | {real})
        else:
            tree[name] = entry.path
    return tree


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link, or a link to a place without permission
        return False


def hidden(name: str) -> bool:
    """Returns whether files and folders of this name are ignored."""
    return name.startswith(".") or name == "__MACOSX"  # the latter is in zip files from macOS


def named_format(name: str) -> str | None:
    """Returns an image's format by its name; "" for a format that is not read, None for another file."""
    return _FORMAT_OF_ENDING.get(os.path.splitext(name)[1][1:].lower())


def describe_other_path(path: Path, names: Iterable[str] = ()) -> str:
    """Describes a path that is not a folder, and names the nearest folder or name."""
    description = _describe_file(path.suffix.lower()) if path.is_file() else "which does not exist"
    near = difflib.get_close_matches(str(path), names, 1)
    with contextlib.suppress(OSError):
        folders = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
        near += [str(path.parent / name) for name in difflib.get_close_matches(path.name, folders, 1)]
    return f"{description}." + (f" Did you mean {near[0]!r}?" if near else "")


def _describe_file(ending: str) -> str:
    if ending in _TABLES:
        return "which is a file; save a table as .csv, with commas, the columns path and label, in UTF-8"
    if ending == ".py":
        return "which is a recipe; name the data that is in it"
    return "which is a file; unpack it if it is an archive"
