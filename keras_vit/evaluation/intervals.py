"""Intervals of figures that are no shares of images, such as the mean average precision or an error: the bootstrap."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000  # of the images
_GROUPS = 1000  # of images that the jackknife leaves out in turn; each image is one, of at most this many
_AT_ONCE = 2**22  # weights in memory


def bootstrap_intervals(
    figures: Callable[[np.ndarray], np.ndarray], images: int, confidence: float = 0.95
) -> np.ndarray:
    """Returns intervals of figures of images, of 1,000 resamples of these: BCa, widened for few images.

    The bias-corrected and accelerated bootstrap (BCa) follows figures with a skewed distribution, such as errors. The
    spread of resamples of n images is too small by a factor of about ((n - 1) / n)^(1/2), and is itself uncertain:
    quantiles of Student's t and this factor widen the intervals.

    Args:
        figures: function of the weights of the images, (resamples, images), that returns (resamples, figures). A figure
            may be NaN for some weights.
        images: their number.
        confidence: share of such intervals that contain the true figure, about.

    Returns:
        (figures, 2); NaN for a figure that is NaN with equal weights.

    Example:
        ```python
        from keras_vit.evaluation.intervals import bootstrap_intervals

        values = np.random.default_rng(0).normal(5, 1, 50)
        ((low, high),) = bootstrap_intervals(lambda weights: weights @ values[:, None] / 50, 50)
        assert low < values.mean() < high
        ```

    Source: B. Efron, Better bootstrap confidence intervals, 1987; T. Hesterberg, What teachers should know about the
    bootstrap, arXiv:1411.5279, section 5.3, for the quantiles of t.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    random, at_once = np.random.default_rng(0), max(_AT_ONCE // images, 1)
    rows, groups = np.arange(RESAMPLES), min(images, _GROUPS)
    resampled = np.concatenate(
        [
            figures(_counted(random.integers(0, images, (len(part), images))))
            for part in np.array_split(rows, -(-RESAMPLES // at_once))
        ]
    )
    left_out = np.concatenate(
        [
            figures((np.arange(images) % groups != part[:, None]).astype(np.float64))
            for part in np.array_split(np.arange(groups), -(-groups // at_once))
        ]
    )
    (figure,) = figures(np.ones((1, images)))
    quantiles = stdtrit(max(images - 1, 1), (1 + np.array([-confidence, confidence])) / 2)
    quantiles = quantiles * (images / max(images - 1, 1)) ** 0.5
    intervals = np.full((len(figure), 2), np.nan)
    for i in np.flatnonzero(~np.isnan(figure)):
        values, influence = (column[~np.isnan(column)] for column in (resampled[:, i], left_out[:, i]))
        below = (np.mean(values < figure[i]) + np.mean(values <= figure[i])) / 2
        bias = ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
        influence = influence.mean() - influence
        spread = 6 * np.sum(influence**2) ** 1.5
        acceleration = np.sum(influence**3) / spread if spread else 0.0
        shifted = bias + quantiles
        intervals[i] = np.quantile(values, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return intervals


def _counted(drawn: np.ndarray) -> np.ndarray:
    """Returns how often each image is drawn, (resamples, images) float64, from the numbers of those drawn."""
    rows, images = drawn.shape
    places = drawn + images * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)
