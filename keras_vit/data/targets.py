"""What is learned of an image: its class, its labels or its numbers; a row of `LEARNED` for each.

The labels of `Examples` have a row for each image: the number of its class, (images,); for each label 1 or 0, (images,
labels); or its numbers in their own units, (images, numbers).
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_vit.data.listing import Learns, ListedImage, Listing
from keras_vit.data.messages import few

_STRATUM, _MOST_STRATA = 20, 10  # least images of a range of numbers that is divided over the splits, and most ranges


@dataclasses.dataclass(frozen=True)
class Learned:
    """What is learned of an image.

    Args:
        labels: function of (images, names of the classes, labels or numbers) that returns the labels of `Examples`.
        strata: function of images that returns the group of each; every group is divided over the splits alike.
        words: function of (row of the labels, names) that returns it as a text.
        problems: function of (training images, names) that returns why these cannot be learned from, a sentence each.
    """

    labels: Callable[[Sequence[ListedImage], Sequence[str]], np.ndarray]
    strata: Callable[[Sequence[ListedImage]], list[Any]]
    words: Callable[[Any, Sequence[str]], str]
    problems: Callable[[Sequence[ListedImage], Sequence[str]], list[str]]


def _class_numbers(images: Sequence[ListedImage], names: Sequence[str]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[image.class_name] for image in images], np.int64)


def _has_labels(images: Sequence[ListedImage], names: Sequence[str]) -> np.ndarray:
    numbers, table = (
        {name: number for number, name in enumerate(names)},
        np.zeros((len(images), len(names)), np.float32),
    )
    for row, image in zip(table, images, strict=True):
        row[[numbers[label] for label in image.classes]] = 1.0
    return table


def _numbers(images: Sequence[ListedImage], names: Sequence[str]) -> np.ndarray:
    return np.array([image.target for image in images], np.float64).reshape(len(images), len(names))


def _rarest_labels(images: Sequence[ListedImage]) -> list[str]:
    """Returns the rarest label of each image, "" without one: what is rare is divided first."""
    count = Counter(label for image in images for label in image.classes)
    return [min(image.classes, key=lambda label: (count[label], label), default="") for image in images]


def _ranges(images: Sequence[ListedImage]) -> list[int]:
    """Returns the number of the range of the first number of each image; all ranges have about as many images."""
    values = np.array([(image.target or (0.0,))[0] for image in images])
    ranges = min(max(len(values) // _STRATUM, 1), _MOST_STRATA)
    edges = np.quantile(values, np.arange(1, ranges) / ranges) if len(values) else []
    return np.searchsorted(edges, values, side="right").tolist()


def _label_problems(images: Sequence[ListedImage], names: Sequence[str]) -> list[str]:
    known = {label for image in images for label in image.classes}
    untrained, joint = [name for name in names if name not in known], [name for name in names if "|" in name]
    return [
        *([f"labels without an image to train on: {few(untrained)}"] if untrained else []),
        *([f"labels with |, which stands between labels: {few(joint)}; rename them"] if joint else []),
    ]


def _number_problems(images: Sequence[ListedImage], names: Sequence[str]) -> list[str]:
    same = [name for name, column in zip(names, _numbers(images, names).T) if len({*column.tolist()}) == 1]
    return [f"numbers that are the same in all training images: {few(same)}; remove them from target"] if same else []


LEARNED: dict[str, Learned] = {
    "classes": Learned(
        _class_numbers,
        lambda images: [image.class_name for image in images],
        lambda label, names: names[label],
        lambda images, names: [],
    ),
    "labels": Learned(
        _has_labels,
        _rarest_labels,
        lambda row, names: "|".join(names[int(i)] for i in np.flatnonzero(row)),
        _label_problems,
    ),
    "numbers": Learned(
        _numbers,
        _ranges,
        lambda row, names: ", ".join(f"{name} {value:.10g}" for name, value in zip(names, row, strict=True)),
        _number_problems,
    ),
}


def as_learned(listing: Listing, learns: Learns | None) -> Listing:
    """Returns a listing for what is to be learned of it; images of one class are images with one label each.

    Args:
        listing: the images.
        learns: None for what the listing has.

    Raises:
        ValueError: if the images lack it.
    """
    if learns in (None, listing.learns):
        return listing
    if learns == "labels" and listing.learns == "classes":
        images = tuple(dataclasses.replace(image, target=(image.class_name,)) for image in listing.images)
        return dataclasses.replace(listing, images=images, learns="labels")
    what = {"classes": "one class", "labels": "labels", "numbers": "numbers"}
    raise ValueError(
        f"Expected images with {what[learns]} each, for objective={learns!r}. Received: {listing.path}, whose images "
        f"have {what[listing.learns]}"
        + (". Name the columns of a .csv file, such as target=age" if learns == "numbers" else "")
    )
