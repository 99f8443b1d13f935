"""Checks a model's pixel contract: whether it is much more accurate on pixels that are scaled in another usual way."""

import dataclasses
from typing import Any

import keras
import numpy as np
from scipy import stats

IMAGES = 64  # scored with each contract
LEAST_GAIN = 0.2  # in accuracy
CHANCE = 0.01  # of such a result from contracts that do equally well, or from guessing

# (factor, offset) of a pixel of 0 to 255, written out: a proof does not share its numbers with the code that it checks.
USUAL: dict[str, tuple[Any, Any]] = {
    "raw": (1.0, 0.0),
    "0..1": (1 / 255, 0.0),
    "-1..1": (2 / 255, -1.0),
    "imagenet": (
        np.array([0.017124754, 0.017507003, 0.017429194]),
        np.array([-2.117904, -2.0357143, -1.8044444]),
    ),
}


@dataclasses.dataclass(frozen=True)
class BetterContract:
    """A pixel contract with which a model is much more accurate than with its own.

    Args:
        name: A key of `USUAL`.
        accuracy: Accuracy with it.
        own: Accuracy with the model's own contract.
        images: Number of images scored with both.
    """

    name: str
    accuracy: float
    own: float
    images: int

    @property
    def text(self) -> str:
        """A sentence with both accuracies, and what to do."""
        return (
            f"with pixels={self.name} the accuracy is {self.accuracy:.1%} on {self.images} images, with the contract "
            f"in use {self.own:.1%}. The model was probably trained on such pixels: pass --pixels {self.name} "
            "(pixels= in Python), or pass the one in use explicitly"
        )


def better_contract(model: keras.Model, images: np.ndarray, labels: np.ndarray, pixels: Any) -> BetterContract | None:
    """Returns the usual pixel contract with which a model is much more accurate than with its own, or None.

    Much more is a difference of `LEAST_GAIN` or more that is not due to chance: the own contract loses by a sign test
    over the images that only one of the two classifies correctly, and constantly predicting the most frequent class
    would not do as well.

    Args:
        model: (batch, height, width, channels) -> (batch, classes).
        images: (images, height, width, channels) uint8, of the model's size; the first `IMAGES` are scored.
        labels: (images,) the true classes.
        pixels: The `keras_vit.Pixels` in use.
    """
    images, labels = np.asarray(images)[:IMAGES], np.asarray(labels)[:IMAGES]
    if not len(labels):
        return None
    levels, most_frequent = images.astype(np.float32), np.bincount(labels).max() / len(labels)
    own = _correct(model, levels * np.float32(pixels.scale) + np.float32(pixels.offset), labels)
    better = []
    for name, (factor, offset) in USUAL.items():
        if images.shape[-1] != 3:
            factor, offset = np.mean(factor), np.mean(offset)
        correct = _correct(model, levels * np.float32(factor) + np.float32(offset), labels)
        gained, lost = int((correct & ~own).sum()), int((own & ~correct).sum())
        by_chance = stats.binom.sf(gained - 1, gained + lost, 0.5)
        by_guessing = stats.binom.sf(correct.sum() - 1, len(labels), most_frequent)
        if correct.mean() - own.mean() >= LEAST_GAIN and max(by_chance, by_guessing) < CHANCE:
            better.append(BetterContract(name, float(correct.mean()), float(own.mean()), len(labels)))
    return max(better, key=lambda contract: contract.accuracy, default=None)


def _correct(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict_on_batch(images)).argmax(axis=1) == labels
