"""Progress of a run: a log line for each epoch, and a progress line on a terminal or in a notebook."""

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from keras_vit._arguments import counted
from keras_vit._progress import seconds_between_updates
from keras_vit.training.schedules import Plan

logger = logging.getLogger("keras_vit")

LEAST_STEPS = 10  # after the first one, before the remaining time is estimated


class Display:
    """Displays the progress of a run: loss, accuracy, images/s, remaining time and peak memory.

    Each epoch is a line of the log; on a terminal or in a notebook, one line in between is overwritten.

    Args:
        plan: length of the run.
        batch_size: images a step.
        metric: name of the metric in the "accuracy" column of the log.
    """

    def __init__(self, plan: Plan, batch_size: int, metric: str = "accuracy") -> None:
        self.plan, self.batch_size, self.metric = plan, batch_size, metric
        # (step, time) at the end of the first step, which has compiled the training
        self._started: tuple[int, float] | None = None
        self._updated = 0.0
        self._width = 0

    def step(self, step: int, means: Mapping[str, float | None]) -> None:
        """Updates the progress line after a step; `means` has the epoch's "loss" and "accuracy" so far."""
        now, between = time.monotonic(), seconds_between_updates()
        self._started = self._started or (step, now)
        if between is None or now - self._updated < between:
            return
        self._updated = now
        self._overwrite(
            f"step {step:,} of {self.plan.steps:,}: {self._scores(means)}"
            f"{self._throughput(step)}{self._remaining(step)}{_peak_memory()}"
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Logs an epoch, from its row of the training log."""
        self._overwrite("")
        done, epochs = row["epoch"], self.plan.epochs
        validation = f", validation {row['val_accuracy']:.1%}" if "val_accuracy" in row else ""
        if unweighted := row.get("steps_without_weight"):
            validation += f", {counted(unweighted, 'step')} without an image of a weight above 0, which changed nothing"
        logger.info(
            f"epoch {done:{len(str(epochs))}d}/{epochs}: {self._scores(row)}"
            f"{validation}, {row['images_per_second']:.0f} images/s{self._remaining(int(row['step']))}{_peak_memory()}"
        )

    def _scores(self, means: Mapping[str, float | None]) -> str:
        loss, accuracy = means["loss"], means["accuracy"]
        known = loss is not None and accuracy is not None
        return f"loss {loss:.4f}, {self.metric} {accuracy:.1%}" if known else f"loss and {self.metric} unknown"

    def _throughput(self, step: int) -> str:
        first, started = self._started or (step, 0.0)
        seconds = max(time.monotonic() - started, 1e-9)
        return f", {(step - first) * self.batch_size / seconds:.0f} images/s" if step > first else ""

    def _remaining(self, step: int) -> str:
        """Returns the remaining time in words; "" before it can be estimated, and at the end."""
        first, started = self._started or (step, 0.0)
        if step - first < LEAST_STEPS or step == self.plan.steps:
            return ""
        seconds = (time.monotonic() - started) / (step - first) * (self.plan.steps - step)
        hours, minutes = divmod(int(seconds) // 60, 60)
        return f", {hours} h {minutes:02d} min left" if hours else f", {minutes} min {int(seconds) % 60:02d} s left"

    def _overwrite(self, text: str) -> None:
        if text or self._width:
            sys.stdout.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
            sys.stdout.flush()
            self._width = len(text)


def _peak_memory() -> str:
    """Returns the peak memory of the process in words; "" where it is unknown."""
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return f", {peak / 2**30:.1f} GiB"
    return ""
