"""Parses the settings of a recipe: "field=value" texts, by the type of each field."""

import ast
import contextlib
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras_vit import _arguments as checked


def has_type(value: object, annotation: Any) -> bool:
    """Returns whether a value has the type of a field.

    An int passes for a float, True does not pass for an int, and an int has to fit into 64 bits.
    """
    for kind in types_of(annotation):
        if typing.get_origin(kind) is tuple:
            item, *_ = typing.get_args(kind)
            if isinstance(value, tuple) and all(has_type(part, item) for part in value):
                return True
        elif isinstance(value, bool):
            if kind is bool:
                return True
        elif isinstance(value, int) and kind in (int, float):
            if abs(value) < 2**63:
                return True
        elif isinstance(value, kind):
            return True
    return False


def types_of(annotation: Any) -> tuple[Any, ...]:
    """Returns the types that a field's annotation allows; the type of its choices, str, for a `Literal`."""
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return tuple(str if typing.get_origin(member) is typing.Literal else member for member in members)


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Returns the choices of a field whose annotation has a `Literal`, or ()."""
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return next((typing.get_args(member) for member in members if typing.get_origin(member) is typing.Literal), ())


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (types.UnionType, typing.Union)


_TYPE_NAMES = {str: "text", int: "an integer", float: "a number", bool: "True or False", types.NoneType: "None"}
_LIST_NAMES = {
    (str, ...): "names with commas between",
    (int, ...): "integers with commas between",
    (int, int): "two integers with a comma between",
}


def type_description(annotation: Any) -> str:
    """Describes the types that a field allows, for an error message."""
    return " or ".join(
        _LIST_NAMES[typing.get_args(kind)] if typing.get_origin(kind) else _TYPE_NAMES.get(kind, kind.__name__)
        for kind in types_of(annotation)
    )


def parse_settings(texts: Iterable[str], fields: Mapping[str, Any], ranges: Mapping[str, str]) -> dict[str, Any]:
    """Parses "field=value" texts to {field: value}.

    Args:
        texts: the settings, as on the command line.
        fields: {field: annotation}.
        ranges: {field: its range in words}, for messages.

    Returns:
        The values, each of its field's type.

    Raises:
        ValueError: if a text is not a "field=value" pair, a field is unknown (the nearest names are offered) or a value
            does not have the field's type; all faults in one message.
    """
    values, faults = {}, []
    for setting in texts:
        name, equals, text = setting.partition("=")
        candidates = [value for value in _candidates(text) if name in fields and has_type(value, fields[name])]
        if not equals:
            faults.append(f"  {setting!r:.80}: expected field=value")
        elif name not in fields:
            near = difflib.get_close_matches(name, fields, n=3, cutoff=0.4) or sorted(fields)
            faults.append(f"  unknown field {name!r:.80}. Nearest: {', '.join(near)}")
        elif not candidates:
            range_text = f"; {ranges[name]}" if name in ranges else ""
            faults.append(f"  {name}={text!r:.80}: expected {type_description(fields[name])}{range_text}")
        else:
            values[name] = candidates[0]
    if faults:
        raise ValueError("Expected settings of a recipe, field=value. Received:\n" + "\n".join(faults))
    return values


def _candidates(text: str) -> Iterator[Any]:
    """Yields the values that a text may stand for: a Python value, a tuple of it alone, the text, a tuple of names."""
    with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that it raises
        value = checked.plain(ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text)))
        yield value
        yield (value,)
    yield text
    yield tuple(part for part in text.split(",") if part)
