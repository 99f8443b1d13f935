"""Keeps off the screen what C++ code writes there."""

import contextlib
import os
import sys


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
