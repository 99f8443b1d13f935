"""Feature maps of the convolutions of a hybrid or a BiT."""

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit.analysis.geometry import require_layers, stage_of
from keras_vit.analysis.reading import Reading
from keras_vit.layers import Bottleneck, Stem
from keras_vit.models.hooks import Watch, layers_of


def stage_maps(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the feature map of each stage of convolutions.

    Args:
        model: any Keras model that contains a hybrid or a BiT of keras_vit.
        images: (images, height, width, channels), preprocessed as the model reads them.

    Returns:
        {"stem": (images, rows, columns, channels), "stage1": ..., ...}.

    Raises:
        ValueError: if the model has no convolutions of keras_vit, or reads images of another size.

    Example:
        ```python
        model = keras_vit.build(keras_vit.ResNet((1, 1), (128, 256), 32), input_shape=(32, 32, 3), classes=3)
        maps = keras_vit.analysis.stage_maps(model, np.zeros((2, 32, 32, 3), "float32"))
        assert maps["stage2"].shape == (2, 4, 4, 256)
        ```
    """
    images = require_layers(model, images, Stem)
    return stage_maps_reading(model).of(images)


def stage_maps_reading(model: keras.Model) -> Reading:
    """Returns the reading of `stage_maps`."""
    last = {stage_of(layer): layer for layer in layers_of(model, (Stem, Bottleneck))}  # the last one of each stage
    return Reading(Watch(model, list(last.values())), lambda maps: dict(zip(last, maps)))


def strongest_channels(maps: np.ndarray, count: int = 5) -> np.ndarray:
    """Selects the channels of feature maps with the largest standard deviation over each image.

    Args:
        maps: (images, rows, columns, channels).
        count: number of channels; all of them if there are fewer.

    Returns:
        (images, rows, columns, count), the largest deviation first.

    Raises:
        ValueError: if the maps have another number of axes, or `count` is below 1.

    Example:
        ```python
        maps = np.random.default_rng(0).normal(size=(2, 4, 4, 16))
        assert keras_vit.analysis.strongest_channels(maps, count=3).shape == (2, 4, 4, 3)
        ```
    """
    count = checked.integer("count", count)
    if np.ndim(maps) != 4:
        raise ValueError(f"Expected maps (images, rows, columns, channels). Received: maps of shape {np.shape(maps)}")
    order = np.argsort(-maps.std(axis=(1, 2)), axis=1, kind="stable")[:, :count]
    return np.take_along_axis(maps, order[:, None, None], axis=3)
