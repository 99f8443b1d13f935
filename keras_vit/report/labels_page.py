"""The page of images whose label may be wrong, each beside the nearest images of both labels."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_vit.report.charts import TINY_SIDE, image_uri, text
from keras_vit.report.image_figures import figure_group
from keras_vit.report.template import framed, sections, write_page

_STYLE = """.doubts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.cards.doubts figure > div { grid-template-columns: 2fr 3fr; align-items: start; }
.alike { display: grid; grid-template-columns: repeat(3, 1fr); gap: .25rem; }
.alike span { grid-column: 1 / -1; font-size: .8rem; line-height: 1.3; color: var(--soft); }
.alike span + span { margin-top: .4rem; }
"""


@dataclass(frozen=True, eq=False)
class DoubtedLabel:
    """An image whose label may be wrong.

    Args:
        image: uint8 (height, width, 3).
        name: Its path in the data.
        label: Its label.
        likelier: The label that is more probable.
        score: Probability that the label is wrong, 0 to 1.
        nearest: {label: the nearest images that have it}, uint8 (height, width, 3) each.
    """

    image: np.ndarray
    name: str
    label: str
    likelier: str
    score: float
    nearest: Mapping[str, Sequence[np.ndarray]]


def write_labels_page(
    path: str | os.PathLike[str],
    doubts: Sequence[DoubtedLabel],
    title: str,
    summary: Mapping[str, object],
    notes: Sequence[str] = (),
    listed: int | None = None,
) -> None:
    """Writes images with doubtful labels as one self-contained HTML file; the same arguments give the same bytes.

    Args:
        path: The HTML file; missing folders are created.
        doubts: The images, in this order.
        title: Heading of the page.
        summary: Label -> value, shown as large figures.
        notes: Sentences below the images.
        listed: Number of images in the table, of which `doubts` are the first; None for as many.
    """
    more = (listed or len(doubts)) - len(doubts)
    bodies = {
        "doubts": (figure_group("doubts", [*map(_figure, doubts)]) or "<p>None.</p>")
        + (f"<p>{more:,} more are in the table.</p>" if more else ""),
        "notes": "".join(f"<p>{text(note)}</p>" for note in notes),
    }
    write_page(path, framed(sections("labels_page.html", bodies), title, summary, _STYLE))


def _figure(doubt: DoubtedLabel) -> str:
    label, likelier, name = text(doubt.label), text(doubt.likelier), text(doubt.name)
    nearest = "".join(
        f"<span>nearest: {text(each)}</span>{''.join(_image(image, f'{each}, near') for image in images)}"
        for each, images in doubt.nearest.items()
        if len(images)
    )
    return (
        f'<figure><div>{_image(doubt.image, doubt.name)}<div class="alike">{nearest}</div></div>'
        f"<figcaption><b>labelled {label}, likelier {likelier}</b><span>score {doubt.score:.3f}</span>"
        f"<span>{name}</span></figcaption></figure>"
    )


def _image(image: np.ndarray, name: str) -> str:
    uri, width, height = image_uri(image)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    return f'<img{crisp} src="{uri}" width="{width}" height="{height}" alt="{text(name)}">'
