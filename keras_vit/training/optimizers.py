"""Optimizers: SGD, AdamW and Muon with weight decay of kernels, layer-wise learning rates and EMA of the weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_vit import _compat
from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import WarmupSchedule

OUTPUTS = ("head", "pixels", "colours")  # output layers, whose kernels Muon updates with Adam


class _PerWeight(keras.optimizers.Optimizer):
    """Adds settings of each weight to an optimizer: a factor on its learning rate, decay of kernels alone, an EMA.

    All of it happens in `update_step`, which is the same on one device, under tf.distribute and on JAX. Keras' own EMA
    overwrites the weights at the end of every `fit`, and its weight decay has no factor.
    """

    def __init__(
        self,
        *args: Any,
        kernel_decay: float = 0.0,
        ema: float = 0.0,
        scales: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.kernel_decay = kernel_decay
        self.ema = ema
        self.scales = dict(scales or {})

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the variables of the optimizer; raises a ValueError if `scales` names an unknown weight."""
        if self.built:
            return
        super().build(variables)
        paths = [variable.path for variable in variables]
        if unknown := set(self.scales) - set(paths):
            raise ValueError(f"Expected scales to name trainable weights. Received: scales with {sorted(unknown)}")
        self._rates = [self.scales.get(path, 1.0) for path in paths]
        # Kernels alone decay, as in the official code.
        self._decays = ["kernel" in path.rpartition("/")[2] for path in paths]
        self.averages = [
            self.add_variable_from_reference(variable, "average", _copying(variable))
            for variable in (variables if self.ema else ())
        ]

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Updates a variable by its gradient."""
        factor, decay = self.factor_and_decay(variable)
        rate = ops.cast(learning_rate, variable.dtype) * factor
        if decay:
            self.assign_sub(variable, variable * decay * rate)
        super().update_step(gradient, variable, rate)
        self.update_average(variable)

    def factor_and_decay(self, variable: keras.Variable) -> tuple[float, float]:
        """Returns the factor on the learning rate of a variable, and its weight decay."""
        index = _compat.variable_index(self, variable)
        return self._rates[index], self.kernel_decay if self._decays[index] else 0.0

    def update_average(self, variable: keras.Variable) -> None:
        """Updates the moving average of a variable, if there is one."""
        if self.ema:
            average = self.averages[_compat.variable_index(self, variable)]
            before = ops.convert_to_tensor(average)
            mixed = before + (variable - before) * (1.0 - ema_decay(self.ema, self.iterations))
            # A weight that overflowed stays out of the average, which would be NaN or infinite ever after.
            self.assign(average, ops.where(ops.isfinite(mixed), mixed, before))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"kernel_decay": self.kernel_decay, "ema": self.ema, "scales": self.scales}
        return {**super().get_config(), **own}


def ema_decay(ema: float, steps: Any) -> Any:
    """Returns the decay of the weights' EMA after a number of steps: min(ema, (1 + steps) / (10 + steps)).

    With `ema` alone, the average of a short run would be mostly the initial weights.

    Source: TensorFlow's ExponentialMovingAverage with num_updates.
    """
    steps = ops.cast(steps, "float32")
    return ops.minimum(ema, (1.0 + steps) / (10.0 + steps))


def _copying(weight: keras.Variable) -> Callable[..., Any]:
    """Returns an initializer that copies a weight."""
    return lambda shape, dtype: ops.copy(ops.cast(weight, dtype))


class _OptaxMomentum(keras.optimizers.Optimizer):
    """SGD whose velocity is not scaled by the learning rate."""

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        momentum_dtype: str = "float32",
        name: str = "sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.momentum_dtype = momentum_dtype

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the variables of the optimizer."""
        if self.built:
            return
        super().build(variables)
        self._velocities = [
            self.add_variable(variable.shape, "zeros", self.momentum_dtype, name=f"velocity_{i}")
            for i, variable in enumerate(variables)
            if self.momentum
        ]

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Updates a variable by its gradient."""
        gradient = ops.cast(gradient, variable.dtype)
        if self.momentum:
            velocity = self._velocities[_compat.variable_index(self, variable)]
            gradient = gradient + self.momentum * ops.cast(velocity, variable.dtype)
            self.assign(velocity, ops.cast(gradient, velocity.dtype))
        self.assign_sub(variable, gradient * learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "momentum": self.momentum, "momentum_dtype": self.momentum_dtype}


@keras.saving.register_keras_serializable(package="keras_vit")
class SGD(_PerWeight, _OptaxMomentum):
    """SGD with momentum as in optax: the velocity is not scaled by the learning rate.

    velocity = gradient + momentum * velocity; weight = weight - learning_rate * velocity. In Keras' own SGD the
    velocity includes the learning rate, so that under a schedule old gradients keep the rate of their step.

    Args:
        learning_rate: learning rate or schedule.
        momentum: fraction of the velocity that is kept.
        momentum_dtype: dtype that the velocity is stored in, "float32" or "bfloat16"; the step itself is not rounded.
        kernel_decay: decoupled weight decay of kernels, times the learning rate.
        ema: decay of the exponential moving average of the weights, bounded in the first steps (`ema_decay`); 0 is no
            average.
        scales: {path of a weight: factor on its learning rate and weight decay}, as of `layer_scales`.
        kwargs: arguments of the Keras optimizer.

    Example:
        ```python
        optimizer = keras_vit.training.SGD(0.1, momentum=0.9)
        weight = keras.Variable(np.ones((3, 2), "float32"), name="kernel")
        optimizer.apply([keras.ops.ones((3, 2))], [weight])
        assert float(keras.ops.max(weight)) < 1
        ```

    Source: the official `train.py` and optax's trace.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        momentum_dtype: str = "float32",
        *,
        kernel_decay: float = 0.0,
        ema: float = 0.0,
        scales: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate, momentum, momentum_dtype, kernel_decay=kernel_decay, ema=ema, scales=scales, **kwargs
        )


@keras.saving.register_keras_serializable(package="keras_vit")
class AdamW(_PerWeight, _compat.FusedOnTorch, keras.optimizers.Adam):
    """AdamW: Keras' Adam with decoupled weight decay of kernels alone.

    Args:
        learning_rate: learning rate or schedule.
        kernel_decay: decoupled weight decay of kernels, times the learning rate.
        ema: decay of the exponential moving average of the weights, bounded in the first steps (`ema_decay`); 0 is no
            average.
        scales: {path of a weight: factor on its learning rate and weight decay}, as of `layer_scales`.
        kwargs: arguments of the Keras optimizer.

    Example:
        ```python
        optimizer = keras_vit.training.AdamW(1e-3, kernel_decay=0.1)
        weight = keras.Variable(np.ones((3, 2), "float32"), name="kernel")
        optimizer.apply([keras.ops.ones((3, 2))], [weight])
        assert float(keras.ops.max(weight)) < 1
        ```

    Source: arXiv:1711.05101.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        kernel_decay: float = 0.0,
        ema: float = 0.0,
        scales: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, kernel_decay=kernel_decay, ema=ema, scales=scales, **kwargs)


@keras.saving.register_keras_serializable(package="keras_vit")
class Muon(_PerWeight, _compat.MuonHooks, keras.optimizers.Muon):
    """Muon: kernels step along their orthogonalized momentum; other weights and output layers step as in Adam.

    Keras' Muon, but for a convolution's kernel, which counts as a matrix (height x width x channels, filters), and for
    the weight decay, which is of kernels alone. Steps are scaled so that Adam's learning rates fit.

    Args:
        learning_rate: learning rate or schedule.
        kernel_decay: decoupled weight decay of kernels, times the learning rate.
        ema: decay of the exponential moving average of the weights, bounded in the first steps (`ema_decay`); 0 is no
            average.
        scales: {path of a weight: factor on its learning rate and weight decay}, as of `layer_scales`.
        kwargs: arguments of the Keras optimizer.

    Example:
        ```python
        optimizer = keras_vit.training.Muon(1e-3, kernel_decay=0.1)
        weight = keras.Variable(np.ones((3, 2), "float32"), name="kernel")
        optimizer.apply([keras.ops.ones((3, 2))], [weight])
        assert float(keras.ops.max(weight)) < 1
        ```

    Source: https://kellerjordan.github.io/posts/muon; the scale: arXiv:2502.16982.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        kernel_decay: float = 0.0,
        ema: float = 0.0,
        scales: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"weight_decay": None, "adam_weight_decay": None}  # all decay is `kernel_decay`
        super().__init__(learning_rate, kernel_decay=kernel_decay, ema=ema, scales=scales, **kwargs)

    def uses_adam(self, variable: keras.Variable) -> bool:
        """Returns whether Adam updates a variable: all but kernels, and the kernels of output layers."""
        path: str = variable.path
        *_, layer, name = ["", *path.split("/")]
        return "kernel" not in name or layer in OUTPUTS


def optimizer_of(
    recipe: Recipe, total_steps: int, warmup_steps: int, scales: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a recipe; for mixed_float16, within a LossScaleOptimizer."""
    schedule = WarmupSchedule(recipe.learning_rate, total_steps, recipe.schedule, warmup_steps, recipe.milestones)
    shared: dict[str, Any] = {"kernel_decay": recipe.weight_decay, "ema": recipe.ema, "scales": scales}
    if recipe.optimizer == "sgd":
        optimizer = SGD(schedule, momentum=recipe.momentum, momentum_dtype=recipe.momentum_dtype, **shared)
    else:
        optimizer = {"adamw": AdamW, "muon": Muon}[recipe.optimizer](schedule, **shared)
    return keras.optimizers.LossScaleOptimizer(optimizer) if recipe.precision == "mixed_float16" else optimizer
