"""The robustness of a model file: which images, which baseline, and the summary in words."""

import logging

import numpy as np

from keras_vit._progress import show_progress
from keras_vit.analysis.attention import attention_rollout
from keras_vit.commands.classifier import load_classifier
from keras_vit.commands.examples import examples_for
from keras_vit.commands.run_folder import MODEL
from keras_vit.data.pipeline import read_all
from keras_vit.evaluation import robustness as curves
from keras_vit.evaluation.perturbations import check_families
from keras_vit.layers import TransformerBlock
from keras_vit.models.hooks import layers_of
from keras_vit.report.robustness_page import write_robustness

_BATCH = 64  # images at once

_log = logging.getLogger("keras_vit")


@show_progress()
def robustness(
    model,
    data=None,
    baseline=None,
    *,
    images=500,
    families=None,
    seed=0,
    pixels=None,
    outputs=None,
    baseline_pixels=None,
    baseline_outputs=None,
):
    """Measures how a model, and a baseline, stand it that their images are spoilt.

    Salient patches are those that the model's attention rollout points at; the baseline loses the very same ones. A
    model without transformer blocks of ours has no such drops. A baseline of another size reads the image files at
    its own, and its images are changed there.

    Args:
        model: a .keras file, or a run's folder.
        data: as for `evaluate`; None for the test images of the run that the model came from.
        baseline: another such file or folder, whose classes are those of the data, too.
        images: how many at most, evenly spread over the data.
        families: names out of `keras_vit.evaluation.perturbations.FAMILIES`; None for all.
        seed: of all that is random.
        pixels, outputs, baseline_pixels, baseline_outputs: as of `keras_vit.commands.classifier.open_model`.

    Returns:
        The `Robustness`, and its summary: a row a curve, {heading: words}.

    Raises:
        ValueError: if a model or the data cannot be used, or a family is unknown.
    """
    families = check_families(families)
    if images < 1:
        raise ValueError(f"Expected 1 image or more. Received: images={images}")
    classifiers = [load_classifier(model, pixels=pixels, outputs=outputs)]
    if baseline is not None:
        classifiers.append(load_classifier(baseline, pixels=baseline_pixels, outputs=baseline_outputs))
    subjects = _subjects(classifiers, data, images)
    salience = _salience(subjects[0]) if "drop" in families else None
    found = curves.robustness_curves(subjects, families, salience=salience, seed=seed, batch_size=_BATCH)
    return found, summary(found)


def write_robustness_page(path, found):
    """Writes the curves of a `Robustness` as a page."""
    write_robustness(path, found, f"{found.models[0]}: how it bears spoilt images")


def summary(found):
    """Returns a row a curve, {heading: words}: each model's mean accuracy over the levels."""
    rows = [
        {"change": condition if family == curves.CLEAN else f"{family}: {condition}", "levels": _levels(by_model)}
        | {name: f"{np.mean([row.accuracy for row in by_model[name]]):.1%}" for name in found.models}
        for (family, condition), by_model in found.curves.items()
    ]
    errors = found.corruption_error
    what = "mean corruption error" + (f", {found.models[-1]} = 100%" if len(found.models) > 1 else "")
    return rows + [{"change": what, "levels": ""} | {name: f"{errors[name]:.1%}" for name in errors}] * bool(errors)


def _levels(by_model):
    levels = [f"{row.level:g}" for row in next(iter(by_model.values()))]
    return levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"


def _subjects(classifiers, data, images):
    """Returns a `ModelWithImages` a classifier; those that read images alike share them."""
    main, names = classifiers[0], _names(classifiers)
    examples, _ = examples_for(main.path, main.class_names, data)
    some = np.linspace(0, len(examples.labels) - 1, min(len(examples.labels), images)).astype(int)
    files, labels, read = [examples.images[i] for i in some], examples.labels[some], {}
    subjects = []
    for name, classifier in zip(names, classifiers):
        way = classifier.image_size, classifier.protocol
        if way not in read:
            read[way] = read_all(files, *way)
        numbers = _numbered(labels, main, classifier)
        subjects.append(curves.ModelWithImages(name, classifier.served, read[way], numbers, classifier.prepared))
    return subjects


def _names(classifiers):
    """Returns what models are called: after their run's folder or their file; by their paths where these are alike."""
    names = [it.path.absolute().parent.name if it.path.name == MODEL else it.path.stem for it in classifiers]
    return names if len(set(names)) == len(names) else [str(it.path) for it in classifiers]


def _numbered(labels, main, other):
    """Returns labels of one classifier as another numbers the same classes."""
    if main.class_names == other.class_names:
        return labels
    names = [main.class_names[label] for label in labels]
    if unknown := sorted(set(names) - set(other.class_names)):
        raise ValueError(
            f"Expected a baseline with the classes of the images. Received: {other.path}, which does not have "
            + ", ".join(unknown)
        )
    return np.array([other.class_names.index(name) for name in names])


def _salience(subject):
    if not layers_of(subject.model, TransformerBlock):
        _log.warning(
            "%s has no transformer blocks of ours: no salient patches are dropped, random ones alone", subject.name
        )
        return None
    return attention_rollout(subject.model, subject.prepare(subject.images))
