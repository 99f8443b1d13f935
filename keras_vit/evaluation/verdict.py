"""The verdict on a model: what its figures show beside those of simpler ones, and what its training curves show.

It states no more than the numbers do: of two figures whose intervals overlap, it calls neither the better one.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit.evaluation.accuracy import Scores, wilson_interval
from keras_vit.evaluation.labels import LabelScores
from keras_vit.evaluation.numbers import NumberScores

AnyScores = Scores | LabelScores | NumberScores

FEW_IMAGES = 100  # fewer test images leave an interval that can be wider than 19 points

# Where a curve counts as rising, falling or apart from another.
RISE, FALL = 1.05, 0.98  # of the mean validation loss of a fifth of the epochs, relative to an earlier fifth
GAP = 0.10  # of the training accuracy above the validation accuracy
LEARNED = 0.90  # training accuracy from which a model does not underfit


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingCurves:
    """The training curves of a run: means over each fifth of its epochs.

    Args:
        loss, accuracy: of training, (5,) each.
        val_loss, val_accuracy: of validation, (5,) each.
        images: number of validation images.
        comparable: whether the two accuracies are means over images of the same kind: not of mixed images, or with
            classes of other weights.
        metric: what the accuracies are: of labels the F1 of an image, of numbers the explained variance.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray
    images: int
    comparable: bool = True
    metric: str = "accuracy"

    @property
    def highest(self) -> float:
        """The upper end of the 95 % interval of the validation accuracy in the last fifth of the epochs.

        Another metric of at most 1 has the interval of a share of the images, which is the widest one.
        """
        share = min(max(self.val_accuracy[-1], 0.0), 1.0)
        return wilson_interval(round(share * self.images), self.images)[1]


@dataclasses.dataclass(frozen=True)
class CurveRule:
    """What training curves show, if a condition holds.

    Args:
        name: "overfitted", "still improving", "underfitted" or "none".
        holds: the condition.
        text: a sentence with numbers of the curves, in the notation of `str.format`.
    """

    name: str
    holds: Callable[[TrainingCurves], bool]
    text: str


# The first rule that holds counts.
CURVE_RULES = (
    CurveRule(
        "overfitted",
        lambda c: c.val_loss[-1] > RISE * c.val_loss.min() and c.loss[-1] < c.loss[c.val_loss.argmin()],
        "The model overfits: the validation loss rose to {0.val_loss[4]:.3g} while the training loss fell to "
        "{0.loss[4]:.3g}.",
    ),
    CurveRule(
        "still improving",
        lambda c: c.val_loss[-1] < FALL * c.val_loss[-2],
        "The model still improved at the end: the validation loss fell from {0.val_loss[3]:.3g} to "
        "{0.val_loss[4]:.3g} within the last two fifths of the epochs.",
    ),
    CurveRule(
        "overfitted",
        lambda c: c.comparable and c.accuracy[-1] > max(c.val_accuracy[-1] + GAP, c.highest),
        "The model overfits: at the end, the {0.metric} is {0.accuracy[4]:.1%} on the training images, and "
        "{0.val_accuracy[4]:.1%} on the validation images.",
    ),
    CurveRule(
        "underfitted",
        lambda c: c.comparable and c.accuracy[-1] < min(LEARNED, c.highest),
        "The model underfits: at the end, the {0.metric} is only {0.accuracy[4]:.1%} on the training images.",
    ),
    CurveRule(
        "none",
        lambda c: True,
        "The training curves show neither under- nor overfitting, and no improvement at the end.",
    ),
)
_TOO_FEW = "The training curves show nothing: there are fewer than 5 epochs, or no validation images."


def read_curves(
    history: Sequence[Mapping[str, float]], images: int, comparable: bool = True, metric: str = "accuracy"
) -> tuple[str, str]:
    """Returns what training curves show, by the first of `CURVE_RULES` that holds: (name, sentence).

    Args:
        history: a row an epoch with "loss", "accuracy", "val_loss" and "val_accuracy", as in history.csv.
        images: number of validation images.
        comparable, metric: see `TrainingCurves`.

    Example:
        ```python
        from keras_vit.evaluation.verdict import read_curves

        rows = [{"loss": 1 / k, "accuracy": 0.9, "val_loss": 1 + k / 9, "val_accuracy": 0.8} for k in range(1, 11)]
        assert read_curves(rows, images=50)[0] == "overfitted"
        ```
    """
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    values = np.array([[row.get(name, np.nan) for name in names] for row in history], float).reshape(-1, 4)
    if len(values) < 5 or not images or not np.isfinite(values).all():
        return "none", _TOO_FEW
    fifths = np.stack([part.mean(axis=0) for part in np.array_split(values, 5)], axis=1)
    loss, accuracy, val_loss, val_accuracy = fifths
    curves = TrainingCurves(loss, accuracy, val_loss, val_accuracy, images, comparable, metric)
    rule = next(rule for rule in CURVE_RULES if rule.holds(curves))
    return rule.name, rule.text.format(curves)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of a model on test images, beside that of the best constant prediction.

    Args:
        name: such as "accuracy".
        value: of the model.
        interval: its 95 % interval.
        constant: what is predicted for every image alike, and the figure of that.
        form: how the values are written, as of `format`.
        is_error: whether lower values are better.
    """

    name: str
    value: float
    interval: tuple[float, float]
    constant: tuple[str, float]
    form: str = ".1%"
    is_error: bool = False

    @property
    def width(self) -> str:
        """How wide the interval is, in words."""
        low, high = self.interval
        return f"{100 * (high - low):.0f} points" if self.form == ".1%" else format(high - low, self.form)

    def shown(self, low: float, high: float) -> str:
        """Returns whether the model is shown to be "more" or "less" accurate than another of this interval, or ""."""
        lower, higher = self.interval[0] > high, self.interval[1] < low
        if self.is_error:
            lower, higher = higher, lower
        return "more" if lower else "less" if higher else ""


def figures_of(scores: AnyScores, class_names: Sequence[str]) -> list[Figure]:
    """Returns the figures that a model is compared by with simpler ones, the most important one first.

    Args:
        scores: on test images.
        class_names: of classes, in the order of the outputs.
    """
    if isinstance(scores, Scores):
        number, share = scores.most_frequent_class
        return [Figure("accuracy", scores.accuracy, scores.interval, (f"always {class_names[number]}", share))]
    if isinstance(scores, LabelScores):
        # Of equal scores, the precision is the share of the images with the label; of all predicted, so is that of F1.
        share = scores.targets.mean(axis=0)
        share = share[share > 0]
        constants = {"mean_average_precision": share.mean(), "macro_f1": (2 * share / (1 + share)).mean()}
        return [
            Figure(
                name, getattr(scores, key), scores.intervals[key], ("always every label", float(constants[key])), ".3f"
            )
            for key, name in (("mean_average_precision", "mean average precision"), ("macro_f1", "macro F1"))
        ]
    median = np.median(scores.targets, axis=0)
    errors = np.abs(scores.targets - median).mean(axis=0)
    return [
        Figure(
            f"mean absolute error of {name}",
            float(scores.mae[i]),
            tuple(scores.intervals["mae"][i].tolist()),
            (f"always the median, {median[i]:.4g}", float(errors[i])),
            ".4g",
            is_error=True,
        )
        for i, name in enumerate(scores.names)
    ]


def reached(scores: AnyScores) -> tuple[str, float]:
    """Returns the most important figure of at most 1, in words, and the upper end of its interval.

    Of several numbers it is that of the one with the lowest R².
    """
    if isinstance(scores, Scores):
        return "An accuracy", scores.interval[1]
    if isinstance(scores, LabelScores):
        return "A mean average precision", scores.intervals["mean_average_precision"][1]
    return "An R²", float(scores.intervals["r2"][:, 1].min())


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A linear model of the pixels of the same images, which is trained within seconds, to compare with.

    Args:
        name: such as "logistic regression".
        scores: on the test images.
        size: height and width of the images that it reads, pixels.
        train_images: number of images that it was trained on.
    """

    name: str
    scores: AnyScores
    size: int
    train_images: int

    @property
    def test_images(self) -> int:
        """Number of images that it was tested on."""
        return len(self.scores.predictions)

    def metrics(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns its figures as values for JSON, {name: value, name_interval: [low, high]}."""
        values: dict[str, Any] = {}
        for figure in figures_of(self.scores, class_names):
            key = figure.name.lower().replace(" ", "_")
            values |= {key: figure.value, f"{key}_interval": list(figure.interval)}
        return values | {"size": self.size, "train_images": self.train_images, "test_images": self.test_images}


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What the test images and the training curves show about a model, and what to do next.

    Args:
        scores: its scores on the test images.
        class_names: of its classes, labels or numbers, in the order of its outputs.
        baseline: a linear model of the same images, or the reason why there is none.
        curves: what its training curves show, as of `read_curves`.
        next_step: what to do next, a sentence; "" for nothing.
        command: the command for it.
        start: why the training began with random weights, a sentence, which comes first; "" for nothing.
        notes: further sentences on the scores.
    """

    scores: AnyScores
    class_names: Sequence[str]
    baseline: Baseline | str
    curves: tuple[str, str]
    next_step: str = ""
    command: str = ""
    start: str = ""
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def figures(self) -> list[Figure]:
        """The figures of the model."""
        return figures_of(self.scores, self.class_names)

    @functools.cached_property
    def baseline_figures(self) -> list[Figure]:
        """The same figures of the baseline; none without one."""
        return figures_of(self.baseline.scores, self.class_names) if isinstance(self.baseline, Baseline) else []

    @property
    def images(self) -> int:
        """Number of test images."""
        return len(self.scores.predictions)

    @property
    def compared(self) -> list[tuple[Figure, list[tuple[str, float, tuple[float, float] | None]]]]:
        """Each figure, and the models side by side: (name, value, its 95 % interval)."""
        result = []
        for i, figure in enumerate(self.figures):
            rows: list[tuple[str, float, tuple[float, float] | None]] = [("this model", figure.value, figure.interval)]
            if isinstance(self.baseline, Baseline):
                other, size = self.baseline_figures[i], self.baseline.size
                rows.append((f"{self.baseline.name}, {size} x {size} pixels", other.value, other.interval))
            result.append((figure, [*rows, (*figure.constant, None)]))
        return result

    @property
    def sentences(self) -> list[str]:
        """What the numbers show, and what they do not."""
        sentences = []
        if self.images < FEW_IMAGES:
            sentences.append(
                f"{self.images:,} test images prove little: the interval of the {self.figures[0].name} is "
                f"{self.figures[0].width} wide. Test on {FEW_IMAGES} images or more."
            )
        constants = [figure.shown(figure.constant[1], figure.constant[1]) for figure in self.figures]
        for shown, model in self._grouped(constants):
            if shown != "more":
                words = "is less accurate than" if shown else "is not shown to be more accurate than"
                sentences.append(f"{model} {words} a prediction that is the same for every image.")
        return [*sentences, *self._baseline_sentences(), self.curves[1], *self.notes]

    def _baseline_sentences(self) -> list[str]:
        baseline, sentences = self.baseline, []
        if isinstance(baseline, str):
            return [f"There is no linear model of the pixels to compare with: {baseline}."]
        name = f"the {baseline.name}, trained on {baseline.train_images:,} images"
        pairs = zip(self.figures, self.baseline_figures, strict=True)
        for shown, model in self._grouped([figure.shown(*other.interval) for figure, other in pairs]):
            sentences.append(
                f"{model} is {shown} accurate than {name}: their intervals do not overlap."
                if shown
                else f"{model} is not shown to be more or less accurate than {name}: their intervals overlap."
            )
        if baseline.test_images < self.images:
            sentences.append(
                f"The {baseline.name} was tested on {baseline.test_images:,} of the test images, drawn at random."
            )
        return sentences

    def _grouped(self, shown: Sequence[str]) -> list[tuple[str, str]]:
        """Returns what is shown, each once, and "The model", with the figures by which unless it is so by all."""
        groups = {one: [figure.name for figure, other in zip(self.figures, shown) if other == one] for one in shown}
        if len(groups) == 1:
            return [(shown[0], "The model")]
        return [(one, f"By {', '.join(names)}, the model") for one, names in groups.items()]

    @property
    def lines(self) -> list[str]:
        """The verdict as lines of text."""
        lines = [self.start] if self.start else []
        width = max(len(name) for _, rows in self.compared for name, *_ in rows)
        indent = "  " if len(self.figures) > 1 else ""
        for figure, rows in self.compared:
            if indent:
                lines.append(f"{figure.name}:")
            for name, value, span in rows:
                text = f"{indent}{name:<{width}s}  {format(value, figure.form):>6}"
                if span:
                    text += "  95% interval {} to {}".format(*(format(end, figure.form) for end in span))
                lines.append(text)
        step = [f"Next: {self.next_step}", f"  {self.command}"] if self.next_step else []
        return [*lines, self.averages, *self.sentences, *step]

    @property
    def averages(self) -> str:
        """Further figures in words: of classes the balanced accuracy and the macro F1 score."""
        scores = self.scores
        if isinstance(scores, Scores):
            return f"balanced accuracy {scores.balanced_accuracy:.1%}, macro F1 {scores.macro_f1:.1%}"
        if isinstance(scores, LabelScores):
            return f"micro F1 {scores.micro_f1:.3f}, all labels right {scores.exact_match:.1%}"
        rows = zip(scores.names, scores.r2, scores.intervals["r2"])
        return "; ".join(
            f"R² of {name} {value:.3f} (95% interval {low:.3f} to {high:.3f})" for name, value, (low, high) in rows
        )

    @property
    def metrics(self) -> dict[str, Any]:
        """The verdict as values for JSON, for metrics.json."""
        baseline = self.baseline.metrics(self.class_names) if isinstance(self.baseline, Baseline) else None
        return {
            **self._scores_metrics,
            "ridge_regression" if isinstance(self.scores, NumberScores) else "logistic_regression": baseline,
            "curves": self.curves[0],
            "next_step": {"text": self.next_step, "command": self.command},
            "verdict": self.lines,
        }

    @property
    def _scores_metrics(self) -> dict[str, Any]:
        scores = self.scores
        if not isinstance(scores, Scores):
            return scores.metrics | {"constant": {figure.name: figure.constant[1] for figure in self.figures}}
        number, share = scores.most_frequent_class
        return {
            "test_accuracy": scores.accuracy,
            "test_accuracy_interval": list(scores.interval),
            "test_balanced_accuracy": scores.balanced_accuracy,
            "test_macro_f1": scores.macro_f1,
            "majority_class": self.class_names[number],
            "majority_share": share,
        }
