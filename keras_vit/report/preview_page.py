"""A page of augmented training images, as a training run reads them."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from keras_vit.report.charts import TINY_SIDE, image_uri, text
from keras_vit.report.template import framed, write_page

STYLE = ".preview { margin-top: .75rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9rem), 1fr)); }\n"
LEAST_SHARE = 0.005  # of a target; smaller ones would read 0.00 and are left out


def write_preview(
    path: str | os.PathLike[str],
    rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]],
    title: str,
    settings: Mapping[str, object],
) -> None:
    """Writes images and their labels as one self-contained HTML file.

    An older file is replaced by the complete new one. The same arguments give the same bytes.

    Args:
        path: The HTML file; missing folders are created.
        rows: (heading, [(image, label), …]), such as one row per batch; an image is uint8 (height, width,
            channels).
        title: Heading of the page.
        settings: Name -> value of the augmentations, shown as large figures.

    Raises:
        ValueError: If an image has another shape or type; names all that do.
    """
    _check(rows)
    page = framed("".join(_row(heading, images) for heading, images in rows), title, settings, STYLE)
    write_page(path, page)


def target_words(target: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns a target as text: "cat", or "cat 0.7, dog 0.3" after mixing, the largest share first."""
    order = [i for i in np.argsort(-np.asarray(target), kind="stable") if target[i] >= LEAST_SHARE]
    if len(order) == 1 and target[order[0]] > 1 - LEAST_SHARE:
        return class_names[order[0]]
    return ", ".join(f"{class_names[i]} {float(f'{target[i]:.2f}'):g}" for i in order)


def _check(rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]]) -> None:
    faults = []
    for row, (_, images) in enumerate(rows):
        for place, (image, _) in enumerate(images):
            shape, dtype = np.shape(image), np.asarray(image).dtype
            if dtype != np.uint8 or len(shape) != 3 or 0 in shape:
                faults.append(f"rows[{row}], image {place}: {dtype} {shape}")
    if faults:
        raise ValueError(f"Expected images of uint8 (height, width, channels). Received: {'; '.join(faults)}")


def _row(heading: str, images: Sequence[tuple[np.ndarray, str]]) -> str:
    figures = "".join(_figure(image, label) for image, label in images)
    return f'<section>\n<h2>{text(heading)}</h2>\n<div class="cards preview">{figures}</div>\n</section>\n'


def _figure(image: np.ndarray, label: str) -> str:
    uri, width, height = image_uri(image)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    tag = f'<img{crisp} src="{uri}" width="{width}" height="{height}" alt="{text(label)}">'
    return f"<figure>{tag}<figcaption><b>{text(label)}</b></figcaption></figure>"
