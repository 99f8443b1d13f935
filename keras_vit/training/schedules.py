"""How the learning rate goes over a run."""

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
