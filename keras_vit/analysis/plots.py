"""Plots with matplotlib, for a notebook, a paper and the pages of reports.

Each function that draws returns a `matplotlib.figure.Figure`; `svg` writes one in the light or dark colours of a page.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from keras_vit.analysis.geometry import ReceptiveField

INK, SOFT = "#1b2130", "#586174"  # of the page's light theme; `svg` replaces them by those of the style sheet
COLOURS = ("#1f56b3", "#a9430c", "#2d7d46", "#7b3fa0", "#8a6d00", "#3b8ea5")
WIDTH, HEIGHT = 4.4, 3.1  # inches; about the width of a phone, so that text stays readable there


def distance_by_depth(distances: np.ndarray, fields: Sequence[ReceptiveField] = ()) -> Figure:
    """Plots the mean attention distance of each head against its block.

    Args:
        distances: (blocks, heads) in pixels, as `attention_distance` returns.
        fields: receptive fields of the convolutions before the blocks, drawn as lines.

    Returns:
        The figure.

    Example:
        ```python
        figure = keras_vit.analysis.plots.distance_by_depth(np.array([[8.0, 24.0], [16.0, 40.0]]))
        ```
    """
    figure, axes = _axes("block", "mean attention distance, pixels")
    _heads(axes, distances)
    for field in fields:
        axes.axhline(field.size, color=COLOURS[1], linewidth=1, linestyle="--")
        _label(axes, f"{field.name} sees {field.size}", field.size, COLOURS[1])
    axes.set_ylim(bottom=0)
    return figure


def entropy_by_depth(entropies: np.ndarray, tokens: int) -> Figure:
    """Plots the attention entropy of each head against its block.

    Args:
        entropies: (blocks, heads) in nats, as `attention_entropy` returns.
        tokens: number of tokens; its logarithm, the largest possible entropy, is drawn as a line.

    Returns:
        The figure.
    """
    figure, axes = _axes("block", "entropy, nats")
    _heads(axes, entropies)
    axes.axhline(np.log(tokens), color=SOFT, linewidth=1, linestyle="--")
    _label(axes, "equal attention to all", np.log(tokens), SOFT)
    axes.set_ylim(0, np.log(tokens) * 1.12)
    return figure


def filters(components: np.ndarray, columns: int = 7) -> Figure:
    """Draws filters as images, each scaled so that 0 is grey.

    Args:
        components: (components, height, width, channels), as `filter_components` returns. Three channels are drawn in
            colour; of any other number, the first is drawn in grey.
        columns: number of filters in a row.

    Returns:
        The figure.
    """
    most = np.abs(components).max(axis=(1, 2, 3), keepdims=True)
    images = 0.5 + 0.5 * components / np.maximum(most, 1e-12)
    images = images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, axis=-1)
    return _image(_tiles(images, columns), gap=True)


def positions(similarity: np.ndarray, most: int = 12) -> Figure:
    """Draws the similarity of position embeddings as a grid of maps, one map for each patch, from -1 to 1.

    Args:
        similarity: (rows, columns, rows, columns), as `position_similarity` returns.
        most: largest number of maps in a row and in a column; of a larger grid, evenly spaced ones are drawn.

    Returns:
        The figure.
    """
    rows, columns = (np.linspace(0, side - 1, min(side, most)).round().astype(int) for side in similarity.shape[:2])
    shown = similarity[np.ix_(rows, columns)]
    return _image(_tiles(shown.reshape(-1, *similarity.shape[2:]), len(columns)), limits=(-1, 1))


def curves(
    lines: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], horizontal: str, vertical: str
) -> Figure:
    """Plots shares over levels, one colour per condition; the first model is solid, others are dashed.

    Args:
        lines: {condition: {model: (levels, shares from 0 to 1)}}.
        horizontal, vertical: labels of the axes, with units.

    Returns:
        The figure.
    """
    figure, axes = _axes(horizontal, f"{vertical}, %")
    alone = len(next(iter(lines.values()))) == 1
    for colour, (condition, models) in zip(itertools.cycle(COLOURS), lines.items()):
        for dash, (model, (levels, shares)) in zip(itertools.cycle(("-", "--", ":")), models.items()):
            name = model if len(lines) == 1 else condition if alone else f"{condition}, {model}"
            style = {"color": colour, "linestyle": dash, "marker": "o", "markersize": 3.5, "linewidth": 1.6}
            axes.plot(levels, 100 * np.asarray(shares), label=name, **style)
    if all(float(level).is_integer() for models in lines.values() for levels, _ in models.values() for level in levels):
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(0, 100)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, labelcolor=SOFT, frameon=False)
    return figure


def over_image(image: np.ndarray, values: np.ndarray) -> Figure:
    """Draws a map of patches over an image, such as its attention rollout.

    Args:
        image: (height, width, channels) uint8: RGB and more, or grey.
        values: (grid rows, grid columns) of any range, as `attention_rollout` returns.

    Returns:
        The figure.

    Raises:
        ValueError: if the image or the values have another number of axes.

    Example:
        ```python
        image = np.zeros((32, 48, 3), "uint8")
        figure = keras_vit.analysis.plots.over_image(image, np.random.default_rng(0).random((4, 6)))
        figure.savefig("rollout.png")
        ```
    """
    image, values = np.asarray(image), np.asarray(values)
    if image.ndim != 3 or values.ndim != 2:
        raise ValueError(
            "Expected an image (height, width, channels) and values (grid rows, grid columns). "
            f"Received: image of shape {image.shape}, values of shape {values.shape}"
        )
    figure, axes = _frame(image.shape[0] / image.shape[1])
    sides = (0, image.shape[1], image.shape[0], 0)
    axes.imshow(image[..., :3] if image.shape[-1] > 2 else np.repeat(image[..., :1], 3, axis=-1), extent=sides)
    axes.imshow(values, cmap="inferno", alpha=0.6, interpolation="bicubic", extent=sides)
    return figure


def repeated_curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]], horizontal: str, vertical: str
) -> Figure:
    """Plots repeated measurements over amounts: the mean as a line, the range as a band.

    Args:
        lines: {name: (amounts above 0, for each amount a sequence of shares from 0 to 1)}.
        horizontal, vertical: labels of the axes, with units; the horizontal axis is logarithmic.

    Returns:
        The figure.
    """
    figure, axes = _axes(horizontal, f"{vertical}, %")
    for colour, (name, (amounts, shares)) in zip(itertools.cycle(COLOURS), lines.items()):
        low, high, mean = ([100 * of(times) for times in shares] for of in (min, max, np.mean))
        axes.fill_between(amounts, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(amounts, mean, color=colour, label=name, marker="o", markersize=3.5, linewidth=1.6)
    axes.set_xscale("log")
    ticks = sorted({amount for amounts, _ in lines.values() for amount in amounts})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=len(lines), fontsize=9, labelcolor=SOFT, frameon=False)
    return figure


def repeated_rows(rows: Mapping[str, Sequence[float]], horizontal: str) -> Figure:
    """Plots repeated measurements by name: one row per name, one dot per measurement, and a mark at the mean.

    Args:
        rows: {name: shares from 0 to 1}; the first name is at the top.
        horizontal: label of the axis.

    Returns:
        The figure.
    """
    figure, axes = _axes(f"{horizontal}, %", "")
    figure.set_size_inches(WIDTH, 0.9 + 0.24 * len(rows))
    for place, shares in enumerate(rows.values()):
        values = 100 * np.asarray(shares)
        axes.plot([values.min(), values.max()], [place, place], color=COLOURS[0], linewidth=1.2, alpha=0.45)
        axes.scatter(values, np.full(len(values), place), s=16, color=COLOURS[0], alpha=0.55, linewidths=0)
        axes.plot(values.mean(), place, "|", color=INK, markersize=9, markeredgewidth=1.6)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", color=SOFT, alpha=0.2, linewidth=0.6)
    return figure


def svg_file(figure: Figure) -> str:
    """Returns a figure as the text of an .svg file on white; the same figure returns the same text."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "keras_vit"}):
        figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def svg(figure: Figure) -> str:
    """Returns a figure as a transparent SVG for a page, its text as text and its colours those of the style sheet."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "var(--ink)").replace(SOFT, "var(--soft)")
    for place, colour in enumerate(COLOURS):
        text = text.replace(colour, f"var(--line-{place})")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = _own_names(re.sub(r'<g id="[^"]*"', "<g", text))
    return re.sub(r'^<svg[^>]*?(viewBox="[^"]*")[^>]*>', r'<svg xmlns:xlink="http://www.w3.org/1999/xlink" \1>', text)


def _own_names(text: str) -> str:
    """Renames the ids of an SVG after its content, so that two figures on a page have different ones."""
    names = list(dict.fromkeys(re.findall(r' id="(\w+)"', text)))
    for place, name in enumerate(names):
        text = text.replace(name, f"name-{place}-")
    return text.replace("name-", f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}-")


def require_matplotlib() -> Any:
    """Returns matplotlib's `Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Expected matplotlib, the extra [plots]: pip install matplotlib") from error
    return Figure


def _axes(horizontal: str, vertical: str) -> tuple[Figure, Any]:
    figure = require_matplotlib()(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(horizontal, color=SOFT)
    axes.set_ylabel(vertical, color=SOFT)
    axes.tick_params(colors=SOFT, labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    return figure, axes


def _heads(axes: Any, values: np.ndarray) -> None:
    blocks = np.arange(1, len(values) + 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for head in range(values.shape[1]):
        axes.scatter(blocks, values[:, head], s=16, color=COLOURS[0], alpha=0.55, linewidths=0)
    axes.plot(blocks, values.mean(axis=1), color=INK, linewidth=1.4)


def _label(axes: Any, words: str, height: float, colour: str) -> None:
    """Writes a label above a horizontal line, at its right end."""
    at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes.annotate(words, (1, height), xytext=(-2, 3), fontsize=9, color=colour, **at)


def _tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Lays images (count, height, width, ...) out in a grid with gaps of NaN."""
    count, high, wide, *rest = images.shape
    lines, gap = -(-count // columns), max(1, wide // 12)
    sheet = np.full((lines * (high + gap) - gap, columns * (wide + gap) - gap, *rest), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (high + gap), i % columns * (wide + gap)
        sheet[top : top + high, left : left + wide] = image
    return sheet


def _image(sheet: np.ndarray, gap: bool = False, limits: tuple[float, float] | None = None) -> Figure:
    figure, axes = _frame(sheet.shape[0] / sheet.shape[1])
    if gap:  # an array of colours cannot mark gaps: they become transparent
        sheet = np.concatenate([np.nan_to_num(sheet), np.isfinite(sheet[..., :1])], axis=-1)
    low, high = limits or (None, None)
    axes.imshow(sheet, cmap="viridis", vmin=low, vmax=high, interpolation="none")
    return figure


def _frame(ratio: float) -> tuple[Figure, Any]:
    figure = require_matplotlib()(figsize=(WIDTH, WIDTH * ratio))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes
