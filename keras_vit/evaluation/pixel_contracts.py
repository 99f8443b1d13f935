"""Whether a model does better with other pixels than it is given: the witness of a pixel contract."""

import dataclasses

import keras
import numpy as np
from scipy import stats

IMAGES = 64  # that are scored under each contract
BETTER = 0.2  # in accuracy
CHANCE = 0.01  # of such a result from contracts that do equally well, or from guessing

# (factor, term) of a pixel of 0 to 255, written out: a proof does not share its numbers with what it proves.
USUAL = {
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
    """A pixel contract that does much better than a model's own.

    Args:
        name: out of `USUAL`.
        accuracy: with it.
        own: the accuracy with the model's own.
        images: scored under both.
    """

    name: str
    accuracy: float
    own: float
    images: int

    @property
    def text(self) -> str:
        """What was found and what to do, in words."""
        return (
            f"with pixels={self.name} the model is right on {self.accuracy:.1%} of {self.images} images, with the "
            f"contract in use on {self.own:.1%}. It was probably trained on such pixels: say --pixels {self.name} "
            "(pixels= in Python), or say the one in use outright"
        )


def better_contract(model: keras.Model, images: np.ndarray, labels: np.ndarray, pixels) -> BetterContract | None:
    """Returns the usual pixel contract under which a model is much better than under its own, or None.

    Much better is an accuracy higher by `BETTER` or more, and not by chance: the own contract loses by a sign test over
    the images that only one of the two gets right, and always guessing the commonest class would not do as well.

    Args:
        model: (batch, height, width, 3) -> (batch, classes).
        images: (images, height, width, 3) uint8, of the model's size; the first `IMAGES` are scored.
        labels: (images,) their classes.
        pixels: the `keras_vit.Pixels` in use.
    """
    images, labels = np.asarray(images)[:IMAGES], np.asarray(labels)[:IMAGES]
    if not len(labels):
        return None
    levels, commonest = images.astype(np.float32), np.bincount(labels).max() / len(labels)
    own = _right(model, levels * np.float32(pixels.scale) + np.float32(pixels.offset), labels)
    found = []
    for name, (factor, term) in USUAL.items():
        right = _right(model, levels * np.float32(factor) + np.float32(term), labels)
        gained, lost = int((right & ~own).sum()), int((own & ~right).sum())
        by_chance = stats.binom.sf(gained - 1, gained + lost, 0.5)
        by_guessing = stats.binom.sf(right.sum() - 1, len(labels), commonest)
        if right.mean() - own.mean() >= BETTER and max(by_chance, by_guessing) < CHANCE:
            found.append(BetterContract(name, float(right.mean()), float(own.mean()), len(labels)))
    return max(found, key=lambda rival: rival.accuracy, default=None)


def _right(model, images, labels):
    return np.asarray(model.predict_on_batch(images)).argmax(axis=1) == labels
