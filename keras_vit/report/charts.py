"""Parts of HTML pages: numbers as text, curves as SVG, the confusion matrix, bars, images and maps as data URIs."""

import base64
import html
import io
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_vit._arguments import counted

WIDTH, HEIGHT = 440, 260  # of a chart's viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 64, 84, 14, 42  # margins: tick labels, end labels, space, epochs
LABEL_GAP = 34  # between two end labels of two lines each

LARGEST_SIDE = 256  # pixels; a larger image is shrunk for the page
TINY_SIDE = 64  # pixels; up to here an image is shown as crisp squares and stored without loss
HEAT_SIDE = 48  # pixels, about; the browser smooths from there on

# Five stops of matplotlib's "inferno" (CC0): its lightness rises evenly, so it is legible in grey and with any
# colour vision. The key in page.css has the same five.
HEAT_RAMP = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], "float64")
HEAT_ALPHA = (0.55, 0.70)  # at the minimum and the maximum; the image stays visible


def text(value: object) -> str:
    """Returns any value escaped for HTML text and attributes; numbers are grouped or rounded to 4 digits."""
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, numbers.Real):
        return number_text(float(value))
    return html.escape(str(value))


def number_text(value: float) -> str:
    """Returns a number as text with about 4 significant digits, a whole one with all of them."""
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite" if value > 0 else "-infinite"
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def percent(share: float, digits: int = 1) -> str:
    """Returns a share of 0 to 1 as a percentage, or "–" for NaN."""
    return f"{100 * share:.{digits}f}\u00a0%" if math.isfinite(share) else "–"


def probability(share: float) -> str:
    """Returns a probability as a whole percentage; values near 0 and 1 are not rounded to 0 % and 100 %."""
    if 0 < share < 0.001:
        return "<\u202f0.1\u00a0%"
    if 0.999 < share < 1:
        return ">\u202f99.9\u00a0%"
    return percent(share, 1 if 0 < share < 0.01 or 0.99 < share < 1 else 0)


def svg_curves(
    title: str, history: Sequence[Mapping[str, float]], columns: Mapping[str, str], as_percent: bool = False
) -> str:
    """Draws training curves, columns of a history over epochs, as one `<figure>` with an SVG.

    A NaN or infinite value breaks its line, and a note below the chart says so; rows without the column are skipped.

    Args:
        title: Title of the vertical axis, with its unit.
        history: One dict per epoch; "epoch" counts from 1 and may be missing.
        columns: {name of the line: column of the history}; the name is also its CSS class.
        as_percent: Whether the values are shares of 0 to 1. If not, the axis begins at 0.

    Returns:
        HTML, empty if no row has any of the columns.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    notes = []
    for name, column in columns.items():
        points = [
            (float(row.get("epoch", index)), float(row[column]))
            for index, row in enumerate(history, 1)
            if row.get(column) is not None
        ]
        not_finite = [epoch for epoch, value in points if not math.isfinite(value)]
        if not_finite:
            count = f"{len(not_finite):,} of {len(points):,} epochs"
            notes.append(f"{column} is NaN or infinite in {count}, first in epoch {number_text(not_finite[0])}.")
        if len(not_finite) < len(points):
            lines[name] = points
    svg = _draw(title, lines, as_percent) if lines else ""
    note = "".join(f'<p class="warning">{text(line)}</p>' for line in notes)
    return f'<figure class="chart"><figcaption>{text(title)}</figcaption>{svg}{note}</figure>' if svg or note else ""


def _draw(title: str, lines: Mapping[str, list[tuple[float, float]]], as_percent: bool) -> str:
    values = [value for points in lines.values() for _, value in points if math.isfinite(value)]
    epochs = [epoch for points in lines.values() for epoch, _ in points]
    y_ticks = ticks_between(*_value_range(min(values), max(values), as_percent))
    x_low, x_high = min(epochs), max(epochs)

    def tick_text(value: float) -> str:
        return f"{100 * value:.6g}\u00a0%" if as_percent else f"{value:.6g}"

    def x(epoch: float) -> float:
        share = (epoch - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y_ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick-y" x="{LEFT - 8}" y="{y(tick):.1f}" dy=".35em">{tick_text(tick)}</text>')
    for tick in _epoch_ticks(x_low, x_high):
        parts.append(f'<text class="tick-x" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}">{tick}</text>')
    parts.append(f'<text class="tick-x" x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 6}">epoch</text>')
    ends = {}
    for name, points in lines.items():
        parts += [_stroke(name, [(x(e), y(v)) for e, v in piece]) for piece in _pieces(points)]
        ends[name] = next((e, v) for e, v in reversed(points) if math.isfinite(v))
        parts.append(f'<circle class="{name}" cx="{x(ends[name][0]):.1f}" cy="{y(ends[name][1]):.1f}" r="3.5"/>')
    final = {name: percent(value) if as_percent else number_text(value) for name, (_, value) in ends.items()}
    heights = _apart({name: y(value) for name, (_, value) in ends.items()})
    for name, height in heights.items():
        at = f'class="end {name}" x="{WIDTH - RIGHT + 12}"'
        parts.append(f'<text {at} y="{height - 2:.1f}">{name}</text>')
        parts.append(f'<text {at} y="{height + 13:.1f}" font-weight="700">{final[name]}</text>')
    ends_text = ", ".join(f"{name} ends at {value}" for name, value in final.items())
    label = f"{title} over {counted(len(set(epochs)), 'epoch')}: {ends_text}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg>'


def _value_range(low: float, high: float, as_percent: bool) -> tuple[float, float]:
    if not as_percent:
        low, high = min(0.0, low), max(0.0, high)
        return low, high if high - low > 1e-12 else low + 1.0
    if high - low < 0.02:  # otherwise noise fills the height of a flat curve
        low, high = max(min(low, 0.0), low - 0.02), min(max(high, 1.0), high + 0.02)
    return low, high


def ticks_between(low: float, high: float, count: int = 5) -> list[float]:
    """Returns round numbers at equal distances, from `low` or below to `high` or above."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    return [k * step for k in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _epoch_ticks(low: float, high: float) -> list[int]:
    step = max(1, round(ticks_between(low, high)[1] - ticks_between(low, high)[0])) if high > low else 1
    ticks = [tick for tick in range(math.ceil(low), math.floor(high) + 1) if tick % step == 0]
    first = math.ceil(low)
    return [first, *(tick for tick in ticks if tick - first > step / 2)]


def _pieces(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for epoch, value in points:
        if math.isfinite(value):
            pieces[-1].append((epoch, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _stroke(name: str, piece: Sequence[tuple[float, float]]) -> str:
    if len(piece) == 1:  # a line of one point would be invisible
        return f'<circle class="{name}" cx="{piece[0][0]:.1f}" cy="{piece[0][1]:.1f}" r="2.5"/>'
    return f'<polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in piece)}"/>'


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """Moves the end labels (name -> y) so that they do not overlap and all are inside the chart."""
    lowest = HEIGHT - BOTTOM - 8
    placed: dict[str, float] = {}
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        above = max(placed.values(), default=-math.inf)
        placed[name] = max(height, above + LABEL_GAP, TOP + 4)
    excess = max(0.0, max(placed.values()) - lowest)
    return {name: height - excess for name, height in placed.items()}


def scrolling(label: str, table: str) -> str:
    """Returns a table in a box that scrolls horizontally, also with the keyboard."""
    return f'<div class="scroll" role="region" aria-label="{text(label)}" tabindex="0">{table}</div>'


def confusion_table(counts: np.ndarray, names: Sequence[str]) -> str:
    """Returns a confusion matrix, int (true class, predicted class), as a table coloured by the share of the row."""
    head = "".join(f'<th scope="col" title="{text(name)}"><span>{text(name)}</span></th>' for name in names)
    body = []
    for true, row in enumerate(counts):
        cells = "".join(_cell(names, true, predicted, int(n), int(row.sum())) for predicted, n in enumerate(row))
        name = text(names[true])
        body.append(f'<tr><th scope="row" title="{name}"><span>{name}</span></th>{cells}</tr>')
    kind = "matrix" + (" upright" if max(len(str(name)) for name in names) > 4 else "")
    kind += " roomy" if len(names) <= 12 else ""
    head = f"<thead><tr><td>true ↓ predicted →</td>{head}</tr></thead>"
    return scrolling("Confusion matrix", f'<table class="{kind}">{head}<tbody>{"".join(body)}</tbody></table>')


def _cell(names: Sequence[str], true: int, predicted: int, count: int, of_class: int) -> str:
    if count == 0:
        return "<td>·</td>"
    share = count / of_class
    correct = true == predicted
    depth = share if correct else 0.15 + 0.85 * share**0.5  # so that a rare confusion is visible
    title = text(f"true {names[true]}, predicted {names[predicted]}: {count:,} of {of_class:,}")
    kind = "hit" if correct else "miss"
    return f'<td class="{kind}" style="--depth:{0.6 * depth:.2f}" title="{title}">{count:,}</td>'


def bar_table(
    label: str,
    rows: Sequence[tuple[Any, ...]],
    headings: Sequence[str] = ("Class", "Images", "Recall", "Precision"),
) -> str:
    """Returns rows of (name, images, a share for each other heading) as a table with bars; shares are 0 to 1 or NaN."""
    head = "".join(f'<th scope="col">{name}</th>' for name in headings)
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{int(images):,}</td>{"".join(map(_bar, shares))}</tr>'
        for name, images, *shares in rows
    )
    kind = "bars many" if len(headings) > 4 else "bars"
    return scrolling(label, f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _bar(share: float) -> str:
    width = 100 * share if math.isfinite(share) else 0.0
    return f'<td><span class="bar"><b>{percent(share)}</b><i><u style="width:{width:.1f}%"></u></i></span></td>'


def image_uri(image: np.ndarray) -> tuple[str, int, int]:
    """Encodes a uint8 (height, width, channels) image; returns its data URI, width and height, at most 256 a side.

    Of three channels or more, the first three are shown as RGB; of fewer, the first as grey.
    Up to 64 pixels a side it is a PNG; a larger one is a JPEG, an eighth of the size for photographs.
    """
    thumbnail = Image.fromarray(np.ascontiguousarray(image[..., :3] if image.shape[-1] > 2 else image[..., 0]))
    thumbnail.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    form = "PNG" if max(thumbnail.size) <= TINY_SIDE else "JPEG"
    return _uri(thumbnail, form), *thumbnail.size


def heat(values: np.ndarray) -> np.ndarray:
    """Returns the colours of values of 0 to 1, (..., 3), 0 to 255."""
    stops = np.linspace(0.0, 1.0, len(HEAT_RAMP))
    return np.stack([np.interp(values, stops, HEAT_RAMP[:, channel]) for channel in range(3)], axis=-1)


def heat_alpha(values: np.ndarray) -> np.ndarray:
    """Returns the opacity of values of 0 to 1 over an image, 0 to 255."""
    return 255 * np.interp(values, (0.0, 1.0), HEAT_ALPHA)


def heat_uri(values: np.ndarray) -> str:
    """Encodes a map (rows, columns), from its minimum to its maximum, as a translucent PNG to lay over an image."""
    values = _spread(values)
    scale = max(1, HEAT_SIDE // max(values.shape))
    size = (values.shape[1] * scale, values.shape[0] * scale)  # Pillow counts (width, height)
    smooth = Image.fromarray(values.astype("float32")).resize(size, Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(smooth), 0.0, 1.0)  # bicubic overshoots
    channels = np.concatenate([heat(values), heat_alpha(values)[..., None]], axis=-1)
    return _uri(Image.fromarray(channels.round().astype("uint8")), "PNG")


def map_uri(values: np.ndarray) -> str:
    """Encodes a map (rows, columns), from minimum to maximum, or colours (rows, columns, 3), 0 to 1, as a PNG."""
    colours = heat(_spread(values)) if np.ndim(values) == 2 else 255 * np.clip(values, 0, 1)
    return _uri(Image.fromarray(np.rint(colours).astype("uint8")), "PNG")


def _spread(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, "float64")
    spread = values.max() - values.min()
    return (values - values.min()) / (spread if spread > 0 else 1.0)


def _uri(image: Image.Image, form: str) -> str:
    stream = io.BytesIO()
    options: dict[str, Any] = {"optimize": True} if form == "PNG" else {"quality": 85}
    image.save(stream, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
