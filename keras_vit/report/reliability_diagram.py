"""The reliability diagram: accuracy over confidence, as SVG."""

from keras_vit._arguments import counted
from keras_vit.evaluation.calibration import Calibration
from keras_vit.report.charts import percent, text

WIDTH, HEIGHT = 440, 340  # of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 14, 42  # margins: tick labels, space, space, title of the axis
COUNTS_HEIGHT, TICKS_HEIGHT = 52, 26  # of the counts at the bottom, and of the tick labels above them
BASELINE = HEIGHT - BOTTOM - COUNTS_HEIGHT - TICKS_HEIGHT  # y of an accuracy of 0
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability_diagram(calibration: Calibration) -> str:
    """Draws a reliability diagram as a `<figure>` with an SVG: accuracy and gap of each bin, and the counts below.

    Args:
        calibration: The bins, as `keras_vit.evaluation.calibration` returns them.
    """
    parts = []
    for tick in TICKS:
        label = f"{100 * tick:.0f}\u00a0%"
        parts.append(f'<path class="grid" d="M{LEFT} {_y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick-y" x="{LEFT - 8}" y="{_y(tick):.1f}" dy=".35em">{label}</text>')
        parts.append(f'<text class="tick-x" x="{_x(tick):.1f}" y="{BASELINE + 18}">{label}</text>')
    largest = max(calibration.counts.max(), 1)
    for k in calibration.counts.nonzero()[0].tolist():
        parts.append(_bin(calibration, k, largest))
    parts.append(f'<path class="ideal" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>')
    base = HEIGHT - BOTTOM
    parts.append(f'<path class="grid" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text class="tick-y" x="{LEFT - 8}" y="{base - COUNTS_HEIGHT / 2}" dy=".35em">images</text>')
    parts.append(f'<text class="tick-x" x="{(_x(0) + _x(1)) / 2:.1f}" y="{HEIGHT - 12}">confidence</text>')
    error = f"expected calibration error {calibration.ece:.4f}, largest gap {calibration.mce:.4f}"
    label = f"Accuracy over confidence, {counted(calibration.counts.sum(), 'image')}: {error}"
    return (
        f'<figure class="chart reliability"><figcaption>Accuracy over confidence; {text(error)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg></figure>'
    )


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return BASELINE - share * (BASELINE - TOP)


def _bin(calibration: Calibration, k: int, largest: int) -> str:
    low, high = calibration.edges[k], calibration.edges[k + 1]
    count, confidence, accuracy = calibration.counts[k], calibration.confidence[k], calibration.accuracy[k]
    label = (
        f"confidence {percent(low, 0)} to {percent(high, 0)}: {counted(count, 'image')}, accuracy {percent(accuracy)}"
    )
    tall = max(1.0, count / largest * COUNTS_HEIGHT)
    gap_top, gap_height = _y(max(confidence, accuracy)), abs(_y(confidence) - _y(accuracy))
    return (
        f"<g><title>{label}</title>"
        + _bar("right", low, high, _y(min(confidence, accuracy)), BASELINE - _y(min(confidence, accuracy)))
        + _bar("over" if confidence > accuracy else "under", low, high, gap_top, gap_height)
        + _bar("count", low, high, HEIGHT - BOTTOM - tall, tall)
        + "</g>"
    )


def _bar(kind: str, low: float, high: float, top: float, height: float) -> str:
    left, width = _x(low) + 1, _x(high) - _x(low) - 2  # a pixel of space on both sides
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
