"""Early stopping: ends a run once its validation accuracy has stopped improving."""

import math
from typing import TypedDict


class _State(TypedDict):
    accuracy: float | None
    epoch: int
    step: int


class EarlyStopping:
    """Early stopping by the validation accuracy, with a patience in epochs and in steps.

    An accuracy is an improvement if it exceeds the last improvement by more than its standard error: on few images, a
    smaller difference may be chance, and the highest of many equal epochs is high by chance alone. Small gains add up,
    since the accuracy that they are compared with stays.

    Args:
        epochs: patience, number of epochs without an improvement.
        steps: patience, number of steps without an improvement; the run ends once both have passed.
        images: number of images of the accuracy.

    Attributes:
        state: {"accuracy", "epoch", "step"} of the last improvement; a run stores it in its checkpoints.

    Example:
        ```python
        early_stopping = keras_vit.training.EarlyStopping(epochs=2, steps=0, images=1000)
        for epoch, accuracy in enumerate([0.5, 0.7, 0.7, 0.69], start=1):
            early_stopping.update(accuracy, epoch, step=10 * epoch)
        assert early_stopping.should_stop(epoch=4, step=40) and early_stopping.state["epoch"] == 2
        ```
    """

    def __init__(self, epochs: int, steps: int, images: int) -> None:
        self.epochs, self.steps, self.images = epochs, steps, images
        self.state: _State = {"accuracy": None, "epoch": 0, "step": 0}

    def update(self, accuracy: float, epoch: int, step: int) -> None:
        """Records the validation accuracy after an epoch (counted from 1) and a step."""
        best = self.state["accuracy"]
        if best is None or accuracy > best + standard_error(best, self.images):
            self.state = {"accuracy": accuracy, "epoch": epoch, "step": step}

    def should_stop(self, epoch: int, step: int) -> bool:
        """Returns whether the patience has passed, in epochs and in steps."""
        return epoch - self.state["epoch"] >= self.epochs and step - self.state["step"] >= self.steps


def standard_error(accuracy: float, images: int) -> float:
    """Returns the standard error of an accuracy on a number of images, that of a binomial distribution.

    One right and one wrong image are added, so that it is not 0 for an accuracy of 0 or 1.
    """
    rate = (min(max(accuracy, 0.0), 1.0) * images + 1.0) / (images + 2.0)
    return math.sqrt(rate * (1.0 - rate) / images)
