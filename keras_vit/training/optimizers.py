"""Optimizers whose settings differ from weight to weight."""

import keras
from keras import ops

from keras_vit import _compat
from keras_vit.training.schedules import WarmupSchedule

OUTPUTS = ("head", "pixels", "colours")  # layers whose kernels Muon leaves to Adam


class _PerWeight:
    """Adds to an optimizer what depends on the weight: a factor on its rate, decay of kernels alone, a running mean.

    All of it happens in `update_step`, the one place that is alike on one device, under tf.distribute and on JAX:
    Keras' own running mean overwrites the weights at the end of every `fit`, and its decay knows no factor.
    """

    def __init__(self, *args, kernel_decay=0.0, ema=0.0, scales=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.kernel_decay = kernel_decay
        self.ema = ema
        self.scales = dict(scales or {})

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        paths = [variable.path for variable in variables]
        if unknown := set(self.scales) - set(paths):
            raise ValueError(f"Expected scales to name weights that are trained. Received also: {sorted(unknown)}")
        self._rates = [self.scales.get(path, 1.0) for path in paths]
        # Kernels alone decay, as in the official code.
        self._decays = ["kernel" in path.rpartition("/")[2] for path in paths]
        self.averages = [
            self.add_variable_from_reference(variable, "average", _copying(variable))
            for variable in (variables if self.ema else ())
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = _compat.variable_index(self, variable)
        rate = ops.cast(learning_rate, variable.dtype) * self._rates[index]
        if self.kernel_decay and self._decays[index]:
            self.assign_sub(variable, variable * self.kernel_decay * rate)
        super().update_step(gradient, variable, rate)
        if self.ema:
            average = self.averages[index]
            before = ops.convert_to_tensor(average)
            mixed = before + (variable - before) * (1.0 - ema_decay(self.ema, self.iterations))
            # A weight that has overflown never enters the mean, from which it would not leave again.
            self.assign(average, ops.where(ops.isfinite(mixed), mixed, before))

    def get_config(self):
        own = {"kernel_decay": self.kernel_decay, "ema": self.ema, "scales": self.scales}
        return {**super().get_config(), **own}


def ema_decay(ema, steps):
    """Returns the decay of the running mean after so many steps: min(ema, (1 + steps) / (10 + steps)).

    With `ema` alone, the mean of a short run is mostly the weights that it began with.

    Source: TensorFlow's ExponentialMovingAverage with num_updates.
    """
    steps = ops.cast(steps, "float32")
    return ops.minimum(ema, (1.0 + steps) / (10.0 + steps))


def _copying(weight):
    """Returns an initializer that gives what a weight is."""
    return lambda shape, dtype: ops.copy(ops.cast(weight, dtype))


class _OptaxMomentum(keras.optimizers.Optimizer):
    """Steps along a velocity that has no learning rate in it."""

    def __init__(self, learning_rate=0.01, momentum=0.0, momentum_dtype="float32", name="sgd", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.momentum_dtype = momentum_dtype

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._velocities = [
            self.add_variable(variable.shape, "zeros", self.momentum_dtype, name=f"velocity_{i}")
            for i, variable in enumerate(variables)
            if self.momentum
        ]

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.cast(gradient, variable.dtype)
        if self.momentum:
            velocity = self._velocities[_compat.variable_index(self, variable)]
            gradient = gradient + self.momentum * ops.cast(velocity, variable.dtype)
            self.assign(velocity, ops.cast(gradient, velocity.dtype))
        self.assign_sub(variable, gradient * learning_rate)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "momentum_dtype": self.momentum_dtype}


@keras.saving.register_keras_serializable(package="keras_vit")
class SGD(_PerWeight, _OptaxMomentum):
    """Descends with momentum as optax does, with the learning rate outside the velocity.

    velocity = gradient + momentum * velocity; weight = weight - learning_rate * velocity. Keras' own SGD has the
    learning rate inside, so that under a schedule old gradients keep the rate of their day: another optimizer.

    Args:
        learning_rate: a number or a schedule.
        momentum: part of the velocity that is kept.
        momentum_dtype: what the velocity is stored as, "float32" or "bfloat16"; the step itself is not rounded.
        kernel_decay: decoupled decay of kernels, times the learning rate.
        ema: decay of the running mean of the weights, less in the first steps (`ema_decay`); 0 for no mean.
        scales: {path of a weight: factor on its learning rate}.

    Source: the official `train.py` and optax's trace.
    """


@keras.saving.register_keras_serializable(package="keras_vit")
class AdamW(_PerWeight, keras.optimizers.Adam):
    """Is Keras' Adam, with decoupled decay of kernels alone.

    Args:
        learning_rate: a number or a schedule.
        kernel_decay: decoupled decay of kernels, times the learning rate.
        ema: decay of the running mean of the weights, less in the first steps (`ema_decay`); 0 for no mean.
        scales: {path of a weight: factor on its learning rate}; its decay follows.
    """


@keras.saving.register_keras_serializable(package="keras_vit")
class Muon(_PerWeight, _compat.MuonHooks, keras.optimizers.Muon):
    """Steps kernels along their momentum made orthogonal; all other weights, and those of output layers, as Adam does.

    Is Keras' Muon, but that a convolution's kernel counts as a matrix (rows, columns and channels in by filters)
    and that the decay is of kernels alone. A step is scaled so that Adam's learning rates fit.

    Args:
        learning_rate: a number or a schedule.
        kernel_decay: decoupled decay of kernels, times the learning rate.
        ema: decay of the running mean of the weights, less in the first steps (`ema_decay`); 0 for no mean.
        scales: {path of a weight: factor on its learning rate}; its decay follows.

    Source: https://kellerjordan.github.io/posts/muon; the scale: arXiv:2502.16982.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "weight_decay": None, "adam_weight_decay": None})

    def uses_adam(self, variable):
        *_, layer, name = ("", *variable.path.split("/"))
        return "kernel" not in name or layer in OUTPUTS


def optimizer_of(recipe, total_steps, warmup_steps, scales=None):
    """Returns the optimizer of a recipe; with float16, one that scales the loss."""
    schedule = WarmupSchedule(recipe.learning_rate, total_steps, recipe.schedule, warmup_steps, recipe.milestones)
    shared = {"kernel_decay": recipe.weight_decay, "ema": recipe.ema, "scales": scales}
    if recipe.optimizer == "sgd":
        optimizer = SGD(schedule, momentum=recipe.momentum, momentum_dtype=recipe.momentum_dtype, **shared)
    else:
        optimizer = {"adamw": AdamW, "muon": Muon}[recipe.optimizer](schedule, **shared)
    return keras.optimizers.LossScaleOptimizer(optimizer) if recipe.precision == "mixed_float16" else optimizer
