"""Reads JSON that others wrote: an object of a bounded size, or one error."""

import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from keras_vit import _arguments as checked

DEEPEST_JSON = 200  # levels of nesting; a model of models of Keras has some dozens
LARGEST = 1 << 24  # bytes; the names of 21,841 classes are one tenth of this


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        ValueError: if it is missing or too large, not UTF-8 text or JSON, nested too deeply, or not an object.
    """
    try:
        with open(path, "rb") as file:
            return parse_json(file.read(LARGEST + 1))
    except (OSError, ValueError) as error:
        raise ValueError(f"{pathlib.Path(path)} cannot be read: {error}") from error


def parse_json(text: bytes | str) -> dict[str, Any]:
    """Returns the object in a JSON text.

    Raises:
        ValueError: if it is too large, not JSON, nested too deeply, or not an object.
    """
    if len(text) > LARGEST:
        raise ValueError(f"Expected JSON of at most {LARGEST:,} bytes. Received: more")
    try:
        value = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError as error:
        raise ValueError("Expected JSON. Received: lists or objects that are nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object. Received: a {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(DEEPEST_JSON):
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list)))
        level = [each for one in inside for each in one]
    if level:
        raise ValueError(f"Expected JSON of at most {DEEPEST_JSON} levels. Received: more")
    return value


class Kind(NamedTuple):
    """What a value of a JSON file has to be.

    Args:
        text: in words.
        fits: function of a value: whether it is.
    """

    text: str
    fits: Callable[[Any], bool]


TEXT = Kind("a string", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = Kind("an integer of 1 or more", checked.is_size)
NUMBER = Kind("a number above 0", lambda value: checked.is_number(value) and value > 0)
NUMBER_LIST = Kind("a list of numbers", lambda value: isinstance(value, list) and all(map(checked.is_number, value)))
SIDES = Kind(
    "one integer or a list of integers, each 1 or more",
    lambda value: all(map(checked.is_size, value)) if isinstance(value, list) else checked.is_size(value),
)
IMAGE_SHAPE = Kind(
    "a list of 3 integers, each 1 or more",
    lambda value: isinstance(value, list) and len(value) == 3 and all(map(checked.is_size, value)),
)
Kinds = Mapping[str, "Kind | Kinds"]


def refuse_other_types(path: object, value: Mapping[str, Any], kinds: Kinds) -> None:
    """Raises a ValueError that lists the fields of a JSON object that are of another type; null fits any.

    Args:
        path: the file, for the message.
        value: the object.
        kinds: {name: `Kind`, or the kinds of the object inside}; other names are not checked.
    """
    if faults := list(_faults(value, kinds)):
        listed = checked.first_few(faults, separator="\n  ")
        raise ValueError(f"{path} holds values of other types than its project writes:\n  {listed}")


def _faults(value: Mapping[str, Any], kinds: Kinds) -> Iterator[str]:
    for name, kind in kinds.items():
        received = value.get(name)
        if received is None:
            continue
        if not isinstance(kind, Kind):
            if isinstance(received, dict):
                yield from _faults(received, kind)
                continue
            kind = Kind("an object", lambda value: False)
        if not kind.fits(received):
            yield f"{name}={received!r:.80}, expected {kind.text}"
