"""The report of a run as one HTML file that needs nothing else: what goes in, and how it is laid out."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template

import numpy as np

from keras_vit.evaluation.calibration import Calibration
from keras_vit.report.charts import (
    bar_table,
    matrix,
    percent,
    scrolling,
    svg_curves,
    text,
)
from keras_vit.report.image_cards import cards, mistake, pair, three
from keras_vit.report.reliability import reliability
from keras_vit.report.template import SECTION, framed, links, resource, sections, write_page

EXPORTS = re.compile(r"<!-- exports -->\n.*?<!-- /exports -->\n", re.DOTALL)
LINKS = re.compile(r"(<nav [^\n]*</nav>)?\n</header>\n")

_MATRIX_CLASSES = 30  # a larger confusion matrix cannot be read; its largest cells are listed instead
_MOST_PAIRS = 20
WEAKEST_CLASSES = 15  # of more than MATRIX_CLASSES classes; the others are folded away
MOST_BAD_IMAGES = 200


@dataclass(frozen=True, eq=False)
class Mistake:
    """An image that the model put into a wrong class.

    Args:
        image: uint8 (rows, columns, 3).
        name: where it came from, as a file's name.
        true: its class's name.
        predicted: the name of the class the model chose.
        probability: what the model gave to the predicted class, 0 to 1.
        true_probability: what it gave to the true one, 0 to 1.
    """

    image: np.ndarray
    name: str
    true: str
    predicted: str
    probability: float
    true_probability: float


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """An image and how much the model looked at each part of it.

    Args:
        image: uint8 (rows, columns, 3), cropped as the model saw it, so that the map covers all of it.
        rollout: float (grid rows, grid columns), any scale; shown from its least to its most.
        label: what is said about it, as "true 3, predicted 3".
        name: where it came from, as a file's name.
    """

    image: np.ndarray
    rollout: np.ndarray
    label: str
    name: str


@dataclass(frozen=True, eq=False)
class Guess:
    """An image of which the model had to guess parts.

    Args:
        image: uint8 (rows, columns, 3).
        seen: the same as the model saw it.
        guessed: the same with what it guessed.
        name: where it came from, as a file's name.
    """

    image: np.ndarray
    seen: np.ndarray
    guessed: np.ndarray
    name: str


@dataclass(frozen=True, eq=False)
class Report:
    """All that a page shows. A part left empty is left out of the page.

    Args:
        title: the page's heading.
        summary: label -> value with its unit, shown as large figures; the most important one first.
        history: a row an epoch. "accuracy" and "val_accuracy" (shares of 0 to 1), "loss" and "val_loss" are
            drawn over "epoch" (counted from 1 where absent); every column, "learning_rate" and "seconds" too,
            is in the table below. A value may be NaN, or absent.
        share: what "accuracy" is there, as the heading of its curve.
        class_names: in the order of the model's outputs.
        confusion: int (true class, predicted class), numbers of images; None to leave it out.
        calibration: how sure the model was and how often right; None to leave it out.
        mistakes: in the order to show them, the worst first.
        attention: in the order to show them.
        guesses: in the order to show them.
        exports: a row a file, its columns generic: column -> text with its unit, or a number.
        export_details: the same, folded away below.
        export_notes: column of these -> a sentence on what it holds.
        exports_refused: a row a file that is not kept, with the reason.
        settings: name -> value, folded away at the end of the page.
        bad_images: (name, reason) of each image that could not be used.
    """

    title: str
    summary: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    share: str = "Accuracy"
    class_names: Sequence[str] = ()
    confusion: np.ndarray | None = None
    calibration: Calibration | None = None
    mistakes: Sequence[Mistake] = ()
    attention: Sequence[AttentionExample] = ()
    guesses: Sequence[Guess] = ()
    exports: Sequence[Mapping[str, object]] = ()
    export_details: Sequence[Mapping[str, object]] = ()
    export_notes: Mapping[str, str] = field(default_factory=dict)
    exports_refused: Sequence[Mapping[str, str]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    bad_images: Sequence[tuple[str, str]] = ()


def write_report(path: str | os.PathLike, report: Report) -> None:
    """Writes the report as one HTML file; an older file of that name is replaced when the new one is whole.

    The same report gives the same bytes. Missing folders are made.

    Raises:
        ValueError: if an image, an attention map or the confusion matrix has a wrong shape or type;
            names all that do.
    """
    write_page(path, render(report))


def render(report: Report) -> str:
    """Returns the page that `write_report` writes. Raises as that does.

    The words are in page.html; a section of it whose body is empty is cut out.
    """
    _check(report)
    bodies = {
        "guesses": cards("guesses", [three(item) for item in report.guesses]),
        "training": _training(report.history, report.share),
        "matrix": _matrix(report),
        "pairs": _pairs(report),
        "classes": _classes(report),
        "calibration": reliability(report.calibration) if report.calibration else "",
        "mistakes": cards("mistakes", [mistake(item) for item in report.mistakes]),
        "attention": cards("attention", [pair(index, item) for index, item in enumerate(report.attention, 1)]),
        "exports": _exports(report.exports, report.export_details, report.export_notes, report.exports_refused),
        "left_out": _left_out(report.bad_images),
        "settings": _named(report.settings),
    }
    return framed(sections("page.html", bodies), report.title, report.summary)


def replace_page_exports(page, exports, export_details=(), export_notes=None, exports_refused=()):
    """Returns the text of a page that `render` made with its section on exported files made anew.

    Args:
        page: the text.
        exports, export_details, export_notes, exports_refused: as of `Report`.

    Raises:
        ValueError: if it is no such page.
    """
    if not (EXPORTS.search(page) and LINKS.search(page)):
        raise ValueError("Expected a report with a place for exported files. Received a page without.")
    body = _exports(exports, export_details, export_notes or {}, exports_refused)
    section = EXPORTS.search(resource("page.html"))[0]
    section = Template(section).substitute(exports=body) if body else SECTION.sub("", section)
    page = EXPORTS.sub(lambda _: section, page, count=1)
    return LINKS.sub(lambda _: f"{links(page)}\n</header>\n", page, count=1)


def _check(report):
    faults = []
    shown = [("mistakes", report.mistakes), ("attention", report.attention), ("guesses", report.guesses)]
    for part, index, item in ((part, i, item) for part, items in shown for i, item in enumerate(items)):
        for name in ("image", "seen", "guessed") if part == "guesses" else ("image",):
            shape, dtype = np.shape(getattr(item, name)), np.asarray(getattr(item, name)).dtype
            if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
                faults.append(f"{part}[{index}].{name}={dtype} {shape}, expected uint8 (rows, columns, 3)")
        if part == "attention" and (np.ndim(item.rollout) != 2 or np.size(item.rollout) == 0):
            faults.append(f"{part}[{index}].rollout={np.shape(item.rollout)}, expected (grid rows, grid columns)")
    if report.confusion is not None:
        counts, square = np.asarray(report.confusion), (len(report.class_names),) * 2
        if counts.shape != square or counts.dtype.kind not in "iu" or (counts < 0).any():
            faults.append(f"confusion={counts.dtype} {counts.shape}, expected {square} of whole numbers from 0")
    if faults:
        raise ValueError("A report needs arrays of the right shape and type. Received: " + "; ".join(faults))


def _folded(label, body):
    return f"<details><summary>{text(label)}</summary>{body}</details>"


def _table(rows, label, kind=""):
    """Lays out dicts as a table; the columns are all the keys in the order they are first seen."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = []
    for row in rows:
        first, *others = (text(row.get(column)) for column in columns)
        body.append(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>')
    table = f'<table class="rows {kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return scrolling(label, table)


def _training(history, share):
    if not history:
        return ""
    charts = svg_curves(share, history, {"train": "accuracy", "validation": "val_accuracy"}, as_percent=True)
    charts += svg_curves("Loss", history, {"train": "loss", "validation": "val_loss"})
    rows = [{"epoch": index, **row} for index, row in enumerate(history, 1)]
    table = _folded("All numbers, an epoch a row", _table(rows, "History"))
    return (f'<div class="charts">{charts}</div>' if charts else "") + table


def _counts(report):
    """Returns the confusion as an array, None where there is nothing to show."""
    return None if report.confusion is None or np.sum(report.confusion) == 0 else np.asarray(report.confusion)


def _matrix(report):
    counts, names = _counts(report), report.class_names
    return matrix(counts, names) if counts is not None and len(names) <= _MATRIX_CLASSES else ""


def _pairs(report):
    counts, names = _counts(report), report.class_names
    if counts is None or len(names) <= _MATRIX_CLASSES:
        return ""
    wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
    order = [cell for cell in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS] if wrong.flat[cell] > 0]
    rows = []
    for true, predicted in (divmod(int(cell), len(names)) for cell in order):
        count, share = int(counts[true, predicted]), counts[true, predicted] / counts[true].sum()
        pair = {"True class": names[true], "Taken for": names[predicted]}
        rows.append({**pair, "Images": count, "Of its class": percent(share)})
    nothing = "<p>No image was taken for one of another class.</p>"
    return _table(rows, "Most confused pairs", "pairs") if rows else nothing


def _classes(report):
    counts, names = _counts(report), report.class_names
    if counts is None:
        return ""
    images, said, none = counts.sum(axis=1), counts.sum(axis=0), np.full(len(names), np.nan)
    recall = np.divide(np.diag(counts), images, out=none.copy(), where=images > 0)
    precision = np.divide(np.diag(counts), said, out=none.copy(), where=said > 0)
    rows = list(zip(names, images, recall, precision, strict=True))
    if len(rows) <= _MATRIX_CLASSES:
        return bar_table("Class by class", rows)
    weakest = [rows[k] for k in np.argsort(recall, kind="stable")]  # a class without images (NaN) comes last
    first, others = weakest[:WEAKEST_CLASSES], weakest[WEAKEST_CLASSES:]
    heading = f"The {len(first)} classes with the lowest recall"
    label = f"The other {len(others):,} classes"
    return f"<h3>{heading}</h3>{bar_table(heading, first)}{_folded(label, bar_table(label, others))}"


def _exports(rows, details, notes, refused):
    kept = _table(rows, "Exported files", "files") + _notes(rows, notes) if rows else ""
    more = _table(details, "What each file is made of", "files details") + _notes(details, notes) if details else ""
    folded = _folded("What each file is made of", more) if more else ""
    return kept + folded + (f"<h3>Refused</h3>{_table(refused, 'Refused', 'words')}" if refused else "")


def _notes(rows, notes):
    columns = [column for column in dict.fromkeys(key for row in rows for key in row) if column in notes]
    told = "".join(f"<div><dt>{text(name)}</dt><dd>{text(notes[name])}</dd></div>" for name in columns)
    return f'<dl class="notes">{told}</dl>' if told else ""


def _left_out(bad_images):
    shown = [{"Image": name, "Reason": reason} for name, reason in bad_images[:MOST_BAD_IMAGES]]
    more = len(bad_images) - len(shown)
    told = f"{len(bad_images):,} could not be used and count nowhere on this page."
    told += f" The first {len(shown):,} are shown, {more:,} more are not." if more else ""
    return f'<p class="how">{told}</p>' + _table(shown, "Images left out", "words") if shown else ""


def _named(settings):
    rows = [{"Setting": name, "Value": value} for name, value in settings.items()]
    return _folded(f"{len(rows):,} settings", _table(rows, "Settings", "words")) if rows else ""
