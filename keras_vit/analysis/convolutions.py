"""What the convolutions of a hybrid or a BiT find in an image."""

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.analysis.geometry import require_layers, stage_of
from keras_vit.layers import Bottleneck, Stem
from keras_vit.models.hooks import Watch, layers_of


def stage_maps(model, images):
    """Returns the map that each stage gives, {"stem": (images, rows, columns, channels), "stage1": ..., ...}.

    Args:
        model: any Keras model that contains a hybrid or a BiT of ours.
        images: (images, rows, columns, channels), preprocessed.

    Raises:
        ValueError: if the model has no convolutions of ours, or takes images of another size.
    """
    images = require_layers(model, images, Stem)
    last = {stage_of(layer): layer for layer in layers_of(model, (Stem, Bottleneck))}  # the last of a name stays
    maps = Watch(model, list(last.values())).predict(images, batch_size=8, verbose=0)
    return dict(zip(last, maps))


def strongest_channels(maps, count=5):
    """Returns the channels of maps that vary most over an image, (images, rows, columns, count), the first first.

    Args:
        maps: (images, rows, columns, channels).
        count: how many; fewer where there are no more.
    """
    count = checked.whole("count", count)
    if np.ndim(maps) != 4:
        raise ValueError(f"Expected maps (images, rows, columns, channels). Received: maps of shape {np.shape(maps)}")
    order = np.argsort(-maps.std(axis=(1, 2)), axis=1, kind="stable")[:, :count]
    return np.take_along_axis(maps, order[:, None, None], axis=3)
