"""The verdict on a run as HTML, which opens its report, and as Markdown for its model card."""

from keras_vit.evaluation.verdict import Verdict
from keras_vit.report.charts import percent, text
from keras_vit.report.markdown import escaped, table


def verdict_block(verdict: Verdict) -> str:
    """Returns the verdict as HTML: the accuracies with their intervals, what they show, and the next step."""
    rows = "".join(_row(*row) for row in verdict.compared)
    ends = '<li class="ends" aria-hidden="true"><span><i>0\u00a0%</i><i>100\u00a0%</i></span></li>'
    how = f"Accuracy on the {len(verdict.scores.labels):,} test images. A band is a 95\u00a0% interval."
    said = "".join(f"<p>{text(sentence)}</p>" for sentence in verdict.sentences)
    step = f'<p class="next"><b>Next</b> {text(verdict.next_step)}</p><pre><code>{text(verdict.command)}</code></pre>'
    return (
        f'<div class="verdict"><p class="how">{how}</p><ul class="compared">{rows}{ends}</ul>{said}'
        f"{step if verdict.next_step else ''}</div>\n"
    )


def _row(name: str, accuracy: float, interval: tuple[float, float] | None) -> str:
    low, high = interval or (accuracy, accuracy)
    band = f'<u style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></u>' if interval else ""
    span = f"{100 * low:.1f} to {percent(high)}" if interval else ""
    return (
        f"<li><b>{text(name)}</b><b>{percent(accuracy)}</b><span>{span}</span>"
        f'<span class="scale">{band}<s style="left:{100 * accuracy:.1f}%"></s></span></li>'
    )


def verdict_section(verdict: Verdict) -> str:
    """Returns the verdict as Markdown, without the next step, which is for those who train the model."""
    rows = [
        {
            "classifier": name,
            "test accuracy": f"{accuracy:.1%}",
            "95% interval": f"{interval[0]:.1%} to {interval[1]:.1%}" if interval else "–",
        }
        for name, accuracy, interval in verdict.compared
    ]
    return f"{table(rows)}\n\n{' '.join(map(escaped, verdict.sentences))}"
