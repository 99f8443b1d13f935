"""HTML figures of images with captions: mistakes, attention maps and reconstructions of a run's page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.report.charts import TINY_SIDE, heat_uri, image_uri, probability, text

if TYPE_CHECKING:
    from keras_vit.report.run_page import AttentionExample, CaptionedImage, Mistake, Reconstruction


def figure_group(kind: str, figures: Sequence[str]) -> str:
    """Returns figures as a group with a CSS class, or "" without figures."""
    return f'<div class="cards {kind}">{"".join(figures)}</div>' if figures else ""


def mistake_figure(item: "Mistake") -> str:
    """Returns the figure of a misclassified image."""
    uri, width, height = image_uri(item.image)
    true, predicted, name = text(item.true), text(item.predicted), text(item.name)
    caption = f"true {true}, predicted {predicted} ({probability(item.probability)})"
    return (
        f'<figure><img{_crisp(width, height)} src="{uri}" width="{width}" height="{height}" alt="{name}">'
        f"<figcaption><b>{caption}</b><span>{probability(item.true_probability)} for {true}</span>"
        f"<span>{name}</span></figcaption></figure>"
    )


def captioned_figure(item: "CaptionedImage") -> str:
    """Returns the figure of an image with a caption and lines below it."""
    uri, width, height = image_uri(item.image)
    name, lines = text(item.name), "".join(f"<span>{text(line)}</span>" for line in item.details)
    return (
        f'<figure><img{_crisp(width, height)} src="{uri}" width="{width}" height="{height}" alt="{name}">'
        f"<figcaption><b>{text(item.caption)}</b>{lines}<span>{name}</span></figcaption></figure>"
    )


def attention_figure(index: int, item: "AttentionExample") -> str:
    """Returns the figure of an image and, next to it, the image with its attention map; `index` is unique."""
    uri, width, height = image_uri(item.image)
    name = text(item.name)
    frame = f'viewBox="0 0 {width} {height}" role="img"'
    size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    image = f'<image id="image-{index}"{_crisp(width, height)} {size} href="{uri}"/>'
    plain = f'<svg {frame} aria-label="{name}">{image}</svg>'
    if np.isfinite(item.rollout).all():
        # The file contains the image once: the second drawing refers to the first.
        over = f'<use href="#image-{index}"/><image {size} href="{heat_uri(item.rollout)}"/>'
        over = f'<svg {frame} aria-label="{name} with its attention map">{over}</svg>'
    else:
        over = '<p class="warning">This map contains NaN or infinite values.</p>'
    caption = f"<figcaption><b>{text(item.label)}</b><span>{name}</span></figcaption>"
    return f"<figure><div>{plain}{over}</div>{caption}</figure>"


def reconstruction_figure(item: "Reconstruction") -> str:
    """Returns the figure of an image, the masked image and the reconstructed image."""
    name, images = text(item.name), []
    for suffix, image in (("", item.image), (", masked", item.masked), (", reconstructed", item.reconstructed)):
        uri, width, height = image_uri(image)
        tag = f'<img{_crisp(width, height)} src="{uri}" width="{width}" height="{height}" alt="{name}{suffix}">'
        images.append(tag)
    return f"<figure><div>{''.join(images)}</div><figcaption><span>{name}</span></figcaption></figure>"


def _crisp(width: int, height: int) -> str:
    return ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
