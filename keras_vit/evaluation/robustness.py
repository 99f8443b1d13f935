"""Robustness curves: accuracy of models on images that are occluded, shuffled, shifted or corrupted."""

import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_vit.evaluation.accuracy import score
from keras_vit.evaluation.corruptions import CORRUPTIBLE_CHANNELS
from keras_vit.evaluation.occlusion import KeptTokens, occlusion_grid
from keras_vit.evaluation.perturbations import FAMILIES, Perturbation, PerturbationPlan, check_families

CLEAN = "clean"  # family and condition of the unchanged images, level 0
GRID = 14  # patches a side that are dropped where no model has a grid

_log = logging.getLogger("keras_vit")


@dataclasses.dataclass(frozen=True, eq=False)
class ModelWithImages:
    """A model to evaluate for robustness, with its images and labels.

    Args:
        name: Name in the curves.
        model: (batch, height, width, 3) -> (batch, classes).
        images: (images, height, width, 3) uint8, of the model's size. Models may share the array, which is then
            perturbed once for all of them.
        labels: (images,) the true classes, as the model numbers them.
        prepare: Function from pixels of 0 to 255 to the model's input.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images, labels = np.zeros((4, 32, 32, 3), "uint8"), np.array([0, 1, 2, 0])
        own = keras_vit.evaluation.ModelWithImages("vit", model, images, labels, model.preprocess_input)
        ```
    """

    name: str
    model: keras.Model
    images: np.ndarray
    labels: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class RobustnessRow:
    """Accuracy of a model on images that are perturbed in one way: a point of a robustness curve.

    Args:
        family: A key of `keras_vit.evaluation.perturbations.FAMILIES`, or "clean".
        condition: The curve, such as "random" of the drops or "fog" of the corruptions.
        level: Strength: the share of dropped patches, squares a side, pixels, or a severity of 1 to 5.
        model: Name of the model.
        accuracy: Top-1 accuracy, 0 to 1.
        agreement: Share of images with the same predicted class as the unchanged image, 0 to 1.
        images: Number of images.

    Example:
        ```python
        row = keras_vit.evaluation.RobustnessRow("corruptions", "fog", 3, "vit", 0.71, 0.8, images=500)
        ```
    """

    family: str
    condition: str
    level: float
    model: str
    accuracy: float
    agreement: float
    images: int


@dataclasses.dataclass(frozen=True)
class Robustness:
    """Robustness curves of one or several models, and their mean corruption error.

    Args:
        models: Their names; the last of several is the baseline.
        rows: A row for each model, condition and level; the levels of a curve in rising order.

    Example:
        ```python
        row = keras_vit.evaluation.RobustnessRow("corruptions", "fog", 1, "vit", 0.75, 0.8, images=500)
        robustness = keras_vit.evaluation.Robustness(("vit",), (row,))
        assert robustness.corruption_error == {"vit": 0.25}
        ```
    """

    models: tuple[str, ...]
    rows: tuple[RobustnessRow, ...]

    @property
    def curves(self) -> dict[tuple[str, str], dict[str, list[RobustnessRow]]]:
        """The rows as {(family, condition): {model: its rows}}, in order."""
        curves: dict[tuple[str, str], dict[str, list[RobustnessRow]]] = {}
        for row in self.rows:
            curves.setdefault((row.family, row.condition), {}).setdefault(row.model, []).append(row)
        return curves

    @property
    def corruption_error(self) -> dict[str, float]:
        """The mean corruption error (mCE) of each model, {model: error}; empty without corruptions.

        With a baseline, the errors of each corruption over the five severities are divided by the baseline's, whose
        mean is then 1 (papers write 100); NaN or infinite if the baseline makes no error. Without a baseline it is the
        mean of the errors.

        Source: arXiv:1903.12261.
        """
        errors = np.array(
            [
                [np.mean([1 - row.accuracy for row in by_model[name]]) for name in self.models]
                for (family, _), by_model in self.curves.items()
                if family == "corruptions"
            ]
        )
        if not len(errors):
            return {}
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = errors / errors[:, -1:] if len(self.models) > 1 else errors
        return dict(zip(self.models, errors.mean(axis=0).tolist()))


def robustness_curves(
    models: Sequence[ModelWithImages],
    families: str | Iterable[str] | None = None,
    *,
    salience: np.ndarray | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> Robustness:
    """Computes the accuracy of models under patch drops, shuffles, shifts, texture removal and ImageNet-C corruptions.

    Each model's images are perturbed at its own size, the same image in the same random way for every model. No model
    sees a pixel of a dropped patch: it is grey, and where the model cuts the images by the same grid, its token is not
    computed either. A line is logged for each level.

    Args:
        models: The models with the same images in the same order. The first sets the grid of the dropped patches and
            the largest shift, which is its patch size; the last of several is the baseline.
        families: Keys of `keras_vit.evaluation.perturbations.FAMILIES`: "drop", "shuffle", "texture", "shift",
            "corruptions"; None for all.
        salience: (images, rows, columns) attention of the first model to each of its patches, for the drops "salient"
            (most first) and "non-salient" (least first), which are left out without it.
        seed: Seed of all randomness.
        batch_size: Largest batch size; a smaller one is used where it makes the batches equal.

    Returns:
        The curves, a `Robustness`.

    Raises:
        ValueError: If there are no images, their numbers differ, they are not uint8 or not of a model's size, a
            label is not a class, two models have the same name, a family is unknown, salience does not fit the grid, or
            patches are dropped for a model that needs all its tokens, see `KeptTokens`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images, labels = np.zeros((4, 32, 32, 3), "uint8"), np.array([0, 1, 2, 0])
        own = keras_vit.evaluation.ModelWithImages("vit", model, images, labels, model.preprocess_input)
        robustness = keras_vit.evaluation.robustness_curves([own], families="shift")
        assert [row.level for row in robustness.curves["shift", "pixels"]["vit"]] == [1, 2, 4, 8]
        ```

    Source: arXiv:2105.10497 (drops, shuffle); arXiv:1903.12261 (corruptions). The levels of texture and shifts are our
    own.
    """
    count, grid = _check_models(models, salience)
    plan = PerturbationPlan(count, grid, salience, seed, [subject.images.shape[1:3] for subject in models])
    families = check_families(families)
    channels = models[0].images.shape[-1]
    if "corruptions" in families and channels not in CORRUPTIBLE_CHANNELS:
        raise ValueError(
            f"Expected images of RGB or grey for the family corruptions. Received: images of {channels} channels. "
            f"Choose of the others: {', '.join(name for name in FAMILIES if name != 'corruptions')}"
        )
    changes = [Perturbation(CLEAN, CLEAN, 0)]
    changes += [change for name in families for change in FAMILIES[name](plan)]
    # Each batch size is compiled anew, for each number of kept tokens.
    batch_size = next((size for size in range(batch_size, batch_size // 2, -1) if count % size == 0), batch_size)
    rows: list[RobustnessRow] = []
    clean: dict[str, np.ndarray] = {}
    kept_models: dict[tuple[str, int], KeptTokens] = {}
    start = time.monotonic()
    for number, change in enumerate(changes, 1):
        perturbed: dict[int, np.ndarray] = {}
        for subject in models:
            if id(subject.images) not in perturbed:
                perturbed[id(subject.images)] = _perturbed(change, subject.images, seed)
            model, batches = _run(subject, change, perturbed[id(subject.images)], grid, batch_size, kept_models)
            scores = score(model, batches)
            agreement = float(np.mean(clean.setdefault(subject.name, scores.predictions) == scores.predictions))
            point = change.family, change.condition, change.level, subject.name
            rows.append(RobustnessRow(*point, scores.accuracy, agreement, count))
        _log.info(
            "%s, %s, %g: %s (%d of %d, %.0f s left)",
            change.family,
            change.condition,
            change.level,
            ", ".join(f"{row.model} {row.accuracy:.1%}" for row in rows[-len(models) :]),
            number,
            len(changes),
            (time.monotonic() - start) / number * (len(changes) - number),
        )
    return Robustness(tuple(subject.name for subject in models), tuple(rows))


def _perturbed(change: Perturbation, images: np.ndarray, seed: int) -> np.ndarray:
    def apply(i: int) -> np.ndarray:
        return change.apply(images[i], np.random.default_rng((seed, i)), i)

    result = np.empty_like(images)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for i, image in enumerate(pool.map(apply, range(len(images)))):
            result[i] = image
    return result


def _run(
    subject: ModelWithImages,
    change: Perturbation,
    images: np.ndarray,
    grid: tuple[int, int],
    batch_size: int,
    kept_models: dict[tuple[str, int], KeptTokens],
) -> tuple[keras.Model, Iterator[Any]]:
    """Returns the model to run, and its batches; models of kept tokens are added to `kept_models`."""
    parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
    kept = change.kept
    if kept is None or occlusion_grid(subject.model) != grid:
        return subject.model, ((subject.prepare(images[part]), subject.labels[part]) for part in parts)
    key = subject.name, kept.shape[1]
    if key not in kept_models:
        kept_models[key] = KeptTokens(subject.model, kept.shape[1])
    inputs = ([subject.prepare(images[part]), kept[part].astype("int32")] for part in parts)
    return kept_models[key], ((batch, subject.labels[part]) for batch, part in zip(inputs, parts))


def _check_models(models: Sequence[ModelWithImages], salience: np.ndarray | None) -> tuple[int, tuple[int, int]]:
    """Returns the number of images and the grid of the dropped patches."""
    counts = {len(part) for subject in models for part in (subject.images, subject.labels)}
    if not counts or counts == {0}:
        raise ValueError("Expected images to evaluate on. Received: no images")
    if len(counts) > 1:
        raise ValueError(f"Expected as many images and labels for each model. Received: {sorted(counts)} of them")
    names = [subject.name for subject in models]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected models of different names. Received: {names}")
    for subject in models:
        _check_images(subject)
    count, size = counts.pop(), models[0].images.shape[1:3]
    grid = occlusion_grid(models[0].model)
    if salience is not None:
        grid = grid or salience.shape[1:]
        if salience.shape != (count, *grid):
            raise ValueError(
                f"Expected salience of shape {(count, *grid)}, a number for each patch of each image. "
                f"Received: salience of shape {salience.shape}"
            )
    return count, grid or (min(GRID, size[0]), min(GRID, size[1]))


def _check_images(subject: ModelWithImages) -> None:
    expected = getattr(subject.model, "input_shape", None)
    expected = expected[1:] if isinstance(expected, tuple) and len(expected) == 4 else (None, None, None)
    shape, dtype = subject.images.shape, subject.images.dtype
    if dtype != np.uint8 or len(shape) != 4 or any(side not in (None, have) for side, have in zip(expected, shape[1:])):
        height, width, channels = (side or "any" for side in expected)
        raise ValueError(
            f"Expected uint8 images of height {height}, width {width} and {channels} channels for {subject.name!r}. "
            f"Received: images of shape {shape}, {dtype}"
        )
