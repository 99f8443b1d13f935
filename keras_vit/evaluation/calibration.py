"""How far a model's confidence can be believed."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Holds, by bins of equal width of the highest probability, how sure a model was and how often it was right.

    A bin holds what lies above its lower edge up to its upper one; the first holds 0 too.

    Args:
        edges: (bins + 1,) from 0 to 1.
        counts: (bins,) numbers of images.
        confidence: (bins,) mean of the highest probabilities; NaN in a bin without images.
        accuracy: (bins,) part of the images that was right; NaN in a bin without images.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def gaps(self):
        """How much surer the model was than right, (bins,); 0 in a bin without images."""
        return np.where(self.counts > 0, np.nan_to_num(self.confidence - self.accuracy), 0.0)

    @property
    def ece(self):
        """The expected calibration error: mean size of the gaps, each bin counted by its images; 0 to 1."""
        return float(np.average(np.abs(self.gaps), weights=self.counts))

    @property
    def mce(self):
        """The maximum calibration error: the largest gap of a bin, however few its images; 0 to 1."""
        return float(np.abs(self.gaps).max())


def calibration(probabilities, labels, bins=15):
    """Returns the `Calibration` of a classifier's probabilities.

    Args:
        probabilities: (images, classes), 0 to 1.
        labels: (images,) the true classes.
        bins: how many of equal width from 0 to 1.

    Raises:
        ValueError: if there are no images, no bins, or probabilities that are no number from 0 to 1.

    Source: arXiv:1706.04599, eq. 3 and 5.
    """
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or not probabilities.size:
        raise ValueError(
            "Expected probabilities (images, classes) and as many labels. "
            f"Received: probabilities of shape {probabilities.shape}, {len(labels)} labels"
        )
    if bins < 1:
        raise ValueError(f"Expected 1 bin or more. Received: bins={bins}")
    sure = probabilities.max(axis=1)
    # float32 sums of a softmax leave 1 by a few rounding errors.
    if not (sure >= 0).all() or sure.max() > 1 + 1e-5:
        raise ValueError(
            f"Expected probabilities from 0 to 1. Received: highest ones from {sure.min():g} to {sure.max():g}. "
            "A model that gives logits needs a softmax first."
        )
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    right = probabilities.argmax(axis=1) == labels
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (sure, right))
    none = np.full(bins, np.nan)
    means = (np.divide(total, counts, out=none.copy(), where=counts > 0) for total in sums)
    return Calibration(edges, counts, *means)
