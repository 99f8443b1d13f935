"""Runs a study: named rows with several seeds each, kept as they finish; a table and plots of what they gave.

A row is any callable that takes a seed and returns {what: number}. One that is a frozen dataclass, as those of
`trials.py`, is known by its fields: where they change, it is run again.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import statistics
import time

import click

from keras_vit._atomic import write_text
from keras_vit.analysis.plots import repeated_rows, svg_file

RESULTS, PAGE, IMAGES = "results.jsonl", "studies.md", "images"


def key_of(row):
    """Returns what a row is known by: 12 digits that are others where a field is another."""
    text = json.dumps(_told(row), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _told(value):
    """Returns what JSON can hold of a row; of a dataclass the fields that are no defaults: a new one changes no key."""
    if dataclasses.is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
        defaults = {field.name: field.default for field in dataclasses.fields(value)}
        told = {name: _told(it) for name, it in own.items() if it != defaults[name]}
        return {"is": type(value).__name__, **told}
    if isinstance(value, (tuple, list)):
        return [_told(it) for it in value]
    return value.__qualname__ if callable(value) else value


def run(rows, path, seeds=3, wanted=(), say=click.echo):
    """Runs all rows with all seeds that a file lacks; rows that are alike but for their names once.

    Args:
        rows: {name: callable that takes a seed and returns {what: number}}.
        path: JSON lines, one a finished run; a row that has changed loses its lines as it is run again.
        seeds: how many, from 0.
        wanted: names of the rows to run; all by default.
        say: takes a line on how far it is.

    Raises:
        ValueError: if there is no row of a wanted name.
    """
    if strange := sorted(set(wanted) - set(rows)):
        raise ValueError(f"Expected rows out of: {'; '.join(rows)}. Received: {'; '.join(strange)}")
    names = {}
    for name in wanted or rows:
        names.setdefault(key_of(rows[name]), name)
    there = {(record["key"], record["seed"]) for record in read(path)}
    # Seed by seed, so that what is cut off early has something of every row.
    lacking = [(key, seed) for seed in range(seeds) for key in names if (key, seed) not in there]
    say(f"{len(names) * seeds - len(lacking)} of {len(names) * seeds} runs are there")
    for place, (key, seed) in enumerate(lacking, 1):
        name, started = names[key], time.monotonic()
        found = rows[name](seed)
        _add(path, {"row": name, "seed": seed, "key": key, **found}, {key_of(row) for row in rows.values()})
        numbers = ", ".join(f"{what} {value:.4g}" for what, value in found.items())
        say(f"{place}/{len(lacking)} {name}, seed {seed}, {time.monotonic() - started:.0f} s: {numbers}")


def _add(path, record, keys):
    """Adds a record to a file, and drops those of a row of its name as it stands no more."""
    kept = [it for it in read(path) if it["row"] != record["row"] or it["key"] in keys]
    lines = [
        {what: round(it, 5) if isinstance(it, float) else it for what, it in one.items()} for one in (*kept, record)
    ]
    write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))


def read(path):
    """Returns the records of a file, none of no file."""
    path = pathlib.Path(path)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def current(rows, records):
    """Returns {name: records} of rows as they stand now, those of rows that were never run being none."""
    return {name: [it for it in records if it["key"] == key_of(row)] for name, row in rows.items()}


@dataclasses.dataclass(frozen=True)
class Spread:
    """Holds one number of all seeds of a row."""

    values: tuple[float, ...]

    @property
    def mean(self):
        """Of the seeds."""
        return statistics.mean(self.values)

    @property
    def low(self):
        """The least."""
        return min(self.values)

    @property
    def high(self):
        """The most."""
        return max(self.values)


def spreads(found, what):
    """Returns {row: `Spread`} of a number, of the rows that have it; `found` is of `current`."""
    values = {name: tuple(it[what] for it in records if what in it) for name, records in found.items()}
    return {name: Spread(some) for name, some in values.items() if some}


def percent(spread):
    """Says accuracies: mean, and from the lowest to the highest."""
    return f"{100 * spread.mean:.2f} ({100 * spread.low:.2f} to {100 * spread.high:.2f})"


def mean_percent(spread):
    """Says a share that has no spread."""
    return f"{100 * spread.mean:.2f}"


def millions(spread):
    """Says a large number that all seeds share."""
    return f"{spread.mean / 1e6:.2f} M"


def whole(spread):
    """Says a number of which a whole one tells enough."""
    return f"{spread.mean:,.0f}"


def table(found, columns):
    """Returns a Markdown table, a line a row that was run; a sentence where none was.

    Args:
        found: {row: records}, as of `current`.
        columns: {heading: (what, function that says a `Spread`)}.
    """
    if not any(found.values()):
        return "Not run yet."
    told = {heading: (spreads(found, what), say) for heading, (what, say) in columns.items()}
    lines = ["| | " + " | ".join(columns) + " | runs |", "|---" + "|--:" * (len(columns) + 1) + "|"]
    for name, records in found.items():
        if records:
            cells = [say(numbers[name]) if name in numbers else "" for numbers, say in told.values()]
            lines.append(f"| {' | '.join([name, *cells, str(len(records))])} |")
    return "\n".join(lines)


def row_figures(found, plots):
    """Returns {file name: figure} of numbers whose seeds are drawn a line a row; none of what no row has.

    Args:
        found: {row: records}, as of `current`.
        plots: {file name: (what, words for it)}.
    """
    seen = {
        name: ({row: spread.values for row, spread in spreads(found, what).items()}, words)
        for name, (what, words) in plots.items()
    }
    return {name: repeated_rows(rows, words) for name, (rows, words) in seen.items() if rows}


def publish(folder, parts, figures, name=PAGE):
    """Writes texts into the page of studies, each between the marks of its name, and figures as images beside it.

    Args:
        folder: of the page; a page that is not there is begun.
        parts: {name: Markdown}.
        figures: {file name: `matplotlib.figure.Figure`}.
        name: of the page.
    """
    page = pathlib.Path(folder) / name
    text = page.read_text("utf-8") if page.exists() else ""
    for part_name, part in parts.items():
        begin, end = f"<!-- {part_name}: written by its script -->", f"<!-- end of {part_name} -->"
        whole = f"{begin}\n\n{part}\n\n{end}"
        found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
        text = text.replace(found[0], whole) if found else f"{text}\n{whole}\n".lstrip()
    write_text(page, text)
    for image, figure in figures.items():
        write_text(page.parent / IMAGES / image, svg_file(figure))


def command(text, name, rows_of, parts_of, page=PAGE):
    """Returns the command line of a study.

    Args:
        text: what --help says.
        name: of its folder under runs/.
        rows_of: function that returns the rows as `run` takes them; with True, in a size that is over in seconds.
        parts_of: function from {row: records} to the parts and the figures that `publish` takes.
        page: name of the page that they go to.
    """

    @click.command(help=text, context_settings={"max_content_width": 110})
    @click.option("--output", help=f"Folder of results, table and plots.  [default: runs/{name}; docs with --draw]")
    @click.option("--seeds", default=3, show_default=True, help="Runs a row.")
    @click.option("--rows", "wanted", multiple=True, help="Only this row; may be given again.")
    @click.option("--quick", is_flag=True, help="Tiny models on synthetic images, to see that all of it works.")
    @click.option("--draw", type=click.Path(exists=True), help="Draws these results, and trains nothing.")
    def main(output, seeds, wanted, quick, draw):
        rows = rows_of(quick)
        folder = pathlib.Path(output or ("docs" if draw else f"runs/{name}"))
        if not draw:
            run(rows, folder / RESULTS, seeds, wanted)
        publish(folder, *parts_of(current(rows, read(draw or folder / RESULTS))), page)
        click.echo(f"{folder / page}, {folder / IMAGES}")

    return main
