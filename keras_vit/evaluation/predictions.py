"""A model's outputs for batches of images, beside what these should be."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def predicted(model: keras.Model, batches: Iterable[tuple[Any, Any]], flips: bool = False) -> tuple[np.ndarray, Any]:
    """Returns the targets of all images, and the outputs of a model for these, batch by batch.

    Args:
        model: Returns an array (batch, ...), or a dictionary or list of such.
        batches: (images, targets) pairs, read once.
        flips: Whether the outputs are the means of those for each image and its mirror image.

    Returns:
        (targets, outputs): the targets of all images, (images, ...), and the outputs in the structure of the model's.

    Raises:
        ValueError: If there are no images.

    Example:
        ```python
        from keras_vit.evaluation.predictions import predicted

        model = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(2.0)])
        targets, outputs = predicted(model, [(np.ones((3, 2)), np.arange(3)), (np.ones((1, 2)), np.arange(1))])
        assert targets.tolist() == [0, 1, 2, 0] and outputs.tolist() == [[2, 2]] * 4
        ```
    """
    parts = []
    for images, targets in batches:
        images = keras.tree.map_structure(np.asarray, images)  # JAX does not accept TensorFlow's tensors
        outputs = keras.tree.map_structure(np.asarray, model.predict_on_batch(images))
        if flips:
            mirrored = model.predict_on_batch(images[:, :, ::-1])
            outputs = keras.tree.map_structure(lambda one, two: (one + np.asarray(two)) / 2, outputs, mirrored)
        parts.append((np.asarray(targets), outputs))
    if not parts:
        raise ValueError("Expected images to evaluate on. Received: no images")
    targets, outputs = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
    return targets, outputs
