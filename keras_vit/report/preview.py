"""A page of the images that a training run would see, after all that is done to them by chance."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from keras_vit.report.charts import TINY_SIDE, image_uri, text
from keras_vit.report.template import framed, write_page

STYLE = ".preview { margin-top: .75rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9rem), 1fr)); }\n"
LEAST_SHARE = 0.005  # of a target; what would be told as 0.00 is left out


def write_preview(
    path: str | os.PathLike,
    rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]],
    title: str,
    settings: Mapping[str, object],
) -> None:
    """Writes images and their labels as one HTML file that needs nothing else.

    An older file of that name is replaced when the new one is whole. The same arguments give the same bytes.

    Args:
        path: the file; missing folders are made.
        rows: (heading, [(image, label), …]), as a batch a row; an image is uint8 (rows, columns, 3).
        title: the page's heading.
        settings: name -> value, shown as large figures: what is done to the images.

    Raises:
        ValueError: if an image has another shape or type; names all that do.
    """
    _check(rows)
    page = framed("".join(_row(heading, images) for heading, images in rows), title, settings, STYLE)
    write_page(path, page)


def target_words(target: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns a target in words: "cat", or "cat 0.7, dog 0.3" where it was mixed, the largest share first."""
    order = [i for i in np.argsort(-np.asarray(target), kind="stable") if target[i] >= LEAST_SHARE]
    if len(order) == 1 and target[order[0]] > 1 - LEAST_SHARE:
        return class_names[order[0]]
    return ", ".join(f"{class_names[i]} {float(f'{target[i]:.2f}'):g}" for i in order)


def _check(rows):
    faults = []
    for row, (_, images) in enumerate(rows):
        for place, (image, _) in enumerate(images):
            shape, dtype = np.shape(image), np.asarray(image).dtype
            if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
                faults.append(f"rows[{row}], image {place}: {dtype} {shape}")
    if faults:
        raise ValueError(f"A preview needs images of uint8 (rows, columns, 3). Received: {'; '.join(faults)}")


def _row(heading, images):
    figures = "".join(_figure(image, label) for image, label in images)
    return f'<section>\n<h2>{text(heading)}</h2>\n<div class="cards preview">{figures}</div>\n</section>\n'


def _figure(image, label):
    uri, width, height = image_uri(image)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    tag = f'<img{crisp} src="{uri}" width="{width}" height="{height}" alt="{text(label)}">'
    return f"<figure>{tag}<figcaption><b>{text(label)}</b></figcaption></figure>"
