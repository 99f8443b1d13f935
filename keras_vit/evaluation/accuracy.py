"""Top-1 and top-k accuracy with intervals, balanced accuracy, F1, the confusion matrix and the worst mistakes."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_vit.evaluation.predictions import predicted


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Top-1 and top-k accuracy, per-class accuracy, confusion matrix and most confident mistakes of a classifier.

    Args:
        labels: (images,) the true classes, integers from 0.
        probabilities: (images, classes) the predicted probabilities.

    Example:
        ```python
        probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
        scores = keras_vit.evaluation.Scores(np.array([0, 1, 1]), probabilities)
        assert scores.accuracy == 2 / 3
        assert scores.confusion_matrix.tolist() == [[1, 0], [1, 1]]
        ```
    """

    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each image, (images,); the first of equally probable ones."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy: the share of images whose most probable class is the true one, 0 to 1."""
        return self.top_k_accuracy(1)

    def top_k_accuracy(self, k: int) -> float:
        """Returns the share of images whose true class is among the k most probable ones, 0 to 1."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float(np.mean((best == self.labels[:, None]).any(axis=1)))

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """The accuracy on the images of each class, also called recall, (classes,); NaN for a class without images."""
        images, _, correct = self.counts
        return np.divide(correct, images, out=np.full(len(images), np.nan), where=images > 0)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, (lowest, highest), as in `wilson_interval`."""
        return wilson_interval(int((self.predictions == self.labels).sum()), len(self.labels))

    @property
    def balanced_accuracy(self) -> float:
        """The mean of `per_class_accuracy`, without NaN: a class counts the same however many images it has, 0 to 1."""
        return float(np.nanmean(self.per_class_accuracy))

    @property
    def macro_f1(self) -> float:
        """The mean F1 score, 0 to 1, of the classes that are true or predicted for an image."""
        images, predicted, correct = self.counts
        occurs = images + predicted > 0
        return float(np.mean(2 * correct[occurs] / (images + predicted)[occurs]))

    @property
    def most_frequent_class(self) -> tuple[int, float]:
        """The class with the most images, and its share: the accuracy of a model that always predicts it."""
        images, *_ = self.counts
        return int(images.argmax()), float(images.max() / images.sum())

    @property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of images of each class, of predictions of it, and of correct ones, (classes,) each."""
        classes, predictions = self.probabilities.shape[1], self.predictions
        images, predicted, correct = (
            np.bincount(numbers, minlength=classes)
            for numbers in (self.labels, predictions, self.labels[predictions == self.labels])
        )
        return images, predicted, correct

    @property
    def confusion_matrix(self) -> np.ndarray:
        """Numbers of images, (true class, predicted class)."""
        classes = self.probabilities.shape[1]
        return np.bincount(self.labels * classes + self.predictions, minlength=classes**2).reshape(classes, classes)

    @property
    def most_confident_mistakes(self) -> np.ndarray:
        """Indices of the misclassified images, (mistakes,), the most confident prediction first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")]

    def restricted_to(self, classes: Sequence[int]) -> "Scores":
        """Returns the `Scores` on the images of some classes, with no other classes to choose from.

        ImageNet-A and -R are evaluated so, with 200 of the model's 1,000 classes.

        Args:
            classes: class numbers. The classes of the result are these, in this order.

        Raises:
            ValueError: If a number is not a class of the model or occurs twice, or no image is of these classes.
        """
        chosen, count = np.asarray(classes, "int64"), self.probabilities.shape[1]
        if not len(chosen) or len(set(chosen)) < len(chosen) or chosen.min() < 0 or chosen.max() >= count:
            raise ValueError(f"Expected different classes from 0 to {count - 1}. Received: classes={chosen.tolist()}")
        new_numbers = np.full(count, -1)
        new_numbers[chosen] = np.arange(len(chosen))
        selected = new_numbers[self.labels] >= 0
        if not selected.any():
            raise ValueError(
                f"Expected images of the listed classes. Received: classes={chosen.tolist()[:5]}, and only images of "
                "other classes."
            )
        rest = self.probabilities[selected][:, chosen]
        total = rest.sum(axis=1, keepdims=True)
        probabilities = np.divide(rest, total, out=np.zeros_like(rest), where=total > 0)
        return Scores(new_numbers[self.labels[selected]], probabilities)


def score(model: keras.Model, batches: Iterable[tuple[Any, Any]], flips: bool = False) -> Scores:
    """Evaluates a classifier on batches: top-1 accuracy, confusion matrix, per-class accuracy and mistakes.

    Args:
        model: Classifier that returns probabilities, (batch, height, width, channels) -> (batch, classes).
        batches: (images, labels) pairs, read once; labels are integers from 0.
        flips: Whether to average each image's probabilities with those of its mirror image.

    Returns:
        The `Scores` of all images, in the order of the batches.

    Raises:
        ValueError: If there are no images, or a label is not a class of the model.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images, labels = np.zeros((4, 32, 32, 3), "float32"), np.array([0, 1, 2, 0])
        scores = keras_vit.evaluation.score(model, [(images, labels)])
        assert scores.confusion_matrix.sum() == 4
        ```
    """
    labels, probabilities = predicted(model, batches, flips)
    return Scores(check_labels(labels, *probabilities.shape), probabilities)


def wilson_interval(correct: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the Wilson score interval of an accuracy: the rates that the number of correct images is compatible with.

    Unlike accuracy ± 2 standard errors, it stays within 0 and 1, and has a width at an accuracy of 0 or 1, too.

    Args:
        correct: Number of correct images.
        images: Number of images, 1 or more.
        confidence: Share of such intervals that contain the true rate, about.

    Returns:
        (lowest, highest), 0 to 1.

    Example:
        ```python
        low, high = keras_vit.evaluation.wilson_interval(81, 100)
        assert (round(low, 3), round(high, 3)) == (0.722, 0.875)
        ```

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    rate, spread = correct / images, z**2 / images
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(spread * rate * (1 - rate) + spread**2 / 4) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def check_labels(labels: Any, images: int, classes: int | None = None) -> np.ndarray:
    """Returns the true classes of images as an int64 array, (images,), or raises an error.

    Args:
        labels: (images,) integers from 0.
        images: Number of images.
        classes: Number of classes of the model, where it is known.

    Raises:
        ValueError: If there are no images, or the labels have another shape or type, or are out of range.
    """
    if not images:
        raise ValueError("Expected images to evaluate on. Received: no images")
    array = np.asarray(labels)
    if array.shape != (images,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"Expected an integer for each of {images} images. Received: labels of shape {array.shape} and "
            f"type {array.dtype}. Convert one-hot labels with argmax(axis=1)."
        )
    lowest, highest = array.min(), array.max()
    if lowest < 0 or highest >= (classes or np.inf):
        expected = f"from 0 to {classes - 1}, the model's classes" if classes else "of 0 or more"
        raise ValueError(f"Expected labels {expected}. Received: labels from {lowest} to {highest}")
    return array.astype("int64")
