"""Numbers: R2, mean absolute error and root mean square error, with intervals, and the worst errors."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

RESAMPLES = 1000  # of the images, for the intervals
_AT_ONCE = 2**22  # numbers in memory


@dataclasses.dataclass(frozen=True, eq=False)
class NumberScores:
    """Errors of a model of numbers: R2, mean absolute error (MAE) and root mean square error (RMSE) of each.

    R2 is 1 minus the squared error over the variance of the images: 1 is without error, 0 is as good as the mean of
    these images for all of them. It is NaN for a number that is the same for all.

    Args:
        names: of the numbers.
        targets: (images, numbers), in their own units.
        predictions: (images, numbers), in the same.

    Raises:
        ValueError: if there are no images, or the shapes do not fit.

    Example:
        ```python
        scores = keras_vit.evaluation.NumberScores(["age"], [[20], [40], [60]], [[22], [40], [57]])
        assert np.isclose(scores.mae, 5 / 3) and scores.worst.tolist() == [2, 0, 1]
        low, high = scores.intervals["mae"][0]
        assert low <= scores.mae[0] <= high
        ```
    """

    names: Sequence[str]
    targets: np.ndarray
    predictions: np.ndarray

    def __post_init__(self) -> None:
        for name in ("targets", "predictions"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        if not len(self.targets):
            raise ValueError("Expected images to evaluate on. Received: no images")
        if self.targets.shape != self.predictions.shape or self.targets.shape[1:] != (len(self.names),):
            raise ValueError(
                f"Expected targets and predictions (images, {len(self.names)}). Received: targets "
                f"{self.targets.shape}, predictions {self.predictions.shape}"
            )

    @property
    def errors(self) -> np.ndarray:
        """Predictions minus targets, (images, numbers)."""
        return self.predictions - self.targets

    @property
    def mae(self) -> np.ndarray:
        """The mean absolute error of each number, (numbers,), in its own unit."""
        return _figures(self.targets, self.errors)["mae"]

    @property
    def rmse(self) -> np.ndarray:
        """The root mean square error of each number, (numbers,), in its own unit."""
        return _figures(self.targets, self.errors)["rmse"]

    @property
    def r2(self) -> np.ndarray:
        """The coefficient of determination of each number, (numbers,), 1 at most."""
        return _figures(self.targets, self.errors)["r2"]

    @functools.cached_property
    def intervals(self) -> dict[str, np.ndarray]:
        """95 % intervals of "r2", "mae" and "rmse", (numbers, 2) each: of 1,000 resamples of the images (bootstrap).

        Of few images they are too narrow: those of the rmse of 80 images contain the true one in 90 % of 400 draws.
        """
        count, random = len(self.targets), np.random.default_rng(0)
        rows: dict[str, list[np.ndarray]] = {"r2": [], "mae": [], "rmse": []}
        at_once = max(_AT_ONCE // self.targets.size, 1)
        for start in range(0, RESAMPLES, at_once):
            chosen = random.integers(0, count, (min(at_once, RESAMPLES - start), count))
            for name, values in _figures(self.targets[chosen], self.errors[chosen]).items():
                rows[name].append(values)
        return {
            name: np.nanquantile(np.concatenate(parts), (0.025, 0.975), axis=0).T
            if not np.isnan(getattr(self, name)).any()
            else np.full((len(self.names), 2), np.nan)
            for name, parts in rows.items()
        }

    @property
    def worst(self) -> np.ndarray:
        """Indices of the images, (images,), the largest error first, in standard deviations of each number."""
        spread = self.targets.std(axis=0)
        return np.argsort(-np.abs(self.errors / np.where(spread > 0, spread, 1)).max(axis=1), kind="stable")

    @property
    def metrics(self) -> dict[str, Any]:
        """{name of a number: {"r2", "mae", "rmse", and the interval of each}}, as in metrics.json."""
        return {
            "numbers": {
                name: {figure: float(getattr(self, figure)[i]) for figure in ("r2", "mae", "rmse")}
                | {f"{figure}_interval": self.intervals[figure][i].tolist() for figure in ("r2", "mae", "rmse")}
                for i, name in enumerate(self.names)
            }
        }


def _figures(targets: np.ndarray, errors: np.ndarray) -> dict[str, np.ndarray]:
    """Returns {"r2", "mae", "rmse"} of (..., images, numbers), each (..., numbers)."""
    squares, variance = np.square(errors).mean(axis=-2), targets.var(axis=-2)
    r2 = 1 - np.divide(squares, variance, out=np.full_like(squares, np.nan), where=variance > 0)
    return {"r2": r2, "mae": np.abs(errors).mean(axis=-2), "rmse": np.sqrt(squares)}


def score_numbers(model: keras.Model, batches: Iterable[tuple[Any, Any]], names: Sequence[str]) -> NumberScores:
    """Evaluates a model of numbers on batches.

    Args:
        model: (batch, height, width, channels) -> {name: (batch, 1)}, as of `keras_vit.layers.NamedNumbers`.
        batches: (images, targets) pairs, read once; targets are (batch, numbers), in the units of the model.
        names: Of the numbers, in the order of the targets.

    Returns:
        The `NumberScores` of all images, in the order of the batches.

    Raises:
        ValueError: If there are no images, or the shapes do not fit.

    Example:
        ```python
        images = keras.Input((8, 8, 3))
        x = keras.layers.Dense(1)(keras.layers.Flatten()(images))
        model = keras.Model(images, keras_vit.layers.NamedNumbers(["age"], [40], [20])(x))
        batches = [(np.zeros((2, 8, 8, 3), "float32"), np.array([[30.0], [50.0]]))]
        assert keras_vit.evaluation.score_numbers(model, batches, ["age"]).mae == 10
        ```
    """
    parts = []
    for images, targets in batches:
        outputs = model.predict_on_batch(keras.tree.map_structure(np.asarray, images))
        parts.append((np.asarray(targets), np.concatenate([np.asarray(outputs[name]) for name in names], axis=1)))
    empty = np.zeros((0, len(names)))
    targets, predictions = (np.concatenate(arrays) for arrays in zip(*parts)) if parts else (empty, empty)
    return NumberScores(names, targets, predictions)
