"""Few-shot linear evaluation: accuracy of a linear classifier trained on the features of a few images a class."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from keras_vit import _arguments as checked
from keras_vit._arguments import counted
from keras_vit.evaluation.accuracy import check_labels

REGULARIZER = 2.0**10  # the one whose accuracy is reported
REGULARIZERS = 2.0 ** np.arange(-10, 21)
SHOTS = (1, 5, 10, 25)

_BIAS = 100.0  # a large constant feature, so that its weight is hardly regularised
_ROWS = 4096  # images scored at once


@dataclasses.dataclass(frozen=True, eq=False)
class FewShotResult:
    """Accuracies of few-shot linear evaluation, by number of images a class and by regulariser.

    Args:
        shots: (s,) numbers of training images a class.
        regularizers: (r,) strengths of the L2 regularisation.
        accuracy: (s, r) top-1 accuracy on the test images, 0 to 1.

    Example:
        ```python
        features, labels = np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
        result = keras_vit.evaluation.few_shot(features, labels, features, labels, shots=(1, 2))
        assert result.at(2) == 1.0
        ```
    """

    shots: tuple[int, ...]
    regularizers: np.ndarray
    accuracy: np.ndarray

    def at(self, shots: int, regularizer: float = REGULARIZER) -> float:
        """Returns the accuracy for a number of images a class and a regulariser.

        Raises:
            ValueError: If either was not computed.
        """
        column = np.flatnonzero(self.regularizers == regularizer)
        if shots not in self.shots or not len(column):
            raise ValueError(
                f"Expected shots out of {self.shots} and one of the regularizers. "
                f"Received: shots={shots}, regularizer={regularizer:g}"
            )
        return float(self.accuracy[self.shots.index(shots), column[0]])


def few_shot(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    shots: int | Sequence[int] = SHOTS,
    regularizers: Sequence[float] | np.ndarray = REGULARIZERS,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> FewShotResult:
    """Few-shot linear evaluation: trains a linear classifier on the features of a few images a class.

    The classifier is regularised least squares to targets of -1 and 1.

    Args:
        train_features: (images, features).
        train_labels: (images,) class numbers; the classes are those that occur here.
        test_features: (test images, features).
        test_labels: (test images,).
        shots: Numbers of training images a class. The images of a smaller number are also among those of a larger one.
        regularizers: Strengths of the L2 regularisation, all above 0.
        seed: Seed of the choice of the training images.
        class_names: Names of the classes for error messages; their numbers by default.

    Returns:
        The accuracies, a `FewShotResult`.

    Raises:
        ValueError: If there are no images, a class has fewer than `shots` images (all such classes in one message),
            test images are of a class without training images, or a setting is out of range.

    Example:
        ```python
        features, labels = np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) % 2
        features[:, 0] += 4 * labels
        result = keras_vit.evaluation.few_shot(features[:20], labels[:20], features[20:], labels[20:], shots=(5, 10))
        assert result.accuracy.shape == (2, 31) and result.at(10) > 0.5
        ```

    Source: arXiv:2010.11929, section 4.1; big_vision's evaluators/fewshot_lsr.py, which reports 2**10.
    """
    shots = checked.plain(shots)
    shots = tuple(checked.integer("shots", one) for one in (shots if isinstance(shots, tuple) else (shots,)))
    regularizers, seed = np.asarray(regularizers, "float64"), checked.integer("seed", seed, 0)
    if not shots or not regularizers.size or not (regularizers > 0).all():
        raise ValueError(
            "Expected shots of 1 or more and regularizers above 0. "
            f"Received: shots={shots}, regularizers={regularizers.tolist()}"
        )
    train_labels = check_labels(train_labels, len(train_features))
    test_labels = check_labels(test_labels, len(test_features))
    classes, train_labels = np.unique(train_labels, return_inverse=True)
    counts, name = np.bincount(train_labels), class_names.__getitem__ if class_names else str
    unknown = [name(label) for label in sorted(set(test_labels.tolist()) - set(classes.tolist()))]
    if unknown:
        raise ValueError(
            f"Expected test images of classes with training images. Received those of: {', '.join(unknown)}"
        )
    too_few = [f"{name(classes[i])} (has {counts[i]})" for i in np.flatnonzero(counts < max(shots))]
    if too_few:
        raise ValueError(
            f"Expected {counted(max(shots), 'training image')} of each class. Received fewer of: {', '.join(too_few)}"
        )
    random = np.random.default_rng(seed)
    drawn = [random.permutation(np.flatnonzero(train_labels == i))[: max(shots)] for i in range(len(classes))]
    test_classes = np.searchsorted(classes, test_labels)
    accuracy = np.empty((len(shots), len(regularizers)))
    for row, number in enumerate(shots):
        chosen = np.concatenate([indices[:number] for indices in drawn])
        ridge = Ridge(train_features[chosen], train_labels[chosen], len(classes))
        accuracy[row] = ridge.accuracy(test_features, test_classes, regularizers)
    return FewShotResult(shots, regularizers, accuracy)


def few_shot_images(labels: np.ndarray, shots: int, names: Sequence[str] | None = None, seed: int = 0) -> np.ndarray:
    """Draws a few images of each of several labels, to fit a classifier on.

    Args:
        labels: (images, labels), 1 where an image has a label and else 0.
        shots: number of images drawn of each label. An image with several labels can be drawn for each of them.
        names: of the labels, for error messages; their numbers by default.
        seed: seed of the draw. The images of a smaller number are also among those of a larger one.

    Returns:
        The indices of the images, in growing order.

    Raises:
        ValueError: if a label has fewer than `shots` images; all such labels in one message.

    Example:
        ```python
        labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
        drawn = keras_vit.evaluation.few_shot_images(labels, shots=1)
        assert labels[drawn].any(axis=0).all()
        ```
    """
    shots, labels = checked.integer("shots", shots), np.asarray(labels)
    counts = np.count_nonzero(labels, axis=0)
    name: Callable[[int], str] = names.__getitem__ if names else str
    too_few = [f"{name(i)} (has {counts[i]})" for i in np.flatnonzero(counts < shots).tolist()]
    if too_few:
        raise ValueError(
            f"Expected {counted(shots, 'training image')} with each label. Received fewer of: {', '.join(too_few)}"
        )
    random = np.random.default_rng(seed)
    return np.unique(np.concatenate([random.permutation(np.flatnonzero(column))[:shots] for column in labels.T]))


class Ridge:
    """Ridge regression on standardised features, for every regulariser from one eigendecomposition.

    With the features X (a row an image, a constant in the last column) and the targets Y, the weights
    (X'X + l I)^-1 X'Y are `left @ diag(1 / (eigenvalues + l)) @ right`. If there are more features than images, XX' is
    decomposed instead, because (X'X + l I)^-1 X' = X' (XX' + l I)^-1.

    Args:
        features: (images, features).
        labels: (images,) from 0 to below `classes`.
        classes: Number of classes.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, classes: int) -> None:
        features = np.asarray(features, "float64")
        self.mean, self.std = features.mean(axis=0), features.std(axis=0) + 1e-5
        x = self.standardized(features)
        y = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
        if len(x) >= x.shape[1]:
            self.eigenvalues, vectors = np.linalg.eigh(x.T @ x)
            self.left, self.right = vectors, vectors.T @ (x.T @ y)
        else:
            self.eigenvalues, vectors = np.linalg.eigh(x @ x.T)
            self.left, self.right = x.T @ vectors, vectors.T @ y

    def standardized(self, features: np.ndarray) -> np.ndarray:
        """Returns features scaled as in training, with the constant column: (images, features + 1) float64."""
        features = (np.asarray(features, "float64") - self.mean) / self.std
        return np.pad(features, ((0, 0), (0, 1)), constant_values=_BIAS)

    def weights(self, regularizer: float) -> np.ndarray:
        """Returns the weights for standardised features, (features + 1, classes)."""
        return (self.left / (self.eigenvalues + regularizer)) @ self.right

    def accuracy(self, features: np.ndarray, labels: np.ndarray, regularizers: np.ndarray) -> np.ndarray:
        """Returns the accuracy on images for each regulariser, (regularizers,)."""
        correct = np.zeros(len(regularizers))
        # Solved in float64; float32 is enough to compare an image's scores, in half the time.
        weights = [self.weights(regularizer).astype("float32") for regularizer in regularizers]
        for start in range(0, len(features), _ROWS):
            x = self.standardized(features[start : start + _ROWS]).astype("float32")
            for i, matrix in enumerate(weights):
                correct[i] += np.count_nonzero((x @ matrix).argmax(axis=1) == labels[start : start + _ROWS])
        return correct / len(features)
