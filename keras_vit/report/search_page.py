"""The page of a search: the images that are nearest to each query, with their similarities."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from keras_vit.report.charts import TINY_SIDE, image_uri, text
from keras_vit.report.image_figures import figure_group
from keras_vit.report.template import framed, write_page

_STYLE = """.nearest { margin-top: .75rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); }
.cards .similarity { display: flex; justify-content: space-between; gap: .5rem; }
.cards .similarity i { font-style: normal; text-align: right; }
.cards .similarity b { display: inline; color: var(--ink); font-size: .95rem; }
.asked { margin: .75rem 0 1.75rem; padding-bottom: 1.75rem; border-bottom: 1px solid var(--rule); }
.asked img { display: block; width: auto; height: 7.5rem; max-width: 100%; object-fit: contain; border-radius: 4px; }
"""


@dataclass(frozen=True, eq=False)
class ShownImage:
    """An image on the page.

    Args:
        image: uint8 (height, width, 3).
        name: Its path, as it is shown.
        link: Its path from the folder of the page.
    """

    image: np.ndarray
    name: str
    link: str


@dataclass(frozen=True, eq=False)
class NearestImages:
    """A query and the images that are nearest to it.

    Args:
        query: The text, or the path of the image.
        image: The image of the query; None for a text.
        matches: (image, cosine similarity, probability or None), the most similar first.
    """

    query: str
    image: ShownImage | None
    matches: Sequence[tuple[ShownImage, float, float | None]]


def write_search_page(
    path: str | os.PathLike[str], groups: Sequence[NearestImages], count: int, facts: Mapping[str, str]
) -> None:
    """Writes the images of a search as one self-contained HTML file, with links to the files of the images.

    Args:
        path: The HTML file; missing folders are created.
        groups: Each query with its images.
        count: Number of images that were searched.
        facts: Name -> value, in the notes.
    """
    title = _heading(groups[0]) if len(groups) == 1 else f"{len(groups)} searches"
    summary: dict[str, object] = {"images searched": f"{count:,}"}
    if len(groups) == 1 and groups[0].matches:
        summary["highest similarity"] = f"{groups[0].matches[0][1]:.3f}"
    main = "".join(_section(number, group, len(groups) > 1) for number, group in enumerate(groups, 1))
    write_page(path, framed(main + _notes(groups, facts), title, summary, _STYLE))


def _section(number: int, group: NearestImages, has_heading: bool) -> str:
    """Returns the images of a query; the only one has its heading above the page."""
    asked = f'<div class="asked">{_image(group.image)}</div>' if group.image else ""
    figures = [_figure(rank, *match) for rank, match in enumerate(group.matches, 1)]
    body = asked + (figure_group("nearest", figures) or "<p>No other image.</p>")
    name = f"query_{number}"
    heading = f'<h2 id="{name}-heading">{text(_heading(group))}</h2>' if has_heading else ""
    start = f'<section id="{name}" aria-labelledby="{name}-heading">' if has_heading else "<section>"
    return f"{start}\n{heading}\n{body}\n</section>\n"


def _heading(group: NearestImages) -> str:
    return f"Like {os.path.basename(group.query)}" if group.image else group.query


def _figure(rank: int, image: ShownImage, similarity: float, probability: float | None) -> str:
    numbers = f"similarity <b>{similarity:.3f}</b>"
    numbers += "" if probability is None else f"<br>probability {probability:#.2g}"
    return (
        f'<figure>{_image(image)}<figcaption><span class="similarity">{rank}<i>{numbers}</i></span>'
        f"<span>{text(image.name)}</span></figcaption></figure>"
    )


def _image(shown: ShownImage) -> str:
    uri, width, height = image_uri(shown.image)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    image = f'<img{crisp} src="{uri}" width="{width}" height="{height}" alt="{text(shown.name)}">'
    return f'<a href="{quote(os.fsencode(shown.link))}">{image}</a>'


def _notes(groups: Sequence[NearestImages], facts: Mapping[str, str]) -> str:
    sentences = [
        "The similarity is the cosine of the embeddings of the query and of the image, 1 for equal ones. It orders the "
        "images of one query; its level differs between models and queries, so that no threshold holds for all."
    ]
    if any(group.image is None for group in groups):
        sentences.append("A text and an image that match have a lower one than two images that are alike.")
    if any(match[2] is not None for group in groups for match in group.matches):
        sentences.append(
            "The probability is SigLIP's own, that the text belongs to the image: the sigmoid of the similarity times "
            "the checkpoint's temperature plus its bias. It is not calibrated on these images."
        )
    items = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    paragraphs = "".join(f'<p class="how">{sentence}</p>' for sentence in sentences)
    return (
        '<section id="notes" aria-labelledby="notes-heading">\n<h2 id="notes-heading">What the numbers mean</h2>\n'
        f'{paragraphs}<dl class="notes">{items}</dl>\n</section>\n'
    )
