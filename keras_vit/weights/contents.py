"""Checks that a file is what its name says: weights, a table or a text, and not the web page of a login or a proxy."""

import csv
import errno
import html
import json
import pathlib
import re
import zipfile
from collections.abc import Callable

_BEGINNING = 1 << 16  # bytes that are searched for a title
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body|script|\?xml)\b", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_LONGEST = 1_000  # characters of a reader's message
_LARGEST_JSON = 1 << 26  # bytes; as objects of Python it takes up to twenty times as much
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_OF_KERAS = {"config.json", "model.weights.h5"}


def check_content(path: pathlib.Path, name: str) -> None:
    """Raises a ValueError unless a file opens as what the ending of its name says.

    Archives are read whole, as each member has a checksum; of other weight files, the headers are.

    Args:
        path: the file.
        name: its published name. One with another ending than those known here must be a weight file.

    Raises:
        ValueError: if it is empty, a web page, or does not open; the message says what it is instead.
        OSError: if it cannot be read.
    """
    kind, opens = _KINDS.get(pathlib.PurePath(name).suffix.lower(), ("a weight file", _open_arrays))
    fault = describe(path)
    if not fault:
        try:
            opens(path)
        except MemoryError:
            raise
        except Exception as error:  # the parsers of zipfile, h5py and csv raise any kind on a damaged file
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a fault of the disk
                raise
            reason = (str(error).strip() or type(error).__name__).replace(str(path), name)[:_LONGEST]
            with path.open("rb") as file:
                fault = f"it begins with {file.read(12)!r}: {reason}"
    if fault:
        raise ValueError(f"Expected {kind}. Received: {name}: {fault}")


def describe(path: pathlib.Path) -> str:
    """Returns "an empty file", or "a web page" with its title, for a file that is one; else an empty text."""
    with path.open("rb") as file:
        head = file.read(_BEGINNING)
    if not head:
        return "an empty file"
    page = _PAGE.match(head)
    if not page:
        return ""
    if page[2].lower() == b"?xml" and b"<html" not in head.lower():
        return f"an XML document, {_decoded(head)!r}"
    title = _TITLE.search(head)
    return f"a web page, titled {_decoded(title[1])!r}" if title else "a web page"


def shown(text: object) -> str:
    """Returns the beginning of a text from a server on one line, without what a terminal would obey."""
    line = " ".join(str(text)[:_LONGEST].split())[:300]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _decoded(text: bytes) -> str:
    return shown(html.unescape(text[:_LONGEST].decode("utf-8", "replace")))


def _open_arrays(path: pathlib.Path) -> None:
    from keras_vit.weights.readers import open_arrays

    open_arrays(path).close()


def _open_npz(path: pathlib.Path) -> None:
    from keras_vit.weights.readers import NpzFile

    NpzFile(path).close()
    _open_zip(path)


def _open_safetensors(path: pathlib.Path) -> None:
    from keras_vit.weights.readers import SafetensorsFile

    SafetensorsFile(path).close()


def _open_h5(path: pathlib.Path) -> None:
    import h5py

    with h5py.File(path, "r") as file:  # a whole model of Keras has more than plain arrays
        file.visititems_links(lambda name, link: None)


def _open_zip(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        if file.read(2) != b"PK":  # zipfile opens an archive after other bytes, but `open_arrays` does not
            raise ValueError("it does not begin as an archive")
    with zipfile.ZipFile(path) as file:
        damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of its member {damaged!r} is wrong")


def _open_keras(path: pathlib.Path) -> None:
    with zipfile.ZipFile(path) as file:
        missing = _OF_KERAS - set(file.namelist())
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    _open_zip(path)


def _open_json(path: pathlib.Path) -> None:
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"it is larger than {_LARGEST_JSON:,} bytes")
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, (dict, list)):
        raise ValueError(f"it holds {type(content).__name__}, neither an object nor a list")


def _open_csv(path: pathlib.Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        columns = len(next(rows))
        for row in rows:
            if row and len(row) != columns:
                raise ValueError(f"line {rows.line_num} has {len(row)} cells, the first line {columns}")


def _open_text(path: pathlib.Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(file, 1):
            if _CONTROL.search(line):
                raise ValueError(f"line {number} has control characters")


_KINDS: dict[str, tuple[str, Callable[[pathlib.Path], None]]] = {
    ".npz": ("an .npz file", _open_npz),
    ".safetensors": ("a .safetensors file", _open_safetensors),
    ".h5": ("an HDF5 file", _open_h5),
    ".hdf5": ("an HDF5 file", _open_h5),
    ".keras": ("a .keras file", _open_keras),
    ".zip": ("a .zip file", _open_zip),
    ".json": ("a JSON file", _open_json),
    ".csv": ("a CSV file", _open_csv),
    ".txt": ("a text file in UTF-8", _open_text),
}
