"""Names of files and classes as messages show them: on one line, in characters that can be printed."""

import math
import os
import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from keras_vit.models.class_names import name_faults


def printable(name: str) -> str:
    r"""Returns a file's name with each byte that is not UTF-8 as an escape, such as \xe9, so that no two look alike."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Returns a text with line breaks and all else that cannot be printed as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def few(values: Iterable[str], most: int = 5) -> str:
    """Returns the first values and how many more there are, on one line."""
    values = list(values)
    more = f" and {len(values) - most:,} more" if len(values) > most else ""
    return ", ".join(map(one_line, values[:most])) + more


def quoted(path: str | os.PathLike) -> str:
    """Returns a path as a POSIX shell reads it, also where it begins with a dash or holds a line break."""
    text = os.fspath(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    plain = {byte: chr(byte) for byte in range(32, 127) if chr(byte) not in "'\\"}
    return "$'" + "".join(plain.get(byte, f"\\x{byte:02x}") for byte in os.fsencode(text)) + "'"


def class_problems(class_names: Sequence[str]) -> list[str]:
    """Returns what is wrong with the names of classes, a sentence each: what a labels.txt and exports refuse."""
    problems = name_faults(class_names)
    for names in _alike(class_names, _composed):
        problems.append(
            f"names of classes that look the same: {', '.join(map(ascii, names))} (an accented letter is one character "
            "or two); make them one class, or rename one"
        )
    return problems


def class_notes(class_names: Sequence[str]) -> list[str]:
    """Returns what is odd about the names of classes and is no fault, a sentence each."""
    notes = [
        f"classes whose names differ in upper and lower case alone: {few(names)}"
        for names in _alike([*map(_composed, class_names)], str.casefold)
    ]
    if escaped := [name for name in class_names if re.search(r"\\x[89a-f][0-9a-f]", name)]:
        notes.append(f"names of classes with bytes that are not UTF-8, written as escapes: {few(escaped)}")
    known = {*class_names}
    if joint := [name for name in class_names if known & {*map(str.strip, re.split("[|;,+/&]", name))} - {name}]:
        notes.append(f"names of classes that contain another's, each a class of its own, not several: {few(joint)}")
    if class_names and all(map(_is_number, class_names)) and not all(map(str.isdecimal, class_names)):
        notes.append(f"names of classes that are numbers, each a class of its own, not a quantity: {few(class_names)}")
    return notes


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _alike(names: Sequence[str], form) -> list[list[str]]:
    """Returns groups of different names of the same form."""
    groups = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[form(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]
