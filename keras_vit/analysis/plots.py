"""Draws what the other parts found, with matplotlib: for a notebook, a paper, and the pages.

Every function returns a `matplotlib.figure.Figure`; `svg` makes text of one that follows a page's light and dark.
"""

import hashlib
import io
import itertools
import re

import numpy as np

INK, SOFT = "#1b2130", "#586174"  # of the page's light theme; `svg` gives them to the page's style sheet
COLOURS = ("#1f56b3", "#a9430c", "#2d7d46", "#7b3fa0", "#8a6d00", "#3b8ea5")
WIDTH, HEIGHT = 4.4, 3.1  # inches; about a phone's, so that text stays readable there


def distance_by_depth(distances, fields=()):
    """Draws the mean attention distance of each head against its block.

    Args:
        distances: (blocks, heads), pixels, as of `attention_distance`.
        fields: of `receptive_fields`, shown as lines: what the convolutions before could see.
    """
    figure, axes = _axes("block", "mean attention distance, pixels")
    _heads(axes, distances)
    for field in fields:
        axes.axhline(field.size, color=COLOURS[1], linewidth=1, linestyle="--")
        _label(axes, f"{field.name} sees {field.size}", field.size, COLOURS[1])
    axes.set_ylim(bottom=0)
    return figure


def entropy_by_depth(entropies, tokens):
    """Draws the entropy of each head against its block.

    Args:
        entropies: (blocks, heads), nats, as of `attention_entropy`.
        tokens: how many there are; their logarithm, the most an entropy can be, is drawn as a line.
    """
    figure, axes = _axes("block", "entropy, nats")
    _heads(axes, entropies)
    axes.axhline(np.log(tokens), color=SOFT, linewidth=1, linestyle="--")
    _label(axes, "looks everywhere alike", np.log(tokens), SOFT)
    axes.set_ylim(0, np.log(tokens) * 1.12)
    return figure


def filters(components, columns=7):
    """Draws filters as images, each on its own scale around grey.

    Args:
        components: (components, rows, columns, channels), as of `filter_components`; three channels in
            colour, of others the first in grey.
        columns: how many in a row.
    """
    most = np.abs(components).max(axis=(1, 2, 3), keepdims=True)
    images = 0.5 + 0.5 * components / np.maximum(most, 1e-12)
    images = images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, axis=-1)
    return _image(_tiles(images, columns), gap=True)


def positions(similarity, most=12):
    """Draws a grid of grids: at each place, how alike its position is to all others, from -1 to 1.

    Args:
        similarity: (rows, columns, rows, columns), as of `position_similarity`.
        most: places to either side; of a larger grid some are shown, evenly spread.
    """
    rows, columns = (np.linspace(0, side - 1, min(side, most)).round().astype(int) for side in similarity.shape[:2])
    shown = similarity[np.ix_(rows, columns)]
    return _image(_tiles(shown.reshape(-1, *similarity.shape[2:]), len(columns)), limits=(-1, 1))


def curves(lines, horizontal, vertical):
    """Draws shares over levels: a colour a condition, the first model solid, others dashed.

    Args:
        lines: {condition: {model: (levels, shares of 0 to 1)}}.
        horizontal, vertical: what the axes show, with units.
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


def over_image(image, values):
    """Draws a map of an image's patches over it.

    Args:
        image: uint8 (rows, columns, 3).
        values: (grid rows, grid columns), any scale, as of `attention_rollout`.
    """
    image, values = np.asarray(image), np.asarray(values)
    if image.ndim != 3 or values.ndim != 2:
        raise ValueError(
            "Expected an image (rows, columns, 3) and values (grid rows, grid columns). "
            f"Received: image of shape {image.shape}, values of shape {values.shape}"
        )
    figure, axes = _frame(image.shape[0] / image.shape[1])
    sides = (0, image.shape[1], image.shape[0], 0)
    axes.imshow(image, extent=sides)
    axes.imshow(values, cmap="inferno", alpha=0.6, interpolation="bicubic", extent=sides)
    return figure


def repeated_curves(lines, horizontal, vertical):
    """Draws shares over amounts, each measured several times: the mean as a line, all that was measured as a band.

    Args:
        lines: {name: (amounts above 0, for each a sequence of shares of 0 to 1)}.
        horizontal, vertical: what the axes show, with units; the first is logarithmic.
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


def repeated_rows(rows, horizontal):
    """Draws a row of dots for each name, a dot a time it was measured, and a mark at their mean.

    Args:
        rows: {name: shares of 0 to 1}; the first name is the uppermost.
        horizontal: what the axis shows.
    """
    figure, axes = _axes(f"{horizontal}, %", "")
    figure.set_size_inches(WIDTH, 0.9 + 0.24 * len(rows))
    for place, shares in enumerate(rows.values()):
        shares = 100 * np.asarray(shares)
        axes.plot([shares.min(), shares.max()], [place, place], color=COLOURS[0], linewidth=1.2, alpha=0.45)
        axes.scatter(shares, np.full(len(shares), place), s=16, color=COLOURS[0], alpha=0.55, linewidths=0)
        axes.plot(shares.mean(), place, "|", color=INK, markersize=9, markeredgewidth=1.6)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", color=SOFT, alpha=0.2, linewidth=0.6)
    return figure


def svg_file(figure):
    """Returns a figure as the text of an .svg file on white, alike whenever it is drawn."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "keras_vit"}):
        figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def svg(figure):
    """Returns a figure as an SVG for a page: text as text, transparent, its ink in the page's colours."""
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


def _own_names(text):
    """Names what an SVG refers to after its content: always alike for a figure, and never for two on a page."""
    names = list(dict.fromkeys(re.findall(r' id="(\w+)"', text)))
    for place, name in enumerate(names):
        text = text.replace(name, f"name-{place}-")
    return text.replace("name-", f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}-")


def require_matplotlib():
    """Returns matplotlib's `Figure`; an ImportError that names the extra, where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Expected matplotlib, the extra [plots]: pip install matplotlib") from error
    return Figure


def _axes(horizontal, vertical):
    figure = require_matplotlib()(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(horizontal, color=SOFT)
    axes.set_ylabel(vertical, color=SOFT)
    axes.tick_params(colors=SOFT, labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    return figure, axes


def _heads(axes, values):
    blocks = np.arange(1, len(values) + 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for head in range(values.shape[1]):
        axes.scatter(blocks, values[:, head], s=16, color=COLOURS[0], alpha=0.55, linewidths=0)
    axes.plot(blocks, values.mean(axis=1), color=INK, linewidth=1.4)


def _label(axes, words, height, colour):
    """Writes above a level line, at its right end."""
    at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes.annotate(words, (1, height), xytext=(-2, 3), fontsize=9, color=colour, **at)


def _tiles(images, columns):
    """Lays images (count, rows, columns, ...) out in a grid with gaps of NaN."""
    count, high, wide, *rest = images.shape
    lines, gap = -(-count // columns), max(1, wide // 12)
    sheet = np.full((lines * (high + gap) - gap, columns * (wide + gap) - gap, *rest), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (high + gap), i % columns * (wide + gap)
        sheet[top : top + high, left : left + wide] = image
    return sheet


def _image(sheet, gap=False, limits=None):
    figure, axes = _frame(sheet.shape[0] / sheet.shape[1])
    if gap:  # colours have no "bad" of their own: the gaps are made transparent
        sheet = np.concatenate([np.nan_to_num(sheet), np.isfinite(sheet[..., :1])], axis=-1)
    low, high = limits or (None, None)
    axes.imshow(sheet, cmap="viridis", vmin=low, vmax=high, interpolation="none")
    return figure


def _frame(ratio):
    figure = require_matplotlib()(figsize=(WIDTH, WIDTH * ratio))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes
