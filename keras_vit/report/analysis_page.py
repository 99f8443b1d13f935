"""The page of an analysis: interactive attention maps of images, and plots of what a model has learned."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_vit.analysis import plots
from keras_vit.analysis.geometry import ReceptiveField
from keras_vit.report.charts import heat, heat_alpha, heat_uri, image_uri, map_uri, text
from keras_vit.report.template import framed, resource, sections, write_page

# Bytes of attention between patches on a page. Images beyond that only have the attention of the class token.
MAX_PATCH_ATTENTION = 6_000_000


@dataclass(frozen=True, eq=False)
class AnalyzedImage:
    """An image with its attention maps and other results; those that are None are left out.

    Args:
        image: uint8 (height, width, channels), as the model reads it.
        name: Its origin, such as a file name.
        prediction: Predicted class and probability, such as "cat 93 %"; empty without a head.
        attention_maps: (blocks, heads, grid rows, grid columns) attention of the class token to each patch, or the mean
            attention of all patches.
        patch_attention: (blocks, patches, patches) attention of each patch to each patch, the mean of the heads.
        rollout: (grid rows, grid columns) attention rollout.
        relevance: (grid rows, grid columns) attention relevance.
        token_colours: (grid rows, grid columns, 3), 0 to 1.
        stage_maps: {"stage1, receptive field 43 pixels": (rows, columns, maps)}.
        neighbours: (name, uint8 image, cosine similarity) of its nearest neighbours.
    """

    image: np.ndarray
    name: str
    prediction: str = ""
    attention_maps: np.ndarray | None = None
    patch_attention: np.ndarray | None = None
    rollout: np.ndarray | None = None
    relevance: np.ndarray | None = None
    token_colours: np.ndarray | None = None
    stage_maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    neighbours: Sequence[tuple[str, np.ndarray, float]] = ()


@dataclass(frozen=True, eq=False)
class Analysis:
    """The contents of an analysis page; sections that are empty or None are left out.

    Args:
        title: Heading of the page.
        summary: Label -> value with its unit.
        images: The images with their attention maps.
        attention_of: A sentence that names the tokens whose attention the maps show.
        averaged_over: The images of the distances and entropies, such as "128 images".
        distances: (blocks, heads) attention distances in pixels.
        entropies: (blocks, heads) attention entropies in nats.
        tokens: Number of tokens of an image, including the class token.
        receptive_fields: As `keras_vit.analysis.receptive_fields` returns them, of the convolutions in front.
        filter_components: As `keras_vit.analysis.filter_components` returns them.
        variance_shares: The shares of the components in the variance, also of `filter_components`.
        position_similarity: As `keras_vit.analysis.position_similarity` returns it.
        facts: Name -> value, at the end of the page.
    """

    title: str
    summary: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[AnalyzedImage] = ()
    attention_of: str = ""
    averaged_over: str = ""
    distances: np.ndarray | None = None
    entropies: np.ndarray | None = None
    tokens: int = 0
    receptive_fields: Sequence[ReceptiveField] = ()
    filter_components: np.ndarray | None = None
    variance_shares: Sequence[float] | np.ndarray = ()
    position_similarity: np.ndarray | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def write_analysis(path: str | os.PathLike[str], analysis: Analysis) -> None:
    """Writes an analysis as one self-contained HTML file; the same analysis gives the same bytes.

    Args:
        path: The HTML file.
        analysis: The contents.

    Raises:
        ImportError: Without matplotlib, the extra [plots].
    """
    write_page(path, render_analysis(analysis))


def render_analysis(analysis: Analysis) -> str:
    """Returns the HTML that `write_analysis` writes, with the same errors."""
    images, similarity, components = analysis.images, analysis.position_similarity, analysis.filter_components
    with_attention = [image for image in images if image.attention_maps is not None]
    fields = " The dashed lines are the receptive fields of the convolutions in front." * bool(
        analysis.receptive_fields
    )
    bodies = {
        "attention": _attention(analysis, with_attention) if with_attention else "",
        "maps": "".join(map(_maps, images)),
        "heads": _heads(analysis) if analysis.distances is not None else "",
        "filters": "" if components is None else _plot(plots.filters(components), "Filters of the first layer"),
        "positions": "" if similarity is None else _plot(plots.positions(similarity), "Position embedding similarity"),
        "stages": "".join(_stages(image) for image in images if image.stage_maps),
        "neighbours": "".join(_neighbours(image) for image in images if image.neighbours),
        "model": _facts(analysis.facts),
    }
    main = sections(
        "analysis_page.html",
        bodies,
        attention_of=text(analysis.attention_of),
        averaged_over=text(analysis.averaged_over),
        receptive_fields=fields,
        components="" if components is None else len(components),
        share=f"{100 * float(np.sum(analysis.variance_shares)):.0f}\u00a0%",
    )
    script = resource("analysis.js") if with_attention else ""
    return framed(main, analysis.title, analysis.summary, resource("analysis.css"), script)


def _attention(analysis: Analysis, images: Sequence[AnalyzedImage]) -> str:
    data, blocks, heads, rows, columns = [], 0, 0, 0, 0
    remaining = MAX_PATCH_ATTENTION
    for image in images:
        maps, between = np.asarray(image.attention_maps), image.patch_attention
        blocks, heads, rows, columns = maps.shape
        with_mean = np.concatenate([maps.mean(axis=1, keepdims=True), maps], axis=1)
        encoded = None
        if between is not None and between.size <= remaining:
            remaining -= between.size
            encoded = _bytes(between, 1)
        data.append({"attention_maps": _bytes(with_mean, 2), "patch_attention": encoded})
    controls = _slider("block", "Block", blocks - 1, blocks - 1) + _slider("head", "Head", heads, 0)
    shape = {"blocks": blocks, "heads": heads, "rows": rows, "columns": columns, "tokens": analysis.tokens}
    statistics = {"distances": _rounded(analysis.distances), "entropies": _rounded(analysis.entropies)}
    content = {"shape": shape | statistics, "colours": _colours(), "images": data}
    return (
        f'<div class="controls">{controls}<p id="statistics" aria-live="polite"></p></div>'
        f'<div class="analyzed-images">{"".join(map(_analyzed_image, images))}</div>'
        f'<noscript><p class="warning">The sliders need JavaScript; the rest of this page does not.</p></noscript>'
        f'<script type="application/json" id="analysis-data">{json.dumps(content, separators=(",", ":"))}</script>'
    )


def _slider(name: str, label: str, largest: int, value: int) -> str:
    return (
        f'<label for="{name}"><span>{label} <output id="{name}-value" for="{name}"></output></span>'
        f'<input type="range" id="{name}" min="0" max="{largest}" value="{value}"></label>'
    )


def _analyzed_image(image: AnalyzedImage) -> str:
    uri, width, height = image_uri(image.image)
    tag = f'<img src="{uri}" width="{width}" height="{height}" alt="{text(image.name)}">'
    return f'<figure class="analyzed-image"><div>{tag}<canvas></canvas><i hidden></i></div>{_caption(image)}</figure>'


def _caption(image: AnalyzedImage) -> str:
    prediction = f"<b>{text(image.prediction)}</b>" if image.prediction else ""
    return f"<figcaption>{prediction}<span>{text(image.name)}</span></figcaption>"


def _bytes(maps: np.ndarray, leading: int) -> str:
    """Returns maps as base64, one byte per value, each from its minimum to its maximum; `leading` axes number them."""
    axes: tuple[int, ...] = tuple(range(leading, maps.ndim)) if leading == 2 else (-1,)
    low, high = maps.min(axis=axes, keepdims=True), maps.max(axis=axes, keepdims=True)
    shares = (maps.astype("float32") - low) / np.maximum(high - low, 1e-12)
    return base64.b64encode(np.rint(255 * shares).astype(np.uint8).tobytes()).decode("ascii")


def _colours() -> list[list[int]]:
    """Returns [red, green, blue, alpha] of each byte, the colours of the static maps."""
    shares = np.arange(256) / 255
    return np.rint(np.column_stack([heat(shares), heat_alpha(shares)])).astype(int).tolist()


def _rounded(table: np.ndarray | None) -> Any:
    return np.round(np.asarray(table, "float64"), 3).tolist()


def _maps(image: AnalyzedImage) -> str:
    cells = []
    if image.rollout is not None:
        cells.append(_cell(_overlay(image.image, image.rollout, "Attention rollout over the image"), "rollout"))
    if image.relevance is not None:
        cells.append(_cell(_overlay(image.image, image.relevance, "Attention relevance over the image"), "relevance"))
    if image.token_colours is not None:
        cells.append(_cell(f'<img class="map" src="{map_uri(image.token_colours)}" alt="token colours">', "tokens"))
    if not cells:
        return ""
    uri, width, height = image_uri(image.image)
    plain = f'<img src="{uri}" width="{width}" height="{height}" alt="{text(image.name)}">'
    return f'<div class="row"><figure>{plain}{_caption(image)}</figure>{"".join(cells)}</div>'


def _overlay(image: np.ndarray, values: np.ndarray, label: str) -> str:
    uri, width, height = image_uri(image)
    size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    over = f'<image {size} href="{uri}"/><image {size} href="{heat_uri(values)}"/>'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{over}</svg>'


def _cell(body: str, caption: str) -> str:
    return f"<figure>{body}<figcaption><span>{text(caption)}</span></figcaption></figure>"


def _heads(analysis: Analysis) -> str:
    distance = plots.distance_by_depth(np.asarray(analysis.distances), analysis.receptive_fields)
    entropy = plots.entropy_by_depth(np.asarray(analysis.entropies), analysis.tokens)
    charts = _plot(distance, "Attention distance by block") + _plot(entropy, "Attention entropy by block")
    return f'<div class="charts">{charts}</div>'


def _plot(figure: Any, label: str) -> str:
    return f'<figure class="plot" role="img" aria-label="{text(label)}">{plots.svg(figure)}</figure>'


def _stages(image: AnalyzedImage) -> str:
    rows = []
    for name, maps in image.stage_maps.items():
        cells = [
            _cell(f'<img class="map" src="{map_uri(maps[..., i])}" alt="{text(name)}">', "")
            for i in range(maps.shape[-1])
        ]
        rows.append(f'<h3>{text(name)}</h3><div class="row few">{"".join(cells)}</div>')
    return f"<p><b>{text(image.name)}</b></p>{''.join(rows)}"


def _neighbours(image: AnalyzedImage) -> str:
    cells = [_neighbour(image.image, image.name, "this image")]
    cells += [_neighbour(other, name, f"{cosine:.2f}") for name, other, cosine in image.neighbours]
    return f'<div class="row few">{"".join(cells)}</div>'


def _neighbour(image: np.ndarray, name: str, caption: str) -> str:
    uri, width, height = image_uri(image)
    return (
        f'<figure><img src="{uri}" width="{width}" height="{height}" alt="{text(name)}"><figcaption>'
        f"<b>{caption}</b><span>{text(name)}</span></figcaption></figure>"
    )


def _facts(facts: Mapping[str, str]) -> str:
    items = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="notes">{items}</dl>' if items else ""
