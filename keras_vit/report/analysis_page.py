"""The page of an analysis: images with their attention to play with, and the figures of the model."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_vit.analysis import plots
from keras_vit.report.charts import heat, heat_alpha, heat_uri, image_uri, map_uri, text
from keras_vit.report.template import framed, resource, sections, write_page

MOST_BETWEEN = 6_000_000  # bytes of attention between patches on a page; images beyond that have the head's row alone


@dataclass(frozen=True, eq=False)
class Look:
    """An image, and what the model makes of it. What is None is left out.

    Args:
        image: uint8 (rows, columns, 3), as the model saw it.
        name: where it came from, as a file's name.
        said: what the model says of it, as "cat 93 %"; empty without a head.
        maps: (blocks, heads, grid rows, grid columns), what the head's row looks at.
        between: (blocks, patches, patches), what each patch looks at, the mean of its heads.
        rollout, relevance: (grid rows, grid columns).
        colours: (grid rows, grid columns, 3), 0 to 1.
        stages: {"stage1, sees 43 pixels": (rows, columns, maps)}.
        near: (name, uint8 image, cosine) of the images nearest to it.
    """

    image: np.ndarray
    name: str
    said: str = ""
    maps: np.ndarray | None = None
    between: np.ndarray | None = None
    rollout: np.ndarray | None = None
    relevance: np.ndarray | None = None
    colours: np.ndarray | None = None
    stages: Mapping[str, np.ndarray] = field(default_factory=dict)
    near: Sequence[tuple[str, np.ndarray, float]] = ()


@dataclass(frozen=True, eq=False)
class Analysis:
    """All that the page shows. What is empty or None is left out.

    Args:
        title: the page's heading.
        summary: label -> value with its unit.
        looks: the images.
        reads: a sentence on what the maps of `looks` are the attention of.
        counted: over what the numbers of heads were taken, as "128 images".
        distances, entropies: (blocks, heads), pixels and nats.
        tokens: of an image, the class token's too.
        fields: of `receptive_fields`, of the convolutions in front.
        components, shares: of `filter_components`.
        similarity: of `position_similarity`.
        facts: name -> value, at the end.
    """

    title: str
    summary: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[Look] = ()
    reads: str = ""
    counted: str = ""
    distances: np.ndarray | None = None
    entropies: np.ndarray | None = None
    tokens: int = 0
    fields: Sequence = ()
    components: np.ndarray | None = None
    shares: np.ndarray = ()
    similarity: np.ndarray | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def write_analysis(path, analysis):
    """Writes an `Analysis` as one HTML file that needs nothing else; the same analysis gives the same bytes.

    Raises:
        ImportError: without matplotlib, the extra [plots].
    """
    write_page(path, render_analysis(analysis))


def render_analysis(analysis):
    """Returns the page that `write_analysis` writes. Raises as that does."""
    looks, similarity, components = analysis.looks, analysis.similarity, analysis.components
    watched = [look for look in looks if look.maps is not None]
    fields = " The dashed lines are what the convolutions in front can see." if analysis.fields else ""
    bodies = {
        "attention": _attention(analysis, watched) if watched else "",
        "maps": "".join(map(_maps, looks)),
        "heads": _heads(analysis) if analysis.distances is not None else "",
        "filters": "" if components is None else _plot(plots.filters(components), "The filters"),
        "positions": "" if similarity is None else _plot(plots.positions(similarity), "The positions"),
        "stages": "".join(_stages(look) for look in looks if look.stages),
        "neighbours": "".join(_neighbours(look) for look in looks if look.near),
        "model": _facts(analysis.facts),
    }
    main = sections(
        "analysis.html",
        bodies,
        looks=text(analysis.reads),
        counted=text(analysis.counted),
        fields=fields,
        components="" if components is None else len(components),
        share=f"{100 * float(np.sum(analysis.shares)):.0f}\u00a0%",
    )
    script = resource("analysis.js") if watched else ""
    return framed(main, analysis.title, analysis.summary, resource("analysis.css"), script)


def _attention(analysis, looks):
    blocks, heads, rows, columns = looks[0].maps.shape
    controls = _slider("block", "Block", blocks - 1, blocks - 1) + _slider("head", "Head", heads, 0)
    room, data = MOST_BETWEEN, []
    for look in looks:
        own = np.concatenate([look.maps.mean(axis=1, keepdims=True), look.maps], axis=1)
        fits = look.between is not None and look.between.size <= room
        room -= look.between.size if fits else 0
        data.append({"maps": _bytes(own, 2), "between": _bytes(look.between, 1) if fits else None})
    shape = {"blocks": blocks, "heads": heads, "rows": rows, "columns": columns, "tokens": analysis.tokens}
    shape |= {"distances": _rounded(analysis.distances), "entropies": _rounded(analysis.entropies)}
    told = json.dumps({"shape": shape, "colours": _colours(), "looks": data}, separators=(",", ":"))
    return (
        f'<div class="controls">{controls}<p id="said" aria-live="polite"></p></div>'
        f'<div class="looks">{"".join(map(_look, looks))}</div>'
        f'<noscript><p class="warning">The sliders need JavaScript; all else on this page does not.</p></noscript>'
        f'<script type="application/json" id="looks">{told}</script>'
    )


def _slider(name, label, most, value):
    return (
        f'<label for="{name}"><span>{label} <output id="{name}-said" for="{name}"></output></span>'
        f'<input type="range" id="{name}" min="0" max="{most}" value="{value}"></label>'
    )


def _look(look):
    uri, width, height = image_uri(look.image)
    name = text(look.name)
    return (
        f'<figure class="look"><div><img src="{uri}" width="{width}" height="{height}" alt="{name}"><canvas></canvas>'
        f"<i hidden></i></div>{_caption(look)}</figure>"
    )


def _caption(look):
    return f"<figcaption>{f'<b>{text(look.said)}</b>' if look.said else ''}<span>{text(look.name)}</span></figcaption>"


def _bytes(maps, leading):
    """Returns maps as base64, a byte a value, each map from its least to its most; `leading` axes number the maps."""
    axes = tuple(range(leading, maps.ndim)) if leading == 2 else (-1,)
    low, high = maps.min(axis=axes, keepdims=True), maps.max(axis=axes, keepdims=True)
    shares = (maps.astype("float32") - low) / np.maximum(high - low, 1e-12)
    return base64.b64encode(np.rint(255 * shares).astype(np.uint8).tobytes()).decode("ascii")


def _colours():
    """Returns [red, green, blue, alpha] of each byte, the same as of the maps that do not move."""
    shares = np.arange(256) / 255
    return np.rint(np.column_stack([heat(shares), heat_alpha(shares)])).astype(int).tolist()


def _rounded(table):
    return np.round(np.asarray(table, "float64"), 3).tolist()


def _maps(look):
    shown = [_cell(_over(look.image, look.rollout), "rollout")] if look.rollout is not None else []
    if look.relevance is not None:
        shown.append(_cell(_over(look.image, look.relevance), "relevance"))
    if look.colours is not None:
        shown.append(_cell(f'<img class="map" src="{map_uri(look.colours)}" alt="tokens">', "tokens"))
    if not shown:
        return ""
    uri, width, height = image_uri(look.image)
    image = f'<img src="{uri}" width="{width}" height="{height}" alt="{text(look.name)}">'
    return f'<div class="row"><figure>{image}{_caption(look)}</figure>{"".join(shown)}</div>'


def _over(image, values):
    uri, width, height = image_uri(image)
    size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    over = f'<image {size} href="{uri}"/><image {size} href="{heat_uri(values)}"/>'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="map over the image">{over}</svg>'


def _cell(body, caption):
    return f"<figure>{body}<figcaption><span>{text(caption)}</span></figcaption></figure>"


def _heads(analysis):
    distance = plots.distance_by_depth(analysis.distances, analysis.fields)
    entropy = plots.entropy_by_depth(analysis.entropies, analysis.tokens)
    shown = _plot(distance, "Attention distance by block") + _plot(entropy, "Attention entropy by block")
    return f'<div class="charts">{shown}</div>'


def _plot(figure, label):
    return f'<figure class="plot" role="img" aria-label="{text(label)}">{plots.svg(figure)}</figure>'


def _stages(look):
    rows = []
    for name, maps in look.stages.items():
        cells = [
            _cell(f'<img class="map" src="{map_uri(maps[..., i])}" alt="{text(name)}">', "")
            for i in range(maps.shape[-1])
        ]
        rows.append(f'<h3>{text(name)}</h3><div class="row few">{"".join(cells)}</div>')
    return f"<p><b>{text(look.name)}</b></p>{''.join(rows)}"


def _neighbours(look):
    cells = [_near(look.image, look.name, "")]
    cells += [_near(image, name, f"{cosine:.2f}") for name, image, cosine in look.near]
    return f'<div class="row few">{"".join(cells)}</div>'


def _near(image, name, cosine):
    uri, width, height = image_uri(image)
    return (
        f'<figure><img src="{uri}" width="{width}" height="{height}" alt="{text(name)}"><figcaption>'
        f"<b>{cosine or 'this image'}</b><span>{text(name)}</span></figcaption></figure>"
    )


def _facts(facts):
    told = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="notes">{told}</dl>' if told else ""
