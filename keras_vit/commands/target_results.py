"""Results of models of several labels an image, or of numbers: for `keras-vit fit` and `keras-vit evaluate`."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit.data.pipeline import evaluation_batches, read_pixels
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation.accuracy import score
from keras_vit.evaluation.labels import LabelScores, choose_thresholds, score_labels
from keras_vit.evaluation.numbers import NumberScores, score_numbers
from keras_vit.evaluation.predictions import predicted
from keras_vit.evaluation.verdict import AnyScores, Verdict
from keras_vit.export.proof import Agreement
from keras_vit.models.interface import pixels_of
from keras_vit.report.proof_tables import export_tables
from keras_vit.report.run_page import CaptionedImage, Report, write_report
from keras_vit.report.target_figures import (
    label_caption,
    label_rows,
    label_summary,
    number_caption,
    number_rows,
    number_summary,
)
from keras_vit.training.recipe import Recipe

TargetScores = LabelScores | NumberScores
WORST_IMAGES = 12  # in the report


def thresholds_on(model: keras.Model, examples: Examples, protocol: str) -> tuple[float, ...]:
    """Returns the threshold of each label with the highest F1 on examples, or 1/2 of each without examples.

    Args:
        model: returns a score for each label.
        examples: the validation images.
        protocol: how evaluation resizes and crops images.
    """
    labels = model.output_shape[-1]
    if not len(examples.labels):
        return (0.5,) * labels
    batches = evaluation_batches(examples, model.input_shape[1:3], contract=pixels_of(model), protocol=protocol)
    return choose_thresholds(*predicted(model, batches))


def score_model(model: keras.Model, batches: Iterable[Any], source: Source) -> AnyScores:
    """Evaluates a model of classes, labels or numbers on batches of (images, targets).

    Args:
        model: the trained model.
        batches: as `evaluation_batches` returns them.
        source: the images, which have names.
    """
    if source.learns == "classes":
        return score(model, batches)
    if source.learns == "numbers":
        return score_numbers(model, batches, source.class_names)
    return score_labels(model, batches, source.class_names, getattr(model, "thresholds", None))


def score_outputs(
    outputs: Mapping[str, np.ndarray], targets: np.ndarray, names: Sequence[str], thresholds: Sequence[float]
) -> TargetScores:
    """Returns the scores of the outputs of an exported file.

    Args:
        outputs: {output: array} for the images.
        targets: (images, labels or numbers).
        names: of these, in the order of the targets.
        thresholds: of labels; () of numbers.
    """
    if thresholds:
        return LabelScores(names, targets, outputs["probabilities"], np.array(thresholds))
    return NumberScores(names, targets, np.concatenate([outputs[name] for name in names], axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class TargetEvaluation:
    """The results of an evaluation of labels or numbers.

    Args:
        scores: of the images; None if the model has no head for them.
        notes: sentences on how the evaluation was done.
        probes: {description: scores} of classifiers that are fitted on the features of the model.
    """

    scores: TargetScores | None
    notes: tuple[str, ...] = ()
    probes: Mapping[str, LabelScores] = dataclasses.field(default_factory=dict)

    def text(self) -> str:
        """Returns the results as lines of text."""
        lines = []
        if isinstance(self.scores, LabelScores):
            width = max(map(len, self.scores.names))
            lines = [
                f"{name:<{width}s}  average precision {precision:.3f}, F1 {f1:.3f} at {threshold:.2f}, of {images:,}"
                for name, images, precision, _, _, f1, threshold in label_rows(self.scores)
            ]
            lines += [f"{name} {value}" for name, value in label_summary(self.scores).items()]
        elif self.scores is not None:
            lines = [
                ", ".join([row["number"], *(f"{heading} {value}" for heading, value in list(row.items())[1:])])
                for row in number_rows(self.scores)
            ]
        lines += [f"on {counted(len(self.scores.targets), 'image')}"] if self.scores is not None else []
        for description, scores in self.probes.items():
            figures = ", ".join(f"{name} {value}" for name, value in label_summary(scores).items())
            lines.append(f"{description}: {figures}")
        return "\n".join([*lines, *self.notes])

    def write_page(self, path: str | os.PathLike[str], title: str) -> None:
        """Writes an HTML page with the results.

        Args:
            path: the .html file to write.
            title: the heading of the page.
        """
        notes = {f"note {i}": note for i, note in enumerate(self.notes, 1)}
        summary, parts = {}, {}
        if self.scores is not None:
            summary = {**_summary(self.scores), "images": f"{len(self.scores.targets):,}"}
            parts = _parts(self.scores)
        for description, scores in self.probes.items():
            summary[description] = f"mAP {scores.mean_average_precision:.3f}, macro F1 {scores.macro_f1:.3f}"
        write_report(path, Report(title, summary, settings=notes, **parts))


def target_report(
    recipe: Recipe,
    model: keras.Model,
    source: Source,
    verdict: Verdict,
    history: Sequence[Mapping[str, Any]],
    agreements: Sequence[Agreement],
    refused: Mapping[str, str] | None = None,
) -> Report:
    """Returns the report of a run of labels or numbers: figures, curves and the worst images.

    Args:
        recipe, model, source, verdict, history, agreements, refused: as of `keras_vit.commands.pages.run_report`.
    """
    scores = cast(TargetScores, verdict.scores)
    has_labels = isinstance(scores, LabelScores)
    caption: Callable[[Any, int], tuple[str, Sequence[str]]] = label_caption if has_labels else number_caption
    worst = (scores.most_confident_mistakes if isinstance(scores, LabelScores) else scores.worst)[:WORST_IMAGES]
    images = [read_pixels(source.test.images[i], recipe.size, recipe.evaluation, recipe.channels) for i in worst]
    what = f"{len(source.class_names)} {'labels' if has_labels else 'numbers'}"
    return Report(
        title=f"{source.name}: a Vision Transformer for {what}",
        verdict=verdict,
        summary={
            **_summary(scores),
            "parameters": f"{model.count_params():,}",
            "training": f"{sum(row.get('seconds', 0.0) for row in history):.0f} s",
        },
        history=history,
        accuracy_name="F1 of an image, at 1/2" if has_labels else "Explained variance",
        class_names=source.class_names,
        worst=[
            CaptionedImage(image, source.test.names[i], *caption(scores, i))
            for i, image in zip(worst, images, strict=True)
        ],
        settings={name: str(value) for name, value in dataclasses.asdict(recipe).items()},
        bad_images=source.bad,
        **_parts(scores),
        **export_tables(agreements, refused),
    )


def _summary(scores: TargetScores) -> dict[str, str]:
    return label_summary(scores) if isinstance(scores, LabelScores) else number_summary(scores)


def _parts(scores: TargetScores) -> dict[str, Any]:
    return {"labels" if isinstance(scores, LabelScores) else "numbers": scores}


def target_line(metrics: Mapping[str, Any]) -> str:
    """Returns the result of a finished run of labels or numbers on its test images in a line.

    Args:
        metrics: as in metrics.json.
    """
    if "numbers" in metrics:
        return "; ".join(
            f"{name}: R2 {row['r2']:.3f}, mean absolute error {row['mae']:.4g} ({row['mae_interval'][0]:.4g} to "
            f"{row['mae_interval'][1]:.4g})"
            for name, row in metrics["numbers"].items()
        )
    return f"mean average precision {metrics['mean_average_precision']:.3f}, micro F1 {metrics['micro_f1']:.3f}"
