"""Judges a model's features while it is trained: callbacks for `model.fit`.

What they find is in the logs at the end of an epoch, so that the history has it, and what stands behind them among the
callbacks: TensorBoard, EarlyStopping, ModelCheckpoint.
"""

import math

import keras

from keras_vit import _arguments as checked
from keras_vit.evaluation.feature_cache import extract
from keras_vit.evaluation.few_shot import REGULARIZER, few_shot
from keras_vit.evaluation.probes import NEIGHBOURS, knn, linear_probe
from keras_vit.models.features import representation


class FeatureCallback(keras.callbacks.Callback):
    """Computes features of two sets of images at the end of epochs, and logs what a `judge` finds.

    Args:
        train: images to learn from, scaled as the model wants them, with class numbers: a tuple of two arrays, or
            batches of (images, labels) that can be gone through again and again, as a list or a tf.data.Dataset.
        test: those to judge on.
        every: epochs from one time to the next.
        batch_size: of images that come as an array.

    Raises:
        ValueError: if `every` or `batch_size` is below 1. At the end of an epoch, if the images, the labels or the
            model's features cannot be used.
    """

    def __init__(self, train, test, every=1, batch_size=64):
        super().__init__()
        self.train, self.test = train, test
        self.every, self.batch_size = checked.integer("every", every), checked.integer("batch_size", batch_size)
        self.features = None

    def judge(self, train_features, train_labels, test_features, test_labels):
        """Returns {name in the logs: number}."""
        raise NotImplementedError

    def set_model(self, model):
        super().set_model(model)
        self.features = None  # of the model before

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        model = self.model  # on JAX, this also gives the model the weights of the last step
        self.features = self.features or representation(model)
        both = (extract(self.features, _batches(images, self.batch_size)) for images in (self.train, self.test))
        found = self.judge(*(array for pair in both for array in pair))
        if logs is not None:
            logs.update(found)


class FewShot(FeatureCallback):
    """Logs "few_shot_5": the accuracy of a linear classifier that learned from 5 images a class.

    Args:
        train, test, every, batch_size: as in `FeatureCallback`.
        shots: images a class.
        regularizer: how strongly the weights are held down.
        seed: draws the images, the same each time.
    """

    def __init__(self, train, test, shots=5, regularizer=REGULARIZER, seed=0, **kwargs):
        super().__init__(train, test, **kwargs)
        self.shots, self.seed = checked.integer("shots", shots), checked.integer("seed", seed, 0)
        self.regularizer = checked.number("regularizer", regularizer, "above 0", lambda value: 0 < value < math.inf)

    def judge(self, *features_and_labels):
        found = few_shot(*features_and_labels, (self.shots,), (self.regularizer,), self.seed)
        return {f"few_shot_{self.shots}": found.at(self.shots, self.regularizer)}


class KNN(FeatureCallback):
    """Logs "knn": the accuracy of the nearest neighbours.

    Args:
        train, test, every, batch_size: as in `FeatureCallback`.
        k: neighbours that vote.
    """

    def __init__(self, train, test, k=NEIGHBOURS, **kwargs):
        super().__init__(train, test, **kwargs)
        self.k = checked.integer("k", k)

    def judge(self, *features_and_labels):
        return {"knn": knn(*features_and_labels, self.k).accuracy}


class LinearProbe(FeatureCallback):
    """Logs "linear_probe": the accuracy of a logistic regression.

    Args:
        train, test, every, batch_size: as in `FeatureCallback`.
        seed: draws what its regularisation is chosen on.
    """

    def __init__(self, train, test, seed=0, **kwargs):
        super().__init__(train, test, **kwargs)
        self.seed = checked.integer("seed", seed, 0)

    def judge(self, *features_and_labels):
        return {"linear_probe": linear_probe(*features_and_labels, seed=self.seed).accuracy}


def _batches(data, size):
    """Returns batches of (images, labels): cut from a tuple of arrays, or as they are."""
    if not (isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape")):
        return data
    images, labels = data
    return ((images[start : start + size], labels[start : start + size]) for start in range(0, len(labels), size))
