"""How models stand it that their images are spoilt: curves of accuracy over how badly."""

import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Callable

import keras
import numpy as np

from keras_vit.evaluation.accuracy import score
from keras_vit.evaluation.occlusion import KeptTokens, occlusion_grid
from keras_vit.evaluation.perturbations import FAMILIES, Change, PerturbationPlan, families_named

CLEAN = "clean"  # family and condition of the images as they are, level 0
GRID = 14  # patches a side that are dropped where no model has a grid

_log = logging.getLogger("keras_vit")


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A model whose robustness is looked at, with its images.

    Args:
        name: what people call it.
        model: a Keras model, (batch, rows, columns, 3) -> (batch, classes).
        images: (images, rows, columns, 3) uint8, of the model's size. Subjects may share the array, which is then
            spoilt once for all of them.
        labels: (images,) the true classes, as the model numbers them.
        prepare: function from pixels of 0 to 255 to the model's input.
    """

    name: str
    model: keras.Model
    images: np.ndarray
    labels: np.ndarray
    prepare: Callable


@dataclasses.dataclass(frozen=True)
class RobustnessRow:
    """Holds what a model made of images that were all changed in one way.

    Args:
        family: name out of `FAMILIES`, or "clean".
        condition: the curve, as "random" of the drops or "fog" of the corruptions.
        level: how much: the part of the patches dropped, the squares a side, pixels, or a severity of 1 to 5.
        model: its name.
        accuracy: part of the images whose most probable class is the true one.
        consistency: part of the images whose class is the same as that of the unchanged image.
        images: their number.
    """

    family: str
    condition: str
    level: float
    model: str
    accuracy: float
    consistency: float
    images: int


@dataclasses.dataclass(frozen=True)
class Robustness:
    """Holds the curves of one model or several.

    Args:
        models: their names; the first is the one looked at, the last of several the baseline.
        rows: a `Row` a model, condition and level, the levels of a curve in rising order.
    """

    models: tuple[str, ...]
    rows: tuple[RobustnessRow, ...]

    @property
    def curves(self):
        """The rows as {(family, condition): {model: its rows}}, in order."""
        found = {}
        for row in self.rows:
            found.setdefault((row.family, row.condition), {}).setdefault(row.model, []).append(row)
        return found

    @property
    def corruption_error(self):
        """The mean corruption error of each model, {model: part}; {} where the corruptions were left out.

        With a baseline, each corruption's errors over the five severities are divided by the baseline's, whose own
        mean is then 1 (papers write 100); NaN or infinite where the baseline makes none. Without one it is the mean
        of the errors.

        Source: arXiv:1903.12261, the mCE.
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


def robustness_curves(subjects, families=None, *, salience=None, seed=0, batch_size=64):
    """Returns the `Robustness` of models under changes of their images.

    Each model's images are changed at its own size, the same image in the same random way for every model. Of
    dropped patches no model sees a pixel: they are grey, and where the model cuts the images by the same grid, their
    tokens are not computed either. Progress is logged, a line a level.

    Args:
        subjects: the models, a `Subject` each, of the same images in the same order. The first one sets the grid of
            the patches that are dropped and the largest shift, which is its patch; the last of several is the baseline.
        families: names out of `keras_vit.evaluation.perturbations.FAMILIES`; None for all.
        salience: (images, rows, columns) how much the first model attends to each of its patches, for the drops
            "salient" (most first) and "non-salient" (least first), which are left out without it.
        seed: of all that is random.
        batch_size: images that a model takes at once, at most; fewer where that makes the batches alike.

    Raises:
        ValueError: if there are no images, their numbers differ, they are not uint8 or not of a model's size, a
            label is none of its classes, names of models are the same, a family is unknown, salience is not of the
            grid, or patches are dropped of a model that lays its tokens out as their grid again.

    Source: arXiv:2105.10497 (drops, shuffle); arXiv:1903.12261 (corruptions). The levels of
    texture and shifts are ours.
    """
    count, grid = _checked(subjects, salience)
    plan = PerturbationPlan(count, grid, salience, seed, [subject.images.shape[1:3] for subject in subjects])
    changes = [Change(CLEAN, CLEAN, 0)]
    changes += [change for name in families_named(families) for change in FAMILIES[name](plan)]
    # Each size of a batch is compiled anew, for each number of kept tokens.
    batch_size = next((size for size in range(batch_size, batch_size // 2, -1) if count % size == 0), batch_size)
    rows, clean, kept_models, begun = [], {}, {}, time.monotonic()
    for number, change in enumerate(changes, 1):
        spoilt = {}
        for subject in subjects:
            if id(subject.images) not in spoilt:
                spoilt[id(subject.images)] = _spoilt(change, subject.images, seed)
            model, batches = _run(subject, change, spoilt[id(subject.images)], grid, batch_size, kept_models)
            scores = score(model, batches)
            same = np.mean(clean.setdefault(subject.name, scores.predictions) == scores.predictions)
            what = change.family, change.condition, change.level, subject.name
            rows.append(RobustnessRow(*what, scores.accuracy, float(same), count))
        _log.info(
            "%s, %s, %g: %s (%d of %d, %.0f s left)",
            *what[:3],
            ", ".join(f"{row.model} {row.accuracy:.1%}" for row in rows[-len(subjects) :]),
            number,
            len(changes),
            (time.monotonic() - begun) / number * (len(changes) - number),
        )
    return Robustness(tuple(subject.name for subject in subjects), tuple(rows))


def _spoilt(change, images, seed):
    def make(i):
        return change.make(images[i], np.random.default_rng((seed, i)), i)

    out = np.empty_like(images)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for i, image in enumerate(pool.map(make, range(len(images)))):
            out[i] = image
    return out


def _run(subject, change, images, grid, batch_size, kept_models):
    """Returns the model to run, and batches for it; models of kept tokens are put into `kept_models`."""
    parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
    if change.kept is None or occlusion_grid(subject.model) != grid:
        return subject.model, ((subject.prepare(images[part]), subject.labels[part]) for part in parts)
    key = subject.name, change.kept.shape[1]
    if key not in kept_models:
        kept_models[key] = KeptTokens(subject.model, change.kept.shape[1])
    inputs = ([subject.prepare(images[part]), change.kept[part].astype("int32")] for part in parts)
    return kept_models[key], ((batch, subject.labels[part]) for batch, part in zip(inputs, parts))


def _checked(subjects, salience):
    """Returns the number of images and the grid of the patches that are dropped."""
    counts = {len(part) for subject in subjects for part in (subject.images, subject.labels)}
    if not counts or counts == {0}:
        raise ValueError("Expected images to evaluate on. Received: none")
    if len(counts) > 1:
        raise ValueError(f"Expected as many images and labels for each model. Received: {sorted(counts)} of them")
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected models of different names. Received: {names}")
    for subject in subjects:
        _check_images(subject)
    count, size = counts.pop(), subjects[0].images.shape[1:3]
    grid = occlusion_grid(subjects[0].model)
    if salience is not None:
        grid = grid or salience.shape[1:]
        if salience.shape != (count, *grid):
            raise ValueError(
                f"Expected salience of shape {(count, *grid)}, a number for each patch of each image. "
                f"Received: {salience.shape}"
            )
    return count, grid or tuple(min(GRID, side) for side in size)


def _check_images(subject):
    taken = getattr(subject.model, "input_shape", None)
    taken = taken[1:] if isinstance(taken, tuple) and len(taken) == 4 else (None, None, 3)
    shape, dtype = subject.images.shape, subject.images.dtype
    if dtype != np.uint8 or len(shape) != 4 or any(side not in (None, have) for side, have in zip(taken, shape[1:])):
        rows, columns, _ = (side or "any" for side in taken)
        raise ValueError(
            f"Expected uint8 images of {rows} rows, {columns} columns and 3 channels for {subject.name!r}. "
            f"Received: shape {shape}, {dtype}"
        )
