"""Prepares docstrings for the API pages; an extension of Griffe, which reads them."""

import re

import griffe


class Docstrings(griffe.Extension):
    """Writes an entry for each argument, also where several share a text, and a paragraph for each shape."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            text = re.sub(
                r"^    (\w+(?:, \*{0,2}\w+)+): (.*(?:\n     .*)*)", _each, obj.docstring.value, flags=re.MULTILINE
            )
            obj.docstring.value = re.sub(r"\n(?=Output: )", "\n\n", text)


def _each(match: re.Match) -> str:
    first, *others = match[1].split(", ")
    return "\n".join([f"    {first}: {match[2]}", *(f"    {name}: see `{first}`." for name in others)])
