"""The report of a run, one self-contained HTML file: curves, confusion matrix, calibration, mistakes, attention."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any

import numpy as np

from keras_vit._arguments import counted
from keras_vit.evaluation.calibration import Calibration
from keras_vit.evaluation.labels import LabelScores
from keras_vit.evaluation.numbers import NumberScores
from keras_vit.evaluation.verdict import Verdict
from keras_vit.report.charts import bar_table, confusion_table, percent, scrolling, svg_curves, text
from keras_vit.report.image_figures import (
    attention_figure,
    captioned_figure,
    figure_group,
    mistake_figure,
    reconstruction_figure,
)
from keras_vit.report.reliability_diagram import reliability_diagram
from keras_vit.report.target_figures import cooccurrence_table, label_pairs, label_table, number_charts, number_rows
from keras_vit.report.template import SECTION, framed, links, resource, sections, write_page
from keras_vit.report.verdict_block import verdict_block

EXPORTS = re.compile(r"<!-- exports -->\n.*?<!-- /exports -->\n", re.DOTALL)
LINKS = re.compile(r"(<nav [^\n]*</nav>)?\n</header>\n")

_MATRIX_CLASSES = 30  # a larger confusion matrix is illegible; its largest cells are listed instead
_MOST_PAIRS = 20
WEAKEST_CLASSES = 15  # of more than _MATRIX_CLASSES classes; the others are folded
MOST_BAD_IMAGES = 200


@dataclass(frozen=True, eq=False)
class Mistake:
    """A misclassified image.

    Args:
        image: uint8 (height, width, channels).
        name: Its origin, such as a file name.
        true: Name of the true class.
        predicted: Name of the predicted class.
        probability: Probability of the predicted class, 0 to 1.
        true_probability: Probability of the true class, 0 to 1.
    """

    image: np.ndarray
    name: str
    true: str
    predicted: str
    probability: float
    true_probability: float


@dataclass(frozen=True, eq=False)
class CaptionedImage:
    """An image with a caption, such as a wrong prediction.

    Args:
        image: uint8 (height, width, channels).
        name: Its origin, such as a file name.
        caption: What is said of it.
        details: Lines below the caption.
    """

    image: np.ndarray
    name: str
    caption: str
    details: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """An image and its attention map.

    Args:
        image: uint8 (height, width, channels), cropped as for the model, so that the map covers all of it.
        rollout: float (grid rows, grid columns), any scale; shown from its minimum to its maximum.
        label: Caption, such as "true 3, predicted 3".
        name: Its origin, such as a file name.
    """

    image: np.ndarray
    rollout: np.ndarray
    label: str
    name: str


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An image, the same with masked patches, and the same with the predicted patches.

    Args:
        image: uint8 (height, width, channels).
        masked: The image as the model reads it.
        reconstructed: The image with the model's predictions.
        name: Its origin, such as a file name.
    """

    image: np.ndarray
    masked: np.ndarray
    reconstructed: np.ndarray
    name: str


@dataclass(frozen=True, eq=False)
class Report:
    """The contents of a run's page. Sections without data are left out.

    Args:
        title: Heading of the page.
        summary: Label -> value with its unit, shown as large figures; the most important one first.
        verdict: What the numbers show, and what to do next: the page opens with it. None to leave it out.
        history: A row an epoch. "accuracy" and "val_accuracy" (0 to 1), "loss" and "val_loss" are drawn over "epoch"
            (counted from 1 if missing). The table below has every column, also "learning_rate" and "seconds". A value
            may be NaN or missing.
        accuracy_name: Heading of the curve of "accuracy".
        class_names: In the order of the model's outputs.
        confusion_matrix: int (true class, predicted class), numbers of images; None to leave it out.
        calibration: Calibration of the probabilities; None to leave it out.
        mistakes: Misclassified images in the order to show, the most confident first.
        labels: Scores of several labels an image; None to leave them out.
        numbers: Scores of numbers; None to leave them out.
        worst: Images of wrong labels or of large errors, in the order to show.
        attention: Images with attention maps in the order to show.
        reconstructions: Reconstructed images in the order to show.
        exports: A row an exported file, with any columns: column -> text with its unit, or a number.
        export_details: More columns of the files, folded.
        export_notes: Column of these tables -> a sentence that explains it.
        exports_refused: A row for each file that is not kept, with the reason.
        settings: Name -> value, folded at the end of the page.
        bad_images: (name, reason) of each image that could not be used.
    """

    title: str
    summary: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    history: Sequence[Mapping[str, float]] = ()
    accuracy_name: str = "Accuracy"
    class_names: Sequence[str] = ()
    confusion_matrix: np.ndarray | None = None
    calibration: Calibration | None = None
    mistakes: Sequence[Mistake] = ()
    labels: LabelScores | None = None
    numbers: NumberScores | None = None
    worst: Sequence[CaptionedImage] = ()
    attention: Sequence[AttentionExample] = ()
    reconstructions: Sequence[Reconstruction] = ()
    exports: Sequence[Mapping[str, object]] = ()
    export_details: Sequence[Mapping[str, object]] = ()
    export_notes: Mapping[str, str] = field(default_factory=dict)
    exports_refused: Sequence[Mapping[str, str]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    bad_images: Sequence[tuple[str, str]] = ()


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Writes a run's report as one self-contained HTML file; an older file is replaced by the complete new one.

    The same report gives the same bytes. Missing folders are created.

    Args:
        path: The HTML file.
        report: The contents.

    Raises:
        ValueError: If images, attention maps or the confusion matrix have a wrong shape or type; names all that do.
    """
    write_page(path, render_report(report))


def render_report(report: Report) -> str:
    """Returns the HTML that `write_report` writes, with the same errors. The text is in run_page.html."""
    _check(report)
    bodies = {
        "reconstructions": figure_group(
            "reconstructions", [reconstruction_figure(item) for item in report.reconstructions]
        ),
        "training": _training(report.history, report.accuracy_name),
        "matrix": _matrix(report),
        "pairs": _pairs(report),
        "classes": _classes(report),
        "calibration": reliability_diagram(report.calibration) if report.calibration else "",
        "mistakes": figure_group("mistakes", [mistake_figure(item) for item in report.mistakes]),
        "labels": label_table(report.labels) if report.labels else "",
        "together": _together(report.labels),
        "wrong_labels": _worst(report) if report.labels else "",
        "numbers": _numbers(report.numbers),
        "errors": _worst(report) if report.numbers else "",
        "attention": figure_group(
            "attention", [attention_figure(index, item) for index, item in enumerate(report.attention, 1)]
        ),
        "exports": _exports(report.exports, report.export_details, report.export_notes, report.exports_refused),
        "left_out": _left_out(report.bad_images),
        "settings": _named(report.settings),
    }
    lead = verdict_block(report.verdict) if report.verdict else ""
    return framed(sections("run_page.html", bodies), report.title, report.summary, lead=lead)


def replace_page_exports(
    page: str,
    exports: Sequence[Mapping[str, object]],
    export_details: Sequence[Mapping[str, object]] = (),
    export_notes: Mapping[str, str] | None = None,
    exports_refused: Sequence[Mapping[str, str]] = (),
) -> str:
    """Returns the HTML of a run's report with another section on exported files.

    Args:
        page: The HTML that `render_report` returned.
        exports, export_details, export_notes, exports_refused: As of `Report`.

    Raises:
        ValueError: If the page is not such a report.
    """
    empty = EXPORTS.search(resource("run_page.html"))
    if not (empty and EXPORTS.search(page) and LINKS.search(page)):
        raise ValueError("Expected a report with a section for exported files. Received: page without it")
    body = _exports(exports, export_details, export_notes or {}, exports_refused)
    section = Template(empty[0]).substitute(exports=body) if body else SECTION.sub("", empty[0])
    page = EXPORTS.sub(lambda _: section, page, count=1)
    return LINKS.sub(lambda _: f"{links(page)}\n</header>\n", page, count=1)


def _check(report: Report) -> None:
    faults = []
    shown: list[tuple[str, Sequence[Any]]] = [
        ("mistakes", report.mistakes),
        ("worst", report.worst),
        ("attention", report.attention),
        ("reconstructions", report.reconstructions),
    ]
    for part, index, item in ((part, i, item) for part, items in shown for i, item in enumerate(items)):
        for name in ("image", "masked", "reconstructed") if part == "reconstructions" else ("image",):
            shape, dtype = np.shape(getattr(item, name)), np.asarray(getattr(item, name)).dtype
            if dtype != np.uint8 or len(shape) != 3 or 0 in shape:
                faults.append(f"{part}[{index}].{name}={dtype} {shape}, expected uint8 (height, width, channels)")
        if part == "attention" and (np.ndim(item.rollout) != 2 or np.size(item.rollout) == 0):
            faults.append(f"{part}[{index}].rollout={np.shape(item.rollout)}, expected (grid rows, grid columns)")
    if report.confusion_matrix is not None:
        counts, square = np.asarray(report.confusion_matrix), (len(report.class_names),) * 2
        if counts.shape != square or counts.dtype.kind not in "iu" or (counts < 0).any():
            faults.append(f"confusion_matrix={counts.dtype} {counts.shape}, expected {square} of integers from 0")
    if faults:
        raise ValueError("Expected arrays of other shapes or types. Received: " + "; ".join(faults))


def _folded(label: str, body: str) -> str:
    return f"<details><summary>{text(label)}</summary>{body}</details>"


def _table(rows: Sequence[Mapping[str, object]], label: str, kind: str = "") -> str:
    """Returns dicts as a table; the columns are all the keys in the order of their first occurrence."""
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


def _training(history: Sequence[Mapping[str, float]], accuracy_name: str) -> str:
    if not history:
        return ""
    charts = svg_curves(accuracy_name, history, {"train": "accuracy", "validation": "val_accuracy"}, as_percent=True)
    charts += svg_curves("Loss", history, {"train": "loss", "validation": "val_loss"})
    rows = [{"epoch": index, **row} for index, row in enumerate(history, 1)]
    table = _folded("All numbers, one row per epoch", _table(rows, "History"))
    return (f'<div class="charts">{charts}</div>' if charts else "") + table


def _counts(report: Report) -> np.ndarray | None:
    """Returns the confusion matrix as an array, or None if there is nothing to show."""
    counts = report.confusion_matrix
    return None if counts is None or np.sum(counts) == 0 else np.asarray(counts)


def _matrix(report: Report) -> str:
    counts, names = _counts(report), report.class_names
    return confusion_table(counts, names) if counts is not None and len(names) <= _MATRIX_CLASSES else ""


def _pairs(report: Report) -> str:
    counts, names = _counts(report), report.class_names
    if counts is None or len(names) <= _MATRIX_CLASSES:
        return ""
    wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
    order = [cell for cell in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS] if wrong.flat[cell] > 0]
    rows = []
    for true, predicted in (divmod(int(cell), len(names)) for cell in order):
        count, share = int(counts[true, predicted]), counts[true, predicted] / counts[true].sum()
        pair = {"True class": names[true], "Predicted class": names[predicted]}
        rows.append({**pair, "Images": count, "Share": percent(share)})
    nothing = "<p>All images are classified correctly.</p>"
    return _table(rows, "Most frequent confusions", "pairs") if rows else nothing


def _classes(report: Report) -> str:
    counts, names = _counts(report), report.class_names
    if counts is None:
        return ""
    images, predicted, empty = counts.sum(axis=1), counts.sum(axis=0), np.full(len(names), np.nan)
    recall = np.divide(np.diag(counts), images, out=empty.copy(), where=images > 0)
    precision = np.divide(np.diag(counts), predicted, out=empty.copy(), where=predicted > 0)
    rows = list(zip(names, images, recall, precision, strict=True))
    if len(rows) <= _MATRIX_CLASSES:
        return bar_table("Per-class accuracy", rows)
    weakest = [rows[k] for k in np.argsort(recall, kind="stable")]  # a class without images (NaN) comes last
    first, others = weakest[:WEAKEST_CLASSES], weakest[WEAKEST_CLASSES:]
    heading = f"The {counted(len(first), 'class')} with the lowest recall"
    label = f"The other {counted(len(others), 'class')}"
    return f"<h3>{heading}</h3>{bar_table(heading, first)}{_folded(label, bar_table(label, others))}"


def _together(scores: LabelScores | None) -> str:
    """Returns which labels images have together: a table of all, or of the most frequent pairs."""
    if scores is None:
        return ""
    return cooccurrence_table(scores) or _table(label_pairs(scores), "Labels together", "pairs")


def _numbers(scores: NumberScores | None) -> str:
    return _table(number_rows(scores), "Numbers", "numbers") + number_charts(scores) if scores else ""


def _worst(report: Report) -> str:
    return figure_group("mistakes", [captioned_figure(item) for item in report.worst])


def _exports(
    rows: Sequence[Mapping[str, object]],
    details: Sequence[Mapping[str, object]],
    notes: Mapping[str, str],
    refused: Sequence[Mapping[str, str]],
) -> str:
    kept = _table(rows, "Exported files", "files") + _notes(rows, notes) if rows else ""
    more = _table(details, "Details of each file", "files details") + _notes(details, notes) if details else ""
    folded = _folded("Details of each file", more) if more else ""
    return kept + folded + (f"<h3>Refused</h3>{_table(refused, 'Refused', 'words')}" if refused else "")


def _notes(rows: Sequence[Mapping[str, object]], notes: Mapping[str, str]) -> str:
    columns = [column for column in dict.fromkeys(key for row in rows for key in row) if column in notes]
    items = "".join(f"<div><dt>{text(name)}</dt><dd>{text(notes[name])}</dd></div>" for name in columns)
    return f'<dl class="notes">{items}</dl>' if items else ""


def _left_out(bad_images: Sequence[tuple[str, str]]) -> str:
    shown = [{"Image": name, "Reason": reason} for name, reason in bad_images[:MOST_BAD_IMAGES]]
    more = len(bad_images) - len(shown)
    note = f"Images that could not be used, and are not part of the numbers on this page: {len(bad_images):,}."
    note += f" The first {len(shown):,} are listed, {more:,} more are not." if more else ""
    return f'<p class="how">{note}</p>' + _table(shown, "Skipped images", "words") if shown else ""


def _named(settings: Mapping[str, str]) -> str:
    rows = [{"Setting": name, "Value": value} for name, value in settings.items()]
    return _folded(counted(len(rows), "setting"), _table(rows, "Settings", "words")) if rows else ""
