"""Calibration: the expected calibration error (ECE), and the numbers of a reliability diagram."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence and accuracy of a classifier in bins of confidence; the data of a reliability diagram.

    The confidence of a prediction is its highest probability. The bins have equal width; a bin excludes its lower edge
    and includes its upper one, and the first includes 0.

    Args:
        edges: (bins + 1,) from 0 to 1.
        counts: (bins,) numbers of images.
        confidence: (bins,) mean confidence; NaN in a bin without images.
        accuracy: (bins,) share of correct predictions; NaN in a bin without images.

    Example:
        ```python
        calibration = keras_vit.evaluation.calibration([[0.9, 0.1], [0.9, 0.1]], [0, 1])
        assert np.isclose(calibration.ece, 0.4)  # 90 % confident, 50 % correct
        ```
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def gaps(self) -> np.ndarray:
        """Confidence minus accuracy of each bin, (bins,); 0 in a bin without images."""
        return np.where(self.counts > 0, np.nan_to_num(self.confidence - self.accuracy), 0.0)

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean absolute gap, weighted by the images of each bin, 0 to 1."""
        return float(np.average(np.abs(self.gaps), weights=self.counts))

    @property
    def mce(self) -> float:
        """The maximum calibration error: the largest absolute gap of a bin, 0 to 1."""
        return float(np.abs(self.gaps).max())


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Computes the expected calibration error (ECE) and the reliability diagram of a classifier.

    Args:
        probabilities: (images, classes), 0 to 1.
        labels: (images,) the true classes.
        bins: Number of bins of equal width from 0 to 1.

    Returns:
        A `Calibration`: `ece`, `mce`, and the confidence and accuracy of each bin.

    Raises:
        ValueError: If there are no images or no bins, or a highest probability is NaN or not from 0 to 1.

    Example:
        ```python
        calibration = keras_vit.evaluation.calibration([[0.9, 0.1], [0.3, 0.7]], [0, 1], bins=10)
        assert np.isclose(calibration.ece, 0.2)
        ```

    Source: arXiv:1706.04599, eq. 3 and 5.
    """
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or not probabilities.size:
        raise ValueError(
            "Expected probabilities (images, classes) and as many labels. "
            f"Received: probabilities of shape {probabilities.shape}, {len(labels)} labels"
        )
    if bins < 1:
        raise ValueError(f"Expected bins of 1 or more. Received: bins={bins}")
    confidence = probabilities.max(axis=1)
    # float32 sums of a softmax can exceed 1 by a few rounding errors.
    if not (confidence >= 0).all() or confidence.max() > 1 + 1e-5:
        raise ValueError(
            "Expected probabilities from 0 to 1. Received: highest probabilities from "
            f"{confidence.min():g} to {confidence.max():g}. Apply a softmax to logits first."
        )
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    correct = probabilities.argmax(axis=1) == labels
    sums = (np.bincount(bin_of, weights=values, minlength=bins) for values in (confidence, correct))
    empty = np.full(bins, np.nan)
    means = (np.divide(total, counts, out=empty.copy(), where=counts > 0) for total in sums)
    return Calibration(edges, counts, *means)
