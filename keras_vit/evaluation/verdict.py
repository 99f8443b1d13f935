"""The verdict on a classifier: what its accuracy shows beside simpler classifiers, and what its training curves show.

It states no more than the numbers do: of two accuracies whose intervals overlap, it calls neither the higher one.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit.evaluation.accuracy import Scores, wilson_interval

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
    """

    loss: np.ndarray
    accuracy: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray
    images: int
    comparable: bool = True

    @property
    def highest(self) -> float:
        """The upper end of the 95 % interval of the validation accuracy in the last fifth of the epochs."""
        return wilson_interval(round(self.val_accuracy[-1] * self.images), self.images)[1]


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
        "The model overfits: at the end, {0.accuracy[4]:.1%} of the training images are classified correctly, and "
        "{0.val_accuracy[4]:.1%} of the validation images.",
    ),
    CurveRule(
        "underfitted",
        lambda c: c.comparable and c.accuracy[-1] < min(LEARNED, c.highest),
        "The model underfits: at the end, only {0.accuracy[4]:.1%} of the training images are classified correctly.",
    ),
    CurveRule(
        "none",
        lambda c: True,
        "The training curves show neither under- nor overfitting, and no improvement at the end.",
    ),
)
_TOO_FEW = "The training curves show nothing: there are fewer than 5 epochs, or no validation images."


def read_curves(history: Sequence[Mapping[str, float]], images: int, comparable: bool = True) -> tuple[str, str]:
    """Returns what training curves show, by the first of `CURVE_RULES` that holds: (name, sentence).

    Args:
        history: a row an epoch with "loss", "accuracy", "val_loss" and "val_accuracy", as in history.csv.
        images: number of validation images.
        comparable: see `TrainingCurves`.

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
    curves = TrainingCurves(loss, accuracy, val_loss, val_accuracy, images, comparable)
    rule = next(rule for rule in CURVE_RULES if rule.holds(curves))
    return rule.name, rule.text.format(curves)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The accuracy of a logistic regression on the same images, a classifier that is trained within seconds.

    Args:
        accuracy: on the test images, 0 to 1.
        interval: its 95 % interval.
        size: height and width of the images that it reads, pixels.
        train_images: number of images that it was trained on.
        test_images: number of images that it was tested on.
    """

    accuracy: float
    interval: tuple[float, float]
    size: int
    train_images: int
    test_images: int


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What the test images and the training curves show about a classifier, and what to do next.

    Args:
        scores: its scores on the test images.
        class_names: in the order of its outputs.
        baseline: a logistic regression on the same images, or the reason why there is none.
        curves: what its training curves show, as of `read_curves`.
        next_step: what to do next, a sentence; "" for nothing.
        command: the command for it.
        start: why the training began with random weights, a sentence; "" for nothing.
    """

    scores: Scores
    class_names: Sequence[str]
    baseline: Baseline | str
    curves: tuple[str, str]
    next_step: str = ""
    command: str = ""
    start: str = ""

    @property
    def compared(self) -> list[tuple[str, float, tuple[float, float] | None]]:
        """The classifiers side by side: (name, test accuracy, its 95 % interval)."""
        rows: list[tuple[str, float, tuple[float, float] | None]] = [
            ("this model", self.scores.accuracy, self.scores.interval)
        ]
        if isinstance(self.baseline, Baseline):
            name = f"logistic regression, {self.baseline.size} x {self.baseline.size} pixels"
            rows.append((name, self.baseline.accuracy, self.baseline.interval))
        number, share = self.scores.most_frequent_class
        return [*rows, (f"always {self.class_names[number]}", share, None)]

    @property
    def sentences(self) -> list[str]:
        """What the numbers show, and what they do not."""
        images, (low, high) = len(self.scores.labels), self.scores.interval
        _, share = self.scores.most_frequent_class
        sentences = [self.start] if self.start else []
        if images < FEW_IMAGES:
            sentences.append(
                f"{images:,} test images prove little: the interval is {100 * (high - low):.0f} points wide. Test on "
                f"{FEW_IMAGES} images or more."
            )
        if low <= share:
            shown = "is less accurate than" if high < share else "is not shown to be more accurate than"
            sentences.append(f"The model {shown} always predicting the most frequent class.")
        return [*sentences, *self._baseline_sentences(), self.curves[1]]

    def _baseline_sentences(self) -> list[str]:
        baseline = self.baseline
        if isinstance(baseline, str):
            return [f"There is no logistic regression to compare with: {baseline}."]
        (low, high), (other_low, other_high) = self.scores.interval, baseline.interval
        name = f"the logistic regression, trained on {baseline.train_images:,} images"
        if low > other_high or high < other_low:
            shown = "more" if low > other_high else "less"
            sentences = [f"The model is {shown} accurate than {name}: their intervals do not overlap."]
        else:
            sentences = [f"The interval of the model overlaps that of {name}: neither is shown to be more accurate."]
        if baseline.test_images < len(self.scores.labels):
            sentences.append(
                f"The logistic regression was tested on {baseline.test_images:,} of the test images, drawn at random."
            )
        return sentences

    @property
    def lines(self) -> list[str]:
        """The verdict as lines of text."""
        width = max(len(name) for name, *_ in self.compared)
        rows = [
            f"{name:<{width}s}  {accuracy:6.1%}" + (f"  95% interval {span[0]:.1%} to {span[1]:.1%}" if span else "")
            for name, accuracy, span in self.compared
        ]
        step = [f"Next: {self.next_step}", f"  {self.command}"] if self.next_step else []
        return [*rows, self.averages, *self.sentences, *step]

    @property
    def averages(self) -> str:
        """The balanced accuracy and the macro F1 score in words."""
        return f"balanced accuracy {self.scores.balanced_accuracy:.1%}, macro F1 {self.scores.macro_f1:.1%}"

    @property
    def metrics(self) -> dict[str, Any]:
        """The verdict as values for JSON, for metrics.json."""
        number, share = self.scores.most_frequent_class
        return {
            "test_accuracy": self.scores.accuracy,
            "test_accuracy_interval": list(self.scores.interval),
            "test_balanced_accuracy": self.scores.balanced_accuracy,
            "test_macro_f1": self.scores.macro_f1,
            "majority_class": self.class_names[number],
            "majority_share": share,
            "logistic_regression": _plain(self.baseline),
            "curves": self.curves[0],
            "next_step": {"text": self.next_step, "command": self.command},
            "verdict": self.lines,
        }


def _plain(baseline: Baseline | str) -> dict[str, Any] | None:
    """Returns a baseline as JSON has it."""
    if isinstance(baseline, str):
        return None
    return dataclasses.asdict(baseline) | {"interval": list(baseline.interval)}
