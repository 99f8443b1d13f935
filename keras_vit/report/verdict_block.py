"""The verdict on a run as HTML, which opens its report, and as Markdown for its model card."""

import math

from keras_vit._arguments import counted
from keras_vit.evaluation.verdict import Figure, Verdict
from keras_vit.report.charts import percent, text
from keras_vit.report.markdown import escaped, table


def verdict_block(verdict: Verdict) -> str:
    """Returns the verdict as HTML: the figures with their intervals, what they show, and the next step."""
    start = f'<p class="warning">{text(verdict.start)}</p>' if verdict.start else ""
    said = "".join(f"<p>{text(sentence)}</p>" for sentence in verdict.sentences)
    step = f'<p class="next"><b>Next</b> {text(verdict.next_step)}</p><pre><code>{text(verdict.command)}</code></pre>'
    return (
        f'<div class="verdict">{start}{"".join(_compared(verdict.images, *part) for part in verdict.compared)}{said}'
        f"{step if verdict.next_step else ''}</div>\n"
    )


def _compared(images: int, figure: Figure, rows: list[tuple[str, float, tuple[float, float] | None]]) -> str:
    """Returns a figure of the models side by side, on a scale from 0 to 1, or of an error to the largest one."""
    finite = [value for _, one, interval in rows for value in (one, *(interval or ())) if math.isfinite(value)]
    most = max([*finite, 1e-12]) if figure.is_error else 1.0
    ends = f"<i>{text(_written(0.0, figure))}</i><i>{text(_written(most, figure))}</i>"
    name = figure.name[0].upper() + figure.name[1:] + (" (lower is better)" if figure.is_error else "")
    how = f"{name} on the {counted(images, 'test image')}. A band is a 95\u00a0% interval."
    return (
        f'<p class="how">{text(how)}</p><ul class="compared">{"".join(_row(figure, most, *row) for row in rows)}'
        f'<li class="ends" aria-hidden="true"><span>{ends}</span></li></ul>'
    )


def _written(value: float, figure: Figure) -> str:
    if figure.form != ".1%":
        return format(value, figure.form)
    return percent(value) if 0 < value < 1 else f"{value:.0%}".replace("%", "\u00a0%")


def _row(figure: Figure, most: float, name: str, value: float, interval: tuple[float, float] | None) -> str:
    shown = [100 * min(max(end / most, 0.0), 1.0) for end in (*(interval or (value, value)), value)]
    scale = span = ""
    if all(map(math.isfinite, shown)):
        low, high, at = shown
        band = f'<u style="left:{low:.1f}%;width:{high - low:.1f}%"></u>' if interval else ""
        scale = f'{band}<s style="left:{at:.1f}%"></s>'
    if interval:
        first, last = (_written(end, figure) for end in interval)
        span = first.removesuffix("\u00a0%") + " to " + last
    return (
        f"<li><b>{text(name)}</b><b>{_written(value, figure)}</b><span>{span}</span>"
        f'<span class="scale">{scale}</span></li>'
    )


def verdict_section(verdict: Verdict) -> str:
    """Returns the verdict as Markdown, without the next step, which is for those who train the model."""
    parts = [f"**{escaped(verdict.start)}**"] if verdict.start else []
    for figure, rows in verdict.compared:
        parts.append(
            table(
                [
                    {
                        "model": name,
                        f"test {figure.name}": format(value, figure.form),
                        "95% interval": " to ".join(format(end, figure.form) for end in interval) if interval else "–",
                    }
                    for name, value, interval in rows
                ]
            )
        )
    return "\n\n".join([*parts, " ".join(map(escaped, verdict.sentences))])
