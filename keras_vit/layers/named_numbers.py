"""Numbers in their own units, by name: the last layer of a model of numbers."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_vit")
class NamedNumbers(keras.layers.Layer):
    """Returns standardized numbers in their own units, by name: y = x * std + mean.

    A network learns numbers best with a mean of 0 and a standard deviation of 1. This layer turns the outputs of its
    head back into years or grams, so that a model and every file that is exported from it return these.

    Input: (batch, numbers).

    Output: {name: (batch, 1)} of each number.

    Args:
        names: of the numbers.
        mean: of each number, in its own unit.
        std: the standard deviation of each number, in its own unit; more than 0.
        kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if there is no name, one is twice, or there is not a mean and a std for each.

    Example:
        ```python
        layer = keras_vit.layers.NamedNumbers(["age", "height"], mean=[40, 170], std=[20, 10])
        outputs = layer(np.array([[0.0, -1.0]]))
        assert float(outputs["age"][0, 0]) == 40 and float(outputs["height"][0, 0]) == 160
        ```
    """

    def __init__(self, names: Sequence[str], mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        counts = {len(self.names), len(self.mean), len(self.std), len({*self.names})}
        if not self.names or len(counts) > 1 or min(self.std) <= 0:
            raise ValueError(
                "Expected different names, with a mean and a std above 0 for each. "
                f"Received: names={names!r}, mean={mean!r}, std={std!r}"
            )

    def call(self, x: Any) -> dict[str, Any]:
        x = x * ops.convert_to_tensor(self.std, x.dtype) + ops.convert_to_tensor(self.mean, x.dtype)
        return {name: x[:, i : i + 1] for i, name in enumerate(self.names)}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "names": list(self.names), "mean": list(self.mean), "std": list(self.std)}
