"""Finds the images in a zip file of class folders; nothing is unpacked to the disk."""

import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

from keras_vit.data.decoding import ImageError, Record
from keras_vit.data.folder import Tree, hidden, list_tree, named_format
from keras_vit.data.listing import SPLIT_OF_NAME, ListedImage, Listing, Progress, listed
from keras_vit.data.names import printable

# Compressed images are held in memory once opened, these many bytes at most. Stored ones stay in the file.
_MEMORY = 4 * 2**30
_RATIO = 100  # bytes out of one byte in; a whole zip file of images, which are compressed already, has about 1
_BOMB = 2**28  # bytes; below this, let it be drawings
_ENCRYPTED, _UTF8 = 1, 0x800  # bits of a member's flags
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def list_zip(data: str | os.PathLike, class_depth: int | None = None) -> Listing:
    """Finds classes, splits and images in a zip file, which may have folders around them all.

    Stored members become a `Record` each; deflated ones are expanded into memory, and their checksums tested.

    Args:
        data: the file.
        class_depth: as of `list_tree`; folders around them all do not count.

    Raises:
        ValueError: if it is no whole zip file, is encrypted, has members of impossible names, is compressed in
            another way, or would expand to more than `MEMORY`. What is wrong inside is in `problems`.
    """
    path = Path(data)
    try:
        with zipfile.ZipFile(path) as file:
            listing = list_tree(str(path), path.stem, _unwrapped(_tree(file, path)), class_depth=class_depth)
            _refuse_bomb(file, path, [image.file for image in listing.images])
            progress, images = Progress(len(listing.images)), []
            for image in listing.images:
                images.append(_located(file, str(path), image))
                progress.add()
            return replace(listing, images=tuple(images))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a whole zip file ({error}). Copy or download it again, or unpack it and name the folder."
        ) from error


def _tree(file: zipfile.ZipFile, path: Path) -> Tree:
    """Lays out the members as {name: tree or ZipInfo}, without the hidden ones."""
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
    r"""Returns a member's name. Unless it is marked as UTF-8, bytes that are not are escapes, such as \xe9.

    Python takes such names for those of DOS, code page 437. Programs of Linux and macOS write their own names
    unmarked, and a zip file of a folder is to have that folder's classes.
    """
    try:
        return info.filename if info.flag_bits & _UTF8 else printable(os.fsdecode(info.filename.encode("cp437")))
    except UnicodeEncodeError:  # Python has found a name in UTF-8 beside the unmarked one
        return info.filename


def _hidden(path: str) -> bool:
    return any(hidden(name) for name in path.split("/") if name not in (".", ".."))  # these are refused


def _refuse_members(path: Path, members: list[tuple[str, zipfile.ZipInfo]]) -> None:
    times = Counter(name.removesuffix("/") for name, _ in members)
    above = {"/".join(parts[:end]) for parts in (name.split("/") for name in times) for end in range(1, len(parts))}
    faults = []
    for name, info in members:
        parts = name.removesuffix("/").split("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        faults += [
            f"{name!r} {why}"
            for why, wrong in {
                "is encrypted": info.flag_bits & _ENCRYPTED,
                "is compressed in a way that is not read": info.compress_type not in _METHODS,
                "is listed more than once": times[name.removesuffix("/")] > 1,
                "is a file and a folder": not info.is_dir() and name in above,
                "is no path inside a folder": {"", ".", ".."} & {*parts} or "\\" in info.filename or ":" in parts[0],
                "is a link or a device": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
            }.items()
            if wrong
        ]
    if faults:
        raise ValueError("\n".join([f"{path} is not read; unpack it and name the folder:", *listed(faults)]))


def _unwrapped(tree: Tree) -> Tree:
    """Steps into the folders that lie around all others; a class folder holds no folders of its own."""
    folders = [name for name, entry in tree.items() if isinstance(entry, dict)]
    loose = [name for name, entry in tree.items() if not isinstance(entry, dict) and named_format(name) is not None]
    if len(folders) == 1 and not loose and folders[0].casefold() not in SPLIT_OF_NAME:
        inner = tree[folders[0]]
        if any(isinstance(entry, dict) for entry in inner.values()):
            return _unwrapped(inner)
    return tree


def _refuse_bomb(file: zipfile.ZipFile, path: Path, members: list[zipfile.ZipInfo]) -> None:
    packed = [info for info in members if info.compress_type != zipfile.ZIP_STORED]
    size, taken = sum(info.file_size for info in packed), sum(info.compress_size for info in packed)
    if size > _MEMORY:
        raise ValueError(
            f"{path} is compressed and expands to {size:,} bytes; at most {_MEMORY:,} are held in memory. "
            "Unpack it and name the folder, or zip it without compression (zip -0)."
        )
    if size > max(_BOMB, _RATIO * taken):
        raise ValueError(f"{path} would expand from {taken:,} to {size:,} bytes, which images do not. It is not read.")


def _located(file: zipfile.ZipFile, path: str, image: ListedImage) -> ListedImage:
    """Puts a `Record` or the bytes in the place of a member, or says what is wrong with it."""
    try:
        return replace(image, file=_place(file, path, image.file))
    except ImageError as error:
        return replace(image, file=b"", reason=str(error))


def _place(file: zipfile.ZipFile, path: str, info: zipfile.ZipInfo) -> Record | bytes:
    if info.compress_type != zipfile.ZIP_STORED:
        try:
            return file.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ImageError(f"damaged in the zip file ({error})") from error
    file.fp.seek(info.header_offset)
    header = file.fp.read(30)
    if len(header) < 30 or not header.startswith(b"PK\3\4"):
        raise ImageError("damaged in the zip file (no member where one should begin)")
    name, extra = struct.unpack_from("<HH", header, 26)  # their lengths; the bytes of the member follow them
    if info.file_size != info.compress_size:
        raise ImageError("damaged in the zip file (a stored member of two sizes)")
    return Record(path, info.header_offset + 30 + name + extra, info.file_size)
