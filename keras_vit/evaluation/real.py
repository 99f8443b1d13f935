"""Accuracy by the reassessed labels of ImageNet's validation images, ReaL: all that is on an image counts."""

import json
import pathlib
import re

import numpy as np

_NUMBER = re.compile(r"_(\d+)\.\w+$")


def read_real(path, classes=1000):
    """Returns the labels of a published real.json: a tuple of class numbers for each image, none where none fits.

    They are in the order of the images' numbers: first that of ILSVRC2012_val_00000001.JPEG.

    Args:
        path: the file, a list of lists of class numbers.
        classes: how many there are.

    Raises:
        ValueError: if it is no JSON of that form, or holds labels that are no classes.

    Source: arXiv:2006.07159; github.com/google-research/reassessed-imagenet.
    """
    try:
        labels = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected the ReaL labels, a JSON file. {path} cannot be read: {error}") from error
    if not isinstance(labels, list) or not all(map(_whole_numbers, labels)):
        raise ValueError(f"Expected a list of lists of class numbers, as in real.json. Received: {path}, another JSON")
    beyond = sorted({label for some in labels for label in some if not 0 <= label < classes})
    if beyond:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}. Received: {path} with {', '.join(map(str, beyond[:10]))}"
        )
    return tuple(map(tuple, labels))


def _whole_numbers(value):
    return isinstance(value, list) and all(type(label) is int for label in value)


def real_accuracy(predictions, real):
    """Returns the part of the images whose predicted class is one of their labels; those without labels do not count.

    Args:
        predictions: (images,) the most probable classes, in the order of the labels.
        real: what `read_real` gives, as long.

    Raises:
        ValueError: if they are not as many, or no image has a label.
    """
    _refuse_another_length(len(predictions), len(real))
    right = [int(predicted) in labels for predicted, labels in zip(predictions, real) if labels]
    if not right:
        raise ValueError(f"Expected ReaL labels. Received: none for any of {len(real):,} images")
    return float(np.mean(right))


def _refuse_another_length(images, labelled):
    if images != labelled:
        raise ValueError(
            "Expected ReaL labels for as many images as there are. "
            f"Received: labels for {labelled:,}, and {images:,} images"
        )


def validation_order(names, labelled):
    """Returns the indices that bring ImageNet's validation images into the order of their numbers, (images,).

    Args:
        names: of the files, in any folders: "n01751748/ILSVRC2012_val_00000001.JPEG".
        labelled: how many images there are labels for.

    Raises:
        ValueError: if they are not as many, names end in no number, or the numbers are not those from 1 on.
    """
    found = [_NUMBER.search(name) for name in names]
    without = [name for name, number in zip(names, found) if number is None]
    if without:
        raise ValueError(
            "Expected the images of ImageNet's validation set, with their numbers in their names as in "
            f"ILSVRC2012_val_00000293.JPEG. Received {len(without):,} without: {', '.join(without[:5])}"
        )
    _refuse_another_length(len(names), labelled)
    numbers = np.array([int(number[1]) for number in found])
    order = numbers.argsort(kind="stable")
    if not np.array_equal(numbers[order], np.arange(1, len(names) + 1)):
        raise ValueError(
            f"Expected all of ImageNet's validation images, each once: numbers from 1 to {len(names):,} for as many "
            f"images. Received: {len(set(numbers.tolist())):,} numbers from {numbers.min():,} to {numbers.max():,}"
        )
    return order
