"""Accuracy, confusion and what the model was most wrong about."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Holds what a model said of pictures whose classes are known.

    Args:
        labels: (pictures,) the true classes.
        probabilities: (pictures, classes) the model's.
    """

    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predictions(self):
        """The most probable class of each picture, (pictures,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self):
        """The part of the pictures whose most probable class is the true one."""
        return self.top(1)

    def top(self, k):
        """Returns the part of the pictures whose true class is among the k most probable."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float(np.mean((best == self.labels[:, None]).any(axis=1)))

    @property
    def confusion(self):
        """Numbers of pictures, (true class, predicted class)."""
        classes = self.probabilities.shape[1]
        return np.bincount(self.labels * classes + self.predictions, minlength=classes**2).reshape(classes, classes)

    @property
    def mistakes(self):
        """Indices of the wrongly classified pictures, the most confident first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")]


def evaluate(model, batches):
    """Returns the `Scores` of a model that gives probabilities.

    Args:
        model: a Keras model, (batch, rows, columns, channels) -> (batch, classes).
        batches: (pictures, labels) pairs, once through.

    Raises:
        ValueError: if there are no batches, or a label is none of the model's classes.
    """
    outputs = [(np.asarray(labels), np.asarray(model.predict_on_batch(images))) for images, labels in batches]
    if not outputs:
        raise ValueError("Expected pictures to evaluate on. Received: none")
    labels, probabilities = (np.concatenate(parts) for parts in zip(*outputs))
    classes = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}, the model's classes. "
            f"Received: labels from {labels.min()} to {labels.max()}"
        )
    return Scores(labels, probabilities)
