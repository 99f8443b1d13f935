"""The exports of a run or of a model: with which images they are proven, and where the proof is told."""

import logging
import pathlib
from typing import NamedTuple

import numpy as np

import keras_vit
from keras_vit._atomic import write_text
from keras_vit._progress import show_progress
from keras_vit.commands.classifier import open_model, predictor
from keras_vit.commands.examples import examples_for
from keras_vit.commands.run_folder import recipe_of
from keras_vit.data.sources import open_source
from keras_vit.export import export_model
from keras_vit.export.proof import Agreement, read_proof, read_refused, write_proof
from keras_vit.export.targets import targets_named
from keras_vit.export.writing import ExportsRefused, reason_of
from keras_vit.models.interface import pixels_of
from keras_vit.report.proof_tables import export_tables
from keras_vit.report.proof_tables import replace_card_exports as replace_in_card
from keras_vit.report.run_page import Report, write_report
from keras_vit.report.run_page import replace_page_exports as replace_in_page

logger = logging.getLogger("keras_vit")
# What exported files take: the pixels as they are, the least that a client can get wrong.
INPUT_TYPE = "uint8"
PROOF_IMAGES = 1000  # that a file is compared on, where the data has as many
CALIBRATION_IMAGES = 64  # that static quantization sets its ranges by; none of them is compared on


class Exports(NamedTuple):
    """Holds what became of a run's exports: an `Agreement` a file, and {file: reason} of those that are not kept."""

    agreements: list
    refused: dict[str, str]


def export_run(folder, recipe, model, source):
    """Exports the model of a run as its recipe says, proven on its test images.

    A training is not lost to an export: whatever goes wrong is returned, logged and written to proof.json.

    Returns:
        The `Exports`.
    """
    targets = targets_named(recipe.exports)
    if not targets:
        return Exports([], {})
    try:
        return Exports(_export_run(folder, recipe, model, source, targets), {})
    except ExportsRefused as error:
        exports = Exports(error.agreements, error.refused)
    except Exception as error:  # nothing could be exported
        exports = Exports([], {target.file: reason_of(error) for target in targets.values()})
    for file, reason in exports.refused.items():
        logger.warning("%s is refused: %s", file, reason.partition("\n")[0])
    write_proof(folder, [], exports.refused)
    return exports


def _export_run(folder, recipe, model, source, targets):
    test, train = (
        _spread(len(source.test.labels), PROOF_IMAGES),
        _spread(len(source.train.labels), CALIBRATION_IMAGES),
    )
    return export_model(
        model,
        folder,
        targets,
        class_names=source.class_names,
        images=[source.test.images[i] for i in test],
        labels=source.test.labels[test],
        pixels=pixels_of(model),  # the training scaled by them
        calibration=[source.train.images[i] for i in train],
        protocol=recipe.evaluation,
        input_type=INPUT_TYPE,
        facts=facts_of(source.name, len(source.class_names), recipe.license),
    )


def facts_of(name, classes, license=None):
    """Returns what a file says of itself where nobody says otherwise."""
    return {
        "name": name,
        "license": license or "",
        "description": (f"Image classifier of {classes} classes" if classes else "Image model that returns numbers")
        + f", made with keras_vit {keras_vit.__version__}",
        "version": "1",
    }


@show_progress()
def export(model, targets, output=None, data=None, **options):
    """Exports a model, proving each file on images before it gets its name.

    Beside the files it writes proof.json, and tells the proof in report.html and, where the model's run has one, in
    card.md.

    Args:
        model: a .keras file, or a run's folder.
        targets: names out of `keras_vit.export.targets`.
        output: folder for the files; None for the model's own.
        data: as for `evaluate`; where there is no run either, synthetic images serve for the comparison.
        options: of `keras_vit.export.export_model`; pixels and outputs are traced where they are not said.

    Returns:
        The folder, and an `Agreement` a target.

    Raises:
        ExportsRefused: if files cannot be made or do not answer like the model; the others are kept.
        ValueError: if the model, the data or a target cannot be used.
    """
    targets = targets_named(targets)
    classifier = predictor(open_model(model, pixels=options.get("pixels"), outputs=options.pop("outputs", None)))
    folder = pathlib.Path(output) if output else classifier.path.parent
    recipe = recipe_of(classifier.path)
    images = {}
    if classifier.kind == "numbers" and data is not None:
        read = open_source(data, validation=0.0, test=0.0).train.images
        images = {"images": [read[i] for i in _spread(len(read), PROOF_IMAGES)]}
    elif classifier.kind != "numbers" and (data is not None or recipe is not None):
        judged, others = examples_for(classifier.path, classifier.class_names, data)
        some, rest = _apart(judged, others)
        images = {
            "images": [judged.images[i] for i in some],
            "labels": judged.labels[some],
            "calibration": [others.images[i] for i in rest],
        }
    told = (pathlib.Path(recipe.data).name, recipe.license) if recipe else (classifier.path.stem, None)
    options["facts"] = facts_of(told[0], len(classifier.class_names), told[1]) | {
        name: value for name, value in options.get("facts", {}).items() if value
    }
    proof = folder, classifier.path.parent, f"{options['facts']['name']}: exported files"
    try:
        agreements = export_model(
            classifier.model,
            folder,
            targets,
            class_names=classifier.class_names or None,
            outputs=classifier.kind,
            protocol=classifier.protocol,
            **images,
            **{"input_type": INPUT_TYPE, **options},
        )
    except ExportsRefused as error:
        write_proof(folder, [], error.refused)
        update_pages(*proof)
        raise
    update_pages(*proof)
    return folder, agreements


def update_pages(folder, home, title):
    """Writes what a folder's proof.json says into its report.html and card.md; those of the run serve to begin with."""
    found, refused = [Agreement(**item) for item in read_proof(folder)], read_refused(folder)
    tables = export_tables(found, refused)
    page, card = ((folder / name, home / name) for name in ("report.html", "card.md"))
    begun = next((path for path in page if path.exists()), None)
    if begun is None:
        write_report(page[0], Report(title, **tables))
    else:
        write_text(page[0], replace_in_page(begun.read_text("utf-8"), **tables))
    if begun := next((path for path in card if path.exists()), None):
        write_text(card[0], replace_in_card(begun.read_text("utf-8"), found, refused))


def _apart(judged, others):
    """Returns which examples a file is compared on, and which its ranges are set by: none are both."""
    count = len(judged.labels)
    if judged is not others:
        return _spread(count, PROOF_IMAGES), _spread(len(others.labels), CALIBRATION_IMAGES)
    # One lot of images: each fourth to set ranges by, evenly spread, for folders come sorted by class.
    every, rest = np.arange(0, count, 4), np.delete(np.arange(count), np.s_[::4])
    return rest[_spread(len(rest), PROOF_IMAGES)], every[_spread(len(every), CALIBRATION_IMAGES)]


def _spread(count, most):
    return np.linspace(0, count - 1, min(count, most)).astype(int)
