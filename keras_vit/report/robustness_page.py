"""The page of a model's robustness: curves next to a baseline's."""

import numpy as np

from keras_vit.analysis import plots
from keras_vit.evaluation.robustness import CLEAN
from keras_vit.report.charts import percent, scrolling, text
from keras_vit.report.template import framed, resource, sections, write_page

AXES = {
    "drop": "part of the patches dropped",
    "shuffle": "squares a side",
    "texture": "severity",
    "shift": "pixels",
    "corruptions": "severity",
}


def write_robustness(path, robustness, title):
    """Writes a `Robustness` as one HTML file that needs nothing else; the same one gives the same bytes.

    Raises:
        ImportError: without matplotlib, the extra [plots].
    """
    write_page(path, render_robustness(robustness, title))


def render_robustness(robustness, title):
    """Returns the page that `write_robustness` writes."""
    curves, models = robustness.curves, robustness.models
    clean = {model: rows[0] for model, rows in curves[CLEAN, CLEAN].items()}
    summary = {f"{model}, clean": percent(row.accuracy) for model, row in clean.items()}
    if robustness.corruption_error:  # the baseline's own is 100 %
        summary["mean corruption error"] = percent(robustness.corruption_error[models[0]])
    bodies = {}
    for family in AXES:
        found = {condition: by_model for (name, condition), by_model in curves.items() if name == family}
        bodies[family] = _body(family, found, clean) if found else ""
    summary["images"] = f"{clean[models[0]].images:,}"
    told = "Fourteen common corruptions at five severities, the mean of all in the curve."
    if len(models) > 1:
        told += f" The mean corruption error is relative to {models[-1]}, whose own is 100\u00a0%."
    main = sections("robustness.html", bodies, corruptions_told=text(told))
    return framed(main, title, summary, resource("analysis.css"))


def _body(family, found, clean):
    if family == "corruptions":
        mean = {"": {model: _mean([found[name][model] for name in found]) for model in clean}}
        return _curve(family, mean, "accuracy") + _table(found, clean)
    charts = _curve(family, _lines(found, clean, "accuracy", start=family == "drop"), "accuracy")
    if family == "shift":
        charts += _curve(family, _lines(found, clean, "consistency"), "same class")
    return f'<div class="charts">{charts}</div>'


def _lines(found, clean, field, start=False):
    """Returns what `plots.curves` draws; with `start`, the images as they are begin each line, at 0."""
    return {
        condition: {model: _line([clean[model]] * start + rows, field) for model, rows in by_model.items()}
        for condition, by_model in found.items()
    }


def _line(rows, field):
    return [row.level for row in rows], [getattr(row, field) for row in rows]


def _mean(lines):
    return _line(lines[0], "accuracy")[0], np.mean([_line(rows, "accuracy")[1] for rows in lines], axis=0)


def _curve(family, lines, what):
    drawn = plots.svg(plots.curves(lines, AXES[family], what))
    return f'<figure class="plot" role="img" aria-label="{what} over {AXES[family]}">{drawn}</figure>'


def _table(found, clean):
    levels = [row.level for row in next(iter(next(iter(found.values())).values()))]
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in ("corruption", "model", *levels))
    body = []
    for condition, by_model in found.items():
        for model in clean:
            cells = "".join(f"<td>{percent(row.accuracy)}</td>" for row in by_model[model])
            body.append(f'<tr><th scope="row">{text(condition)}</th><td>{text(model)}</td>{cells}</tr>')
    table = f'<table class="rows"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return scrolling("Accuracy by corruption and severity", table)
