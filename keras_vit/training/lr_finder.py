"""Learning rate finder: grows the learning rate from step to step and suggests where the loss falls fastest."""

import contextlib
import dataclasses
import logging
import math
import random
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_vit._progress import SECONDS_BETWEEN_UPDATES
from keras_vit.data.order import Order
from keras_vit.data.sources import Source
from keras_vit.models.interface import pixels_of
from keras_vit.training.distillation import teacher_columns, teacher_of, with_unlabelled
from keras_vit.training.fit import batches_of, prepared
from keras_vit.training.head import start_head
from keras_vit.training.model import compiled_trainer, dtype_policy, new_model
from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import Plan

logger = logging.getLogger("keras_vit")

SMOOTHING = 0.9  # decay of the moving average of the losses
EXPLODED = 4.0  # times the lowest loss, above which the search ends


@dataclasses.dataclass(frozen=True)
class LearningRateSearch:
    """Result of a learning rate search.

    Args:
        rates: learning rate of each step.
        losses: smoothed loss of each step.
        suggestion: the suggested learning rate.

    Example:
        ```python
        search = keras_vit.training.LearningRateSearch((1e-4, 1e-3), (2.0, 1.0), suggestion=1e-4)
        assert "learning_rate=1.0e-04" in search.text()
        ```
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float

    def text(self) -> str:
        """Returns the curve of the loss for a terminal; the last line is the suggestion."""
        low, first = min(self.losses), self.losses[0]
        some = np.unique(np.linspace(0, len(self.rates) - 1, 24).astype(int))
        # The first loss has half the width; a loss that explodes is cut off at the full width.
        bars = ["#" * min(round(1 + 20 * (self.losses[i] - low) / max(first - low, 1e-9)), 41) for i in some]
        lines = [f"{self.rates[i]:9.1e}  {self.losses[i]:8.4f}  {bar}" for i, bar in zip(some, bars)]
        return "\n".join([*lines, f"learning_rate={self.suggestion:.1e}, where the loss falls fastest"])


@keras.saving.register_keras_serializable(package="keras_vit")
class RangeSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that grows exponentially, by the same factor each step.

    Args:
        lowest: learning rate of the first step.
        highest: learning rate of the last step.
        steps: number of steps.
    """

    def __init__(self, lowest: float, highest: float, steps: int) -> None:
        super().__init__()
        self.lowest, self.highest, self.steps = lowest, highest, steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step."""
        progress = keras.ops.cast(step, "float32") / max(self.steps - 1, 1)
        return self.lowest * keras.ops.exp(progress * math.log(self.highest / self.lowest))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"lowest": self.lowest, "highest": self.highest, "steps": self.steps}


def search_learning_rate(
    recipe: Recipe, source: Source, steps: int = 100, lowest: float = 1e-7, highest: float = 1.0
) -> LearningRateSearch:
    """Finds a learning rate: trains a throwaway model of the recipe under a growing learning rate.

    A later run is not affected: no file is written, and the random state of Python, NumPy and Keras stays as it is.

    Args:
        recipe: the recipe; its schedule is ignored.
        source: source of the images, as `keras_vit.data.sources.open_source` returns it.
        steps: largest number of steps; an exploding loss ends the search early.
        lowest: learning rate of the first step.
        highest: learning rate of the last step.

    Returns:
        The rates and losses; the suggestion is the rate at which the smoothed loss falls fastest.

    Raises:
        ValueError: if there are fewer than 10 steps, the range of rates is empty, or the loss is NaN or infinite within
            the first 10 steps.

    Example:
        ```python
        from keras_vit.data.sources import open_source

        variant = keras_vit.Variant(8, 8, 1, 2, 16)
        recipe = keras_vit.training.Recipe(data="synthetic:2x16", variant=variant, image_size=8, batch_size=4)
        search = keras_vit.training.search_learning_rate(recipe, open_source(recipe.data), steps=10)
        assert 1e-7 <= search.suggestion <= 1
        ```

    Source: arXiv:1506.01186, section 3.3.
    """
    if steps < 10 or not 0 < lowest < highest:
        raise ValueError(
            "Expected steps of 10 or more, and lowest below highest, both above 0. "
            f"Received: steps={steps}, lowest={lowest}, highest={highest}"
        )
    recipe = dataclasses.replace(recipe, ema=0.0)
    order = Order(len(source.train.labels), recipe.batch_size, recipe.seed, recipe.full_batches)
    plan = Plan(steps, min(order.steps_per_pass, steps), 0)
    labelled, teacher = source, teacher_of(recipe, source)
    source, units = prepared(with_unlabelled(recipe, source))
    with _seeded(recipe.seed), dtype_policy(recipe):
        model = new_model(recipe, source.class_names, units)
        start_head(recipe, model, labelled if recipe.unlabelled else source)
        trainer = compiled_trainer(recipe, plan, model, source.train, teacher)
        schedule = RangeSchedule(lowest, highest, steps)
        getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer).learning_rate = schedule
        losses = _SmoothedLosses(steps)
        logger.info(
            "trying learning rates in at most %d steps; the first one compiles the training, which may take minutes",
            steps,
        )
        size, pixels = model.input_shape[1:3], pixels_of(model)
        columns = teacher_columns(recipe, teacher, source.train, size, pixels) if teacher else None
        batches = batches_of(recipe, source, size, pixels, plan, 0, (0, 1, 1), columns)
        trainer.fit(batches, steps_per_epoch=steps, callbacks=[losses], shuffle=False, verbose=0)
    if len(losses.values) < 10:
        raise ValueError(
            f"Expected a finite loss for 10 steps. Received: {losses.values}, then NaN or infinite. Choose a lower "
            "`lowest`, or check the recipe."
        )
    rates = [float(schedule(step)) for step in range(len(losses.values))]
    # Not after the lowest loss, where the loss explodes; at least the first steps, whose average has not settled.
    slopes = np.gradient(losses.values, np.log(rates))
    best = int(np.argmin(losses.values))
    fastest = int(np.argmin(slopes[: max(best, 5)]))
    return LearningRateSearch(tuple(rates), tuple(losses.values), rates[fastest])


class _SmoothedLosses(keras.callbacks.Callback):
    """Records the smoothed loss of each step, and stops the training when it explodes."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.values: list[float] = []
        self._average = 0.0
        self._next_message = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not logs["weight"]:
            return  # the step has no loss, and the rate stays where it is
        if not math.isfinite(logs["loss"]):
            self.model.stop_training = True
            return
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * logs["loss"]
        self.values.append(self._average / (1 - SMOOTHING ** (len(self.values) + 1)))
        if time.monotonic() >= self._next_message:
            logger.info("step %d of %d: loss %.4f", len(self.values), self.steps, self.values[-1])
            self._next_message = time.monotonic() + SECONDS_BETWEEN_UPDATES
        if self.values[-1] > EXPLODED * min(self.values):
            self.model.stop_training = True


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds Python's random generator within a `with` block, and restores its state afterwards.

    Keras draws the seeds of layers and initializers that have none from Python's generator.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
