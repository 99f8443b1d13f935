"""Reads what layers compute while a model runs, for several analyses in one run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_vit.models.hooks import Watch, Watches

BATCH = 8  # images in a forward pass; the attention of a ViT-B/16 has 22 MB per image


@dataclasses.dataclass(frozen=True)
class Reading:
    """What an analysis reads while a model runs, and what it makes of that.

    Args:
        watch: of the model.
        finish: function of what the watch returns for a batch of images, a list of arrays; returns the result for these
            images, an array (images, ...), or a list or a dictionary of such arrays.
    """

    watch: Watch
    finish: Callable[[list[np.ndarray]], Any]

    def of(self, images: np.ndarray) -> Any:
        """Returns the result for images (images, height, width, channels)."""
        return read_together({"alone": self}, images)["alone"]


def read_together(readings: Mapping[str, Reading], images: np.ndarray) -> dict[str, Any]:
    """Runs a model once on each image for several readings of it, and returns the result of each by its name.

    Args:
        readings: of the same model.
        images: (images, height, width, channels), preprocessed as the model reads them.
    """
    if not readings:
        return {}
    watches = Watches([reading.watch for reading in readings.values()])
    results = []
    # In batches: the attention of all images would fill the memory. Of one size, if possible: each size is traced.
    for batch in np.array_split(images, math.ceil(len(images) / BATCH)):
        kept = watches.predict_on_batch(batch)
        results.append([reading.finish(values) for reading, values in zip(readings.values(), kept, strict=True)])
    return dict(zip(readings, keras.tree.map_structure(lambda *parts: np.concatenate(parts), *results)))
