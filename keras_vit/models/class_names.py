"""Class names: which ones a labels.txt can hold, and how it is written and read."""

import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from keras_vit._atomic import write_text

FILE = "labels.txt"


def name_faults(names: Sequence[Any]) -> list[str]:
    """Returns what is wrong with class names, one sentence each: what a file with one name on each line would lose.

    Args:
        names: class names in the order of a model's outputs.
    """
    faults = []
    if other := [name for name in names if not isinstance(name, str)]:
        return [f"class names that are not strings: {_listed(other)}"]
    if blank := [i for i, name in enumerate(names) if not name.strip()]:
        faults.append(f"blank class names: numbers {_listed(blank)}; name these classes")
    # str.splitlines splits at more line breaks than "\n": a reader of labels.txt in another language may, too.
    if broken := [
        name for name in names if name.strip() and (len(name.splitlines()) > 1 or name.splitlines()[0] != name)
    ]:
        faults.append(f"class names with a line break: {_listed(broken)}; a labels.txt has one name on each line")
    if control := [name for name in names if "\0" in name]:
        faults.append(f"class names with a NUL character: {_listed(control)}; rename them")
    if padded := [name for name in names if name.strip() and name != name.strip() and name not in broken]:
        faults.append(f"class names that begin or end with a space: {_listed(padded)}; rename them")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        faults.append(f"the same name for two classes: {_listed(twice)}; rename one of each")
    return faults


def refuse_names(names: Sequence[Any]) -> None:
    """Raises a ValueError if a labels.txt cannot hold class names; all faults in one message."""
    if faults := name_faults(names):
        raise ValueError("Expected class_names to be different, of one line each. Received: " + "; ".join(faults))


def usable_names(names: Sequence[str]) -> tuple[str, ...] | None:
    """Returns class names as they were published; a name of several classes gets the number of the class in brackets.

    Returns None if a labels.txt could not hold them for another reason.
    """
    count = Counter(names)
    names = tuple(name if count[name] == 1 else f"{name} ({i})" for i, name in enumerate(names))
    return None if name_faults(names) else names


def names_for(path: str | os.PathLike[str], own: Sequence[str] | None = None) -> Sequence[str] | None:
    """Returns the class names of a model: its own, or those in the labels.txt of its folder; None without either.

    Args:
        path: the model's file or folder.
        own: the class names that the model itself has, or None.

    Raises:
        ValueError: if labels.txt cannot be used, or differs from the model's own names.
    """
    path = pathlib.Path(path)
    file = (path if path.is_dir() else path.parent) / FILE
    if not file.exists():
        return own
    names = read_names(file)
    if own and names != tuple(own):
        there, here = next((pair for pair in zip(names, own) if pair[0] != pair[1]), (len(names), len(own)))
        raise ValueError(
            f"Expected {file} to have the class names of {path.name}. Received: {there!r} in labels.txt, {here!r} in "
            "the model. Correct or remove labels.txt."
        )
    return names


def write_names(path: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Writes a labels.txt, one name on each line."""
    write_text(path, "".join(f"{name}\n" for name in names))


def read_names(path: pathlib.Path) -> tuple[str, ...]:
    """Returns the class names in a labels.txt.

    Raises:
        ValueError: if it is not UTF-8 text, or names are blank or repeated.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected UTF-8 text. Received: {path}. Save it as UTF-8, with one class name on each line."
        ) from error
    names = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    if faults := name_faults(names):
        raise ValueError(f"Expected different class names. Received: {path}, with {'; '.join(faults)}")
    return names


def _listed(values: Sequence[Any], most: int = 5) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(repr, values[:most])) + more
