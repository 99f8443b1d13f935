"""HTML of a page on several labels an image, or on numbers: tables of the figures, co-occurrence, scatter plots."""

import math
from collections.abc import Sequence

import numpy as np

from keras_vit._arguments import counted
from keras_vit.evaluation.labels import LabelScores
from keras_vit.evaluation.numbers import NumberScores
from keras_vit.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    bar_table,
    number_text,
    percent,
    scrolling,
    text,
    ticks_between,
)

MOST_LABELS = 30  # of a table of co-occurrence; above, its largest cells are listed
MOST_PAIRS = 20
MOST_POINTS = 1000  # of a scatter plot; evenly chosen, those with the largest errors among them


def label_summary(scores: LabelScores) -> dict[str, str]:
    """Returns the figures of all labels together, {name: text}, the most important one first."""
    return {
        "mean average precision": f"{scores.mean_average_precision:.3f}",
        "micro F1": f"{scores.micro_f1:.3f}",
        "macro F1": f"{scores.macro_f1:.3f}",
        "all labels right": f"{scores.exact_match:.2%}",
    }


def number_summary(scores: NumberScores) -> dict[str, str]:
    """Returns the figures of each number, {name: text}."""
    return {
        f"{name}, {figure}": number_text(value)
        for i, name in enumerate(scores.names)
        for figure, value in (("R²", scores.r2[i]), ("mean absolute error", scores.mae[i]))
    }


def label_rows(scores: LabelScores) -> list[tuple[str, int, float, float, float, float, float]]:
    """Returns (label, images, average precision, precision, recall, F1, threshold) of each label."""
    figures = scores.average_precision, scores.precision, scores.recall, scores.f1, scores.thresholds
    return list(zip(scores.names, scores.counts[0], *figures, strict=True))


LABEL_HEADINGS = ("Label", "Images", "Average precision", "Precision", "Recall", "F1", "Threshold")


def number_rows(scores: NumberScores) -> list[dict[str, str]]:
    """Returns the figures of each number with their 95 % intervals, {heading: text}."""
    rows = []
    for i, name in enumerate(scores.names):
        row = {"number": name}
        for heading, figure in (("R²", "r2"), ("mean absolute error", "mae"), ("root mean square error", "rmse")):
            low, high = scores.intervals[figure][i]
            row[heading] = f"{number_text(getattr(scores, figure)[i])} ({number_text(low)} to {number_text(high)})"
        rows.append(row)
    return rows


def label_pairs(scores: LabelScores) -> list[dict[str, str]]:
    """Returns the pairs of labels that most images have both, {heading: text}, the most frequent first."""
    together = np.triu(scores.cooccurrence, 1)
    order = np.argsort(-together, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(cell), len(scores.names)) for cell in order if together.flat[cell]]
    return [
        {"label": scores.names[one], "and": scores.names[two], "images": f"{together[one, two]:,}"}
        for one, two in pairs
    ]


def label_table(scores: LabelScores) -> str:
    """Returns the table of the labels, with bars."""
    return bar_table("Labels", label_rows(scores), LABEL_HEADINGS)


def cooccurrence_table(scores: LabelScores) -> str:
    """Returns how many images have each two labels, as a table coloured by the share of the images of the row."""
    counts, names = scores.cooccurrence, scores.names
    if len(names) > MOST_LABELS or not counts.any():
        return ""
    head = "".join(f'<th scope="col" title="{text(name)}"><span>{text(name)}</span></th>' for name in names)
    body = "".join(
        f'<tr><th scope="row" title="{text(name)}"><span>{text(name)}</span></th>'
        + "".join(_cell(name, other, int(n), int(row[i]), i == j) for j, (other, n) in enumerate(zip(names, row)))
        + "</tr>"
        for i, (name, row) in enumerate(zip(names, counts))
    )
    kind = "matrix" + (" upright" if max(map(len, names)) > 4 else "") + (" roomy" if len(names) <= 12 else "")
    table = f'<table class="{kind}"><thead><tr><td>label ↓ and →</td>{head}</tr></thead><tbody>{body}</tbody></table>'
    return scrolling("Labels together", table)


def _cell(name: str, other: str, count: int, of_label: int, is_same: bool) -> str:
    if not count:
        return "<td>·</td>"
    title = text(f"{count:,} of {counted(of_label, 'image')} of {name}" + ("" if is_same else f" have {other}, too"))
    share = 0.0 if is_same else count / of_label
    return f'<td class="hit" style="--depth:{0.6 * share:.2f}" title="{title}">{count:,}</td>'


def number_charts(scores: NumberScores) -> str:
    """Returns a scatter plot of the predictions of each number and one of its errors, over the true values."""
    worst, count = scores.worst, len(scores.targets)
    chosen = np.unique(np.append(np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(int), worst[:10]))
    charts = []
    for i, name in enumerate(scores.names):
        true = scores.targets[chosen, i]
        charts.append(_scatter(f"{name}: predicted over true", true, scores.predictions[chosen, i], is_equal=True))
        charts.append(_scatter(f"{name}: error over true", true, scores.errors[chosen, i], is_equal=False))
    return f'<div class="charts">{"".join(charts)}</div>'


def _scatter(title: str, xs: np.ndarray, ys: np.ndarray, is_equal: bool) -> str:
    """Returns a scatter plot with the line of no error: where both are equal, or at 0."""
    finite = np.isfinite(ys)
    if not finite.any():
        warning = '<p class="warning">No finite value.</p>'
        return f'<figure class="chart"><figcaption>{text(title)}</figcaption>{warning}</figure>'
    xs, ys = xs[finite], ys[finite]
    both = (np.append(xs, ys),) * 2 if is_equal else (xs, np.append(ys, 0.0))
    x_ticks, y_ticks = (ticks_between(float(values.min()), _above(values)) for values in both)

    def x(value: float) -> float:
        return LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y_ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick-y" x="{LEFT - 8}" y="{y(tick):.1f}" dy=".35em">{tick:.6g}</text>')
    parts += [
        f'<text class="tick-x" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}">{tick:.6g}</text>' for tick in x_ticks
    ]
    parts.append(f'<text class="tick-x" x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 6}">true</text>')
    ends = [(tick, tick if is_equal else 0.0) for tick in (x_ticks[0], x_ticks[-1])]
    line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in ends)
    parts.append(f'<polyline class="ideal" points="{line}"/>')
    parts += [f'<circle class="validation point" cx="{x(a):.1f}" cy="{y(b):.1f}" r="2.5"/>' for a, b in zip(xs, ys)]
    label = text(f"{title}, {counted(len(xs), 'image')}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return f'<figure class="chart"><figcaption>{text(title)}</figcaption>{svg}</figure>'


def _above(values: np.ndarray) -> float:
    """Returns the largest value, or one above it where all are equal: an axis has a length."""
    low, high = float(values.min()), float(values.max())
    return high if high - low > 1e-12 * max(1.0, math.fabs(high)) else low + 1.0


def label_caption(scores: LabelScores, index: int) -> tuple[str, Sequence[str]]:
    """Returns the most confident wrong label of an image, and its right and its predicted labels."""
    values, limits = scores.scores[index], scores.thresholds
    wrong = scores.targets[index] != scores.predictions[index]
    worst = int(np.where(wrong, np.abs(values - limits), -1).argmax())
    word = "without" if scores.targets[index, worst] else "with"
    named = [
        f"{what} {', '.join(scores.names[int(i)] for i in np.flatnonzero(rows[index])) or 'no label'}"
        for what, rows in (("true", scores.targets), ("predicted", scores.predictions))
    ]
    score = f"{percent(values[worst])}, threshold {percent(limits[worst])}"
    return f"predicted {word} {scores.names[worst]} ({score})", named


def number_caption(scores: NumberScores, index: int) -> tuple[str, Sequence[str]]:
    """Returns the predicted and the true numbers of an image."""
    parts = [
        f"{name} {number_text(scores.predictions[index, i])} predicted, {number_text(scores.targets[index, i])} true"
        for i, name in enumerate(scores.names)
    ]
    return "; ".join(parts), ()
