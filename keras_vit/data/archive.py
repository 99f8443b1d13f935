"""Lists the images in a zip file of class folders, without unpacking it to the disk."""

import contextlib
import itertools
import os
import posixpath
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_vit.data.decoding import FileRange, ImageError
from keras_vit.data.folder import MOST_FOLDERS, Tree, hidden, list_tree, named_format
from keras_vit.data.label_file import LABEL_FILE, with_labels
from keras_vit.data.listing import SPLIT_OF_NAME, Learns, ListedImage, Listing, Progress
from keras_vit.data.messages import abridged, listed, printable

# Compressed members are held in memory, with this limit in bytes. Stored ones stay in the file.
_MEMORY = 4 * 2**30
_RATIO = 100  # bytes after decompression for each byte; a zip file of images, which are compressed already, has about 1
_BOMB = 2**28  # bytes; smaller files may be drawings, which compress well
_LONGEST_NAME = 4096  # characters of a member's name, with its folders; no disk holds a longer one
_ENCRYPTED, _UTF8 = 0x2061, 0x800  # bits of a member's flags; of the first, some are encrypted, one is a patch
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADER, _END = 30, 22  # bytes before a member's name, and of the record at the end of the file
# What zipfile raises for a damaged file.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)


def list_zip(data: str | os.PathLike[str], class_depth: int | None = None, learns: Learns | None = None) -> Listing:
    """Lists the classes, splits and images of a zip file, which may have outer folders around all of them.

    A stored member becomes a `FileRange` with a checksum. A compressed one is expanded into memory, and its checksum
    tested.

    Args:
        data: the file.
        class_depth: as in `list_tree`; outer folders do not count.
        learns: "labels" for those in a labels.json, as in `keras_vit.data.label_file.list_labelled_folder`.

    Raises:
        ValueError: if it is not a complete zip file, is encrypted, has members with invalid names, in more than 100
            folders or in the same place, is compressed with another method than deflate, or would expand to more than
            4 GiB. The listing's `problems` are those of the
            contents.
    """
    path = Path(data)
    with _opened(path) as file:
        tree = _tree(file, path)
        listing = _labelled(file, path, tree) if learns == "labels" else None
        listing = listing or list_tree(str(path), path.stem, _unwrapped(tree), class_depth=class_depth)
        _refuse_bomb(path, [image.file for image in listing.images if image.file])
        used, progress, images = {id(image.file) for image in listing.images}, Progress(len(listing.images)), []
        for image in listing.images:
            images.append(_located(file, str(path), image))
            progress.add()
        with _named(path):
            for info in file.infolist():
                if id(info) not in used:  # an image whose name is damaged may be among them
                    _start(file, info)
        return replace(listing, images=tuple(images))


def _opened(path: Path) -> zipfile.ZipFile:
    with _named(path):
        file = zipfile.ZipFile(path)
        stream: Any = file.fp
        stream.seek(-min(stream.seek(0, os.SEEK_END), 2**16 + _END), os.SEEK_END)
        tail = stream.read()
        (count,) = struct.unpack_from("<H", tail, tail.rindex(b"PK\5\6", 0, 4 - _END) + 10)
        if count not in (0xFFFF, len(file.infolist()) & 0xFFFF):  # the former where a larger record has it
            raise zipfile.BadZipFile(f"{len(file.infolist()):,} members are listed, and {count:,} counted")
        return file


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns an error of zipfile into a ValueError that names the file."""
    try:
        yield
    except _DAMAGE as error:
        if getattr(error, "filename", None):
            raise  # an error of the disk, with its own message
        raise ValueError(
            f"{path} is not a whole zip file ({abridged(str(error))}). Copy or download it again, or unpack it and "
            "name the folder."
        ) from error


def _tree(file: zipfile.ZipFile, path: Path) -> Tree:
    """Returns the members as {name: tree or ZipInfo}, without the hidden ones."""
    members = [(name, info) for name, info in ((_name(info), info) for info in file.infolist()) if not _hidden(name)]
    _refuse_members(path, members)
    tree: Tree = {}
    for member, info in members:
        *folders, name = member.split("/")
        here = tree
        for folder in folders:
            here = here.setdefault(folder, {})
        if name:
            here[name] = info
    return tree


def _name(info: zipfile.ZipInfo) -> str:
    r"""Returns a member's name, with bytes that are not UTF-8 as escapes, such as \xe9.

    Without the mark for UTF-8, Python decodes a name as DOS' code page 437. Programs of Linux and macOS write UTF-8
    without the mark, and a zip file of a folder has the classes of that folder.
    """
    try:
        return info.filename if info.flag_bits & _UTF8 else printable(os.fsdecode(info.filename.encode("cp437")))
    except UnicodeEncodeError:  # the member has a second name in UTF-8
        return info.filename


def _hidden(path: str) -> bool:
    return any(hidden(name) for name in path.split("/") if name not in (".", ".."))  # these are refused


def _refuse_members(path: Path, members: list[tuple[str, zipfile.ZipInfo]]) -> None:
    if faults := [
        f"{abridged(name)!r} is in more than {MOST_FOLDERS} folders or its name has over {_LONGEST_NAME:,} characters"
        for name, _ in members
        if name.count("/") > MOST_FOLDERS or len(name) > _LONGEST_NAME
    ]:
        raise ValueError("\n".join([f"{path} is not read; zip fewer folders inside each other:", *listed(faults)]))
    times = Counter(name.removesuffix("/") for name, _ in members)
    above = {"/".join(parts[:end]) for parts in (name.split("/") for name in times) for end in range(1, len(parts))}
    by_place = sorted((info for _, info in members), key=lambda info: info.header_offset)
    overlapping = {
        id(one)
        for one, other in itertools.pairwise(by_place)
        if one.header_offset + _HEADER + one.compress_size > other.header_offset
    }
    faults = []
    for name, info in members:
        parts = name.removesuffix("/").split("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        faults += [
            f"{name!r} {why}"
            for why, is_faulty in {
                "is encrypted or a patch": info.flag_bits & _ENCRYPTED,
                "is compressed in a way that is not read": info.compress_type not in _METHODS,
                "is listed more than once": times[name.removesuffix("/")] > 1,
                "is a file and a folder": not name.endswith("/") and name in above,
                "lies where another member does": id(info) in overlapping,
                "is not a path inside a folder": {"", ".", ".."} & {*parts} or "\\" in info.filename or ":" in parts[0],
                "is a link or a device": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
            }.items()
            if is_faulty
        ]
    if faults:
        raise ValueError("\n".join([f"{path} is not read; unpack it and name the folder:", *listed(faults)]))


def _unwrapped(tree: Tree) -> Tree:
    """Returns the tree without outer folders around all others; a class folder has no folders inside."""
    folders = [name for name, entry in tree.items() if isinstance(entry, dict)]
    loose = [name for name, entry in tree.items() if not isinstance(entry, dict) and named_format(name) is not None]
    if len(folders) == 1 and not loose and folders[0].casefold() not in SPLIT_OF_NAME:
        inner = tree[folders[0]]
        if any(isinstance(entry, dict) for entry in inner.values()):
            return _unwrapped(inner)
    return tree


def _labelled(file: zipfile.ZipFile, path: Path, tree: Tree) -> Listing | None:
    """Lists the images that a labels.json names, which may have outer folders around all of it; None without one."""
    while LABEL_FILE not in tree:
        folders = [entry for entry in tree.values() if isinstance(entry, dict)]
        if len(folders) != 1:
            return None
        (tree,) = folders
    info = tree[LABEL_FILE]
    _refuse_bomb(path, [info])
    with _named(path):
        content = file.read(info)
    everything = list_tree(str(path), path.stem, tree, class_depth=1)
    return with_labels(everything, f"{path}/{info.filename}", content, lambda name: _member(tree, name))


def _member(tree: Tree, name: str) -> Any:
    """Returns the member at a path in the tree; None without."""
    member: Any = tree
    for part in posixpath.normpath(name).split("/"):
        member = member.get(part) if isinstance(member, dict) else None
    return None if isinstance(member, dict) else member


def _refuse_bomb(path: Path, members: list[Any]) -> None:
    packed = [info for info in members if info.compress_type != zipfile.ZIP_STORED]
    size, compressed = sum(info.file_size for info in packed), sum(info.compress_size for info in packed)
    if size > _MEMORY:
        raise ValueError(
            f"{path} is compressed and expands to {size:,} bytes; at most {_MEMORY:,} are held in memory. "
            "Unpack it and name the folder, or zip it without compression (zip -0)."
        )
    if size > max(_BOMB, _RATIO * compressed):
        raise ValueError(
            f"{path} would expand from {compressed:,} to {size:,} bytes, which images do not. It is not read."
        )


def _located(file: zipfile.ZipFile, path: str, image: ListedImage) -> ListedImage:
    """Replaces a member by a `FileRange` or its bytes, or adds the reason why it cannot be read."""
    try:
        return replace(image, file=_place(file, path, image.file))
    except ImageError as error:
        return replace(image, file=b"", reason=str(error))


def _place(file: zipfile.ZipFile, path: str, info: Any) -> FileRange | bytes:
    if info is None:
        raise ImageError("no such file")
    try:
        start = _start(file, info)
        if info.compress_type != zipfile.ZIP_STORED:
            with file.open(info) as member:
                return member.read(info.file_size)  # at most, whatever it expands to
    except _DAMAGE as error:
        raise ImageError(f"damaged in the zip file ({abridged(str(error))})") from error
    if info.file_size != info.compress_size:
        raise ImageError("damaged in the zip file (a stored member of two sizes)")
    return FileRange(path, start, info.file_size, info.CRC)


def _start(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Returns the place of a member's bytes, behind its own header, which has its name once more."""
    stream: Any = file.fp
    stream.seek(info.header_offset)
    header = stream.read(_HEADER)
    if len(header) < _HEADER or not header.startswith(b"PK\3\4"):
        raise zipfile.BadZipFile("no member where one should begin")
    name, extra = struct.unpack_from("<HH", header, _HEADER - 4)  # their lengths
    if stream.read(name) != info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437"):
        raise zipfile.BadZipFile(f"{abridged(info.filename)!r} has another name in its own header")
    return info.header_offset + _HEADER + name + extra
