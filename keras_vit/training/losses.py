"""Losses of each image, in float32: of classes, of labels, of numbers, and of a model that computes its own."""

from collections.abc import Sequence
from typing import Any, Protocol

from keras import ops


class LossFunction(Protocol):
    """Function of a batch's targets and a model's outputs."""

    def loss_and_accuracy(self, targets: Any, outputs: Any) -> tuple[Any, Any]:
        """Returns the loss and the accuracy (or another metric) of each image, (batch,) each."""


class CrossEntropy:
    """Cross-entropy of each image, in float32, from logits.

    Args:
        kind: "softmax", or "sigmoid": the sum of the binary cross-entropies of all classes.
        label_smoothing: fraction of each target that is spread over all classes.
    """

    def __init__(self, kind: str = "softmax", label_smoothing: float = 0.0) -> None:
        self.kind, self.label_smoothing = kind, label_smoothing

    def __call__(self, targets: Any, logits: Any) -> Any:
        """Returns the loss of each image, (batch,), of targets and logits, (batch, classes) each."""
        logits, targets = ops.cast(logits, "float32"), self.smoothed(targets)
        if self.kind == "sigmoid":
            return ops.sum(ops.binary_crossentropy(targets, logits, from_logits=True), axis=-1)
        return ops.categorical_crossentropy(targets, logits, from_logits=True)

    def smoothed(self, targets: Any) -> Any:
        """Returns the targets in float32, with a part of each spread over all classes."""
        targets = ops.cast(targets, "float32")
        if self.label_smoothing:
            targets = targets * (1.0 - self.label_smoothing) + self.label_smoothing / targets.shape[-1]
        return targets

    def loss_and_accuracy(self, targets: Any, logits: Any) -> tuple[Any, Any]:
        """Returns the loss and the top-1 accuracy (1 or 0) of each image, (batch,) each."""
        correct = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(targets, axis=-1))
        return self(targets, logits), ops.cast(correct, "float32")


class LabelsLoss(CrossEntropy):
    """Sum of the binary cross-entropies of all labels of an image, and the F1 of its labels with a score above 1/2.

    Args:
        label_smoothing: as of `CrossEntropy`.
        positive_weights: weight of each label in the loss of the images that have it; None for 1.
    """

    def __init__(self, label_smoothing: float = 0.0, positive_weights: Sequence[float] | None = None) -> None:
        super().__init__("sigmoid", label_smoothing)
        self.positive_weights = positive_weights

    def __call__(self, targets: Any, logits: Any) -> Any:
        """Returns the loss of each image, (batch,), of targets and logits, (batch, labels) each."""
        if self.positive_weights is None:
            return super().__call__(targets, logits)
        logits, targets = ops.cast(logits, "float32"), self.smoothed(targets)
        weights = ops.convert_to_tensor(self.positive_weights, "float32")
        # -log sigmoid(x) = softplus(-x), and -log(1 - sigmoid(x)) = softplus(x)
        return ops.sum(weights * targets * ops.softplus(-logits) + (1.0 - targets) * ops.softplus(logits), axis=-1)

    def loss_and_accuracy(self, targets: Any, logits: Any) -> tuple[Any, Any]:
        """Returns the loss and the F1 of each image, (batch,) each; 1 for an image without labels and predictions."""
        targets, predicted = ops.cast(targets, "float32"), ops.cast(logits > 0, "float32")
        both, either = ops.sum(targets * predicted, axis=-1), ops.sum(targets + predicted, axis=-1)
        return self(targets, logits), ops.where(either > 0, 2.0 * both / ops.maximum(either, 1e-6), 1.0)


class NumbersLoss:
    """Mean loss of the numbers of an image, and the part of their variance that is explained.

    Targets and outputs are in standard deviations of the training images, so that all numbers weigh the same.

    Args:
        kind: "mse", the squared error; "mae", the absolute error; "huber", the squared error up to a standard deviation
            and the absolute error above it.
    """

    def __init__(self, kind: str = "mse") -> None:
        self.kind = kind

    def loss_and_accuracy(self, targets: Any, outputs: Any) -> tuple[Any, Any]:
        """Returns the loss and 1 minus the squared error of each image, (batch,) each; the mean of the latter is R2."""
        errors = ops.cast(outputs, "float32") - ops.cast(targets, "float32")
        squares, sizes = ops.square(errors), ops.abs(errors)
        huber = ops.where(sizes <= 1.0, 0.5 * squares, sizes - 0.5)
        loss = {"mse": squares, "mae": sizes, "huber": huber}[self.kind]
        return ops.mean(loss, axis=-1), 1.0 - ops.mean(squares, axis=-1)


class OutputLoss:
    """Loss of a model that computes it itself."""

    def loss_and_accuracy(self, targets: Any, outputs: Any) -> tuple[Any, Any]:
        """Returns the two columns of the outputs, (batch, 2); ignores the targets."""
        return outputs[:, 0], outputs[:, 1]
