"""Says how far long work has come."""

import logging
import time

logger = logging.getLogger("keras_vit")

SECONDS_BETWEEN_NEWS = 5.0


def told(batches, what, pictures=None):
    """Yields batches of (pictures, labels), and logs every few seconds how many pictures are done.

    Args:
        batches: once through.
        what: is done with them, as "judged".
        pictures: how many there are, where that is known.
    """
    done, news = 0, time.monotonic() + SECONDS_BETWEEN_NEWS
    for images, labels in batches:
        yield images, labels
        done += len(labels)
        if time.monotonic() >= news:
            logger.info("%d%s pictures %s", done, f" of {pictures}" if pictures else "", what)
            news = time.monotonic() + SECONDS_BETWEEN_NEWS
