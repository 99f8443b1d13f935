"""Few-shot linear evaluation: what a few images a class teach a linear classifier on a model's features."""

import dataclasses

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.evaluation.labels import checked_labels

REGULARIZER = 2.0**10  # the one that is told
REGULARIZERS = 2.0 ** np.arange(-10, 21)
SHOTS = (1, 5, 10, 25)

_BIAS = 100.0  # a large constant feature, so that its weight is hardly regularised
_ROWS = 4096  # images scored at once


@dataclasses.dataclass(frozen=True, eq=False)
class FewShotResult:
    """Holds how often a linear classifier was right.

    Args:
        shots: (s,) images a class that it learned from.
        regularizers: (r,) how strongly its weights were held down.
        accuracy: (s, r) part of the test images that was right.
    """

    shots: tuple[int, ...]
    regularizers: np.ndarray
    accuracy: np.ndarray

    def at(self, shots, regularizer=REGULARIZER):
        """Returns the accuracy after so many images a class, with a regulariser.

        Raises:
            ValueError: if either was not computed.
        """
        column = np.flatnonzero(self.regularizers == regularizer)
        if shots not in self.shots or not len(column):
            raise ValueError(
                f"Expected shots out of {self.shots} and one of the regularizers. "
                f"Received: shots={shots}, regularizer={regularizer:g}"
            )
        return float(self.accuracy[self.shots.index(shots), column[0]])


def few_shot(
    train_features,
    train_labels,
    test_features,
    test_labels,
    shots=SHOTS,
    regularizers=REGULARIZERS,
    seed=0,
    class_names=None,
):
    """Returns the `FewShotResult` of a linear classifier on features: regularised least squares to -1 and 1.

    Args:
        train_features: (images, width).
        train_labels: (images,) class numbers; the classes are those that occur here.
        test_features: (others, width).
        test_labels: (others,).
        shots: numbers of images a class to learn from; fewer are some of the more.
        regularizers: all above 0.
        seed: draws the images.
        class_names: what messages call the classes by; their numbers by default.

    Raises:
        ValueError: if there are no images, a class has fewer than `shots` (all such in one message), test images
            are of a class without training images, or a setting is out of range.

    Source: arXiv:2010.11929, section 4.1; big_vision's evaluators/fewshot_lsr.py, which tells 2**10.
    """
    shots = checked.plain(shots)
    shots = tuple(checked.integer("shots", one) for one in (shots if isinstance(shots, tuple) else (shots,)))
    regularizers, seed = np.asarray(regularizers, "float64"), checked.integer("seed", seed, 0)
    if not shots or not regularizers.size or not (regularizers > 0).all():
        raise ValueError(
            "Expected shots of 1 or more and regularizers above 0. "
            f"Received: shots={shots}, regularizers={regularizers.tolist()}"
        )
    train_labels = checked_labels(train_labels, len(train_features))
    test_labels = checked_labels(test_labels, len(test_features))
    classes, train_labels = np.unique(train_labels, return_inverse=True)
    counts, name = np.bincount(train_labels), class_names.__getitem__ if class_names else str
    strange = [name(label) for label in sorted(set(test_labels.tolist()) - set(classes.tolist()))]
    if strange:
        raise ValueError(f"Expected test images of classes to learn from. Received those of: {', '.join(strange)}")
    few = [f"{name(classes[i])} (has {counts[i]})" for i in np.flatnonzero(counts < max(shots))]
    if few:
        raise ValueError(f"Expected {max(shots)} training images of each class. Received fewer of: {', '.join(few)}")
    random = np.random.default_rng(seed)
    drawn = [random.permutation(np.flatnonzero(train_labels == i))[: max(shots)] for i in range(len(classes))]
    right = np.searchsorted(classes, test_labels)
    accuracy = np.empty((len(shots), len(regularizers)))
    for row, number in enumerate(shots):
        some = np.concatenate([indices[:number] for indices in drawn])
        ridge = Ridge(train_features[some], train_labels[some], len(classes))
        accuracy[row] = ridge.accuracy(test_features, right, regularizers)
    return FewShotResult(shots, regularizers, accuracy)


class Ridge:
    """Regularised least squares on standardised features, for every regulariser from one eigendecomposition.

    With the features X (a row an image, a constant at its end) and the targets Y, the weights (X'X + l I)^-1 X'Y are
    `left @ diag(1 / (eigenvalues + l)) @ right`. Of more features than images, XX' is decomposed, for
    (X'X + l I)^-1 X' = X' (XX' + l I)^-1.

    Args:
        features: (images, width).
        labels: (images,) from 0 to below `classes`.
        classes: how many.
    """

    def __init__(self, features, labels, classes):
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

    def standardized(self, features):
        """Returns features as they were learned from, the constant at the end: (images, width + 1) float64."""
        features = (np.asarray(features, "float64") - self.mean) / self.std
        return np.pad(features, ((0, 0), (0, 1)), constant_values=_BIAS)

    def weights(self, regularizer):
        """Returns (width + 1, classes), for standardised features."""
        return (self.left / (self.eigenvalues + regularizer)) @ self.right

    def accuracy(self, features, labels, regularizers):
        """Returns the part of the images that is right with each regulariser, (regularizers,)."""
        right = np.zeros(len(regularizers))
        # Solved in float64; to compare an image's scores float32 will do, in half the time.
        weights = [self.weights(regularizer).astype("float32") for regularizer in regularizers]
        for start in range(0, len(features), _ROWS):
            x = self.standardized(features[start : start + _ROWS]).astype("float32")
            for i, matrix in enumerate(weights):
                right[i] += np.count_nonzero((x @ matrix).argmax(axis=1) == labels[start : start + _ROWS])
        return right / len(features)
