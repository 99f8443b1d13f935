"""`Reject`: when an image is none of the classes of a classifier."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keras import ops

NONE_OF_THESE = "none of these"  # the prediction for an image that is rejected, in words
LARGEST_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Reject:
    """When an image is none of the classes of a classifier: if its highest probability is below a threshold.

    The margin of an image is its highest probability minus the threshold: below 0, the image is none of the classes.

    Args:
        share: of images of the classes that may be rejected, for which the threshold was chosen; above 0, at most 1/2.
        threshold: least highest probability of an image that is one of the classes, 0 to 1.

    Raises:
        ValueError: if a number is out of range.

    Example:
        ```python
        reject = keras_vit.evaluation.Reject(share=0.05, threshold=0.6)
        margin = keras.ops.convert_to_numpy(reject.margin(np.array([[0.9, 0.1], [0.5, 0.5]])))
        assert (margin < 0).tolist() == [[False], [True]]
        ```

    Source: arXiv:1610.02136.
    """

    share: float
    threshold: float

    def __post_init__(self) -> None:
        if not (0 < self.share <= LARGEST_SHARE and 0 <= self.threshold <= 1):
            raise ValueError(
                f"Expected a share above 0 and at most {LARGEST_SHARE}, and a threshold from 0 to 1. Received: {self}"
            )

    def margin(self, probabilities: Any) -> Any:
        """Returns the margins of images, (batch, 1), for their probabilities, (batch, classes); below 0 is rejected."""
        return ops.max(probabilities, axis=-1, keepdims=True) - self.threshold


def images_needed(share: float) -> int:
    """Returns how many validation images it takes to choose a threshold for a share of false rejects: 1 / share - 1."""
    return math.ceil(1 / share - 1e-9) - 1


def as_reject(reject: Reject | Mapping[str, float] | None) -> Reject | None:
    """Returns a `Reject`, or its fields as a dictionary as one; None for None."""
    return Reject(**reject) if isinstance(reject, Mapping) else reject
