"""Training step: loss, gradient clipping and accumulation, the same result on any number of devices."""

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_vit.models.lean import LeanModel
from keras_vit.models.patch_size import check_patch_sizes, patch_size_of
from keras_vit.training.losses import CrossEntropy, LossFunction, OutputLoss

_TRAINERS = {
    "tensorflow": ("keras_vit.training.step_tensorflow", "TensorFlowTrainer"),
    "jax": ("keras_vit.training.step_jax", "JaxTrainer"),
    "torch": ("keras_vit.training.step_torch", "TorchTrainer"),
}


def make_trainer(
    model: keras.Model,
    *,
    loss: str | LossFunction = "softmax",
    label_smoothing: float = 0.0,
    clip_norm: float = 0.0,
    accumulation: int = 1,
    patch_sizes: Sequence[int] = (),
    outputs: keras.KerasTensor | None = None,
) -> keras.Model:
    """Returns a Keras model of the same layers, with the training step of the paper's code on any number of devices.

    `fit` and `evaluate` read batches of (images, targets (batch, classes), weights (batch,)). `evaluate` returns "loss"
    and "accuracy", weighted means. `fit` returns those of the last step, with the sum of its weights and the norm of
    its gradient; `Run` computes the means over an epoch, which must survive the process.

    The loss of a batch is its weighted mean over the whole batch, on any number of devices and parts; images of weight
    0 do not count. Gradients are summed over all devices, then clipped. A batch whose images all have weight 0 changes
    nothing: no weight, no optimizer state, no step count; its loss, accuracy and norm are 0. Neither does a batch whose
    loss or gradient is NaN or infinite, except the scale of a LossScaleOptimizer.

    Args:
        model: a classifier whose last layer is "head" (the loss uses the logits, before its activation), or with
            loss="output" a model that returns the loss and the metric of each image, (batch, 2).
        loss: "softmax" or "sigmoid" cross-entropy, "output", or a loss of targets and logits, see `LossFunction` in
            keras_vit.training.losses.
        label_smoothing: fraction of each target that is spread over all classes.
        clip_norm: largest global norm of the gradients; 0 does not clip.
        accumulation: number of parts of a batch that are computed one after the other.
        patch_sizes: patch sizes in pixels, of which each step of `fit` draws one at random, see `patch_size_of` in
            keras_vit.models.patch_size; none for the model's own. Each device and each part of a batch draws its own.
        outputs: what the loss is computed of; None for the logits, or the output of a model with loss="output".

    Returns:
        The model to compile and fit.

    Raises:
        ValueError: if Keras' backend has no training step, or the model cannot have one of the patch sizes.

    Example:
        ```python
        variant = keras_vit.Variant(8, 32, 1, 2, 64)
        model = keras_vit.build(variant, input_shape=(32, 32, 3), classes=3, weights=None)
        trainer = keras_vit.training.make_trainer(model, label_smoothing=0.1)
        trainer.compile(keras_vit.training.AdamW(1e-3))
        images, targets, weights = np.zeros((4, 32, 32, 3)), np.eye(3)[[0, 1, 2, 0]], np.ones(4)
        trainer.fit(images, targets, sample_weight=weights, batch_size=4, verbose=0)
        ```
    """
    backend = keras.backend.backend()
    if backend not in _TRAINERS:
        raise ValueError(
            f"Expected a Keras backend that can train, one of {tuple(_TRAINERS)}. Received: {backend}. "
            "Set KERAS_BACKEND=tensorflow, for example."
        )
    if loss == "output":
        loss = OutputLoss()
    elif isinstance(loss, str):
        loss = CrossEntropy(loss, label_smoothing)
    if patch_sizes:
        check_patch_sizes(model, patch_sizes)
    if outputs is None:
        outputs = model.outputs if isinstance(loss, OutputLoss) else logits_of(model)
    module, name = _TRAINERS[backend]
    trainer = getattr(importlib.import_module(module), name)
    return trainer(
        inputs=model.inputs,
        outputs=outputs,
        name=model.name,
        objective=loss,
        clip_norm=clip_norm,
        accumulation=accumulation,
        patch_sizes=patch_sizes,
    )


def logits_of(model: keras.Model) -> keras.KerasTensor:
    """Returns the output of a model's head, before its activation."""
    return model.get_layer("head").output


class TrainerBase(LeanModel):
    """Base class of the trainers of all backends; precedes `keras.Model` among their bases.

    Args:
        objective: the loss function.
        clip_norm: largest global norm of the gradients; 0 does not clip.
        accumulation: number of parts of a batch that are computed one after the other.
        patch_sizes: patch sizes of which each call in training draws one; none for the model's own.
        kwargs: arguments of `keras.Model`.
    """

    optimizer: Any  # of `keras.Model`

    def __init__(
        self,
        objective: LossFunction,
        clip_norm: float = 0.0,
        accumulation: int = 1,
        patch_sizes: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.objective, self.clip_norm, self.accumulation = objective, clip_norm, accumulation
        self.patch_sizes = tuple(patch_sizes)
        if patch_sizes:
            self.patch_size_seed = keras.random.SeedGenerator()
        self.loss_mean = keras.metrics.Mean("loss")
        self.accuracy_mean = keras.metrics.Mean("accuracy")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """Returns the logits; in training, of patches of a size that is drawn at random."""
        computed: Callable[[Any], Any] = functools.partial(super().call, training=training, mask=mask, **kwargs)
        if not training or not self.patch_sizes:
            return computed(inputs)

        def cut_into(patch_size: int) -> Callable[[Any], Any]:
            def branch(images: Any) -> Any:
                with patch_size_of(self, patch_size):
                    return computed(images)

            return branch

        index = keras.random.randint((), 0, len(self.patch_sizes), seed=self.patch_size_seed)
        return ops.switch(index, [cut_into(size) for size in self.patch_sizes], inputs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that Keras resets before each epoch and evaluation."""
        return [self.loss_mean, self.accuracy_mean]

    @property
    def scales_loss(self) -> bool:
        """Whether the optimizer scales the loss, as float16 requires."""
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def weighted_sums(self, outputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        """Returns the weighted sums of the loss and of the accuracy over a batch."""
        losses, accuracies = self.objective.loss_and_accuracy(targets, outputs)
        return tuple(ops.sum(ops.where(weights != 0, weights * values, 0.0)) for values in (losses, accuracies))

    def divisor(self, total: Any) -> Any:
        """Returns the number by which a sum of a total weight becomes a mean; 1 where all weights are 0."""
        return ops.where(total != 0, total, 1.0)

    def update_means(self, loss: Any, accuracy: Any, total: Any) -> None:
        """Adds weighted sums of a batch, of a total weight, to the metrics."""
        divisor = self.divisor(total)
        self.loss_mean.update_state(loss / divisor, sample_weight=total)
        self.accuracy_mean.update_state(accuracy / divisor, sample_weight=total)

    def gradient_factor(self, norm: Any, finite: Any) -> Any:
        """Returns the factor on gradients of a global norm that clips them; NaN if the batch is not finite.

        The NaN makes a LossScaleOptimizer skip the step.
        """
        clip = ops.where(norm > self.clip_norm, self.clip_norm / norm, 1.0) if self.clip_norm else ops.ones_like(norm)
        return ops.where(finite, clip, math.nan)
