"""Images whose label may be wrong: labels that a classifier of the features of other images finds improbable."""

import dataclasses
import logging
import warnings

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.evaluation.accuracy import check_labels

logger = logging.getLogger("keras_vit")

FOLDS = 5
_STRENGTHS = (1e3, 1e2, 1e1, 1e0)  # strengths to choose from, the strongest first; 1 / C in scikit-learn
_STEPS = 300


@dataclasses.dataclass(frozen=True, eq=False)
class LabelErrors:
    """How probable the labels of images are, by classifiers that have not seen the image.

    Args:
        labels: (images,) class numbers, or (images, labels) 1 where an image has a label and else 0.
        probabilities: (images, classes) or (images, labels), out of fold.
        unchecked: (images,) bool, images that no classifier can check: their class has no other image.
        small: numbers of the classes with fewer images, or groups of them, than folds; their scores mean less.

    Example:
        ```python
        labels, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
        errors = keras_vit.evaluation.LabelErrors(labels, probabilities, np.zeros(3, bool), ())
        assert errors.order.tolist() == [1, 2, 0] and errors.doubted.tolist() == [1]
        assert errors.likelier[1] == 0
        ```
    """

    labels: np.ndarray
    probabilities: np.ndarray
    unchecked: np.ndarray
    small: tuple[int, ...]

    @property
    def scores(self) -> np.ndarray:
        """The probability that the label of each image is wrong, (images,); of several labels, that of the worst."""
        return np.where(self.unchecked, 0.0, self._wrong.max(axis=1))

    @property
    def likelier(self) -> np.ndarray:
        """The most probable other class of each image, (images,); or its labels with the doubted ones reversed."""
        if self.labels.ndim == 1:
            return np.where(_one_hot(self.labels, self.probabilities), -1.0, self.probabilities).argmax(axis=1)
        worst = self._wrong == self._wrong.max(axis=1, keepdims=True)
        return np.where(worst | (self._wrong > 0.5), 1 - self.labels, self.labels)

    @property
    def order(self) -> np.ndarray:
        """The indices of the images, (images,), the least probable label first."""
        return np.argsort(-self.scores, kind="stable")

    @property
    def doubted(self) -> np.ndarray:
        """The indices of the images for which another class, or another set of labels, is more probable, in order."""
        if self.labels.ndim == 1:
            other = np.take_along_axis(self.probabilities, self.likelier[:, None], axis=1)[:, 0]
            less = self.probabilities[np.arange(len(self.labels)), self.labels] < other
        else:
            less = self._wrong.max(axis=1) > 0.5
        return self.order[(less & ~self.unchecked)[self.order]]

    @property
    def agreement(self) -> float:
        """The share of the images whose label is the most probable one, 0 to 1: how well the features separate them."""
        return 1 - len(self.doubted) / max(int((~self.unchecked).sum()), 1)

    @property
    def _wrong(self) -> np.ndarray:
        """The probability that each label is wrong, (images, labels); one column for the class."""
        if self.labels.ndim == 1:
            return 1 - np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)
        return np.abs(self.labels - self.probabilities)


def label_errors(
    features: np.ndarray, labels: np.ndarray, units: np.ndarray | None = None, seed: int = 0
) -> LabelErrors:
    """Finds images whose label may be wrong, from the features of a model.

    Five times, a logistic regression is fitted on four fifths of each class and predicts the others, so that none
    predicts an image that it was fitted on. The score of an image is 1 - the probability of its label. The strength of
    the regularisation is the one with the least cross-entropy of these predictions.

    Features of a model that was trained on the same labels have memorised wrong ones: use those of another, such as the
    checkpoint that it started from.

    Args:
        features: (images, features).
        labels: (images,) class numbers; or (images, labels) of 0 and 1, for each of which a regression is fitted.
        units: (images,) numbers, the same for images that belong together, such as copies of one image: they are in one
            fold. None for none that do.
        seed: of the folds.

    Returns:
        The `LabelErrors`.

    Raises:
        ValueError: if there are no images, only one class, or the arrays have other shapes.

    Example:
        ```python
        features, labels = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
        features[:, 0] += 8 * labels
        labels[7] = 0
        assert keras_vit.evaluation.label_errors(features, labels).order[0] == 7
        ```

    Source: C. Northcutt, L. Jiang and I. Chuang, Confident learning, arXiv:1911.00068, section 3, "self-confidence".
    """
    seed = checked.integer("seed", seed, 0)
    labels = np.asarray(labels)
    units = np.arange(len(features)) if units is None else np.unique(units, return_inverse=True)[1].reshape(-1)
    if len(units) != len(features):
        raise ValueError(f"Expected a unit for each of {len(features)} images. Received: {len(units)} units")
    features = np.asarray(features, "float32")
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-5)
    if labels.ndim != 2:
        labels = check_labels(labels, len(features))
        if len(np.unique(labels)) < 2:
            raise ValueError("Expected images of two classes or more. Received: images of one")
        return _of_classes(features, labels, units, seed)
    if len(labels) != len(features) or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"Expected labels of 0 and 1, (images, labels), for {len(features)} images. Received: {labels.shape}"
        )
    probabilities, small = np.empty(labels.shape), []
    for number, column in enumerate(labels.astype("int64").T):
        if len(np.unique(column)) < 2:  # all images have the label, or none: nothing to learn
            probabilities[:, number] = column
            continue
        of_label = _of_classes(features, column, units, seed)
        probabilities[:, number] = np.where(of_label.unchecked, column, of_label.probabilities[:, 1])
        small += [number] * bool(of_label.small)
    return LabelErrors(labels, probabilities, np.zeros(len(labels), bool), tuple(small))


def _of_classes(features: np.ndarray, labels: np.ndarray, units: np.ndarray, seed: int) -> LabelErrors:
    folds = _folds(labels, units, seed)
    counts = np.zeros((labels.max() + 1, FOLDS), np.int64)
    np.add.at(counts, (labels, folds), 1)
    unchecked = counts[labels, folds] == counts.sum(axis=1)[labels]  # no other fold has an image of the class
    best, least = np.zeros(counts.shape), np.inf
    for strength in _STRENGTHS:
        probabilities = _out_of_fold(features, labels, folds, strength)
        of_label = probabilities[~unchecked, labels[~unchecked]]
        loss = float(-np.log(np.maximum(of_label, 1e-6)).mean()) if len(of_label) else 0.0
        logger.debug("regularisation %g, cross-entropy of the labels %.3f", strength, loss)
        if loss >= least:
            break
        best, least = probabilities, loss
    units_of_class = np.bincount(np.unique(np.stack([labels, units]), axis=1)[0])
    small = np.flatnonzero((units_of_class > 0) & (units_of_class < FOLDS))
    return LabelErrors(labels, best, unchecked, tuple(small.tolist()))


def _folds(labels: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """Returns the fold of each image, (images,): units whole, and the images of each class in all folds alike."""
    order = np.random.default_rng(seed).permutation(units.max() + 1)
    members = np.split(np.argsort(units, kind="stable"), np.cumsum(np.bincount(units))[:-1])
    counts = np.zeros((labels.max() + 1, FOLDS), np.int64)  # images of each class in each fold
    folds = np.empty(len(labels), np.int64)
    for unit in sorted(order.tolist(), key=lambda unit: -len(members[unit])):  # the largest first
        of_unit = labels[members[unit]]
        fold = np.lexsort([counts.sum(axis=0), counts[of_unit].sum(axis=0)])[0]
        folds[members[unit]] = fold
        np.add.at(counts[:, fold], of_unit, 1)
    return folds


def _out_of_fold(features: np.ndarray, labels: np.ndarray, folds: np.ndarray, strength: float) -> np.ndarray:
    """Returns the probabilities of all classes, (images, classes), by regressions on the other folds."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probabilities = np.zeros((len(labels), labels.max() + 1))
    for fold in np.unique(folds):
        held_out = folds == fold
        present = np.unique(labels[~held_out])
        if len(present) < 2:  # a regression needs two classes
            probabilities[np.ix_(held_out, present)] = 1.0
            continue
        regression = LogisticRegression(C=1 / strength, max_iter=_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # weak regularisation: as good after some hundred steps
            regression.fit(features[~held_out], labels[~held_out])
        probabilities[np.ix_(held_out, present)] = regression.predict_proba(features[held_out])
    return probabilities


def _one_hot(labels: np.ndarray, like: np.ndarray) -> np.ndarray:
    return labels[:, None] == np.arange(like.shape[1])
