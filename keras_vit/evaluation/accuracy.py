"""Accuracy, confusion and what the model was most wrong about."""

import dataclasses

import keras
import numpy as np

from keras_vit.evaluation.labels import checked_labels


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Holds what a model said of images whose classes are known.

    Args:
        labels: (images,) the true classes.
        probabilities: (images, classes) the model's.
    """

    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predictions(self):
        """The most probable class of each image, (images,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self):
        """The part of the images whose most probable class is the true one."""
        return self.top(1)

    def top(self, k):
        """Returns the part of the images whose true class is among the k most probable."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float(np.mean((best == self.labels[:, None]).any(axis=1)))

    @property
    def per_class(self):
        """The part that is right of each class's images, (classes,); NaN for a class without images."""
        confusion = self.confusion
        counts = confusion.sum(axis=1)
        return np.divide(confusion.diagonal(), counts, out=np.full(len(counts), np.nan), where=counts > 0)

    @property
    def confusion(self):
        """Numbers of images, (true class, predicted class)."""
        classes = self.probabilities.shape[1]
        return np.bincount(self.labels * classes + self.predictions, minlength=classes**2).reshape(classes, classes)

    @property
    def mistakes(self):
        """Indices of the wrongly classified images, the most confident first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")]

    def among(self, classes):
        """Returns the `Scores` on the images of some classes, where the model has no others to choose from.

        As for ImageNet-A and -R, of 200 of the model's 1,000 classes.

        Args:
            classes: their numbers; the classes of what is returned are these, in this order.

        Raises:
            ValueError: if one is none of the model's or stands there twice, or there are no images of them.
        """
        classes, among = np.asarray(classes, "int64"), self.probabilities.shape[1]
        if not len(classes) or len(set(classes)) < len(classes) or classes.min() < 0 or classes.max() >= among:
            raise ValueError(f"Expected different classes from 0 to {among - 1}. Received: classes={classes.tolist()}")
        new = np.full(among, -1)
        new[classes] = np.arange(len(classes))
        kept = new[self.labels] >= 0
        if not kept.any():
            raise ValueError("Expected images of the listed classes. Received: images of other classes alone")
        rest = self.probabilities[kept][:, classes]
        total = rest.sum(axis=1, keepdims=True)
        return Scores(new[self.labels[kept]], np.divide(rest, total, out=np.zeros_like(rest), where=total > 0))


def score(model, batches, flips=False):
    """Returns the `Scores` of a model that gives probabilities.

    Args:
        model: a Keras model, (batch, rows, columns, channels) -> (batch, classes).
        batches: (images, labels) pairs, once through.
        flips: whether an image's probabilities are the mean of its own and its mirror image's.

    Raises:
        ValueError: if there are no images, or a label is none of the model's classes.
    """
    outputs = [(np.asarray(labels), _probabilities(model, images, flips)) for images, labels in batches]
    if not outputs:
        raise ValueError("Expected images to evaluate on. Received: none")
    labels, probabilities = (np.concatenate(parts) for parts in zip(*outputs))
    return Scores(checked_labels(labels, *probabilities.shape), probabilities)


def _probabilities(model, images, flips):
    images = keras.tree.map_structure(np.asarray, images)  # JAX takes none of TensorFlow's tensors
    probabilities = np.asarray(model.predict_on_batch(images))
    if flips:
        probabilities = (probabilities + np.asarray(model.predict_on_batch(images[:, :, ::-1]))) / 2
    return probabilities
