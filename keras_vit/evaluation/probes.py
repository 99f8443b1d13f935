"""What simple classifiers make of a model's features: nearest neighbours, and a linear probe."""

import logging
import warnings

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.labels import checked_labels

logger = logging.getLogger("keras_vit")

NEIGHBOURS = 20
STRENGTHS = 10.0 ** np.arange(-2, 5)  # of regularisation, that a linear probe chooses from; 1 / C in scikit-learn

_HELD_OUT = 0.2  # part of a class's images that the choice is made on
_STEPS = 1000
_ROWS = 1024  # images compared at once


def knn(train_features, train_labels, test_features, test_labels, k=NEIGHBOURS, temperature=0.07):
    """Returns the `Scores` of the nearest neighbours: each of the k most alike votes for its class.

    Alike is what the cosine of the angle between two features says; a vote weighs exp(cosine / temperature).

    Args:
        train_features: (images, width).
        train_labels: (images,) class numbers.
        test_features: (others, width).
        test_labels: (others,).
        k: neighbours that vote.
        temperature: the smaller, the more the nearest ones weigh.

    Raises:
        ValueError: if there are no images, fewer than k to learn from, or k is below 1.

    Source: arXiv:1805.01978, section 3.4, with the k of DINO, arXiv:2104.14294.
    """
    train_labels, test_labels, classes = _all_labels(train_features, train_labels, test_features, test_labels)
    if not 1 <= (k := checked.integer("k", k, 0)) <= len(train_labels):
        raise ValueError(f"Expected k from 1 to {len(train_labels)}, the training images. Received: k={k}")
    train, test = _directions(train_features), _directions(test_features)
    votes = np.zeros((len(test), classes))
    for start in range(0, len(test), _ROWS):
        cosines = test[start : start + _ROWS] @ train.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        # Less the largest: the weights keep their proportions, and cannot overflow.
        alike = np.take_along_axis(cosines, nearest, axis=1)
        weights = np.exp((alike - alike.max(axis=1, keepdims=True)) / temperature)
        rows = np.arange(start, start + len(cosines))[:, None]
        np.add.at(votes, (rows, train_labels[nearest]), weights)
    return Scores(test_labels, votes / votes.sum(axis=1, keepdims=True))


def _directions(features):
    features = np.asarray(features, "float64")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def linear_probe(train_features, train_labels, test_features, test_labels, strengths=STRENGTHS, seed=0):
    """Returns the `Scores` of a logistic regression on standardised features.

    Its regularisation is the strength that does best on a fifth of each class's training images, held out for that;
    then it learns from all of them.

    Args:
        train_features: (images, width).
        train_labels: (images,) class numbers.
        test_features: (others, width).
        test_labels: (others,).
        strengths: of the regularisation, to choose from.
        seed: draws what is held out.

    Raises:
        ValueError: if there are no images, fewer than two classes, or no class has two images.
    """
    train_labels, test_labels, classes = _all_labels(train_features, train_labels, test_features, test_labels)
    seed = checked.integer("seed", seed, 0)
    if len(set(train_labels.tolist())) < 2:
        raise ValueError(f"Expected images of two classes or more. Received: those of {train_labels[0]} alone")
    train, test = (np.asarray(features, "float64") for features in (train_features, test_features))
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-5
    train, test = (train - mean) / std, (test - mean) / std
    probe = _probe(train, train_labels, strengths, seed)
    probabilities = np.zeros((len(test), classes))
    probabilities[:, probe.classes_] = probe.predict_proba(test)
    return Scores(test_labels, probabilities)


def _probe(features, labels, strengths, seed):
    """Returns a logistic regression of the strength that does best on what is held out; of equal ones the strongest."""
    from sklearn.linear_model import LogisticRegression

    # From the strongest on, each begins where the one before ended: the weaker, the longer the way.
    probe = LogisticRegression(max_iter=_STEPS, warm_start=True)
    held, accuracies = _held_out(labels, seed), {}
    for strength in sorted(strengths, reverse=True):
        _fit(probe, features[~held], labels[~held], strength)
        accuracies[strength] = float(np.mean(probe.predict(features[held]) == labels[held]))
        told = strength, 100 * accuracies[strength]
        logger.info("linear probe: regularisation %g, %.2f%% of the held-out images right", *told)
    return _fit(probe, features, labels, max(accuracies, key=accuracies.get))


def _fit(probe, features, labels, strength):
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said below
        probe.set_params(C=1 / strength).fit(features, labels)
    if probe.n_iter_.max() >= _STEPS:
        logger.info("linear probe: regularisation %g has not converged in %d steps", strength, _STEPS)
    return probe


def _held_out(labels, seed):
    """Returns which images are held out, (images,) bool: a fifth of each class, one at least if it has two."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for number in np.unique(labels):
        indices = random.permutation(np.flatnonzero(labels == number))
        count = max(round(_HELD_OUT * len(indices)), 1) if len(indices) > 1 else 0
        held[indices[:count]] = True
    if not held.any():
        raise ValueError("Expected two training images of a class, one to choose the regularisation on. Received: one")
    return held


def _all_labels(train_features, train_labels, test_features, test_labels):
    """Returns the labels as arrays, and how many classes they number."""
    train_labels = checked_labels(train_labels, len(train_features))
    test_labels = checked_labels(test_labels, len(test_features))
    return train_labels, test_labels, int(max(train_labels.max(), test_labels.max())) + 1
