"""How long a run is, and where it is cut."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Plan:
    """Describes the length of a run.

    Args:
        steps: of the whole run.
        steps_per_epoch: steps between two lines of the log; an epoch is not always a pass over the pictures.
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
    """Returns the `Plan` of a recipe, on pictures that are passed once in so many steps."""
    steps = recipe.steps or recipe.epochs * steps_per_pass
    per_epoch = recipe.steps_per_epoch or (
        max(steps_per_pass, math.ceil(steps / 20)) if recipe.steps else steps_per_pass
    )
    warmup = recipe.warmup_epochs * steps_per_pass if recipe.warmup_steps is None else recipe.warmup_steps
    return Plan(steps, min(per_epoch, steps), min(warmup, steps - 1))
