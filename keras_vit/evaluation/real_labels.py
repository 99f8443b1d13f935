"""Accuracy by the reassessed ImageNet labels (ReaL), of which an image may have several."""

import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_NUMBER = re.compile(r"_(\d+)\.\w+$")


def read_real_labels(path: str | os.PathLike[str], classes: int = 1000) -> tuple[tuple[int, ...], ...]:
    """Reads the ReaL labels of ImageNet's validation images, the published real.json.

    Args:
        path: The JSON file, a list of lists of class numbers.
        classes: Number of classes.

    Returns:
        A tuple of class numbers for each image, empty for an image without labels, in the order of the images'
        numbers: the first is ILSVRC2012_val_00000001.JPEG.

    Raises:
        ValueError: If the file cannot be read, has another form, or a label is out of range.

    Example:
        ```python
        import pathlib

        pathlib.Path("real.json").write_text("[[3], [], [1, 7]]")
        assert keras_vit.evaluation.read_real_labels("real.json") == ((3,), (), (1, 7))
        ```

    Source: arXiv:2006.07159; github.com/google-research/reassessed-imagenet.
    """
    try:
        labels = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"Expected the ReaL labels, a JSON file. {path} cannot be read: {error}") from error
    if not isinstance(labels, list) or not all(map(_are_whole_numbers, labels)):
        raise ValueError(f"Expected a list of lists of class numbers, as in real.json. Received: {path}, another JSON")
    out_of_range = sorted({label for of_image in labels for label in of_image if not 0 <= label < classes})
    if out_of_range:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}. Received: {path} with {', '.join(map(str, out_of_range[:10]))}"
        )
    return tuple(map(tuple, labels))


def _are_whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(label) is int for label in value)


def real_accuracy(predictions: np.ndarray, real: Sequence[Sequence[int]]) -> float:
    """Computes ReaL accuracy: the share of images whose predicted class is one of their reassessed labels.

    Images without labels do not count.

    Args:
        predictions: (images,) the most probable classes, in the order of the labels.
        real: Class numbers of each image, as `read_real_labels` returns them; one entry an image.

    Returns:
        The accuracy, 0 to 1.

    Raises:
        ValueError: If the lengths differ, or no image has a label.

    Example:
        ```python
        assert keras_vit.evaluation.real_accuracy([3, 5, 7], [(3,), (), (1, 2)]) == 0.5
        ```

    Source: arXiv:2006.07159.
    """
    _check_length(len(predictions), len(real))
    correct = [int(predicted) in labels for predicted, labels in zip(predictions, real) if labels]
    if not correct:
        raise ValueError(f"Expected ReaL labels. Received: none for any of {len(real):,} images")
    return float(np.mean(correct))


def _check_length(images: int, labelled: int) -> None:
    if images != labelled:
        raise ValueError(
            f"Expected ReaL labels for each of the images. Received: labels for {labelled:,}, and {images:,} images"
        )


def validation_order(names: Sequence[str], labelled: int) -> np.ndarray:
    """Sorts ImageNet's validation images by the numbers in their file names, the order of the ReaL labels.

    Args:
        names: File names, in any folders: "n01751748/ILSVRC2012_val_00000001.JPEG".
        labelled: Number of images that have labels.

    Returns:
        The indices of the images in this order, (images,).

    Raises:
        ValueError: If the numbers of images and labels differ, a name has no number, or the numbers are not 1, 2, ...

    Example:
        ```python
        names = ["b/ILSVRC2012_val_00000002.JPEG", "a/ILSVRC2012_val_00000001.JPEG"]
        assert keras_vit.evaluation.validation_order(names, labelled=2).tolist() == [1, 0]
        ```
    """
    matches = [_NUMBER.search(name) for name in names]
    without = [name for name, match in zip(names, matches) if match is None]
    if without:
        raise ValueError(
            "Expected the images of ImageNet's validation set, with their numbers in their names as in "
            f"ILSVRC2012_val_00000293.JPEG. Received {len(without):,} without: {', '.join(without[:5])}"
        )
    _check_length(len(names), labelled)
    numbers = np.array([int(match[1]) for match in matches if match is not None])
    order = numbers.argsort(kind="stable")
    if not np.array_equal(numbers[order], np.arange(1, len(names) + 1)):
        raise ValueError(
            f"Expected all of ImageNet's validation images, each once: the numbers 1 to {len(names):,}. "
            f"Received: {len(set(numbers.tolist())):,} numbers from {numbers.min():,} to {numbers.max():,}"
        )
    return order
