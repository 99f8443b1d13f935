"""Prepares docstrings for the API pages; an extension of Griffe, which reads them."""

import re

import griffe


class Docstrings(griffe.Extension):
    """Writes one entry for each argument that shares its text with others, and one paragraph for each shape."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            text = re.sub(
                r"^    (\w+(?:, \*{0,2}\w+)+): (.*(?:\n     .*)*)", _each, obj.docstring.value, flags=re.MULTILINE
            )
            obj.docstring.value = re.sub(r"\n(?=Output: )", "\n\n", text)


def _each(match: re.Match) -> str:
    return "\n".join(f"    {name}: {match[2]}" for name in match[1].split(", "))
