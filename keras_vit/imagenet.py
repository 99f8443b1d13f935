"""Names of the ImageNet classes, bundled: nothing is downloaded."""

import functools
from importlib import resources

import numpy as np

from keras_vit import _arguments as checked


@functools.cache
def class_names():
    """Returns the 1,000 ImageNet-1k classes in order, as (synset, name) pairs."""
    text = resources.files("keras_vit").joinpath("imagenet.txt").read_text("utf-8")
    return tuple(tuple(line.split()) for line in text.splitlines() if not line.startswith("#"))


def decode_predictions(preds, top=5):
    """Names the most probable ImageNet-1k classes, as `keras.applications` does.

    Args:
        preds: (batch, 1000) scores.
        top: classes an image.

    Returns:
        A list an image of (synset, name, score), the best first.

    Raises:
        ValueError: if `preds` is not (batch, 1000).
    """
    preds, top = np.asarray(preds), checked.integer("top", top)
    names = class_names()
    if preds.ndim != 2 or preds.shape[1] != len(names):
        raise ValueError(
            f"Expected scores of ImageNet-1k, (batch, {len(names)}). Received: preds of shape {preds.shape}. "
            "A model of other classes has names of its own, in labels.txt beside it."
        )
    best = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [[(*names[i], float(row[i])) for i in order] for row, order in zip(preds, best)]
