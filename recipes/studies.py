"""Runs a study: named rows with several seeds each, with a table and plots of the results.

A row is a callable of a seed that returns {quantity: number}. Results are saved as they finish. A row that is a frozen
dataclass, such as those of `trials.py`, is identified by its fields: it runs again when they change.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from keras_vit._atomic import write_text
from keras_vit.analysis.plots import repeated_rows, svg_file

RESULTS, PAGE, IMAGES = "results.jsonl", "studies.md", "images"

Row = Callable[[int], dict[str, float]]
Record = dict[str, Any]  # of one run: "row", "seed", "key" and the numbers


def key_of(row: Row) -> str:
    """Returns the identifier of a row, 12 digits that change with its fields."""
    text = json.dumps(_jsonable(row), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _jsonable(value: Any) -> Any:
    """Returns a row as JSON can hold it; of a dataclass, fields other than defaults, so a new field changes no key."""
    if dataclasses.is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
        defaults = {field.name: field.default for field in dataclasses.fields(value)}
        changed = {name: _jsonable(item) for name, item in own.items() if item != defaults[name]}
        return {"is": type(value).__name__, **changed}
    if isinstance(value, (tuple, list)):
        return [_jsonable(item) for item in value]
    return value.__qualname__ if callable(value) else value


def run(
    rows: Mapping[str, Row],
    path: str | pathlib.Path,
    seeds: int = 3,
    selected: Sequence[str] = (),
    report: Callable[[str], Any] = click.echo,
) -> None:
    """Runs all rows with all seeds that a file of results lacks; equal rows of different names run once.

    Args:
        rows: {name: row}.
        path: JSON lines, one a finished run; the lines of a changed row are removed when it runs again.
        seeds: number of seeds, from 0.
        selected: names of the rows to run; all by default.
        report: function of a line of progress.

    Raises:
        ValueError: if a selected row does not exist.
    """
    if unknown := sorted(set(selected) - set(rows)):
        raise ValueError(f"Expected rows out of: {'; '.join(rows)}. Received: {'; '.join(unknown)}")
    names: dict[str, str] = {}
    for name in selected or rows:
        names.setdefault(key_of(rows[name]), name)
    finished = {(record["key"], record["seed"]) for record in read(path)}
    # Seed by seed, so that an interrupted study has results of every row.
    missing = [(key, seed) for seed in range(seeds) for key in names if (key, seed) not in finished]
    report(f"{len(names) * seeds - len(missing)} of {len(names) * seeds} runs are finished")
    for number, (key, seed) in enumerate(missing, 1):
        name, started = names[key], time.monotonic()
        results = rows[name](seed)
        _add(path, {"row": name, "seed": seed, "key": key, **results}, {key_of(row) for row in rows.values()})
        numbers = ", ".join(f"{quantity} {value:.4g}" for quantity, value in results.items())
        report(f"{number}/{len(missing)} {name}, seed {seed}, {time.monotonic() - started:.0f} s: {numbers}")


def _add(path: str | pathlib.Path, record: Record, keys: set[str]) -> None:
    """Adds a record to a file, and removes those of an earlier version of its row."""
    kept = [other for other in read(path) if other["row"] != record["row"] or other["key"] in keys]
    lines = [
        {name: round(value, 5) if isinstance(value, float) else value for name, value in one.items()}
        for one in (*kept, record)
    ]
    write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))


def read(path: str | pathlib.Path) -> list[Record]:
    """Returns the records of a file; [] if it does not exist."""
    path = pathlib.Path(path)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def current(rows: Mapping[str, Row], records: Iterable[Record]) -> dict[str, list[Record]]:
    """Returns {name: records} of the current version of each row; [] for one that was never run."""
    records = list(records)
    return {name: [record for record in records if record["key"] == key_of(row)] for name, row in rows.items()}


@dataclasses.dataclass(frozen=True)
class Spread:
    """Values of one quantity over the seeds of a row."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.mean(self.values)

    @property
    def low(self) -> float:
        """Lowest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """Highest value."""
        return max(self.values)


def spreads(results: Mapping[str, Sequence[Record]], quantity: str) -> dict[str, Spread]:
    """Returns {row: spread} of a quantity, for the rows that have it; `results` are those of `current`."""
    values = {
        name: tuple(record[quantity] for record in records if quantity in record) for name, records in results.items()
    }
    return {name: Spread(row_values) for name, row_values in values.items() if row_values}


def percent(spread: Spread) -> str:
    """Formats accuracies: the mean, and the lowest to the highest."""
    return f"{100 * spread.mean:.2f} ({100 * spread.low:.2f} to {100 * spread.high:.2f})"


def mean_percent(spread: Spread) -> str:
    """Formats an accuracy without a range."""
    return f"{100 * spread.mean:.2f}"


def millions(spread: Spread) -> str:
    """Formats a large number in millions."""
    return f"{spread.mean / 1e6:.2f} M"


def whole(spread: Spread) -> str:
    """Formats a number, rounded."""
    return f"{spread.mean:,.0f}"


def table(results: Mapping[str, Sequence[Record]], columns: Mapping[str, tuple[str, Callable[[Spread], str]]]) -> str:
    """Returns a Markdown table with a line for each row that was run, or a sentence if none was.

    Args:
        results: {row: records}, those of `current`.
        columns: {heading: (quantity, function that formats a `Spread`)}.
    """
    if not any(results.values()):
        return "Not run yet."
    cells_of = {heading: (spreads(results, quantity), text) for heading, (quantity, text) in columns.items()}
    lines = ["| | " + " | ".join(columns) + " | runs |", "|---" + "|--:" * (len(columns) + 1) + "|"]
    for name, records in results.items():
        if records:
            cells = [text(numbers[name]) if name in numbers else "" for numbers, text in cells_of.values()]
            lines.append(f"| {' | '.join([name, *cells, str(len(records))])} |")
    return "\n".join(lines)


def row_figures(results: Mapping[str, Sequence[Record]], plots: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Returns {file name: figure} of quantities, with the values of all seeds of a row on one line.

    Args:
        results: {row: records}, those of `current`.
        plots: {file name: (quantity, label of its axis)}; those that no row has are left out.
    """
    values = {
        name: ({row: spread.values for row, spread in spreads(results, quantity).items()}, label)
        for name, (quantity, label) in plots.items()
    }
    return {name: repeated_rows(rows, label) for name, (rows, label) in values.items() if rows}


def publish(folder: str | pathlib.Path, parts: Mapping[str, str], figures: Mapping[str, Any], name: str = PAGE) -> None:
    """Writes parts of the studies' page, each between two marks with its name, and figures as image files.

    Args:
        folder: folder of the page, which is created if it does not exist.
        parts: {name: Markdown}.
        figures: {file name: `matplotlib.figure.Figure`}.
        name: file name of the page.
    """
    page = pathlib.Path(folder) / name
    text = page.read_text("utf-8") if page.exists() else ""
    for part_name, part in parts.items():
        begin, end = f"<!-- {part_name}: written by its script -->", f"<!-- end of {part_name} -->"
        whole = f"{begin}\n\n{part}\n\n{end}"
        old = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
        text = text.replace(old[0], whole) if old else f"{text}\n{whole}\n".lstrip()
    write_text(page, text)
    for image, figure in figures.items():
        write_text(page.parent / IMAGES / image, svg_file(figure))


def command(
    text: str,
    name: str,
    rows_of: Callable[[bool], Mapping[str, Row]],
    parts_of: Callable[[dict[str, list[Record]]], tuple[dict[str, str], dict[str, Any]]],
    page: str = PAGE,
) -> click.Command:
    """Returns the command line of a study.

    Args:
        text: text of --help.
        name: name of its folder under runs/.
        rows_of: function that returns the rows of `run`, or with True rows that take seconds.
        parts_of: function of {row: records} that returns the parts and the figures of `publish`.
        page: file name of the page.
    """

    @click.command(help=text, context_settings={"max_content_width": 110})
    @click.option("--output", help=f"Folder of results, table and plots.  [default: runs/{name}; docs with --draw]")
    @click.option("--seeds", default=3, show_default=True, help="Runs of each row.")
    @click.option("--rows", "selected", multiple=True, help="Only this row; may be repeated.")
    @click.option("--quick", is_flag=True, help="Tiny models on synthetic images: a test of some seconds.")
    @click.option("--draw", type=click.Path(exists=True), help="Draws these results without training.")
    def main(output: str | None, seeds: int, selected: Sequence[str], quick: bool, draw: str | None) -> None:
        rows = rows_of(quick)
        folder = pathlib.Path(output or ("docs" if draw else f"runs/{name}"))
        if not draw:
            run(rows, folder / RESULTS, seeds, selected)
        publish(folder, *parts_of(current(rows, read(draw or folder / RESULTS))), page)
        click.echo(f"{folder / page}, {folder / IMAGES}")

    return main
