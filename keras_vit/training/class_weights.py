"""Class weights: the weight of each class in the loss, as the field `class_weights` of a recipe has it."""

import re
from collections.abc import Sequence

import numpy as np

from keras_vit.data.listing import WEIGHTS
from keras_vit.data.messages import few


def class_weights_of(text: str, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
    """Returns the weight of each class in the loss, (classes,) float64, or None if all have the same.

    Args:
        text: "equal"; "balanced", weights with which the images of each class have the same sum; or weights by name, as
            "dark:2,light:1".
        labels: the classes of the training images, integers from 0.
        class_names: the names of the classes.

    Raises:
        ValueError: if the weights by name are not a number for each class; all faults in one message.

    Example:
        ```python
        from keras_vit.training.class_weights import class_weights_of

        labels = np.array([0, 0, 0, 1])
        assert class_weights_of("dark:1,light:3", labels, ["dark", "light"]).tolist() == [1, 3]
        assert class_weights_of("balanced", labels, ["dark", "light"])[1] == 2
        ```
    """
    if text == "equal":
        return None
    if text == "balanced":
        counts = np.bincount(labels, minlength=len(class_names))
        return len(labels) / (len(class_names) * np.maximum(counts, 1))
    pairs = named_weights(text, class_names)
    names = [name for name, _ in pairs]
    wrong = [f"{name}:{weight}" for name, weight in pairs if not _is_weight(weight)]
    faults = {
        "unknown classes": [name for name in names if name not in class_names],
        "missing classes": [name for name in class_names if name not in names],
        "classes that occur more than once": [name for name in dict.fromkeys(names) if names.count(name) > 1],
        f"weights that are not numbers from {WEIGHTS[0]:g} to {WEIGHTS[1]:g}": wrong,
    }
    if any(faults.values()):
        received = "; ".join(f"{kind}: {few(items)}" for kind, items in faults.items() if items)
        raise ValueError(
            f"Expected class_weights to be 'equal', 'balanced', or a weight for each class, as dark:2,light:1. "
            f"Received: class_weights={text!r:.200}, with {received}. The classes are: {few(class_names, 20)}"
        )
    weights = dict(pairs)
    return np.array([float(weights[name]) for name in class_names])


def named_weights(text: str, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the (name, weight) pairs of a text such as "dark:2,light:1".

    A colon or a comma that belongs to the name of a class does not end it: a pair begins with the longest name that
    fits, and an unknown name ends at the last colon before a comma.

    Args:
        text: the pairs.
        class_names: the names of the classes.
    """
    known = "|".join(re.escape(name) for name in sorted(class_names, key=len, reverse=True))
    pair = re.compile(rf"\s*(?:({known})|([^,]*?))\s*(?::([^:,]*))?(?:,|\Z)")
    return [(match[1] or match[2], (match[3] or "").strip()) for match in pair.finditer(text) if match[0]]


def _is_weight(text: str) -> bool:
    try:
        return WEIGHTS[0] <= float(text) <= WEIGHTS[1]
    except ValueError:
        return False
