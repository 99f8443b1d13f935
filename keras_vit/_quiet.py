"""Hides what C++ libraries write to the error stream."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what C++ libraries write to the error stream during a block: notes that no user can act on.

    Python's exceptions are raised as usual.
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
