"""Features of images: computed once, and kept on disk under what they depend on."""

import hashlib
import logging
import pathlib
import zipfile

import keras
import numpy as np

from keras_vit._atomic import written_aside
from keras_vit._progress import log_progress

logger = logging.getLogger("keras_vit")

_FORMAT = 1  # another number makes all kept files void
_DAMAGE = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile)


def extract(model, batches, count=None):
    """Returns the features of images and their labels, (images, width) and (images,); logs how far it is.

    Args:
        model: gives (batch, width), as `keras_vit.features.representation` makes it.
        batches: (images, labels) pairs, once through.
        count: how many there are, for the log.

    Raises:
        ValueError: if there are no images.
    """
    features, labels = [], []
    for images, some in log_progress(batches, "have features", count):
        features.append(np.asarray(model.predict_on_batch(images)))
        labels.append(np.asarray(some))
    if not features:
        raise ValueError("Expected images to compute features of. Received: none")
    return np.concatenate(features), np.concatenate(labels)


def model_digest(model):
    """Returns the SHA-256 of a model's architecture and weights, and of the backend that computes it; 64 digits.

    Returns None for a subclassed model whose architecture Keras cannot write down.
    """
    try:
        architecture = model.to_json()
    except (NotImplementedError, TypeError):
        return None
    digest = hashlib.sha256(f"{keras.backend.backend()} {architecture}".encode())
    for weight in model.weights:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.view("uint8").reshape(-1))
    return digest.hexdigest()


def kept(folder, parts, compute):
    """Returns features and labels from a folder; computes and writes them where there are none, or damaged ones.

    Args:
        folder: of the kept files.
        parts: all that they depend on, such as the model's digest, the data's, the size; None among them keeps nothing.
        compute: function without arguments that returns (features, labels).
    """
    if None in parts:
        return compute()
    path = pathlib.Path(folder) / f"{hashlib.sha256(repr((_FORMAT, *parts)).encode()).hexdigest()}.npz"
    if path.exists():
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                features, labels = file["features"], file["labels"]
            logger.info("features of %d images from %s", len(features), path)
            return features, labels
        except _DAMAGE as error:
            logger.info("%s is damaged (%s); its features are computed anew", path, error)
    features, labels = compute()
    try:
        with written_aside(path) as aside:
            np.savez(aside, features=features, labels=labels)
    except OSError as error:  # a full or read-only disk costs time alone
        logger.info("features are not kept: %s", error)
    return features, labels
