"""`keras-vit robustness`: accuracy of a model, and of a baseline, on perturbed and corrupted images."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit._progress import show_progress
from keras_vit.analysis.attention import attention_rollout
from keras_vit.commands.examples import evaluation_examples
from keras_vit.commands.image_model import ImageModel, open_classifier
from keras_vit.commands.run_folder import MODEL_FILE
from keras_vit.data.pipeline import read_all
from keras_vit.evaluation.perturbations import check_families
from keras_vit.evaluation.robustness import CLEAN, ModelWithImages, Robustness, RobustnessRow, robustness_curves
from keras_vit.layers import TransformerBlock
from keras_vit.models.hooks import layers_of
from keras_vit.preprocessing import Pixels
from keras_vit.report.robustness_page import write_robustness

_BATCH_SIZE = 64  # images

_log = logging.getLogger("keras_vit")


@show_progress()
def robustness(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    baseline: str | os.PathLike[str] | None = None,
    *,
    images: int = 500,
    families: str | Iterable[str] | None = None,
    seed: int = 0,
    pixels: str | Pixels | None = None,
    outputs: str | None = None,
    baseline_pixels: str | Pixels | None = None,
    baseline_outputs: str | None = None,
) -> tuple[Robustness, list[dict[str, str]]]:
    """Measures the accuracy of a model, and of a baseline, on perturbed and corrupted images.

    Salient patches are those with the largest attention rollout of the model; the same patches are dropped for the
    baseline. For a model without our transformer blocks, only random patches are dropped. A baseline of another image
    size reads the files at its own size, and its images are perturbed at that size.

    Args:
        model: a .keras file, or the folder of a run.
        data: as in `keras_vit.commands.evaluate.evaluate`; None for the test images of the run that the model came
            from.
        baseline: another model, which has all classes of the data.
        images: maximum number of images, evenly spread over the data.
        families: names out of `keras_vit.evaluation.perturbations.FAMILIES`; None for all.
        seed: of the random perturbations.
        pixels: the pixel values that the model expects, as in `keras_vit.pixels_of`.
        outputs: the kind of the outputs of the model, as in `keras_vit.outputs_of`.
        baseline_pixels: as `pixels`, for the baseline.
        baseline_outputs: as `outputs`, for the baseline.

    Returns:
        (curves, summary), the summary as in `summary`.

    Raises:
        ValueError: if a model or the data cannot be used, or a family is unknown.
    """
    families = check_families(families)
    if images < 1:
        raise ValueError(f"Expected images to be 1 or more. Received: images={images}")
    classifiers = [open_classifier(model, pixels=pixels, outputs=outputs)]
    if baseline is not None:
        classifiers.append(open_classifier(baseline, pixels=baseline_pixels, outputs=baseline_outputs))
    subjects = _subjects(classifiers, data, images)
    salience = _salience(subjects[0]) if "drop" in families else None
    result = robustness_curves(subjects, families, salience=salience, seed=seed, batch_size=_BATCH_SIZE)
    return result, summary(result)


def write_robustness_page(path: str | os.PathLike[str], result: Robustness) -> None:
    """Writes accuracy curves as an HTML page.

    Args:
        path: the .html file to write.
        result: the curves.

    Raises:
        ImportError: if matplotlib, the extra [plots], is not installed.
    """
    write_robustness(path, result, f"{result.models[0]}: accuracy on perturbed and corrupted images")


def summary(result: Robustness) -> list[dict[str, str]]:
    """Returns a row for each curve with the mean accuracy of each model over its levels, as texts by heading.

    Args:
        result: the curves.
    """
    rows = [
        {"change": condition if family == CLEAN else f"{family}: {condition}", "levels": _levels(by_model)}
        | {name: f"{np.mean([row.accuracy for row in by_model[name]]):.1%}" for name in result.models}
        for (family, condition), by_model in result.curves.items()
    ]
    errors = result.corruption_error
    label = "mean corruption error" + (f", {result.models[-1]} = 100%" if len(result.models) > 1 else "")
    return rows + [{"change": label, "levels": ""} | {name: f"{errors[name]:.1%}" for name in errors}] * bool(errors)


def _levels(by_model: Mapping[str, Sequence[RobustnessRow]]) -> str:
    levels = [f"{row.level:g}" for row in next(iter(by_model.values()))]
    return levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"


def _subjects(
    classifiers: Sequence[ImageModel], data: str | os.PathLike[str] | None, images: int
) -> list[ModelWithImages]:
    """Returns each classifier with its images; classifiers of the same size and protocol share the array."""
    main, names = classifiers[0], _display_names(classifiers)
    examples, _ = evaluation_examples(main.path, main.class_names, data, channels=main.channels)
    chosen = np.linspace(0, len(examples.labels) - 1, min(len(examples.labels), images)).astype(int)
    files, labels = [examples.images[i] for i in chosen], examples.labels[chosen]
    arrays: dict[Any, np.ndarray] = {}
    subjects = []
    for name, classifier in zip(names, classifiers):
        key = classifier.image_size, classifier.protocol, classifier.channels
        if key not in arrays:
            arrays[key] = read_all(files, *key)
        own_labels = _labels_for(labels, main, classifier)
        subjects.append(ModelWithImages(name, classifier.served, arrays[key], own_labels, classifier.preprocess))
    return subjects


def _display_names(classifiers: Sequence[ImageModel]) -> list[str]:
    """Returns a name for each model: the folder of its run or the stem of its file, or the paths if two are equal."""
    names = [
        each.path.absolute().parent.name if each.path.name == MODEL_FILE else each.path.stem for each in classifiers
    ]
    return names if len(set(names)) == len(names) else [str(each.path) for each in classifiers]


def _labels_for(labels: np.ndarray, main: ImageModel, other: ImageModel) -> np.ndarray:
    """Returns labels that index the classes of one classifier as indices into the classes of another."""
    if main.class_names == other.class_names:
        return labels
    names = [main.class_names[label] for label in labels]
    if unknown := sorted(set(names) - set(other.class_names)):
        raise ValueError(
            f"Expected a baseline with the classes of the images. Received: {other.path}, which does not have "
            + ", ".join(unknown)
        )
    return np.array([other.class_names.index(name) for name in names])


def _salience(subject: ModelWithImages) -> np.ndarray | None:
    """Returns the attention rollout of a model on its images, or None for a model without our transformer blocks."""
    if not layers_of(subject.model, TransformerBlock):
        _log.warning(
            "%s has no transformer blocks of keras_vit: random patches are dropped, but no salient ones", subject.name
        )
        return None
    return attention_rollout(subject.model, subject.prepare(subject.images))
