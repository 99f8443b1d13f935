"""Learning rate schedules: linear warm-up, then cosine, linear, constant or stepwise decay; and the length of a run."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_vit.training.recipe import Recipe

# Where the official code's linear schedule ends.
LINEAR_END = 1e-5

# {decay: function of the peak learning rate and the progress, 0 to 1}
DECAYS: dict[str, Callable[[float, Any], Any]] = {
    "constant": lambda rate, progress: rate,
    "cosine": lambda rate, progress: rate * 0.5 * (1.0 + ops.cos(math.pi * progress)),
    "linear": lambda rate, progress: LINEAR_END + (rate - LINEAR_END) * (1.0 - progress),
}


@keras.saving.register_keras_serializable(package="keras_vit")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate schedule with linear warm-up: the warm-up's factor times the decay.

    The decay's progress counts from the end of the warm-up; during the warm-up it is 0.

    Args:
        learning_rate: peak learning rate, at the end of the warm-up.
        total_steps: number of steps of the run.
        decay: "cosine" to 0, "linear" to 1e-5, "constant", or "steps": a factor of 0.1 at each of `milestones`.
        warmup_steps: number of steps of the warm-up; the first of them has a learning rate of 0.
        milestones: steps at which "steps" decays.

    Raises:
        ValueError: if the decay is unknown.

    Example:
        ```python
        schedule = keras_vit.training.WarmupSchedule(1e-3, total_steps=100, decay="cosine", warmup_steps=10)
        np.testing.assert_allclose([schedule(0), schedule(10), schedule(100)], [0.0, 1e-3, 0.0], atol=1e-9)
        ```

    Source: the official `utils.py`, create_learning_rate_schedule; "steps": `bit_hyperrule.py`.
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        decay: str = "cosine",
        warmup_steps: int = 0,
        milestones: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if decay not in (*DECAYS, "steps"):
            raise ValueError(f"Expected decay to be one of {(*DECAYS, 'steps')}. Received: decay={decay!r}")
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.milestones = tuple(milestones)

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, a float32 scalar."""
        step = ops.cast(step, "float32")
        if self.decay == "steps":
            rate = self.learning_rate
            for milestone in self.milestones:
                rate = rate * ops.where(step >= milestone, 0.1, 1.0)
        else:
            length = max(self.total_steps - self.warmup_steps, 1)
            progress = ops.clip((step - self.warmup_steps) / float(length), 0.0, 1.0)
            rate = DECAYS[self.decay](self.learning_rate, progress)
        return rate * ops.minimum(1.0, step / self.warmup_steps) if self.warmup_steps else rate + 0.0 * step

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "decay": self.decay,
            "warmup_steps": self.warmup_steps,
            "milestones": self.milestones,
        }


@dataclasses.dataclass(frozen=True)
class Plan:
    """Length of a run: its steps, epochs and warm-up.

    Args:
        steps: number of steps of the run.
        steps_per_epoch: number of steps between two rows of the log; an epoch need not be a pass over the images.
        warmup_steps: number of steps of the learning rate's warm-up.
    """

    steps: int
    steps_per_epoch: int
    warmup_steps: int

    @property
    def epochs(self) -> int:
        """Number of epochs; the last one may be shorter."""
        return math.ceil(self.steps / self.steps_per_epoch)

    def segments(self, first_step: int = 0) -> Iterator[tuple[int, int, int]]:
        """Splits the rest of a run into calls of `fit`, each of epochs of equal length.

        Args:
            first_step: step to resume at, which may be within an epoch.

        Yields:
            `initial_epoch`, `epochs` and `steps_per_epoch` of each call.
        """
        step = first_step
        while step < self.steps:
            epoch = step // self.steps_per_epoch
            if step % self.steps_per_epoch or self.steps - step < self.steps_per_epoch:
                end = min((epoch + 1) * self.steps_per_epoch, self.steps)
                yield epoch, epoch + 1, end - step
            else:
                whole = self.steps // self.steps_per_epoch
                yield epoch, whole, self.steps_per_epoch
                end = whole * self.steps_per_epoch
            step = end


def plan_of(recipe: Recipe, steps_per_pass: int) -> Plan:
    """Returns the `Plan` of a recipe, for data of `steps_per_pass` steps a pass over the training images."""
    steps = recipe.steps or recipe.epochs * steps_per_pass
    per_epoch = recipe.steps_per_epoch or (
        max(steps_per_pass, math.ceil(steps / 20)) if recipe.steps else steps_per_pass
    )
    warmup = recipe.warmup_epochs * steps_per_pass if recipe.warmup_steps is None else recipe.warmup_steps
    return Plan(steps, min(per_epoch, steps), min(warmup, steps - 1))
