"""Vision Transformers for Keras: from a published checkpoint, or from one's own pictures, to a phone."""

import importlib
import os
import sys

__version__ = "0.1.0"

# `import keras_vit` registers the layers with Keras, so that a saved model loads. Only the command line does without
# until it needs them: Keras brings its backend, TensorFlow takes seconds, and `keras-vit --help` answers at once.
_IS_COMMAND = os.path.basename(next(iter(sys.argv), "")).startswith("keras-vit")

if not _IS_COMMAND:
    from keras_vit.public import *  # noqa: F403


def __getattr__(name):
    """Returns a public name that has not been imported yet, or a part that is not imported with the rest."""
    if name in ("analysis", "callbacks", "export"):  # the last imports TensorFlow
        return importlib.import_module(f"keras_vit.{name}")
    return getattr(importlib.import_module("keras_vit.public"), name)
