"""What a person sees of a run while it goes."""

import contextlib
import logging
import sys
import time

logger = logging.getLogger("keras_vit")

_SECONDS_BETWEEN_LOOKS = 0.5


class Display:
    """Says how a run goes: a line an epoch, and on a terminal one in between that is written over.

    Args:
        plan: the `Plan`.
        first_step: where this stretch of the run begins.
        batch_size: pictures a step.
        share: what "accuracy" is, in words.
    """

    def __init__(self, plan, first_step, batch_size, share="accuracy"):
        self.plan, self.first_step, self.batch_size, self.share = plan, first_step, batch_size, share
        self.started = time.monotonic()
        self._looked = 0.0
        self._width = 0

    def step(self, step, means):
        """Shows how far the run is, if someone watches; `means` are over the epoch's steps, "loss" and "accuracy"."""
        now = time.monotonic()
        if not sys.stdout.isatty() or now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        rate = (step - self.first_step) * self.batch_size / (now - self.started)
        self._over(
            f"step {step:,} of {self.plan.steps:,}: loss {means['loss']:.4f}, {self.share} {means['accuracy']:.1%}, "
            f"{rate:.0f} images/s, {self._left(step)} left{_memory()}"
        )

    def epoch(self, row):
        """Says how an epoch went, from its row of the log."""
        self._over("")
        done, epochs = row["epoch"], self.plan.epochs
        validated = f", validation {row['val_accuracy']:.1%}" if "val_accuracy" in row else ""
        logger.info(
            f"epoch {done:{len(str(epochs))}d}/{epochs}: loss {row['loss']:.4f}, {self.share} {row['accuracy']:.1%}"
            f"{validated}, {row['images_per_second']:.0f} images/s, {self._left(row['step'])} left{_memory()}"
        )

    def _left(self, step):
        here = step - self.first_step
        seconds = (time.monotonic() - self.started) / max(here, 1) * (self.plan.steps - step)
        hours, minutes = divmod(int(seconds) // 60, 60)
        return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {int(seconds) % 60:02d} s"

    def _over(self, text):
        if sys.stdout.isatty() and (text or self._width):
            sys.stdout.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
            sys.stdout.flush()
            self._width = len(text)


def _memory():
    """Returns the most memory that the process has had, in words; nothing where that cannot be told."""
    with contextlib.suppress(ImportError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return f", {most / 2**30:.1f} GiB"
    return ""
