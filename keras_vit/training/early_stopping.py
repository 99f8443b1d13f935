"""When a run has stopped getting better."""

import math


def standard_error(accuracy, images):
    """Returns the standard error of an accuracy on so many images, as of a binomial distribution.

    One right and one wrong image are added, so that it is not 0 where all are right or none.
    """
    share = (min(max(accuracy, 0.0), 1.0) * images + 1.0) / (images + 2.0)
    return math.sqrt(share * (1.0 - share) / images)


class EarlyStopping:
    """Watches the validation accuracy of a run's epochs.

    An accuracy is better if it exceeds the last better one by more than its standard error: what is less may be chance
    on so few images, and the highest of many equal epochs is high by chance alone. Small gains add up, as the accuracy
    that they are compared with stays.

    Args:
        epochs, steps: the run has stopped getting better after so many of both without a better accuracy.
        images: that the accuracy is of.
    """

    def __init__(self, epochs, steps, images):
        self.epochs, self.steps, self.images = epochs, steps, images
        self.state = {"accuracy": None, "epoch": 0, "step": 0}  # when it was better last

    def see(self, accuracy, epoch, step):
        """Notes the accuracy after an epoch, numbered from 1, and so many steps."""
        before = self.state["accuracy"]
        if before is None or accuracy > before + standard_error(before, self.images):
            self.state = {"accuracy": accuracy, "epoch": epoch, "step": step}

    def is_over(self, epoch, step):
        """Returns whether the run has waited long enough."""
        return epoch - self.state["epoch"] >= self.epochs and step - self.state["step"] >= self.steps
