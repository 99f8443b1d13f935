"""How the learning rate goes over a run."""

import dataclasses
import math

import keras
from keras import ops

# Where the official code's linear schedule ends.
LINEAR_END = 1e-5

DECAYS = {
    "constant": lambda rate, progress: rate,
    "cosine": lambda rate, progress: rate * 0.5 * (1.0 + ops.cos(math.pi * progress)),
    "linear": lambda rate, progress: LINEAR_END + (rate - LINEAR_END) * (1.0 - progress),
}


@keras.saving.register_keras_serializable(package="keras_vit")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Lets the learning rate grow linearly, then decay: the factor of the warm-up times the decay.

    The decay's progress counts from the end of the warm-up; during it, the decay stands at its start.

    Args:
        learning_rate: at the end of the warm-up.
        total_steps: length of the run.
        decay: "cosine" to 0, "linear" to 1e-5, "constant", or "steps": a tenth at each of `milestones`.
        warmup_steps: length of the warm-up; the first step has a rate of 0 then.
        milestones: steps from whose on the rate is a tenth of what it was; of "steps" alone.

    Raises:
        ValueError: if the decay is unknown.

    Source: the official `utils.py`, create_learning_rate_schedule; "steps": `bit_hyperrule.py`.
    """

    def __init__(self, learning_rate, total_steps, decay="cosine", warmup_steps=0, milestones=()):
        super().__init__()
        if decay not in (*DECAYS, "steps"):
            raise ValueError(f"Expected decay to be one of {(*DECAYS, 'steps')}. Received: decay={decay!r}")
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.milestones = tuple(milestones)

    def __call__(self, step):
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

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "decay": self.decay,
            "warmup_steps": self.warmup_steps,
            "milestones": self.milestones,
        }


@dataclasses.dataclass(frozen=True)
class Plan:
    """Describes the length of a run.

    Args:
        steps: of the whole run.
        steps_per_epoch: steps between two lines of the log; an epoch is not always a pass over the images.
        warmup_steps: of the learning rate.
    """

    steps: int
    steps_per_epoch: int
    warmup_steps: int

    @property
    def epochs(self):
        """How many lines the log has in the end; the last may be of a shorter epoch."""
        return math.ceil(self.steps / self.steps_per_epoch)

    def segments(self, first_step=0):
        """Yields (epoch, epochs, steps of each): stretches of equal epochs from a step to the end, as `fit` needs."""
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


def plan_of(recipe, steps_per_pass):
    """Returns the `Plan` of a recipe, on images that are passed once in so many steps."""
    steps = recipe.steps or recipe.epochs * steps_per_pass
    per_epoch = recipe.steps_per_epoch or (
        max(steps_per_pass, math.ceil(steps / 20)) if recipe.steps else steps_per_pass
    )
    warmup = recipe.warmup_epochs * steps_per_pass if recipe.warmup_steps is None else recipe.warmup_steps
    return Plan(steps, min(per_epoch, steps), min(warmup, steps - 1))
