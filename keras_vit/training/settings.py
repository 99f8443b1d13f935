"""Reads the settings of a run: "field=value" texts and the types of a recipe's fields."""

import ast
import contextlib
import difflib
import types
import typing

from keras_vit import _arguments as checked


def fits(value, kind):
    """Returns whether a value is of a field's type; a whole number is a number, True is not."""
    for one in kinds(kind):
        if typing.get_origin(one) is tuple:
            item, *_ = typing.get_args(one)
            if isinstance(value, tuple) and all(fits(part, item) for part in value):
                return True
        elif isinstance(value, bool):
            if one is bool:
                return True
        elif isinstance(value, (int, float) if one is float else one):
            return True
    return False


def kinds(kind):
    """Returns the types that a field takes."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False", types.NoneType: "None"}
LISTS = {str: "names with commas between", int: "whole numbers with commas between"}


def setting_words(kind):
    """Says what a field takes."""
    return " or ".join(
        LISTS[typing.get_args(one)[0]] if typing.get_origin(one) else _WORDS.get(one, one.__name__)
        for one in kinds(kind)
    )


def read_settings(texts, fields):
    """Returns {field: value} of "field=value" texts.

    Raises:
        ValueError: if a text is no such pair, a field does not exist (the nearest names are offered) or a value cannot
            be read as the field's type; all faults in one message.
    """
    changes, faults = {}, []
    for setting in texts:
        name, equals, text = setting.partition("=")
        values = [value for value in _readings(text) if name in fields and fits(value, fields[name])]
        if not equals:
            faults.append(f"  {setting!r}: expected field=value")
        elif name not in fields:
            near = difflib.get_close_matches(name, fields, n=3, cutoff=0.4) or sorted(fields)
            faults.append(f"  {name!r} is no field of a recipe. Nearest: {', '.join(near)}")
        elif not values:
            faults.append(f"  {name}={text!r}: expected {setting_words(fields[name])}")
        else:
            changes[name] = values[0]
    if faults:
        raise ValueError("The settings cannot be used:\n" + "\n".join(faults))
    return changes


def _readings(text):
    """Yields what a text from the command line can stand for: a Python value, a list of it alone, itself, names."""
    with contextlib.suppress(ValueError, SyntaxError):
        value = checked.plain(ast.literal_eval({"true": "True", "false": "False"}.get(text, text)))
        yield value
        yield (value,)
    yield text
    yield tuple(part for part in text.split(",") if part)
