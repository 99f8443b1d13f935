"""Keeps off the screen what C++ code writes there."""

import contextlib
import importlib
import logging
import os
import sys

import keras_vit


@contextlib.contextmanager
def quiet():
    """Keeps what is written past Python to the error stream off the screen: notes that no user can act on.

    Python's errors still come through, after the block.
    """
    sys.stderr.flush()
    screen = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)


def imported(name="workflow"):
    """Imports a part of the package that does the work of a command; with Keras' backend, this takes seconds.

    The public names come first, which registers the layers of saved models with Keras.
    """
    # TensorFlow's notes on CPUs and missing GPUs, the ones at its import and the later ones.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Each look into a model is a function of its own, of which there may be many: no fault of the user's.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with quiet():
        keras_vit._import_public()
        return importlib.import_module(f"keras_vit.{name}")
