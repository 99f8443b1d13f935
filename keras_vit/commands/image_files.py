"""Reads the image files that a command line names, batch by batch, at the input size of a model."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_vit.data.damage import damage
from keras_vit.data.decoding import read_file
from keras_vit.data.messages import listed, one_line

logger = logging.getLogger("keras_vit")

_BATCH_SIZE = 64  # images


def read_batches(model: Any, images: Sequence[Any], size: int = _BATCH_SIZE) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yields images at the input size of a model, batch by batch: (indices, uint8 (batch, height, width, 3)).

    Logs a warning for each image that is damaged and can be decoded all the same.

    Args:
        model: an `ImageModel` or an exported file.
        images: paths.
        size: number of images in a batch.

    Raises:
        ValueError: after the last batch, if images cannot be read; one message lists them all. Their batches lack them.
    """
    faults = []
    for start in range(0, len(images), size):
        indices, pixels = [], []
        for i, image in enumerate(images[start : start + size], start):
            try:
                pixels.append(model.read(image))
                indices.append(i)
                if reason := damage(read_file(image)):
                    logger.warning("%s: %s", "bytes" if isinstance(image, bytes) else one_line(str(image)), reason)
            except ValueError as error:
                faults.append(str(error))
        if pixels:
            yield indices, np.stack(pixels)
    if faults:
        raise ValueError("\n".join(["Images cannot be read:", *listed(faults)]))


def read_images(model: Any, images: Sequence[Any]) -> np.ndarray:
    """Returns images at the input size of a model, uint8 (images, height, width, 3).

    Args:
        model: an `ImageModel` or an exported file.
        images: paths.

    Raises:
        ValueError: if images cannot be read; one message lists them all.
    """
    return np.concatenate([pixels for _, pixels in read_batches(model, images)])
