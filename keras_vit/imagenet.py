"""The names of the ImageNet-1k classes; they are part of the package, and nothing is downloaded."""

import functools
from importlib import resources
from typing import Any

import numpy as np

from keras_vit import _arguments as checked


@functools.cache
def class_names() -> tuple[tuple[str, str], ...]:
    """Returns the 1,000 ImageNet-1k classes in order, as (synset, name) pairs."""
    text = resources.files("keras_vit").joinpath("imagenet.txt").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return tuple((synset, name) for synset, name in lines)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Decodes ImageNet-1k predictions to the names of the most probable classes, as `keras.applications` does.

    Args:
        preds: probabilities or other scores, (batch, 1000).
        top: number of classes for each image.

    Returns:
        For each image a list of (synset, name, score), the highest score first.

    Raises:
        ValueError: if `preds` is not (batch, 1000).

    Example:
        ```python
        preds = np.eye(1000)[[285]]
        assert keras_vit.decode_predictions(preds, top=1) == [[("n02124075", "Egyptian_cat", 1.0)]]
        ```
    """
    preds, top = np.asarray(preds), checked.integer("top", top)
    names = class_names()
    if preds.ndim != 2 or preds.shape[1] != len(names):
        raise ValueError(
            f"Expected preds of ImageNet-1k, (batch, {len(names)}). Received: preds of shape {preds.shape}. "
            "The names of other classes are in the model's class_names or in labels.txt in its folder."
        )
    best = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [[(*names[i], float(row[i])) for i in order] for row, order in zip(preds, best)]
