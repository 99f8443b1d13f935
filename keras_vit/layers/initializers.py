"""What weights start from."""

import contextlib
import contextvars

import keras

_ARE_LOADED = contextvars.ContextVar("weights are loaded", default=False)


@contextlib.contextmanager
def weights_to_come():
    """Lets layers that are built within start at zeros: random numbers for a checkpoint to replace cost a second."""
    token = _ARE_LOADED.set(True)
    try:
        yield
    finally:
        _ARE_LOADED.reset(token)


def initial(initializer):
    """Returns the initializer, or zeros where a checkpoint's weights are to come."""
    return keras.initializers.Zeros() if _ARE_LOADED.get() else keras.initializers.get(initializer)
