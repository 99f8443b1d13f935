"""Initializers that are skipped where a checkpoint is about to be loaded."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras

_ARE_LOADED = contextvars.ContextVar("weights are loaded", default=False)


@contextlib.contextmanager
def weights_to_come() -> Iterator[None]:
    """Initializes layers that are built inside the block with zeros.

    A checkpoint replaces these weights, and random numbers would take a second.
    """
    token = _ARE_LOADED.set(True)
    try:
        yield
    finally:
        _ARE_LOADED.reset(token)


def initial(initializer: str | keras.initializers.Initializer) -> keras.initializers.Initializer:
    """Returns the initializer, or zeros inside `weights_to_come`."""
    return keras.initializers.Zeros() if _ARE_LOADED.get() else keras.initializers.get(initializer)
