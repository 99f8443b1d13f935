"""Images with what is said about them."""

import numpy as np

from keras_vit.report.charts import TINY_SIDE, heat_uri, image_uri, probability, text


def cards(kind, figures):
    """Returns figures as a group, "" where there are none."""
    return f'<div class="cards {kind}">{"".join(figures)}</div>' if figures else ""


def mistake(item):
    """Returns the figure of a `Mistake`."""
    uri, width, height = image_uri(item.image)
    true, predicted, name = text(item.true), text(item.predicted), text(item.name)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    said = f"true {true}, predicted {predicted} ({probability(item.probability)})"
    return (
        f'<figure><img{crisp} src="{uri}" width="{width}" height="{height}" alt="{name}">'
        f"<figcaption><b>{said}</b><span>{probability(item.true_probability)} for {true}</span>"
        f"<span>{name}</span></figcaption></figure>"
    )


def pair(index, item):
    """Returns the figure of an `Attention`: the image, and beside it the same with its map; `index` is its own."""
    uri, width, height = image_uri(item.image)
    name = text(item.name)
    crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
    frame = f'viewBox="0 0 {width} {height}" role="img"'
    size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    image = f'<svg {frame} aria-label="{name}"><image id="image-{index}"{crisp} {size} href="{uri}"/></svg>'
    if np.isfinite(item.rollout).all():
        # The image is in the file once: the second drawing refers to the first.
        over = f'<use href="#image-{index}"/><image {size} href="{heat_uri(item.rollout)}"/>'
        over = f'<svg {frame} aria-label="{name} with its attention map">{over}</svg>'
    else:
        over = '<p class="warning">This map holds values that are not finite numbers.</p>'
    caption = f"<figcaption><b>{text(item.label)}</b><span>{name}</span></figcaption>"
    return f"<figure><div>{image}{over}</div>{caption}</figure>"


def three(item):
    """Returns the figure of a `Guess`: the image, what the model saw of it, and what it made of that."""
    name, images = text(item.name), []
    for said, image in (("", item.image), (" as seen", item.seen), (" as guessed", item.guessed)):
        uri, width, height = image_uri(image)
        crisp = ' class="crisp"' if max(width, height) <= TINY_SIDE else ""
        images.append(f'<img{crisp} src="{uri}" width="{width}" height="{height}" alt="{name}{said}">')
    return f"<figure><div>{''.join(images)}</div><figcaption><span>{name}</span></figcaption></figure>"
