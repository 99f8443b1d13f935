"""Shows how far long work is where nobody has set up logging, as in a notebook; `import keras_vit` alone is silent."""

import contextlib
import logging
import sys
import time

logger = logging.getLogger("keras_vit")

SECONDS_BETWEEN_NEWS = 5.0


@contextlib.contextmanager
def show_progress():
    """Prints what the package logs while a block, or a function that this decorates, runs.

    Logging that a user has set up stays as it is: handlers, and levels that ask for less. For silence:
    `logging.getLogger("keras_vit").setLevel(logging.WARNING)`.
    """
    if _is_set_up():
        yield
        return
    handler, tensorflow = _Screen(sys.stdout), logging.getLogger("tensorflow")
    levels = [(some, some.level) for some in (logger, tensorflow)]
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False  # the handler passes on what the root logger takes
    logger.setLevel(logger.level or logging.INFO)
    tensorflow.setLevel(max(tensorflow.level, logging.WARNING))  # it names each temporary folder that it writes
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        for some, level in levels:
            some.setLevel(level)


def _is_set_up():
    if logger.handlers or not logger.propagate:
        return True
    root = logging.getLogger()
    # Colab's kernel gives the root logger a handler, and so do test runners; the level alone tells that nobody chose.
    heard = root.handlers and logger.isEnabledFor(logging.INFO)
    return bool(heard) or max(logger.level, root.level if root.level != logging.WARNING else 0) > logging.INFO


class _Screen(logging.StreamHandler):
    """Prints records, but for those that the root logger's handlers take: nothing is said twice."""

    def emit(self, record):
        root = logging.getLogger()
        if root.handlers and record.levelno >= root.level:
            root.callHandlers(record)
        else:
            super().emit(record)


def seconds_between_updates() -> float | None:
    """Returns how long a line stands that is written over, seconds; None where nobody would see it move."""
    if not logger.isEnabledFor(logging.INFO):
        return None
    if sys.stdout.isatty():
        return 0.5
    # A notebook shows "\r" as a terminal does, but keeps all that was written until its page is saved.
    return 2.0 if type(sys.stdout).__module__ == "ipykernel.iostream" else None


def log_progress(batches, what, count=None):
    """Yields batches of (images, labels), and logs every few seconds how many images are done.

    Args:
        batches: once through.
        what: is done with them, as "judged".
        count: how many there are, where that is known.
    """
    done, news = 0, time.monotonic() + SECONDS_BETWEEN_NEWS
    for images, labels in batches:
        yield images, labels
        done += len(labels)
        if time.monotonic() >= news:
            logger.info("%d%s images %s", done, f" of {count}" if count else "", what)
            news = time.monotonic() + SECONDS_BETWEEN_NEWS
