"""The reliability diagram: how often a model was right, over how sure it was."""

from keras_vit.evaluation.calibration import Calibration
from keras_vit.report.charts import percent, text

WIDTH, HEIGHT = 440, 340  # of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 14, 42  # margins: tick labels, air, air, title of the axis
STRIP, AIR = 52, 26  # heights of the strip of counts and of the tick labels above it
FLOOR = HEIGHT - BOTTOM - STRIP - AIR  # where an accuracy of 0 is
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability(calibration: Calibration) -> str:
    """Draws a `Calibration` as a `<figure>` with an SVG: a bar and a gap a bin, and the numbers of images below."""
    parts = []
    for tick in TICKS:
        label = f"{100 * tick:.0f}\u00a0%"
        parts.append(f'<path class="grid" d="M{LEFT} {_y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick-y" x="{LEFT - 8}" y="{_y(tick):.1f}" dy=".35em">{label}</text>')
        parts.append(f'<text class="tick-x" x="{_x(tick):.1f}" y="{FLOOR + 18}">{label}</text>')
    most = max(calibration.counts.max(), 1)
    for k in calibration.counts.nonzero()[0]:
        parts.append(_bin(calibration, k, most))
    parts.append(f'<path class="ideal" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>')
    base = HEIGHT - BOTTOM
    parts.append(f'<path class="grid" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text class="tick-y" x="{LEFT - 8}" y="{base - STRIP / 2}" dy=".35em">answers</text>')
    parts.append(f'<text class="tick-x" x="{(_x(0) + _x(1)) / 2:.1f}" y="{HEIGHT - 12}">how sure it was</text>')
    error = f"expected calibration error {calibration.ece:.4f}, largest gap {calibration.mce:.4f}"
    label = f"Accuracy over confidence, {calibration.counts.sum():,} answers: {error}"
    return (
        f'<figure class="chart reliability"><figcaption>Accuracy over confidence; {text(error)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg></figure>'
    )


def _x(share):
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share):
    return FLOOR - share * (FLOOR - TOP)


def _bin(calibration, k, most):
    low, high = calibration.edges[k], calibration.edges[k + 1]
    count, sure, right = calibration.counts[k], calibration.confidence[k], calibration.accuracy[k]
    said = f"{percent(low, 0)} to {percent(high, 0)} sure: {count:,} answers, {percent(right)} of them right"
    tall = max(1.0, count / most * STRIP)
    return (
        f"<g><title>{said}</title>"
        + _bar("right", low, high, _y(min(sure, right)), FLOOR - _y(min(sure, right)))
        + _bar("over" if sure > right else "under", low, high, _y(max(sure, right)), abs(_y(sure) - _y(right)))
        + _bar("count", low, high, HEIGHT - BOTTOM - tall, tall)
        + "</g>"
    )


def _bar(kind, low, high, top, height):
    left, width = _x(low) + 1, _x(high) - _x(low) - 2  # a pixel of paper on both sides
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
