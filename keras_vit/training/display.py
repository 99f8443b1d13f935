"""What a person sees of a run while it goes."""

import contextlib
import logging
import sys
import time

from keras_vit._progress import seconds_between_updates

logger = logging.getLogger("keras_vit")

LEAST_STEPS = 10  # after the first one, before the time that is left can be told


class Display:
    """Says how a run goes: a line an epoch, and on a terminal or in a notebook one in between that is written over.

    Args:
        plan: the `Plan`.
        batch_size: images a step.
        share: what "accuracy" is, in words.
    """

    def __init__(self, plan, batch_size, share="accuracy"):
        self.plan, self.batch_size, self.share = plan, batch_size, share
        self._begun = None  # (step, time) when the first step was done, which has compiled the training
        self._looked = 0.0
        self._width = 0

    def step(self, step, means):
        """Shows how far the run is, if someone watches; `means` are over the epoch's steps, "loss" and "accuracy"."""
        now, between = time.monotonic(), seconds_between_updates()
        self._begun = self._begun or (step, now)
        if between is None or now - self._looked < between:
            return
        self._looked = now
        self._over(
            f"step {step:,} of {self.plan.steps:,}: loss {means['loss']:.4f}, {self.share} {means['accuracy']:.1%}"
            f"{self._rate(step)}{self._left(step)}{_memory()}"
        )

    def epoch(self, row):
        """Says how an epoch went, from its row of the log."""
        self._over("")
        done, epochs = row["epoch"], self.plan.epochs
        validated = f", validation {row['val_accuracy']:.1%}" if "val_accuracy" in row else ""
        logger.info(
            f"epoch {done:{len(str(epochs))}d}/{epochs}: loss {row['loss']:.4f}, {self.share} {row['accuracy']:.1%}"
            f"{validated}, {row['images_per_second']:.0f} images/s{self._left(row['step'])}{_memory()}"
        )

    def _rate(self, step):
        first, begun = self._begun
        seconds = max(time.monotonic() - begun, 1e-9)
        return f", {(step - first) * self.batch_size / seconds:.0f} images/s" if step > first else ""

    def _left(self, step):
        """Returns the time that is left, in words; "" while that cannot be told, and at the end."""
        first, begun = self._begun
        if step - first < LEAST_STEPS or step == self.plan.steps:
            return ""
        seconds = (time.monotonic() - begun) / (step - first) * (self.plan.steps - step)
        hours, minutes = divmod(int(seconds) // 60, 60)
        return f", {hours} h {minutes:02d} min left" if hours else f", {minutes} min {int(seconds) % 60:02d} s left"

    def _over(self, text):
        if text or self._width:
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
