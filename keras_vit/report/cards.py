"""Pictures with what is said about them."""

import numpy as np

from keras_vit.report.charts import TINY_SIDE, heat_uri, picture_uri, probability, text


def cards(kind, figures):
    """Returns figures as a group, "" where there are none."""
    return f'<div class="cards {kind}">{"".join(figures)}</div>' if figures else ""


def mistake(item):
    """Returns the figure of a `Mistake`."""
    uri, width, height = picture_uri(item.picture)
    true, predicted, name = text(item.true), text(item.predicted), text(item.name)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    said = f"true {true}, predicted {predicted} ({probability(item.probability)})"
    return (
        f'<figure><img{crisp} src="{uri}" width="{width}" height="{height}" alt="{name}">'
        f"<figcaption><b>{said}</b><span>{probability(item.true_probability)} for {true}</span>"
        f"<span>{name}</span></figcaption></figure>"
    )


def pair(index, item):
    """Returns the figure of an `Attention`: the picture, and beside it the same with its map; `index` is its own."""
    uri, width, height = picture_uri(item.picture)
    name = text(item.name)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    frame = f'viewBox="0 0 {width} {height}" role="img"'
    size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    picture = f'<svg {frame} aria-label="{name}"><image id="picture-{index}"{crisp} {size} href="{uri}"/></svg>'
    if np.isfinite(item.rollout).all():
        # The picture is in the file once: the second drawing refers to the first.
        over = f'<use href="#picture-{index}"/><image {size} href="{heat_uri(item.rollout)}"/>'
        over = f'<svg {frame} aria-label="{name} with its attention map">{over}</svg>'
    else:
        over = '<p class="warning">This map holds values that are not finite numbers.</p>'
    caption = f"<figcaption><b>{text(item.label)}</b><span>{name}</span></figcaption>"
    return f"<figure><div>{picture}{over}</div>{caption}</figure>"


def three(item):
    """Returns the figure of a `Guess`: the picture, what the model saw of it, and what it made of that."""
    name, images = text(item.name), []
    for said, picture in (("", item.picture), (" as seen", item.seen), (" as guessed", item.guessed)):
        uri, width, height = picture_uri(picture)
        crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
        images.append(f'<img{crisp} src="{uri}" width="{width}" height="{height}" alt="{name}{said}">')
    return f"<figure><div>{''.join(images)}</div><figcaption><span>{name}</span></figcaption></figure>"
