"""None of these: chooses on validation images when a classifier rejects an image, and measures how often it does."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_vit.evaluation.accuracy import score, wilson_interval
from keras_vit.models.interface import copy_facts, outputs_of, served
from keras_vit.models.reject import LARGEST_SHARE, NONE_OF_THESE, Reject, images_needed
from keras_vit.models.vision_model import VisionModel

_NEAR_CHANCE = 0.01  # of the way from equal probabilities to 1: a threshold below is of no use


@dataclasses.dataclass(frozen=True)
class FalseRejects:
    """How many images of the classes of a model it rejects, as none of them.

    Args:
        rejected: number of images that are rejected.
        images: number of all images, 1 or more.
        reject: when the model rejects an image; None if that is unknown, as of an exported file.
        classes: number of classes; 0 if that is unknown.

    Example:
        ```python
        rejects = keras_vit.evaluation.FalseRejects(rejected=12, images=200)
        assert rejects.rate == 0.06 and rejects.interval[0] > 0.03
        ```
    """

    rejected: int
    images: int
    reject: Reject | None = None
    classes: int = 0

    @property
    def rate(self) -> float:
        """The share of the images that is rejected, 0 to 1."""
        return self.rejected / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the rate, (lowest, highest), as in `wilson_interval`."""
        return wilson_interval(self.rejected, self.images)

    @property
    def text(self) -> str:
        """The rate in a sentence."""
        low, high = self.interval
        chosen = f"; its threshold was chosen for {100 * self.reject.share:.3g}%" if self.reject else ""
        return (
            f"The model rejects {self.rate:.1%} of {self.images:,} images of its classes as {NONE_OF_THESE}, 95% "
            f"interval {low:.1%} to {high:.1%}{chosen}.{self._at_chance}"
        )

    @property
    def _at_chance(self) -> str:
        """A sentence with a space before it if the threshold is so near chance that it is of no use, or ""."""
        chance = 1 / self.classes if self.classes else 0.0  # the least that a highest probability can be
        if self.reject is None or self.reject.threshold > chance + _NEAR_CHANCE * (1 - chance):
            return ""
        return (
            f" Its threshold, {self.reject.threshold:.4f}, is hardly above {chance:.4f}, the least that a highest "
            "probability can be, so it rejects almost nothing: train a more accurate model, or set a larger reject=."
        )

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures as values for JSON."""
        return {
            **(dataclasses.asdict(self.reject) if self.reject else {}),
            "test_rejected": self.rate,
            "test_rejected_interval": list(self.interval),
        }


def false_rejects(reject: Reject, probabilities: np.ndarray) -> FalseRejects:
    """Counts which images of the classes are rejected.

    Args:
        reject: when an image is rejected.
        probabilities: (images, classes) of images that all belong to one of the classes.

    Returns:
        The number of rejected images, with its rate and interval.

    Example:
        ```python
        reject = keras_vit.evaluation.Reject(share=0.05, threshold=0.6)
        assert keras_vit.evaluation.false_rejects(reject, np.array([[0.9, 0.1], [0.5, 0.5]])).rejected == 1
        ```
    """
    rejected = keras.ops.convert_to_numpy(reject.margin(np.asarray(probabilities, np.float32))) < 0
    return FalseRejects(int(rejected.sum()), len(rejected), reject, np.shape(probabilities)[1])


def fit_reject(probabilities: np.ndarray, share: float = 0.05) -> Reject:
    """Chooses when a classifier rejects an image, for a stated share of false rejects.

    The threshold lies just below the k-th lowest of the highest probabilities of n images, k being share * (n + 1),
    rounded down. A new image of the same kind is then below it with a probability of at most `share`, on average over
    draws of the n images; with few images that of one draw can be far from it.

    Args:
        probabilities: (images, classes), 0 to 1, of images of the classes that the model was not trained on, such as
            the validation images.
        share: of the images of the classes that may be rejected, above 0 and at most 1/2.

    Returns:
        The threshold, with its share.

    Raises:
        ValueError: if the share is out of range, or the images are too few for it: fewer than 1 / share - 1.

    Example:
        ```python
        probabilities = np.array([[1 - p, p] for p in np.linspace(0.6, 0.99, 40)])
        reject = keras_vit.evaluation.fit_reject(probabilities, share=0.05)
        assert 0.6 < reject.threshold < 0.61  # k = 2: one of the 40 is below
        ```

    Source: arXiv:1610.02136, the highest probability as a score; arXiv:2107.07511, the rank of the threshold.
    """
    images, classes = np.shape(probabilities)
    if not 0 < share <= LARGEST_SHARE:
        raise ValueError(f"Expected a share above 0 and at most {LARGEST_SHARE}. Received: share={share}")
    if images < (least := images_needed(share)):
        raise ValueError(
            f"Expected {least} validation images or more, to choose which {share:.3g} of the images may be rejected. "
            f"Received: {images} validation images, share={share}"
        )
    kth = math.floor(share * (images + 1) + 1e-9)
    lowest = 1 / classes  # no highest probability is below
    ordered = np.sort([lowest, *np.max(probabilities, axis=1)])
    return Reject(share, float(ordered[kth - 1 : kth + 1].mean()))


def with_reject(model: keras.Model, batches: Iterable[tuple[Any, Any]], share: float = 0.05) -> VisionModel:
    """Returns a classifier that also knows when an image is none of its classes.

    The model's output stays the same. Its `reject` is saved with it, and every file that is exported from it has the
    margin as a further output, "known": below 0, the image is none of the classes.

    Args:
        model: a functional classifier, (batch, height, width, channels) -> (batch, classes).
        batches: (images, labels) of validation images, which the model was not trained on; images as the model reads
            them, labels from 0.
        share: of the images of the classes that may be rejected, above 0 and at most 1/2.

    Returns:
        A model of the same layers.

    Raises:
        ValueError: if the model is no classifier of one class an image, the share is out of range, or there are too
            few images for it.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        random = np.random.default_rng(0)
        model.get_layer("head").kernel.assign(random.normal(size=(32, 3)))
        images = random.normal(size=(40, 32, 32, 3))
        labels = model.predict(images, verbose=0).argmax(axis=1)
        model = keras_vit.evaluation.with_reject(model, [(images, labels)], share=0.1)
        margin = model.reject.margin(model.predict(images, verbose=0))  # (40, 1), below 0: none of the classes
        assert (keras.ops.convert_to_numpy(margin) < 0).sum() == 3  # the 4th lowest of 40 is the threshold
        ```
    """
    kind = outputs_of(model)
    if kind not in ("probabilities", "logits"):
        raise ValueError(f"Expected a classifier of one class an image. Received: {model.name!r}, which returns {kind}")
    scores = score(served(model, kind), batches)
    reject = fit_reject(scores.probabilities, share)
    result = VisionModel(model.input, model.output, name=model.name)
    copy_facts(model, result)
    result.reject = reject
    return result
