"""What labels have to be."""

import numpy as np


def checked_labels(labels, images, classes=None):
    """Returns the true classes of images as an array of whole numbers, (images,).

    Args:
        labels: (images,) whole numbers from 0 on.
        images: how many there are.
        classes: how many the model has, where that is known.

    Raises:
        ValueError: if there are no images, or labels are of another shape, no whole numbers, or no classes.
    """
    if not images:
        raise ValueError("Expected images to evaluate on. Received: none")
    labels = np.asarray(labels)
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected a whole number for each of {images} images. Received: labels of shape {labels.shape} and "
            f"type {labels.dtype}. One-hot ones are told by argmax(axis=1)."
        )
    lowest, highest = labels.min(), labels.max()
    if lowest < 0 or highest >= (classes or np.inf):
        wanted = f"from 0 to {classes - 1}, the model's classes" if classes else "from 0 on"
        raise ValueError(f"Expected labels {wanted}. Received: labels from {lowest} to {highest}")
    return labels.astype("int64")
