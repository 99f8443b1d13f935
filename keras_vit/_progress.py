"""Progress messages for users who have not set up logging, as in a notebook; `import keras_vit` prints nothing."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

logger = logging.getLogger("keras_vit")

SECONDS_BETWEEN_UPDATES = 5.0


@contextlib.contextmanager
def show_progress() -> Iterator[None]:
    """Prints the package's log messages during a block, or during the function that it decorates.

    Handlers and levels that a user has set up stay unchanged. To print nothing:
    `logging.getLogger("keras_vit").setLevel(logging.WARNING)`.
    """
    if _is_set_up():
        yield
        return
    handler, tensorflow = _Screen(sys.stdout), logging.getLogger("tensorflow")
    levels = [(each, each.level) for each in (logger, tensorflow)]
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False  # the handler passes records on to the root logger
    logger.setLevel(logger.level or logging.INFO)
    tensorflow.setLevel(max(tensorflow.level, logging.WARNING))  # it names each temporary folder that it writes
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        for each, level in levels:
            each.setLevel(level)


def _is_set_up() -> bool:
    """Returns whether a user has set up logging."""
    if logger.handlers or not logger.propagate:
        return True
    root = logging.getLogger()
    # Colab's kernel and test runners give the root logger a handler; only its level shows that the user did not.
    is_printed = root.handlers and logger.isEnabledFor(logging.INFO)
    return bool(is_printed) or max(logger.level, root.level if root.level != logging.WARNING else 0) > logging.INFO


class _Screen(logging.StreamHandler[TextIO]):
    """Prints records, except those that the root logger's handlers print: each is printed once."""

    def emit(self, record: logging.LogRecord) -> None:
        root = logging.getLogger()
        if root.handlers and record.levelno >= root.level:
            root.callHandlers(record)
        else:
            super().emit(record)


def seconds_between_updates() -> float | None:
    """Returns the seconds between two updates of a progress line; None where the output is not a screen."""
    if not logger.isEnabledFor(logging.INFO):
        return None
    if sys.stdout.isatty():
        return 0.5
    # A notebook shows "\r" as a terminal does, but saves every update in the file.
    return 2.0 if type(sys.stdout).__module__ == "ipykernel.iostream" else None


def log_progress(
    batches: Iterable[tuple[Any, Any]], done_text: str, count: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yields batches of (images, labels), and logs every few seconds how many images are done, and how many a second.

    Args:
        batches: batches of one pass over the images.
        done_text: past participle for the log, as "scored".
        count: number of all images, if known.
    """
    done, logged, start = 0, 0, time.monotonic()
    next_update = start + SECONDS_BETWEEN_UPDATES

    def log() -> int:
        speed = done / max(time.monotonic() - start, 1e-9)
        shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
        logger.info("%d%s images %s, %s images/s", done, f" of {count}" if count else "", done_text, shown)
        return done

    for images, labels in batches:
        yield images, labels
        done += len(labels)
        if time.monotonic() >= next_update:
            logged, next_update = log(), time.monotonic() + SECONDS_BETWEEN_UPDATES
    if 0 < logged < done:
        log()
