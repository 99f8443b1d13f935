"""Looks for a learning rate by letting it grow from step to step and watching the loss."""

import contextlib
import dataclasses
import logging
import math
import random
import time

import keras
import numpy as np

from keras_vit._progress import SECONDS_BETWEEN_UPDATES
from keras_vit.data.order import Order
from keras_vit.models.interface import pixels_of
from keras_vit.training.fit import batches_of
from keras_vit.training.model import new_model, precision, trained_model
from keras_vit.training.schedules import Plan

logger = logging.getLogger("keras_vit")

# Part of the running mean of the losses that is kept, and how many times the best loss ends the search.
SMOOTHING, EXPLODED = 0.9, 4.0


@dataclasses.dataclass(frozen=True)
class LearningRateSearch:
    """What a search found: the rates that were tried, the smoothed loss at each, and the rate to take."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float

    def text(self):
        """Lays the curve out for a terminal; the last line is the suggestion."""
        low, first = min(self.losses), self.losses[0]
        some = np.unique(np.linspace(0, len(self.rates) - 1, 24).astype(int))
        # Half the width is the way down from the first loss; an explosion is cut off at the whole.
        bars = ["#" * min(round(1 + 20 * (self.losses[i] - low) / max(first - low, 1e-9)), 41) for i in some]
        lines = [f"{self.rates[i]:9.1e}  {self.losses[i]:8.4f}  {bar}" for i, bar in zip(some, bars)]
        return "\n".join([*lines, f"learning_rate={self.suggestion:.1e}, where the loss falls the fastest"])


@keras.saving.register_keras_serializable(package="keras_vit")
class RangeSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Grows by the same factor each step, from `lowest` to `highest` in so many steps."""

    def __init__(self, lowest, highest, steps):
        super().__init__()
        self.lowest, self.highest, self.steps = lowest, highest, steps

    def __call__(self, step):
        part = keras.ops.cast(step, "float32") / max(self.steps - 1, 1)
        return self.lowest * keras.ops.exp(part * math.log(self.highest / self.lowest))

    def get_config(self):
        return {"lowest": self.lowest, "highest": self.highest, "steps": self.steps}


def search_learning_rate(recipe, source, steps=100, lowest=1e-7, highest=1.0):
    """Trains a model of the recipe, which is thrown away, under a growing learning rate.

    A run after it is the same as one without: weights, optimizer, files, and the random state of Python, NumPy and
    Keras are as they were.

    Args:
        recipe: the `Recipe`; its schedule has no say.
        source: the `Source` of the images.
        steps: most steps to take; an exploding loss ends them early.
        lowest, highest: learning rate of the first and of the last step.

    Returns:
        The `Finding`; its suggestion is where the smoothed loss falls the fastest.

    Raises:
        ValueError: if there are fewer than 10 steps, or the loss is no number from the start.

    Source: arXiv:1506.01186, section 3.3.
    """
    if steps < 10 or not 0 < lowest < highest:
        raise ValueError(
            "Expected 10 steps or more, and lowest below highest, above 0. "
            f"Received: steps={steps}, lowest={lowest}, highest={highest}"
        )
    recipe = dataclasses.replace(recipe, ema=0.0)
    order = Order(len(source.train.labels), recipe.batch_size, recipe.seed, recipe.full_batches)
    plan = Plan(steps, min(order.steps_per_pass, steps), 0)
    with _random_state_kept(recipe.seed), precision(recipe):
        model = new_model(recipe, len(source.class_names))
        trained = trained_model(recipe, plan, model)
        schedule = RangeSchedule(lowest, highest, steps)
        getattr(trained.optimizer, "inner_optimizer", trained.optimizer).learning_rate = schedule
        watch = _Watch(steps)
        logger.info(
            "tries learning rates in %d steps at most; the first one compiles them, which may take minutes", steps
        )
        batches = batches_of(recipe, source, model.input_shape[1:3], pixels_of(model), plan, 0, (0, 1, 1))
        trained.fit(batches, steps_per_epoch=steps, callbacks=[watch], shuffle=False, verbose=0)
    if len(watch.losses) < 10:
        raise ValueError(
            f"Expected a loss that can be watched. Received: {watch.losses}, and then none. Choose a lower `lowest`, "
            "or look at the recipe."
        )
    rates = [float(schedule(step)) for step in range(len(watch.losses))]
    # The last steps are those of the explosion; the first ones are of the mean that is not settled.
    slopes = np.gradient(watch.losses, np.log(rates))
    best = int(np.argmin(watch.losses))
    fastest = int(np.argmin(slopes[: max(best, 5)]))
    return LearningRateSearch(tuple(rates), tuple(watch.losses), rates[fastest])


class _Watch(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.steps, self.losses, self._mean = steps, [], 0.0
        self._news = 0.0

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self.model.stop_training = True
            return
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * logs["loss"]
        self.losses.append(self._mean / (1 - SMOOTHING ** (len(self.losses) + 1)))
        if time.monotonic() >= self._news:
            logger.info("step %d of %d: loss %.4f", len(self.losses), self.steps, self.losses[-1])
            self._news = time.monotonic() + SECONDS_BETWEEN_UPDATES
        if self.losses[-1] > EXPLODED * min(self.losses):
            self.model.stop_training = True


@contextlib.contextmanager
def _random_state_kept(seed):
    """Draws as from a seed inside; outside it is as if nothing had been drawn.

    Keras takes the seeds of layers and first weights from Python's own generator, where they are not given.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
