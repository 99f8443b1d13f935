"""`keras-vit evaluate`: accuracy, confusion matrix and calibration of a model, and few-shot, kNN and linear probes."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit._progress import log_progress, show_progress
from keras_vit.commands.examples import (
    accepted_class_names,
    evaluation_split,
    needs_resize,
    open_evaluation_data,
    renumber_labels,
    resize_note,
)
from keras_vit.commands.image_model import ImageModel, open_model
from keras_vit.commands.run_folder import recipe_beside
from keras_vit.commands.target_results import TargetEvaluation, TargetScores, score_model, score_outputs
from keras_vit.data.decoding import read_for_clients
from keras_vit.data.listing import Learns
from keras_vit.data.pipeline import evaluation_batches, read_all
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation import probes
from keras_vit.evaluation.accuracy import Scores, score
from keras_vit.evaluation.calibration import Calibration, calibration
from keras_vit.evaluation.class_subsets import read_classes
from keras_vit.evaluation.feature_cache import cached_features, extract_features, model_digest
from keras_vit.evaluation.few_shot import REGULARIZER, few_shot_images
from keras_vit.evaluation.few_shot import few_shot as evaluate_few_shot
from keras_vit.evaluation.labels import LabelScores
from keras_vit.evaluation.pixel_contracts import IMAGES, better_contract
from keras_vit.evaluation.real_labels import read_real_labels, real_accuracy, validation_order
from keras_vit.evaluation.reject import FalseRejects, false_rejects
from keras_vit.export.proof import read_proof
from keras_vit.export.targets import EXTRA_OUTPUTS, KNOWN
from keras_vit.models.features import representation
from keras_vit.preprocessing import Pixels
from keras_vit.report.run_page import Report, write_report
from keras_vit.runtime.files import is_exported, open_exported
from keras_vit.weights.download import cache_folder

logger = logging.getLogger("keras_vit")

TEST_FRACTION = 0.2  # of a folder without splits, if a classifier has to be fitted on the rest


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of an evaluation.

    Args:
        scores: of the head of the model; None if it was not evaluated.
        class_names: in the order of the scores.
        other_accuracies: {description: accuracy} by other labels, or of classifiers fitted on the features.
        notes: sentences on how the evaluation was done.
        kind: of the outputs of the head, "probabilities" or "scores".
        rejects: how many of the images a model rejects as none of its classes; None if it rejects none.
    """

    scores: Scores | None
    class_names: tuple[str, ...]
    other_accuracies: dict[str, float]
    notes: tuple[str, ...]
    kind: str = "probabilities"
    rejects: FalseRejects | None = None

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of the probabilities; None without them, as for scores of independent classes."""
        if self.scores is None or self.kind == "scores":
            return None
        return calibration(self.scores.probabilities, self.scores.labels)

    def write_page(self, path: str | os.PathLike[str], title: str) -> None:
        """Writes an HTML page with the accuracies, confusion matrix, per-class accuracy and reliability diagram.

        Args:
            path: the .html file to write.
            title: the heading of the page.
        """
        summary = {label: f"{accuracy:.2%}" for label, accuracy in self.other_accuracies.items()}
        parts: dict[str, Any] = {}
        if self.scores is not None:
            figures = {
                "top-1 accuracy": f"{self.scores.accuracy:.2%}",
                "95% interval": "{:.1%} to {:.1%}".format(*self.scores.interval),
                "balanced accuracy": f"{self.scores.balanced_accuracy:.2%}",
                "macro F1": f"{self.scores.macro_f1:.2%}",
                "top-5 accuracy": f"{self.scores.top_k_accuracy(5):.2%}",
            }
            if self.calibration is not None:
                figures["calibration error"] = f"{self.calibration.ece:.4f}"
            if self.rejects is not None:
                figures["rejected wrongly"] = "{:.1%} ({:.1%} to {:.1%})".format(
                    self.rejects.rate, *self.rejects.interval
                )
            summary = figures | {"images": f"{len(self.scores.labels):,}"} | summary
            parts = {"class_names": self.class_names, "confusion_matrix": self.scores.confusion_matrix}
            parts["calibration"] = self.calibration
        notes = {f"note {i}": note for i, note in enumerate(self.notes, 1)}
        write_report(path, Report(title, summary, settings=notes, **parts))

    def text(self) -> str:
        """Returns the results as lines of text."""
        lines = []
        if self.scores is not None:
            width, counts = max(map(len, self.class_names)), self.scores.confusion_matrix.sum(axis=1)
            rows = zip(self.class_names, self.scores.per_class_accuracy, counts)
            lines += [f"{name:<{width}s}  {accuracy:7.2%} of {count:,}" for name, accuracy, count in rows if count]
            interval = "95% interval {:.1%} to {:.1%}".format(*self.scores.interval)
            lines.append(
                f"accuracy {self.scores.accuracy:.2%} on {counted(len(self.scores.labels), 'image')}, {interval}"
            )
            lines.append(f"balanced accuracy {self.scores.balanced_accuracy:.2%}, macro F1 {self.scores.macro_f1:.2%}")
            if len(self.class_names) > 5:
                lines.append(f"top-5 accuracy {self.scores.top_k_accuracy(5):.2%}")
            if self.calibration is not None:
                lines.append(f"calibration error {self.calibration.ece:.4f}")
            if self.rejects is not None:
                lines.append(self.rejects.text)
        lines += [f"{label}: {accuracy:.2%}" for label, accuracy in self.other_accuracies.items()]
        return "\n".join([*lines, *self.notes])


@show_progress()
def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    flips: bool = False,
    classes: str | os.PathLike[str] | None = None,
    real: str | os.PathLike[str] | None = None,
    few_shot: Sequence[int] = (),
    knn: bool = False,
    linear_probe: bool = False,
    image_size: tuple[int, int] | None = None,
    class_depth: int = 1,
    objective: Literal["labels"] | None = None,
    pixels: str | Pixels | None = None,
    outputs: str | None = None,
    dtype: str | None = None,
) -> Evaluation | TargetEvaluation:
    """Evaluates a model on labelled images.

    Args:
        model: a .keras file, the folder of a run, a checkpoint as in `keras_vit.load`, or an exported file, which is
            run as a client runs it, from the encoded images.
        data: the images, as in `keras_vit.data.sources.open_source`; the test split is used if it has one, else the
            validation split, else all images. None for the test images of the run that the model came from.
        flips: whether the predictions for each image and its mirror image are averaged.
        classes: a text file of the classes to choose from, by name, number or WordNet ID, one per line; images of other
            classes are left out. None for all classes of the model.
        real: the published real.json, if `data` is ImageNet's validation set.
        few_shot: numbers of images per class; for each, a linear classifier is fitted on features of that many images.
        knn: whether a nearest-neighbour classifier on the features is evaluated.
        linear_probe: whether a logistic regression is fitted on the features.
        image_size: (height, width) in pixels to resize the model to; None for its own.
        class_depth: folder levels down to the class folders of `data`: 2 for data/region/class.
        objective: "labels" for images with any number of labels, to fit `few_shot` and `linear_probe` on; a model of
            labels needs no such statement.
        pixels: the pixel values that a Keras model expects, as in `keras_vit.pixels_of`.
        outputs: the kind of the outputs of a Keras model, as in `keras_vit.outputs_of`.
        dtype: the dtype that a Keras model computes in, as in `keras_vit.load`.

    Returns:
        The results. With `few_shot`, `knn` or `linear_probe`, a head that does not have the classes of the data is not
        evaluated.

    Raises:
        ValueError: if the model, the data or a text file cannot be used, an option does not apply to the model, or the
            data has a class that the head of the model does not have.
    """
    on_features = bool(few_shot or knn or linear_probe)
    if real and classes:
        raise ValueError(f"Expected one of real and classes. Received: real={real!r}, classes={classes!r}")
    opened = _open(model, image_size, pixels, outputs, dtype)
    if (on_features or flips) and not isinstance(opened, ImageModel):
        raise ValueError(
            "Expected a Keras model, the folder of a run or a checkpoint for few_shot, knn, linear_probe or flips. "
            f"Received: model={model}, an exported file"
        )
    learns, target = _learned(opened, data)
    options: dict[str, Any] = {
        "class_depth": class_depth,
        "learns": objective or learns,
        "target": target,
        "channels": opened.channels,
    }
    open_data = functools.partial(open_evaluation_data, opened.path, data, **options)
    source = open_data()
    if source.learns != "classes" and options["learns"] is not None:
        of_classes: dict[str, Any] = {"flips": flips, "classes": classes, "real": real, "knn": knn}
        if source.learns == "numbers":
            of_classes |= {"few_shot": few_shot, "linear_probe": linear_probe}
        for option, value in of_classes.items():
            if value:
                raise ValueError(f"Expected a classifier of one class an image for {option}. Received: {opened.path}")
        if learns is None and not on_features:
            raise ValueError(
                f"Expected a model of labels, or few_shot or linear_probe, for objective={objective!r}. "
                f"Received: {opened.path}"
            )
        notes = _training_images_note(opened.path, data, source)
        probed: dict[str, LabelScores] = {}
        if on_features:
            shots = tuple(dict.fromkeys(few_shot))
            probed, more = _evaluate_label_probes(opened, source, open_data, shots, linear_probe)
            notes += more
        evaluated = _evaluate_targets(opened, source, target) if learns else None
        return TargetEvaluation(evaluated, tuple(notes), probed)
    scores: Scores | None = None
    names: tuple[str, ...] = ()
    others: dict[str, float] = {}
    rejects: FalseRejects | None = None
    notes = _training_images_note(opened.path, data, source)
    try:
        scores, names, others, more, rejects = _evaluate_head(opened, source, flips, classes, real)
        notes += more
    except _HeadError as error:
        if not on_features or flips or classes or real:
            raise
        notes.append(f"the head is not evaluated: {error}")
    if scores is not None and not isinstance(opened, ImageModel):
        if needs_resize(opened, getattr(source, evaluation_split(source)).images):
            proven = None if data or classes else _accuracy_in_proof(opened, scores)
            notes.append(resize_note(opened, scores.accuracy, proven))
    if on_features:
        shots = tuple(dict.fromkeys(few_shot))
        accuracies, more = _evaluate_features(opened, source, open_data, shots, knn, linear_probe)
        others, notes = others | accuracies, notes + more
    kind = getattr(opened, "returns", None) or "probabilities"
    return Evaluation(scores, names, others, tuple(notes), kind, rejects)


def _learned(opened: Any, data: str | os.PathLike[str] | None) -> tuple[Learns | None, tuple[str, ...]]:
    """Returns what a model of labels or numbers has learned, and the names of its numbers; (None, ()) for others."""
    if opened.thresholds:
        return "labels", ()
    names = tuple(name for name in opened.outputs if name not in EXTRA_OUTPUTS)
    recipe = recipe_beside(opened.path) if data is None else None
    has_numbers = (recipe and recipe.objective == "numbers") or str(data).lower().endswith(".csv")
    has_names = not opened.class_names and isinstance(
        opened.model.output if isinstance(opened, ImageModel) else {}, dict
    )
    return ("numbers", names) if has_numbers and has_names else (None, ())


def _evaluate_targets(opened: Any, source: Source, target: tuple[str, ...]) -> TargetScores:
    """Returns the scores of a model of labels or numbers on the images of a source."""
    names = tuple(opened.class_names) or target
    examples = renumber_labels(source, names)[evaluation_split(source)]
    if isinstance(opened, ImageModel):
        batches = log_progress(_batches(opened, examples), "evaluated", len(examples.labels))
        return cast(TargetScores, score_model(opened.model, batches, dataclasses.replace(source, class_names=names)))
    return score_outputs(_outputs_from_encoded(opened, examples), examples.labels, names, opened.thresholds)


def _outputs_from_encoded(file: Any, examples: Examples) -> dict[str, np.ndarray]:
    """Returns the outputs of an exported file, which decodes and resizes the images as a client does."""
    outputs: dict[str, np.ndarray] = file.predict_encoded(
        read_for_clients(image, file.channels) for image in examples.images
    )
    return outputs


def _training_images_note(
    path: str | os.PathLike[str], data: str | os.PathLike[str] | None, source: Source
) -> list[str]:
    """Returns a line if the images are those that the run of a model was trained on, undivided; else none."""
    recipe = recipe_beside(path) if data is not None else None
    if recipe is None or os.path.realpath(str(data)) != os.path.realpath(recipe.data):
        return []
    if not os.path.exists(str(data)) or evaluation_split(source) != "train":
        return []
    return [
        "these are all images of the run, those that it was trained on among them; evaluate the run without DATA for "
        "the accuracy on its test images"
    ]


def _accuracy_in_proof(file: Any, scores: Scores) -> float | None:
    """Returns the accuracy of a file with the resize of evaluation, if its proof.json is about the same images."""
    proof: dict[str, Any] = next((item for item in read_proof(file.path.parent) if item["file"] == file.path.name), {})
    return proof["accuracy"] if proof.get("images") == len(scores.labels) else None


class _HeadError(ValueError):
    """Raised with the reason why the head of a model cannot be evaluated."""


def _open(
    model: str | os.PathLike[str],
    image_size: tuple[int, int] | None,
    pixels: str | Pixels | None,
    outputs: str | None,
    dtype: str | None,
) -> Any:
    """Returns an `ImageModel`, or an exported file."""
    if not is_exported(model):
        return open_model(model, image_size, pixels=pixels, outputs=outputs, dtype=dtype)
    for name, value in {"image_size": image_size, "pixels": pixels, "outputs": outputs, "dtype": dtype}.items():
        if value:
            raise ValueError(
                f"Expected {name} for a Keras model only. Received: {name}={value!r} for {model}, an exported file"
            )
    return open_exported(model)


def _evaluate_head(
    opened: Any,
    source: Source,
    flips: bool,
    classes: str | os.PathLike[str] | None,
    real: str | os.PathLike[str] | None,
) -> tuple[Scores, tuple[str, ...], dict[str, float], list[str], FalseRejects | None]:
    """Returns (scores of the head, their class names, accuracies by other labels, notes, false rejects)."""
    if not opened.class_names:
        if "numbers" in (getattr(opened, "kind", None), *opened.outputs):
            raise _HeadError(f"{opened.path} returns numbers instead of classes, which have no accuracy.")
        raise _HeadError(
            f"{opened.path} returns features instead of classes. --few-shot, --knn and --linear-probe evaluate those."
        )
    names = tuple(opened.class_names)
    try:
        examples = renumber_labels(source, names)[evaluation_split(source)]
    except ValueError as error:
        raise _HeadError(str(error)) from error
    # All files are read before the model runs, which can take an hour.
    chosen = read_classes(classes, *accepted_class_names(names, numbers=True)) if classes else None
    labels = read_real_labels(real, len(names)) if real else None
    order = None if labels is None else validation_order(examples.names, len(labels))
    rejects = None
    if isinstance(opened, ImageModel):
        batches = log_progress(_batches(opened, examples), "evaluated", len(examples.labels))
        scores = score(opened.served, batches, flips)
        if opened.reject:
            rejects = false_rejects(opened.reject, scores.probabilities)
    else:
        outputs = _outputs_from_encoded(opened, examples)
        scores = Scores(examples.labels, outputs["probabilities"])
        if KNOWN in outputs:
            rejects = FalseRejects(int((outputs[KNOWN] < 0).sum()), len(examples.labels))
    notes = ["the predictions for each image and its mirror image were averaged"] if flips else []
    if isinstance(opened, ImageModel):
        notes += contract_warnings(opened, examples)
    if chosen:
        count, scores, rejects = len(scores.labels), scores.restricted_to(chosen), None
        names = tuple(names[i] for i in chosen)
        notes.append(f"evaluated on {len(names):,} of the {len(opened.class_names):,} classes of the model")
        if left_out := count - len(scores.labels):
            notes.append(f"left out: {counted(left_out, 'image')} of other classes")
    others = {}
    if labels is not None:
        count = sum(map(bool, labels))
        others[f"by ReaL labels, on {counted(count, 'image')}"] = real_accuracy(scores.predictions[order], labels)
    return scores, names, others, notes, rejects


def contract_warnings(opened: ImageModel, examples: Examples) -> list[str]:
    """Returns and logs a warning if the accuracy is much better with another usual range of pixel values.

    Args:
        opened: the model.
        examples: labelled images, of which some are used.
    """
    chosen = np.linspace(0, len(examples.labels) - 1, min(len(examples.labels), IMAGES)).astype(int)
    pixels = read_all([examples.images[i] for i in chosen], opened.image_size, opened.protocol, opened.channels)
    better = better_contract(opened.served, pixels, examples.labels[chosen], opened.pixels)
    if better is None:
        return []
    logger.warning("%s: %s", opened.path, better.text)
    return [f"WARNING: {better.text}"]


def _evaluate_features(
    opened: ImageModel,
    source: Source,
    open_data: Callable[..., Source],
    shots: tuple[int, ...],
    knn: bool,
    linear_probe: bool,
) -> tuple[dict[str, float], list[str]]:
    """Returns ({description: accuracy} of classifiers that are fitted on the features of a model, notes)."""
    arrays, notes = _features_of(opened, source, open_data)
    train_count, count = len(arrays[1]), len(arrays[3])
    accuracies = {}
    if shots:
        result = evaluate_few_shot(*arrays, shots, (REGULARIZER,), class_names=source.class_names)
        for number in shots:
            accuracies[f"{number}-shot, a linear classifier, on {counted(count, 'image')}"] = result.at(number)
    on = f"on {counted(count, 'image')}"
    if knn:
        k = min(probes.NEIGHBOURS, train_count)
        accuracies[f"{k} nearest neighbours of {train_count:,}, {on}"] = probes.knn(*arrays, k).accuracy
    if linear_probe:
        accuracies[f"linear probe of {train_count:,}, {on}"] = probes.linear_probe(*arrays).accuracy
    return accuracies, notes


def _evaluate_label_probes(
    opened: ImageModel, source: Source, open_data: Callable[..., Source], shots: tuple[int, ...], linear_probe: bool
) -> tuple[dict[str, LabelScores], list[str]]:
    """Returns ({description: scores} of a logistic regression for each label on the features of a model, notes)."""
    (train_features, train_labels, features, labels), notes = _features_of(opened, source, open_data)
    count, chosen = f"on {counted(len(labels), 'image')}", {}
    for number in shots:
        drawn = few_shot_images(train_labels, number, source.class_names)
        chosen[f"{number}-shot, of {counted(len(drawn), 'image')}, {count}"] = drawn
    if linear_probe:
        chosen[f"linear probe of {len(train_labels):,}, {count}"] = np.arange(len(train_labels))
    scored = {}
    for description, drawn in chosen.items():
        kernel, bias = probes.probe_head(train_features[drawn], train_labels[drawn], "labels")
        probabilities = 1 / (1 + np.exp(-(features @ kernel + bias)))
        scored[description] = LabelScores(source.class_names, labels, probabilities, np.full(len(bias), 0.5))
    return scored, notes


def _features_of(
    opened: ImageModel, source: Source, open_data: Callable[..., Source]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], list[str]]:
    """Returns the features and labels of the training and of the evaluation images of a source, and notes."""
    split, notes = evaluation_split(source), []
    if split == "train":
        source, split = open_data(test=TEST_FRACTION), "test"
        if not len(source.test.labels):
            raise ValueError(
                f"Expected 3 images or more of a class, to fit and to evaluate on. Received: {source.name}"
            )
        notes.append(f"evaluated on {TEST_FRACTION:.0%} of each class, drawn with seed 0, and fitted on the rest")
    model, digest, pixels = representation(opened.model), model_digest(opened.model), opened.pixels

    def features_of(split: str) -> Any:
        examples = getattr(source, split)
        key = digest, source.digest, source.learns, split, opened.image_size, opened.protocol, repr(pixels)
        return cached_features(cache_folder() / "features", key, functools.partial(_extract, opened, model, examples))

    return (*features_of("train"), *features_of(split)), notes


def _extract(opened: ImageModel, model: keras.Model, examples: Examples) -> Any:
    return extract_features(model, _batches(opened, examples), len(examples.labels))


def _batches(opened: ImageModel, examples: Examples) -> Any:
    return evaluation_batches(examples, opened.image_size, contract=opened.pixels, protocol=opened.protocol)
