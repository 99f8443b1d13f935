"""Checks what a caller passes: each function returns the value in plain Python types, or raises one clear error.

NumPy's numbers are taken as Python's, lists as tuples; True is no number, and 3.0 and "3" are no whole ones.
"""

import difflib
import math
import numbers
import os


def plain(value):
    """Returns NumPy's numbers and arrays, and lists, as Python's numbers and tuples; all else as it is."""
    value = value.tolist() if type(value).__module__ == "numpy" else value
    return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value


def whole(name, value, least=1):
    """Returns a whole number as an int.

    Raises:
        ValueError: if it is none, or below `least`.
    """
    found = plain(value)
    if _is_whole(found) and found >= least:
        return found
    raise ValueError(f"Expected {name} to be a whole number, {least} or more. Received: {name}={value!r}")


def number(name, value, words="", holds=lambda value: True):
    """Returns a number, as an int or a float.

    Args:
        name: of the argument.
        value: what was passed.
        words: the range in words, such as "0 or more and less than 1".
        holds: function of the number that tells whether it lies there; it must not for NaN.

    Raises:
        ValueError: if it is none, or out of its range.
    """
    found = plain(value)
    if is_number(found) and holds(found):
        return found
    raise ValueError(f"Expected {name} to be a number{words and f', {words}'}. Received: {name}={value!r}")


def rate(name, value):
    """Returns a share, 0 or more and less than 1, as `number` does."""
    return number(name, value, "0 or more and less than 1", lambda value: 0 <= value < 1)


def flag(name, value):
    """Returns True or False; raises a ValueError for all else."""
    if isinstance(plain(value), bool):
        return plain(value)
    raise ValueError(f"Expected {name} to be True or False. Received: {name}={value!r}")


def choice(name, value, known, or_none=False):
    """Returns one of the known texts, or None where that is one of them; raises a ValueError for all else."""
    if (isinstance(value, str) and value in known) or (or_none and value is None):
        return value
    raise ValueError(f"Expected {name} to be {'None or ' * or_none}one of {tuple(known)}. Received: {name}={value!r}")


def path(name, value, words="the path of a file"):
    """Returns a path as text; raises a ValueError for all else."""
    if isinstance(value, (str, os.PathLike)) and os.fspath(value):
        return os.fspath(value)
    received = repr(value) if value is None or isinstance(value, (str, numbers.Number)) else f"a {type(value).__name__}"
    raise ValueError(f"Expected {name} to be {words}. Received: {name}={received}")


def size(name, value):
    """Returns (rows, columns) of pixels, of one side or of both.

    Raises:
        ValueError: if it is neither.
    """
    found = plain(value)
    sides = (found, found) if _is_whole(found) else found
    if not _are_sides(sides, 2):
        raise ValueError(
            f"Expected {name} to be the side of the images in pixels, or (rows, columns). Received: {name}={value!r}"
        )
    return sides


def shape(name, value):
    """Returns the (rows, columns, channels) of an image; None stays for a side that is open.

    Raises:
        ValueError: if it is none; the message says where it is one side, lacks channels, or has them first.
    """
    sides, advice = plain(value), ""
    if _are_sides(sides, 3, or_open=True):
        if not _is_first(*sides):
            return sides
        advice = f" Channels come last: {name}={(*sides[1:], sides[0])}."
    elif _is_whole(sides) and sides > 0:
        advice = f" For RGB images of that side: {name}={(sides, sides, 3)}."
    elif _are_sides(sides, 2):
        advice = f" For RGB images of that size: {name}={(*sides, 3)}."
    expected = f"Expected {name} to be (rows, columns, channels), whole numbers of 1 or more"
    raise ValueError(f"{expected}. Received: {name}={value!r}.{advice}")


def known_names(function, given, known, advice=None):
    """Raises a TypeError that offers the nearest names, if names of arguments are not known.

    Args:
        function: its name, for the message.
        given: names that a caller passed.
        known: names of the arguments there are.
        advice: {name that others have for an argument: what to pass here}.
    """
    known = list(dict.fromkeys(known))
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        hint = f"Pass {advice[name]}." if name in (advice or {}) else f"Nearest names: {', '.join(near)}"
        raise TypeError(f"Expected an argument of {function}. Received: {name}=. {hint}")


def is_number(value):
    """Returns whether a value is a finite number in plain Python."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_first(rows, columns, channels):
    """Returns whether a shape reads like (channels, rows, columns): no image is 1 or 3 pixels high in 16 channels."""
    return None not in (rows, columns, channels) and rows in (1, 3) and min(columns, channels) >= 16


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _are_sides(value, count, or_open=False):
    """Returns whether a value is so many whole numbers of 1 or more; None among them where they may be open."""
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(_is_whole(side) and side > 0 or (or_open and side is None) for side in value)
    )
