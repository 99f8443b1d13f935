"""Writes Markdown: escaped text, tables, and folded parts."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

# Punctuation with a meaning in GitHub's Markdown, in HTML or in formulas. "white_stork" needs no escape.
_MARKUP = re.compile(r"[\\|*`\[\]<&~$]|(?<!\w)_|_(?!\w)")


def escaped(text: object) -> str:
    """Returns any value as one line of text that no renderer reads as markup."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))


def grid(headings: Sequence[object], rows: Sequence[Sequence[object] | np.ndarray]) -> str:
    """Returns rows of cells as a table; a column of figures is aligned right."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    rules = ["---:" if all(cell[:1].isdigit() or cell == "–" for cell in column) else "---" for column in zip(*cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (map(escaped, headings), rules, *cells))


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns dicts with the same keys as a table with the keys as headings; empty without rows."""
    return grid(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def folded(label: str, body: str) -> str:
    """Returns a body in a `<details>` element that its label unfolds; empty without a body."""
    return f"<details>\n<summary>{escaped(label)}</summary>\n\n{body}\n\n</details>" if body else ""
