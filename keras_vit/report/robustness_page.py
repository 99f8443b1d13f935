"""The page of robustness curves: accuracy of a model and a baseline on perturbed images."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from keras_vit.analysis import plots
from keras_vit.evaluation.robustness import CLEAN, Robustness, RobustnessRow
from keras_vit.report.charts import percent, scrolling, text
from keras_vit.report.template import framed, resource, sections, write_page

Curves = Mapping[str, Mapping[str, list[RobustnessRow]]]  # {condition: {model: rows}}

AXES = {
    "drop": "share of patches dropped",
    "shuffle": "squares a side",
    "texture": "severity",
    "shift": "pixels",
    "corruptions": "severity",
}


def write_robustness(path: str | os.PathLike[str], robustness: Robustness, title: str) -> None:
    """Writes robustness curves as one self-contained HTML file; the same curves give the same bytes.

    Args:
        path: The HTML file.
        robustness: The curves, as `keras_vit.evaluation.robustness_curves` returns them.
        title: Heading of the page.

    Raises:
        ImportError: Without matplotlib, the extra [plots].
    """
    write_page(path, render_robustness(robustness, title))


def render_robustness(robustness: Robustness, title: str) -> str:
    """Returns the HTML that `write_robustness` writes."""
    curves, models = robustness.curves, robustness.models
    clean = {model: rows[0] for model, rows in curves[CLEAN, CLEAN].items()}
    summary = {f"{model}, clean": percent(row.accuracy) for model, row in clean.items()}
    if robustness.corruption_error:  # that of the baseline is 100 %
        summary["mean corruption error"] = percent(robustness.corruption_error[models[0]])
    bodies = {}
    for family in AXES:
        of_family = {condition: by_model for (name, condition), by_model in curves.items() if name == family}
        bodies[family] = _body(family, of_family, clean) if of_family else ""
    summary["images"] = f"{clean[models[0]].images:,}"
    note = "Fourteen corruptions of ImageNet-C at five severities; the curve is their mean."
    if len(models) > 1:
        note += f" The mean corruption error is relative to {models[-1]}, whose error is 100\u00a0%."
    main = sections("robustness_page.html", bodies, corruptions_note=text(note))
    return framed(main, title, summary, resource("analysis.css"))


def _body(family: str, curves: Curves, clean: Mapping[str, RobustnessRow]) -> str:
    if family == "corruptions":
        mean = {"": {model: _mean([curves[name][model] for name in curves]) for model in clean}}
        return _chart(family, mean, "accuracy") + _table(curves, clean)
    charts = _chart(family, _lines(curves, clean, "accuracy", start=family == "drop"), "accuracy")
    if family == "shift":
        charts += _chart(family, _lines(curves, clean, "agreement"), "agreement")
    return f'<div class="charts">{charts}</div>'


Line = tuple[list[float], Sequence[float]]  # levels and values


def _lines(
    curves: Curves, clean: Mapping[str, RobustnessRow], field: str, start: bool = False
) -> dict[str, dict[str, Line]]:
    """Returns the lines for `plots.curves`; with `start`, each begins with the unchanged images, at 0."""
    return {
        condition: {model: _line([clean[model]] * start + rows, field) for model, rows in by_model.items()}
        for condition, by_model in curves.items()
    }


def _line(rows: Sequence[RobustnessRow], field: str) -> Line:
    return [row.level for row in rows], [getattr(row, field) for row in rows]


def _mean(lines: Sequence[Sequence[RobustnessRow]]) -> Line:
    return _line(lines[0], "accuracy")[0], np.mean([_line(rows, "accuracy")[1] for rows in lines], axis=0).tolist()


def _chart(family: str, lines: Mapping[str, Mapping[str, Line]], quantity: str) -> str:
    drawn = plots.svg(plots.curves(lines, AXES[family], quantity))
    return f'<figure class="plot" role="img" aria-label="{quantity} over {AXES[family]}">{drawn}</figure>'


def _table(curves: Curves, clean: Mapping[str, RobustnessRow]) -> str:
    levels = [row.level for row in next(iter(next(iter(curves.values())).values()))]
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in ("corruption", "model", *levels))
    body = []
    for condition, by_model in curves.items():
        for model in clean:
            cells = "".join(f"<td>{percent(row.accuracy)}</td>" for row in by_model[model])
            body.append(f'<tr><th scope="row">{text(condition)}</th><td>{text(model)}</td>{cells}</tr>')
    table = f'<table class="rows"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return scrolling("Accuracy by corruption and severity", table)
