"""The verdict on a run: compares its model with a linear one, and chooses the next step from one table."""

import concurrent.futures
import dataclasses
import functools
import logging
import operator
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit.commands.run_folder import RUN_FILE
from keras_vit.data.decoding import decode, read_file
from keras_vit.data.messages import quoted
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation.accuracy import Scores, wilson_interval
from keras_vit.evaluation.labels import LabelScores, choose_thresholds
from keras_vit.evaluation.numbers import NumberScores
from keras_vit.evaluation.probes import linear_probe
from keras_vit.evaluation.verdict import AnyScores, Baseline, Verdict, reached, read_curves
from keras_vit.runtime.images import upright_size
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.recipe import Recipe
from keras_vit.training.transfer import DEFAULT_MODEL, like_size, transfer_settings

logger = logging.getLogger("keras_vit")

SIZE = 16  # height and width of the images of the linear model, pixels
MOST_IMAGES = 2000  # that it is trained on, and tested on: they take seconds, however large the data is
MOST_CLASSES = 100  # or labels
REGULARISATIONS = (1e2, 1e3, 1e4)  # of its regularisation, to choose from; weaker ones fit the training images alone
_TRAINS = "trains a %s regression on %s training images, to compare the model with"
_SIDES = 16  # training images whose size is read


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """A finished run, as the conditions of `NEXT_STEPS` see it.

    Args:
        recipe: its recipe.
        folder: its folder.
        source: its images.
        verdict: what its scores and its curves show.
    """

    recipe: Recipe
    folder: str
    source: Source
    verdict: Verdict

    @property
    def curves(self) -> str:
        return self.verdict.curves[0]

    @property
    def train_images(self) -> int:
        return len(self.source.train.labels)

    @property
    def learns(self) -> str:
        return self.source.learns

    @property
    def reached(self) -> tuple[str, float]:
        return reached(self.verdict.scores)

    @functools.cached_property
    def weak_class(self) -> int | None:
        """The class or label with the lowest recall, if that is below the recall of all by more than chance explains.

        The recall of all images of any class is the accuracy.
        """
        scores = self.verdict.scores
        if isinstance(scores, NumberScores):
            return None
        images, _, correct = scores.counts
        recall = np.divide(correct, images, out=np.full(len(images), np.inf), where=images > 0)
        weakest = int(recall.argmin())
        # The weakest of many classes is weak by chance alone: Bonferroni's correction.
        confidence = 1 - 0.05 / max(int(np.count_nonzero(images)), 1)
        _, high = wilson_interval(int(correct[weakest]), max(int(images[weakest]), 1), confidence)
        return weakest if high < correct.sum() / max(int(images.sum()), 1) else None

    @property
    def collapsed(self) -> str:
        """The class that nearly all test images are predicted to be, if far fewer are of it; "" for none."""
        scores = self.verdict.scores
        if not isinstance(scores, Scores):
            return ""
        images, predicted, _ = scores.counts
        first, count = int(predicted.argmax()), max(len(scores.labels), 1)
        is_one = predicted[first] > 0.95 * count and images[first] < 0.8 * count
        return self.source.class_names[first] if is_one else ""

    @property
    def slower(self) -> str:
        """The settings of a run with a tenth of the learning rate, and no fewer epochs than by default."""
        rate = f"learning_rate={self.recipe.learning_rate / 10:.3g}"
        epochs = transfer_settings(self.train_images)["epochs"]
        return f"{rate} steps=None epochs={epochs}" if self.recipe.steps else rate

    @property
    def weak(self) -> str:
        kind = "Class" if self.learns == "classes" else "Label"
        return "" if self.weak_class is None else f"{kind} {self.source.class_names[self.weak_class]}"

    @property
    def weak_is_rare(self) -> bool:
        """Whether the weak class has less than half of the training images that a class has on average."""
        if self.weak_class is None:
            return False
        labels, classes = self.source.train.labels, len(self.source.class_names)
        images = np.bincount(labels, minlength=classes) if self.learns == "classes" else labels.sum(axis=0)
        return bool(2 * images[self.weak_class] < images.mean())

    @property
    def is_unweighted(self) -> bool:
        """Whether each image counts the same, and is drawn as often."""
        settings = self.recipe.class_weights, self.recipe.sampling, self.recipe.full_batches
        return settings == ("equal", "shuffled", True)

    @property
    def mistakes(self) -> str:
        return "largest errors" if self.learns == "numbers" else "mistakes"

    @property
    def targets(self) -> str:
        return "numbers" if self.learns == "numbers" else "labels"

    @property
    def new_images(self) -> str:
        return "new_images/" if self.learns == "classes" else "new_images.csv"

    @functools.cached_property
    def sides(self) -> tuple[int, int]:
        """The median (height, width) of some training images, pixels."""
        chosen = self.source.train.images[:: max(1, self.train_images // _SIDES)][:_SIDES]
        height, width = np.median([upright_size(read_file(image)) for image in chosen], axis=0).astype(int).tolist()
        return height, width

    @property
    def longer(self) -> str:
        """The settings of a run of twice the length."""
        length = f"steps={2 * self.recipe.steps}" if self.recipe.steps else f"epochs={2 * self.recipe.epochs}"
        return f"{length} early_stopping=0" if self.recipe.early_stopping else length

    @property
    def larger(self) -> tuple[int, int]:
        """Twice the (height, width) of the model's images, pixels."""
        height, width = self.recipe.size
        return 2 * height, 2 * width

    @property
    def is_small(self) -> bool:
        """Whether images of at least twice the size are there, and the model's have at most 224 pixels a side."""
        return max(self.recipe.size) <= 224 and all(map(operator.le, self.larger, self.sides))

    @property
    def larger_size(self) -> str:
        """`larger` as a value of image_size."""
        return ",".join(map(str, dict.fromkeys(self.larger)))

    @property
    def fine_tuning(self) -> str:
        """The settings of a run that fine-tunes the default checkpoint."""
        tuned = transfer_settings(self.train_images).items()
        changed = {name: value for name, value in tuned if value != getattr(self.recipe, name)}
        size = {} if self.recipe.size[0] == self.recipe.size[1] else {"image_size": like_size(self.recipe.size)}
        settings = {"model": DEFAULT_MODEL, **size, **changed}
        return " ".join(f"{name}={_typed(value)}" for name, value in settings.items())

    @property
    def run(self) -> str:
        return quoted(self.folder)

    @property
    def file(self) -> str:
        return quoted(os.path.join(self.folder, RUN_FILE))

    @property
    def output(self) -> str:
        """The option for a folder beside that of the run: runs/images-2 after runs/images, then runs/images-3."""
        path = pathlib.Path(self.folder)
        name, number = re.fullmatch(r"(.*?)(?:-(\d+))?", path.name, re.DOTALL).groups()  # type: ignore[union-attr]
        return f"--output {quoted(path.with_name(f'{name}-{int(number or 1) + 1}'))}"


@dataclasses.dataclass(frozen=True)
class NextStep:
    """What to do after a run, if a condition holds.

    Args:
        when: the condition in words, as in docs/evaluating.md.
        holds: the condition.
        text: one sentence, with attributes of the `Outcome` in the notation of `str.format`.
        command: the command to run, likewise.
    """

    when: str
    holds: Callable[[Outcome], Any]
    text: str
    command: str


MISSING_WEIGHTS = "The training began with random weights, because the checkpoint {0} could not be fetched."
_AGAIN = "keras-vit fit {0.file} {0.output}"  # the settings of the run's run.json
# The first one whose condition holds is the next step.
NEXT_STEPS = (
    NextStep(
        "the interval of the accuracy, of the mean average precision or of R² reaches 99 %",
        lambda o: o.reached[1] >= 0.99,
        "{0.reached[0]} of 99% or more is within the interval: evaluate the run on new images from where it will be "
        "used.",
        "keras-vit evaluate {0.run} {0.new_images}",
    ),
    NextStep(
        "a checkpoint at the start, and nearly all test images are predicted to be of one class",
        lambda o: o.recipe.weights is not None and o.collapsed,
        "Nearly all images are predicted to be {0.collapsed}: train at a tenth of the learning rate, for as long as "
        "by default.",
        f"{_AGAIN} {{0.slower}}",
    ),
    NextStep(
        "a checkpoint that could not be fetched",
        lambda o: o.recipe.missing_weights,
        "Download {0.recipe.missing_weights} as the first lines of fit say, or set KERAS_VIT_MIRROR, and fine-tune it.",
        f"{_AGAIN} {{0.fine_tuning}}",
    ),
    NextStep(
        "random weights at the start, fewer than 20,000 training images",
        lambda o: o.recipe.weights is None and o.train_images < 20_000,
        "The training began with random weights: fine-tune a published checkpoint, which needs fewer images.",
        f"{_AGAIN} {{0.fine_tuning}}",
    ),
    NextStep(
        "a weak class with less than half of the average number of training images",
        lambda o: o.learns == "classes" and o.weak_is_rare and o.is_unweighted,
        "{0.weak} is rare, and classified worse than the average: draw each class equally often.",
        f"{_AGAIN} sampling=balanced",
    ),
    NextStep(
        "a weak label with less than half of the average number of training images",
        lambda o: o.learns == "labels" and o.weak_is_rare and o.is_unweighted,
        "{0.weak} is rare, and recognised less often than the average: give the images that have it more weight.",
        f"{_AGAIN} class_weights=balanced",
    ),
    NextStep(
        "still improving",
        lambda o: o.curves == "still improving",
        "The model still improved at the end: train for twice as long.",
        f"{_AGAIN} {{0.longer}}",
    ),
    NextStep(
        "underfitted, with `freeze_to` or `lora`",
        lambda o: o.curves == "underfitted" and (o.recipe.freeze_to or o.recipe.lora),
        "The model underfits, and most of its weights are frozen: train all of them.",
        f"{_AGAIN} freeze_to=None lora=0",
    ),
    NextStep(
        "underfitted",
        lambda o: o.curves == "underfitted",
        "The model underfits: search for a better learning rate.",
        "keras-vit lr {0.file}",
    ),
    NextStep(
        "a weak class or label",
        lambda o: o.weak_class is not None,
        "{0.weak} is classified worse than the average: add images of it, and train again.",
        _AGAIN,
    ),
    NextStep(
        "overfitted, with `flip=false`",
        lambda o: o.curves == "overfitted" and not o.recipe.flip,
        "The model overfits: mirror half of the training images, unless left and right matter.",
        f"{_AGAIN} flip=true",
    ),
    NextStep(
        "overfitted, without RandAugment",
        lambda o: o.curves == "overfitted" and not o.recipe.randaugment,
        "The model overfits: augment the training images more.",
        f"{_AGAIN} randaugment=2,10",
    ),
    NextStep(
        "images of at least twice `image_size` in height and width, which are 224 or less",
        lambda o: o.recipe.crop_from is None and o.is_small,
        "The images have {0.sides[0]} x {0.sides[1]} pixels (height x width), and the model reads {0.recipe.size[0]} x "
        "{0.recipe.size[1]}: train on larger ones.",
        f"{_AGAIN} image_size={{0.larger_size}}",
    ),
    NextStep(
        "otherwise",
        lambda o: True,
        "Look at the {0.mistakes} in report.html, correct wrong {0.targets}, add images like the others, and train "
        "again.",
        _AGAIN,
    ),
)


def _typed(value: Any) -> str:
    """Returns the value of a field as it is typed on a command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def run_verdict(
    recipe: Recipe,
    source: Source,
    scores: AnyScores,
    history: Sequence[Mapping[str, float]],
    folder: str | os.PathLike[str],
) -> Verdict:
    """Returns the verdict on the model of a run.

    Args:
        recipe: the recipe of the run.
        source: its images.
        scores: its scores on the test images.
        history: the rows of history.csv, one per epoch.
        folder: the folder of the run, for the command of the next step.
    """
    # The training accuracy is that of other images than the validation accuracy if they are mixed or weighted.
    plain = not (recipe.mixup or recipe.cutmix) and source.train.weights is None
    plain = plain and (recipe.class_weights, recipe.sampling) == ("equal", "shuffled")
    curves = read_curves(history, len(source.validation.labels), plain, OBJECTIVES[recipe.objective].metric)
    baselines: dict[str, Callable[[Source, int], Baseline | str]] = {
        "classes": logistic_regression,
        "labels": logistic_regressions,
        "numbers": ridge_regression,
    }
    start = recipe.missing_weights and MISSING_WEIGHTS.format(recipe.missing_weights)
    baseline = baselines[source.learns](source, recipe.channels)
    verdict = Verdict(scores, source.class_names, baseline, curves, start=start or "")
    outcome = Outcome(recipe, os.fspath(folder), source, verdict)
    step = next(step for step in NEXT_STEPS if step.holds(outcome))
    return dataclasses.replace(verdict, next_step=step.text.format(outcome), command=step.command.format(outcome))


def logistic_regression(source: Source, channels: int = 3) -> Baseline | str:
    """Trains a logistic regression on the pixels of small images, and tests it.

    It is trained and tested on at most `MOST_IMAGES` images of the training and of the test split, drawn at random.

    Args:
        source: the images.
        channels: with which they are read.

    Returns:
        Its accuracy, or the reason why there is none.
    """
    if len(source.class_names) > MOST_CLASSES:
        return f"there are more than {MOST_CLASSES} classes, which takes long"
    train, test = _some(source.train), _some(source.test)
    counts = np.bincount(source.train.labels[train])
    if np.count_nonzero(counts) < 2 or counts.max() < 2:
        return "it needs training images of two classes, and two images of one of them"
    logger.info(_TRAINS, "logistic", f"{len(train):,}")
    pixels, labels = _small(source.train, train, channels), source.train.labels[train]
    test_pixels, test_labels = _small(source.test, test, channels), source.test.labels[test]
    scores = linear_probe(pixels, labels, test_pixels, test_labels, REGULARISATIONS, verbose=False)
    return Baseline("logistic regression", scores, SIZE, len(train))


def logistic_regressions(source: Source, channels: int = 3) -> Baseline | str:
    """Trains and tests a logistic regression of each label, as `logistic_regression` does.

    The threshold of each label is that with the highest F1 on the validation images.
    """
    if len(source.class_names) > MOST_CLASSES:
        return f"there are more than {MOST_CLASSES} labels, which takes long"
    train, validation, test = map(_some, (source.train, source.validation, source.test))
    logger.info(_TRAINS, "logistic", f"{len(train):,}")
    pixels, labels = _small(source.train, train, channels), source.train.labels[train].astype(np.int64)
    others = np.concatenate([_small(source.validation, validation, channels), _small(source.test, test, channels)])
    scores = np.stack([_label_scores(pixels, column, others) for column in labels.T], axis=1)
    chosen, scores = scores[: len(validation)], scores[len(validation) :]
    thresholds = np.array(choose_thresholds(source.validation.labels[validation], chosen))
    tested = LabelScores(source.class_names, source.test.labels[test], scores, thresholds)
    return Baseline("logistic regression", tested, SIZE, len(train))


def _label_scores(pixels: np.ndarray, has_label: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the scores of a label for other images, (images,): equal ones if all or no training images have it."""
    if len(np.unique(has_label)) < 2 or len(has_label) < 3:
        return np.full(len(others), has_label.mean())
    unknown = np.zeros(len(others), np.int64)
    return linear_probe(pixels, has_label, others, unknown, REGULARISATIONS, verbose=False).probabilities[:, 1]


def ridge_regression(source: Source, channels: int = 3) -> Baseline | str:
    """Trains and tests a linear regression of each number with L2 regularisation, as `logistic_regression` does.

    The strength of the regularisation is chosen by leaving each training image out.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = _some(source.train), _some(source.test)
    if len(train) < 3:
        return "it needs three training images"
    logger.info(_TRAINS, "ridge", f"{len(train):,}")
    targets = source.train.labels[train]
    mean, spread = targets.mean(axis=0), targets.std(axis=0)
    model = make_pipeline(StandardScaler(), RidgeCV(REGULARISATIONS, alpha_per_target=targets.shape[1] > 1))
    model.fit(
        _small(source.train, train, channels).astype(np.float64), (targets - mean) / np.where(spread > 0, spread, 1)
    )
    predictions = (
        model.predict(_small(source.test, test, channels).astype(np.float64)).reshape(len(test), -1) * spread + mean
    )
    return Baseline(
        "ridge regression", NumberScores(source.class_names, source.test.labels[test], predictions), SIZE, len(train)
    )


def _some(examples: Examples) -> np.ndarray:
    """Returns the indices of at most `MOST_IMAGES` examples, drawn at random."""
    return np.random.default_rng(0).permutation(len(examples.labels))[:MOST_IMAGES]


def _small(examples: Examples, indices: np.ndarray, channels: int) -> np.ndarray:
    """Returns the pixels of examples at `SIZE` x `SIZE`, the means of areas: (examples, values) float32."""

    def pixels(index: int) -> np.ndarray:
        image = decode(examples.images[index], channels)
        for _ in range(2):  # the rows, then the columns
            edges = np.arange(SIZE) * len(image) // SIZE
            lengths = np.maximum(np.diff(edges, append=len(image)), 1)  # an image of fewer pixels repeats some
            sums = np.add.reduceat(image, edges, dtype=np.float32)
            image = (sums / lengths[:, None, None].astype(np.float32)).swapaxes(0, 1)
        return image.ravel()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return np.array([*pool.map(pixels, indices)], np.float32).reshape(len(indices), -1)
