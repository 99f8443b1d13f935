"""Checks arguments: each function returns the value in plain Python types, or raises an error that names the argument.

Numbers of NumPy are accepted like Python's, and lists like tuples. True is not a number; 3.0 and "3" are not integers.
"""

import difflib
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Returns numbers and arrays of NumPy, and lists, as Python's numbers and tuples; anything else unchanged."""
    value = value.tolist() if type(value).__module__ == "numpy" else value
    return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value


def integer(name: str, value: Any, least: int = 1) -> int:
    """Returns an integer of at least `least`.

    Raises:
        ValueError: if the value is not an integer, or is smaller.
    """
    checked = plain(value)
    if is_integer(checked) and checked >= least:
        return checked
    raise ValueError(f"Expected {name} to be an integer of {least} or more. Received: {name}={value!r}")


def number(
    name: str, value: Any, range_text: str = "", is_in_range: Callable[[float], bool] = lambda value: True
) -> float:
    """Returns a finite number, as an int or a float.

    Args:
        name: name of the argument.
        value: what the caller passed.
        range_text: the range in words, such as "0 or more and less than 1".
        is_in_range: function of the number; false for NaN.

    Raises:
        ValueError: if the value is not a number, or out of range.
    """
    checked = plain(value)
    if is_number(checked) and is_in_range(checked):
        return checked
    raise ValueError(f"Expected {name} to be a number{range_text and f', {range_text}'}. Received: {name}={value!r}")


def rate(name: str, value: Any) -> float:
    """Returns a dropout rate or another number that is 0 or more and less than 1; raises a ValueError otherwise."""
    return number(name, value, "0 or more and less than 1", lambda value: 0 <= value < 1)


def flag(name: str, value: Any) -> bool:
    """Returns True or False; raises a ValueError for anything else."""
    if isinstance(plain(value), bool):
        return plain(value)
    raise ValueError(f"Expected {name} to be True or False. Received: {name}={value!r}")


def choice(name: str, value: Any, known: Iterable[str], or_none: bool = False) -> Any:
    """Returns the value if it is one of the known strings, or None where that is allowed; raises a ValueError else."""
    known = tuple(known)
    if (isinstance(value, str) and value in known) or (or_none and value is None):
        return value
    raise ValueError(f"Expected {name} to be {'None or ' * or_none}one of {known}. Received: {name}={value!r}")


def path(name: str, value: Any, expected: str = "the path of a file") -> str:
    """Returns a path as a string; raises a ValueError for anything else."""
    if isinstance(value, (str, os.PathLike)) and os.fspath(value):
        return str(os.fspath(value))
    received = repr(value) if value is None or isinstance(value, (str, numbers.Number)) else f"a {type(value).__name__}"
    raise ValueError(f"Expected {name} to be {expected}. Received: {name}={received}")


def size(name: str, value: Any) -> tuple[int, int]:
    """Returns the (height, width) of an image in pixels; one integer stands for both.

    Raises:
        ValueError: if the value is neither.
    """
    checked = plain(value)
    sides = (checked, checked) if is_integer(checked) else checked
    if not _are_sides(sides, 2):
        raise ValueError(
            f"Expected {name} to be the size of the images in pixels, (height, width) or one integer for both. "
            f"Received: {name}={value!r}"
        )
    return sides


def shape(name: str, value: Any) -> tuple[int | None, ...]:
    """Returns the (height, width, channels) of an image; None for a side that is unknown is kept.

    Raises:
        ValueError: if the value is not such a shape; the message offers the shape that was probably meant.
    """
    sides, advice = plain(value), ""
    if _are_sides(sides, 3, or_none=True):
        if not _has_channels_first(*sides):
            return sides
        advice = f" Channels come last: {name}={(*sides[1:], sides[0])}."
    elif is_integer(sides) and sides > 0:
        advice = f" For square RGB images: {name}={(sides, sides, 3)}."
    elif _are_sides(sides, 2):
        advice = f" For RGB images of that size: {name}={(*sides, 3)}."
    expected = f"Expected {name} to be (height, width, channels), integers of 1 or more"
    raise ValueError(f"{expected}. Received: {name}={value!r}.{advice}")


def known_names(
    function: str, names: Iterable[str], known: Iterable[str], advice: Mapping[str, str] | None = None
) -> None:
    """Raises a TypeError that offers the nearest names, if names of arguments are unknown.

    Args:
        function: name of the function, for the message.
        names: the names that a caller passed.
        known: the names of the function's arguments.
        advice: {name that other libraries use: what to pass instead}.
    """
    known = list(dict.fromkeys(known))
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        hint = f"Pass {advice[name]}." if advice and name in advice else f"Nearest names: {', '.join(near)}"
        raise TypeError(f"Expected an argument of {function}. Received: {name}=. {hint}")


def first_few(values: Iterable[object], separator: str = ", ", most: int = 5) -> str:
    """Returns the first values, each on one line of at most 200 characters, and the number of the others."""
    texts = list(map(str, values))
    shown = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:200]) for text in texts[:most]]
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return separator.join(shown + more)


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, such as "1 image", "1,797 images" or "3 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number in plain Python."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_size(value: Any) -> bool:
    """Returns whether a value is an integer of 1 or more in plain Python; no size needs more than 31 bits."""
    return is_integer(value) and 0 < value < 2**31


def _has_channels_first(first: int | None, second: int | None, third: int | None) -> bool:
    """Returns whether a shape reads like (channels, height, width): no image is 1 or 3 pixels high with 16 channels."""
    return None not in (first, second, third) and first in (1, 3) and min(second or 0, third or 0) >= 16


def is_integer(value: Any) -> bool:
    """Returns whether a value is an integer in plain Python; True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _are_sides(value: Any, count: int, or_none: bool = False) -> bool:
    """Returns whether a value is a tuple of `count` integers of 1 or more; None among them where that is allowed."""
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(is_size(side) or (or_none and side is None) for side in value)
    )
