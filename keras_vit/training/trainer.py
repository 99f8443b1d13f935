"""The model as it is trained: its loss, and one step that is the same on one device and on many."""

import importlib
import math

import keras
from keras import ops

_STEPS = {
    "tensorflow": ("keras_vit.training.step_tensorflow", "TensorFlowTrainer"),
    "jax": ("keras_vit.training.step_jax", "JaxTrainer"),
}


def trainer(model, **settings):
    """Returns a Keras model of the same layers, whose `fit` steps as the paper's code does on any number of devices.

    It takes batches of (images, targets (batch, classes), weights (batch,)). `evaluate` gives "loss" and "accuracy",
    both weighted; `fit` gives those of the last step, with the sum of its weights and the norm of its gradient: a mean
    over steps has to outlive the process, and is for whoever keeps the run's books.

    A batch's loss is the weighted mean over the whole batch, however many devices and parts it is spread over, and
    images of weight 0 have no part in it. The gradients are summed over all devices, then clipped. A batch whose loss
    or gradient is not finite changes nothing: no weight, no moment, no running mean, no step count; of an optimizer
    that scales the loss, the scale alone.

    Args:
        model: ends in its head; a softmax there is left out, the loss takes logits. With kind="own" it gives loss and
            share of right answers of each image itself, (batch, 2).
        settings: of `Loss`, or kind="own", and clip_norm (0 for none) and accumulation (parts of a batch).

    Raises:
        ValueError: if there is no such step for Keras' backend.
    """
    backend = keras.backend.backend()
    if backend not in _STEPS:
        raise ValueError(
            f"Expected Keras' backend to be one of {tuple(_STEPS)}, to train with. Received: {backend}. "
            "Set KERAS_BACKEND=tensorflow, or jax."
        )
    outputs = model.outputs if settings.get("kind") == "own" else logits_of(model)
    module, name = _STEPS[backend]
    step = getattr(importlib.import_module(module), name)
    return step(inputs=model.inputs, outputs=outputs, name=model.name, settings=settings)


def logits_of(model):
    """Returns the output of a model's head, before its activation."""
    return model.get_layer("head").output


class Loss:
    """Computes cross-entropies, one number an image, in float32.

    Args:
        kind: "softmax", or "sigmoid": the sum over all classes, each a question of its own.
        smoothing: part of each target spread over all classes.
    """

    def __init__(self, kind="softmax", smoothing=0.0):
        self.kind, self.smoothing = kind, smoothing

    def __call__(self, targets, logits):
        """Takes (batch, classes) twice, returns (batch,)."""
        logits, targets = ops.cast(logits, "float32"), ops.cast(targets, "float32")
        if self.smoothing:
            targets = targets * (1.0 - self.smoothing) + self.smoothing / targets.shape[-1]
        if self.kind == "sigmoid":
            return ops.sum(ops.binary_crossentropy(targets, logits, from_logits=True), axis=-1)
        return ops.categorical_crossentropy(targets, logits, from_logits=True)

    def judged(self, targets, logits):
        """Returns the loss of each image, and whether the highest logit is in the right place, (batch,) each."""
        right = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(targets, axis=-1))
        return self(targets, logits), ops.cast(right, "float32")


class OwnLoss:
    """Takes the loss from a model that computes it."""

    def judged(self, targets, outputs):
        """Returns the two columns of (batch, 2); the targets have no say."""
        return outputs[:, 0], outputs[:, 1]


class StepParts:
    """What the steps of both backends share; comes before `keras.Model` among a trainer's bases."""

    def __init__(self, settings, **kwargs):
        super().__init__(**kwargs)
        settings = dict(settings)
        self.clip_norm = settings.pop("clip_norm", 0.0)
        self.accumulation = settings.pop("accumulation", 1)
        self.judge = OwnLoss() if settings.get("kind") == "own" else Loss(**settings)
        self.loss_mean = keras.metrics.Mean("loss")
        self.accuracy_mean = keras.metrics.Mean("accuracy")

    @property
    def metrics(self):
        return [self.loss_mean, self.accuracy_mean]

    @property
    def scales_loss(self):
        """Whether the optimizer scales the loss, as float16 needs it."""
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def sums(self, images, targets, weights, training):
        """Returns the weighted sums of the loss and of the right answers."""
        return self.weighted(self(images, training=training), targets, weights)

    def weighted(self, outputs, targets, weights):
        losses, right = self.judge.judged(targets, outputs)
        return ops.sum(weights * losses), ops.sum(weights * right)

    def update_means(self, loss, right, total):
        """Adds sums over images of so much weight to the metrics."""
        some = ops.maximum(total, 1e-30)  # a part may hold nothing but images of weight 0
        self.loss_mean.update_state(loss / some, sample_weight=total)
        self.accuracy_mean.update_state(right / some, sample_weight=total)

    def factor(self, norm, finite):
        """Returns what gradients of such a norm are multiplied by: the clip; NaN if the batch is not finite.

        By the NaN an optimizer that scales the loss sees that it is not to step.
        """
        clip = ops.where(norm > self.clip_norm, self.clip_norm / norm, 1.0) if self.clip_norm else ops.ones_like(norm)
        return ops.where(finite, clip, math.nan)
