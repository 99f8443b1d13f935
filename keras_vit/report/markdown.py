"""Pieces of Markdown: words that stay words, tables, parts to unfold."""

import re

# Punctuation that would become markup: of GitHub's dialect, of HTML, of formulas. "white_stork" needs no escape.
_MARKUP = re.compile(r"[\\|*`\[\]<&~$]|(?<!\w)_|_(?!\w)")


def escaped(text):
    """Returns any value as words of one line that no renderer takes for markup."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))


def grid(headings, rows):
    """Returns rows of cells as a table; a column of figures is set right."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    rules = ["---:" if all(cell[:1].isdigit() or cell == "–" for cell in column) else "---" for column in zip(*cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (map(escaped, headings), rules, *cells))


def table(rows):
    """Returns dicts of the same keys as a table with the keys for headings; empty without rows."""
    return grid(list(rows[0]), [row.values() for row in rows]) if rows else ""


def folded(label, body):
    """Returns a body that a reader unfolds by its label; empty without a body."""
    return f"<details>\n<summary>{escaped(label)}</summary>\n\n{body}\n\n</details>" if body else ""
