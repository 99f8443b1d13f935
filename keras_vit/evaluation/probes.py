"""K-nearest-neighbour and linear-probe evaluation of a model's features, and linear heads fitted on them."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.evaluation.accuracy import Scores, check_labels

logger = logging.getLogger("keras_vit")

NEIGHBOURS = 20
STRENGTHS = 10.0 ** np.arange(-2, 5)  # of the regularisation, for a linear probe to choose from; 1 / C in scikit-learn

_HELD_OUT = 0.2  # share of a class's training images on which the strength is chosen
_STEPS = 1000
_ROWS = 1024  # images compared at once


def knn(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    k: int = NEIGHBOURS,
    temperature: float = 0.07,
) -> Scores:
    """K-nearest-neighbour classification by cosine similarity: each of the k nearest images votes for its class.

    A vote has the weight exp(cosine / temperature).

    Args:
        train_features: (images, features).
        train_labels: (images,) class numbers.
        test_features: (test images, features).
        test_labels: (test images,).
        k: Number of neighbours that vote.
        temperature: The smaller, the larger the weight of the nearest ones.

    Returns:
        The `Scores` of the test images; their probabilities are the shares of the votes.

    Raises:
        ValueError: If there are no images, or k is not from 1 to the number of training images.

    Example:
        ```python
        features, labels = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), np.array([0, 0, 1])
        assert keras_vit.evaluation.knn(features, labels, features, labels, k=1).accuracy == 1.0
        ```

    Source: arXiv:1805.01978, section 3.4, with the k of DINO, arXiv:2104.14294.
    """
    train_labels, test_labels, classes = _check_all_labels(train_features, train_labels, test_features, test_labels)
    if not 1 <= (k := checked.integer("k", k, 0)) <= len(train_labels):
        raise ValueError(f"Expected k from 1 to {len(train_labels)}, the training images. Received: k={k}")
    train, test = _unit_vectors(train_features), _unit_vectors(test_features)
    votes = np.zeros((len(test), classes))
    for start in range(0, len(test), _ROWS):
        cosines = test[start : start + _ROWS] @ train.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        # Minus the largest: the weights keep their proportions, and cannot overflow.
        similarities = np.take_along_axis(cosines, nearest, axis=1)
        weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / temperature)
        rows = np.arange(start, start + len(cosines))[:, None]
        np.add.at(votes, (rows, train_labels[nearest]), weights)
    return Scores(test_labels, votes / votes.sum(axis=1, keepdims=True))


def _unit_vectors(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, "float64")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def linear_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
    seed: int = 0,
    verbose: bool = True,
) -> Scores:
    """Linear probe: trains a logistic regression on standardised features and evaluates it.

    The strength of its regularisation is the one with the highest accuracy on a fifth of each class's training images;
    then it is trained on all of them.

    Args:
        train_features: (images, features).
        train_labels: (images,) class numbers.
        test_features: (test images, features).
        test_labels: (test images,).
        strengths: Strengths of the L2 regularisation to choose from.
        seed: Seed of the choice of the held-out fifth.
        verbose: Whether the accuracy of each strength is logged.

    Returns:
        The `Scores` of the test images.

    Raises:
        ValueError: If there are no images, fewer than two classes, or no class has two training images.

    Example:
        ```python
        features, labels = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
        features[:, 0] += 8 * labels
        scores = keras_vit.evaluation.linear_probe(features[:20], labels[:20], features[20:], labels[20:])
        assert scores.accuracy > 0.5
        ```
    """
    train_labels, test_labels, classes = _check_all_labels(train_features, train_labels, test_features, test_labels)
    seed = checked.integer("seed", seed, 0)
    if len(set(train_labels.tolist())) < 2:
        raise ValueError(f"Expected images of two classes or more. Received: only images of class {train_labels[0]}")
    train, test = (np.asarray(features, "float64") for features in (train_features, test_features))
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-5
    train, test = (train - mean) / std, (test - mean) / std
    probe = _trained_probe(train, train_labels, strengths, seed, logging.INFO if verbose else logging.DEBUG)
    probabilities = np.zeros((len(test), classes))
    probabilities[:, probe.classes_] = probe.predict_proba(test)
    return Scores(test_labels, probabilities)


def probe_head(
    features: np.ndarray,
    labels: np.ndarray,
    learns: Literal["classes", "labels", "numbers"] = "classes",
    classes: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Fits a linear head on features: the kernel and the bias that a model's own head can start from.

    Args:
        features: (images, features).
        labels: class numbers, (images,); 1 or 0 for each label, (images, labels); or numbers, (images, numbers).
        learns: which of these: "classes" by a logistic regression, "labels" by one each, "numbers" by a ridge
            regression.
        classes: number of classes; None is the largest class number and one.
        seed: seed of the choice of the fifth of the images on which the regularisation is chosen.

    Returns:
        The kernel, (features, outputs), and the bias, (outputs,): logits of classes or labels, or the numbers. A class
        or label that no image has, or all images have, has a kernel of 0.

    Example:
        ```python
        features, labels = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
        features[:, 0] += 8 * labels
        kernel, bias = keras_vit.evaluation.probe_head(features, labels)
        assert np.mean((features @ kernel + bias).argmax(axis=1) == labels) > 0.9
        ```

    Source: arXiv:2202.10054, which fine-tunes from such a head.
    """
    features, labels = np.asarray(features, "float64"), np.asarray(labels)
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-5
    standardised = (features - mean) / std
    if learns == "classes":
        kernel, bias = _class_head(standardised, labels, classes or int(labels.max()) + 1, seed)
    elif learns == "labels":
        heads = [_class_head(standardised, column.astype(int), 2, seed) for column in labels.T]
        # Of two logits, the sigmoid of their difference is the second's softmax.
        kernel, bias = (np.stack([np.diff(head[i])[..., 0] for head in heads], axis=-1) for i in (0, 1))
    else:
        from sklearn.linear_model import RidgeCV

        ridge = RidgeCV(STRENGTHS).fit(standardised, labels)
        kernel, bias = ridge.coef_.reshape(labels.shape[1], -1).T, np.reshape(ridge.intercept_, -1)
    kernel = kernel / std[:, None]
    return kernel.astype("float32"), (bias - mean @ kernel).astype("float32")


def _class_head(features: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and the bias of a logistic regression on standardised features, for the softmax."""
    counts = np.bincount(labels, minlength=classes)
    kernel, bias = np.zeros((features.shape[1], classes)), np.log((counts + 0.5) / len(labels))
    if np.count_nonzero(counts) < 2 or counts.max() < 2:
        return kernel, bias
    probe = _trained_probe(features, labels, STRENGTHS, seed, logging.DEBUG)
    coefficients, intercept = probe.coef_, probe.intercept_
    if len(intercept) == 1:  # of two classes, the logit of the second
        coefficients, intercept = (np.concatenate([-part, part]) / 2 for part in (coefficients, intercept))
    kernel[:, probe.classes_], bias[probe.classes_] = coefficients.T, intercept
    return kernel, bias


def _trained_probe(
    features: np.ndarray, labels: np.ndarray, strengths: Sequence[float] | np.ndarray, seed: int, level: int
) -> Any:
    """Returns a logistic regression of the strength with the best held-out accuracy; of equal ones the strongest."""
    from sklearn.linear_model import LogisticRegression

    # From the strongest on, each starts from the weights of the one before: weaker ones take longer to converge.
    probe = LogisticRegression(max_iter=_STEPS, warm_start=True)
    held_out, accuracies = _held_out(labels, seed), {}
    for strength in sorted(strengths, reverse=True):
        _fit(probe, features[~held_out], labels[~held_out], strength, level)
        accuracies[strength] = float(np.mean(probe.predict(features[held_out]) == labels[held_out]))
        percent = 100 * accuracies[strength]
        logger.log(level, "linear probe: regularisation %g, held-out accuracy %.2f%%", strength, percent)
    best = max(accuracies, key=lambda strength: accuracies[strength])
    return _fit(probe, features, labels, best, level)


def _fit(probe: Any, features: np.ndarray, labels: np.ndarray, strength: float, level: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # logged below
        probe.set_params(C=1 / strength).fit(features, labels)
    if probe.n_iter_.max() >= _STEPS:
        logger.log(level, "linear probe: regularisation %g has not converged in %d steps", strength, _STEPS)
    return probe


def _held_out(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns which images are held out, (images,) bool: a fifth of each class, at least one if it has two."""
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for number in np.unique(labels):
        indices = random.permutation(np.flatnonzero(labels == number))
        count = max(round(_HELD_OUT * len(indices)), 1) if len(indices) > 1 else 0
        held_out[indices[:count]] = True
    if not held_out.any():
        raise ValueError("Expected two training images of a class, one to choose the regularisation on. Received: one")
    return held_out


def _check_all_labels(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the labels as arrays, and the number of classes."""
    train_labels = check_labels(train_labels, len(train_features))
    test_labels = check_labels(test_labels, len(test_features))
    return train_labels, test_labels, int(max(train_labels.max(), test_labels.max())) + 1
