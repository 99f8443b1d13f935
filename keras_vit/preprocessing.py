"""The pixel contract: a model reads RGB from -1 (black) to 1 (white).

One definition for tf.data, for exported graphs and for users. Source: the official `input_pipeline.py`.
"""

import keras
import numpy as np

SCALE, OFFSET = 1 / 127.5, -1.0


def preprocess_input(images):
    """Scales pixels from 0..255 to -1..1.

    Args:
        images: RGB pixels from 0 to 255 of any shape and number type: a NumPy array, a tensor of the backend, a
            Keras tensor, or a TensorFlow tensor inside tf.data on any backend.

    Returns:
        The same shape in float32; a NumPy array for a NumPy array.
    """
    if isinstance(images, np.ndarray):
        return images.astype("float32") * np.float32(SCALE) + np.float32(OFFSET)
    return rescaling()(images)


def rescaling(**kwargs):
    """Returns the same contract as a Keras layer, to build into a model."""
    return keras.layers.Rescaling(SCALE, OFFSET, dtype="float32", **kwargs)
