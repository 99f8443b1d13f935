"""Callbacks that evaluate a model's features during training: few-shot, k-nearest-neighbour and linear probe.

They write their accuracy into the logs at the end of an epoch, so it is in the history of `model.fit`, and callbacks
that come after them in the list can use it: TensorBoard, EarlyStopping, ModelCheckpoint.
"""

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.few_shot import REGULARIZER, few_shot
from keras_vit.evaluation.probes import NEIGHBOURS, knn, linear_probe
from keras_vit.models.features import representation

__all__ = ["KNN", "FeatureCallback", "FewShot", "LinearProbe"]


class FeatureCallback(keras.callbacks.Callback):
    """Base class of callbacks that evaluate the features of a training set and a test set at the end of epochs.

    A subclass defines `compute_metrics`.

    Args:
        train: Training images, scaled as the model expects them, with class numbers: a tuple of two arrays, or batches
            of (images, labels) that can be iterated over repeatedly, such as a list or a tf.data.Dataset.
        test: Test images, the same way.
        every: Number of epochs between evaluations.
        batch_size: Batch size for images in an array.

    Raises:
        ValueError: If `every` or `batch_size` is below 1. At the end of an epoch, if the images, the labels or the
            model's features cannot be used.

    Example:
        ```python
        class FeatureNorm(keras_vit.evaluation.callbacks.FeatureCallback):
            def compute_metrics(self, train_features, train_labels, test_features, test_labels):
                return {"feature_norm": float(np.linalg.norm(test_features, axis=1).mean())}


        images, labels = np.zeros((12, 32, 32, 3), "float32"), np.arange(12) % 2
        callback = FeatureNorm((images, labels), (images, labels), every=10)
        ```
    """

    def __init__(self, train: Any, test: Any, every: int = 1, batch_size: int = 64) -> None:
        super().__init__()
        self.train, self.test = train, test
        self.every, self.batch_size = checked.integer("every", every), checked.integer("batch_size", batch_size)
        self.features: keras.Model | None = None

    def compute_metrics(
        self,
        train_features: np.ndarray,
        train_labels: np.ndarray,
        test_features: np.ndarray,
        test_labels: np.ndarray,
    ) -> dict[str, float]:
        """Returns {name in the logs: value}; features are (images, features), labels (images,)."""
        raise NotImplementedError

    def set_model(self, model: keras.Model) -> None:
        """Sets the model to evaluate."""
        super().set_model(model)
        self.features = None  # those of the previous model

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Computes the metrics and adds them to the logs."""
        if (epoch + 1) % self.every:
            return
        model = self.model  # on JAX, this also copies the weights of the last step into the model
        self.features = self.features or representation(model)
        train = extract_features(self.features, _batches(self.train, self.batch_size))
        test = extract_features(self.features, _batches(self.test, self.batch_size))
        metrics = self.compute_metrics(*train, *test)
        if logs is not None:
            logs.update(metrics)


class FewShot(FeatureCallback):
    """Logs few-shot accuracy, "few_shot_5": of a linear classifier trained on the features of 5 images a class.

    Args:
        train, test, every, batch_size: As of `FeatureCallback`.
        shots: Number of training images a class.
        regularizer: Strength of the L2 regularisation.
        seed: Seed of the choice of the images, which is the same each time.

    Example:
        ```python
        images, labels = np.zeros((12, 32, 32, 3), "float32"), np.arange(12) % 2
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=2)
        model.compile("sgd", "sparse_categorical_crossentropy")
        callback = keras_vit.evaluation.callbacks.FewShot((images, labels), (images, labels))
        history = model.fit(images, labels, epochs=1, verbose=0, callbacks=[callback])
        assert "few_shot_5" in history.history
        ```
    """

    def __init__(
        self,
        train: Any,
        test: Any,
        shots: int = 5,
        regularizer: float = REGULARIZER,
        seed: int = 0,
        every: int = 1,
        batch_size: int = 64,
    ) -> None:
        super().__init__(train, test, every, batch_size)
        self.shots, self.seed = checked.integer("shots", shots), checked.integer("seed", seed, 0)
        self.regularizer = checked.number("regularizer", regularizer, "above 0", lambda value: 0 < value < math.inf)

    def compute_metrics(
        self,
        train_features: np.ndarray,
        train_labels: np.ndarray,
        test_features: np.ndarray,
        test_labels: np.ndarray,
    ) -> dict[str, float]:
        """Returns {"few_shot_5": accuracy}, with the number of shots."""
        arrays = train_features, train_labels, test_features, test_labels
        result = few_shot(*arrays, (self.shots,), (self.regularizer,), self.seed)
        return {f"few_shot_{self.shots}": result.at(self.shots, self.regularizer)}


class KNN(FeatureCallback):
    """Logs k-nearest-neighbour accuracy, "knn".

    Args:
        train, test, every, batch_size: As of `FeatureCallback`.
        k: Number of neighbours that vote.

    Example:
        ```python
        images, labels = np.zeros((12, 32, 32, 3), "float32"), np.arange(12) % 2
        callback = keras_vit.evaluation.callbacks.KNN((images, labels), (images, labels), k=3, every=10)
        ```
    """

    def __init__(self, train: Any, test: Any, k: int = NEIGHBOURS, every: int = 1, batch_size: int = 64) -> None:
        super().__init__(train, test, every, batch_size)
        self.k = checked.integer("k", k)

    def compute_metrics(
        self,
        train_features: np.ndarray,
        train_labels: np.ndarray,
        test_features: np.ndarray,
        test_labels: np.ndarray,
    ) -> dict[str, float]:
        """Returns {"knn": accuracy}."""
        return {"knn": knn(train_features, train_labels, test_features, test_labels, self.k).accuracy}


class LinearProbe(FeatureCallback):
    """Logs linear-probe accuracy, "linear_probe": of a logistic regression on the features.

    Args:
        train, test, every, batch_size: As of `FeatureCallback`.
        seed: Seed of the choice of the images on which the regularisation is chosen.

    Example:
        ```python
        images, labels = np.zeros((12, 32, 32, 3), "float32"), np.arange(12) % 2
        callback = keras_vit.evaluation.callbacks.LinearProbe((images, labels), (images, labels), every=10)
        ```
    """

    def __init__(self, train: Any, test: Any, seed: int = 0, every: int = 1, batch_size: int = 64) -> None:
        super().__init__(train, test, every, batch_size)
        self.seed = checked.integer("seed", seed, 0)

    def compute_metrics(
        self,
        train_features: np.ndarray,
        train_labels: np.ndarray,
        test_features: np.ndarray,
        test_labels: np.ndarray,
    ) -> dict[str, float]:
        """Returns {"linear_probe": accuracy}."""
        arrays = train_features, train_labels, test_features, test_labels
        return {"linear_probe": linear_probe(*arrays, seed=self.seed).accuracy}


def _batches(data: Any, size: int) -> Iterable[tuple[Any, Any]]:
    """Returns batches of (images, labels): slices of a tuple of arrays, or the data itself."""
    if not (isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape")):
        return data
    images, labels = data
    return ((images[start : start + size], labels[start : start + size]) for start in range(0, len(labels), size))
