"""Features of images: extracts them in batches, and caches them on disk by what they depend on."""

import hashlib
import logging
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit._atomic import written_aside
from keras_vit._progress import log_progress
from keras_vit.evaluation.predictions import predicted

logger = logging.getLogger("keras_vit")

_FORMAT = 1  # increase this to invalidate all cached files
_DAMAGE = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile)


def extract_features(
    model: keras.Model, batches: Iterable[tuple[Any, Any]], count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the features of images, batch by batch, and logs the progress.

    Args:
        model: Returns features, (batch, features), as `keras_vit.representation` makes it.
        batches: (images, labels) pairs, read once.
        count: Number of images, for the log.

    Returns:
        The features, (images, features), and the labels, (images,).

    Raises:
        ValueError: If there are no images.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        batches = [(np.zeros((4, 32, 32, 3), "float32"), np.arange(4))]
        features, labels = keras_vit.evaluation.extract_features(keras_vit.representation(model), batches)
        assert features.shape == (4, 32)
        ```
    """
    labels, features = predicted(model, log_progress(batches, "have features", count))
    return features.astype(np.float32), labels


def model_digest(model: keras.Model) -> str | None:
    """Returns the SHA-256 of a model's architecture, weights and backend, 64 hexadecimal digits.

    Returns None for a subclassed model that Keras cannot serialize.
    """
    try:
        architecture = model.to_json()
    except (NotImplementedError, TypeError):
        return None
    digest = hashlib.sha256(f"{keras.backend.backend()} {architecture}".encode())
    for weight in model.weights:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.view("uint8").reshape(-1).data)
    return digest.hexdigest()


def cached_features(
    folder: str | os.PathLike[str],
    key: tuple[Any, ...],
    compute: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Reads features and labels from a cache folder; computes and writes them if they are missing or damaged.

    Args:
        folder: Folder of the cached files.
        key: All that the features depend on, such as the digests of model and data and the image size. With None among
            them nothing is cached.
        compute: Function without arguments that returns (features, labels).

    Returns:
        The features and the labels.
    """
    if None in key:
        return compute()
    path = pathlib.Path(folder) / f"{hashlib.sha256(repr((_FORMAT, *key)).encode()).hexdigest()}.npz"
    if path.exists():
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                features, labels = file["features"], file["labels"]
            logger.info("features of %s from %s", counted(len(features), "image"), path)
            return features, labels
        except _DAMAGE as error:
            logger.info("%s is damaged (%s); its features are computed again", path, error)
    features, labels = compute()
    try:
        with written_aside(path) as aside:
            np.savez(aside, features=features, labels=labels)
    except OSError as error:  # a full or read-only disk only costs time
        logger.info("features are not cached: %s", error)
    return features, labels
