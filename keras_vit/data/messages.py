"""Text in messages: names of files and classes on one line, in printable characters, and shortened lists."""

import os
import shlex
from collections.abc import Iterable

_LISTED = 5  # lines of one kind in an error
_LONGEST = 300  # characters of each


def printable(name: str) -> str:
    r"""Returns a file name with each byte that is not UTF-8 as an escape, such as \xe9; no two names are equal."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Returns a text with line breaks and other unprintable characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def without_controls(text: str) -> str:
    """Returns a text of several lines with unprintable characters as escapes, except line breaks."""
    return "\n".join(map(one_line, text.split("\n")))


def abridged(text: str, most: int = _LONGEST) -> str:
    """Returns a text on one line, in printable characters; the middle of a long one is left out."""
    text = one_line(text if len(text) <= 2 * most else f"{text[:most]}{text[-most:]}")
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-(most // 2) :]}"


def few(values: Iterable[str], most: int = 5) -> str:
    """Returns the first values, shortened, and the number of the others, on one line."""
    values = list(values)
    more = f" and {len(values) - most:,} more" if len(values) > most else ""
    return ", ".join(abridged(value, 120) for value in values[:most]) + more


def listed(lines: Iterable[str]) -> list[str]:
    """Returns the first lines of a long list, indented and shortened, and the number of the others."""
    lines = list(lines)
    more = [f"  and {len(lines) - _LISTED:,} more"] if len(lines) > _LISTED else []
    return [f"  {abridged(line)}" for line in lines[:_LISTED]] + more


def quoted(path: str | os.PathLike[str]) -> str:
    """Returns a path quoted for a POSIX shell, also one that begins with a dash or has a line break."""
    text = os.fspath(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    plain = {byte: chr(byte) for byte in range(32, 127) if chr(byte) not in "'\\"}
    return "$'" + "".join(plain.get(byte, f"\\x{byte:02x}") for byte in os.fsencode(text)) + "'"
