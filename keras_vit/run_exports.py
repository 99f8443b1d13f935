"""The exports of a run or of a model: with which pictures they are proven, and where the proof is told."""

import logging
import pathlib
from typing import NamedTuple

import numpy as np

import keras_vit
from keras_vit.atomic import write_text
from keras_vit.client.files import open_file
from keras_vit.data.decode import read_file
from keras_vit.data.sources import open_source
from keras_vit.export import export_model
from keras_vit.export.files import ExportsRefused, reason_of
from keras_vit.export.proof import Agreement, measured, read_proof, read_refused, size_of, write_proof
from keras_vit.export.proof_tables import export_tables
from keras_vit.export.proof_tables import replace_exports as replace_in_card
from keras_vit.export.targets import targets_named
from keras_vit.models.interface import pixels_of
from keras_vit.report.page import Report, write_report
from keras_vit.report.page import replace_exports as replace_in_page
from keras_vit.run_data import examples_for, resize_note, resizes
from keras_vit.run_folder import open_model, predictor, recipe_of
from keras_vit.screen import shown

logger = logging.getLogger("keras_vit")

# What exported files take: the pixels as they are, the least that a client can get wrong.
TAKES = "uint8"
PROOF_PICTURES = 1000  # that a file is compared on, where the data has as many
CALIBRATION_PICTURES = 64  # that static quantization sets its ranges by; none of them is compared on


class Exports(NamedTuple):
    """Holds what became of a run's exports: an `Agreement` a file, and {file: reason} of those that are not kept."""

    agreements: list
    refused: dict[str, str]


def export_run(folder, recipe, model, source):
    """Exports the model of a run as its recipe says, proven on its test pictures.

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
        _spread(len(source.test.labels), PROOF_PICTURES),
        _spread(len(source.train.labels), CALIBRATION_PICTURES),
    )
    return export_model(
        model,
        folder,
        targets,
        class_names=source.class_names,
        pictures=[source.test.pictures[i] for i in test],
        labels=source.test.labels[test],
        pixels=pixels_of(model),  # the training scaled by them
        calibration=[source.train.pictures[i] for i in train],
        protocol=recipe.evaluation,
        takes=TAKES,
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


@shown()
def export(model, targets, output=None, data=None, **options):
    """Exports a model, proving each file on pictures before it gets its name.

    Beside the files it writes proof.json, and tells the proof in report.html and, where the model's run has one, in
    card.md.

    Args:
        model: a .keras file, or a run's folder.
        targets: names out of `keras_vit.export.targets`.
        output: folder for the files; None for the model's own.
        data: as for `evaluate`; where there is no run either, made-up pictures serve for the comparison.
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
    pictures = {}
    if classifier.kind == "numbers" and data is not None:
        read = open_source(data, validation=0.0, test=0.0).train.pictures
        pictures = {"pictures": [read[i] for i in _spread(len(read), PROOF_PICTURES)]}
    elif classifier.kind != "numbers" and (data is not None or recipe is not None):
        judged, others = examples_for(classifier.path, classifier.class_names, data)
        some, rest = _apart(judged, others)
        pictures = {
            "pictures": [judged.pictures[i] for i in some],
            "labels": judged.labels[some],
            "calibration": [others.pictures[i] for i in rest],
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
            **pictures,
            **{"takes": TAKES, **options},
        )
    except ExportsRefused as error:
        write_proof(folder, [], error.refused)
        update_pages(*proof)
        raise
    update_pages(*proof)
    return folder, agreements


def bench(files, data=None):
    """Yields a row of figures an exported file, {heading: words}.

    Args:
        files: paths, of any kind that `keras_vit.client.files.open_file` takes.
        data: pictures for the accuracy; by default what proof.json beside a file says is taken, where it says it.

    Yields:
        The figures; "note" is a sentence on the accuracy, or "".

    Raises:
        ValueError: if one is no exported file, or the data cannot be used.
    """
    for path, file in [(path, open_file(path)) for path in files]:  # all are looked at before one is measured
        figures = measured(file.runs)
        accuracy, note = _accuracy_proven(file) if data is None else _accuracy_on(file, data)
        times, memory = figures["milliseconds"], figures["peak_memory"]
        yield {
            "file": str(path),
            "size": f"{size_of(file.path) / 1e6:.2f} MB",
            **{f"{threads} threads": f"{times[threads]:.2f} ms" if threads in times else "" for threads in ("1", "2")},
            "memory": f"{memory / 2**20:.0f} MiB" if memory else "unknown",
            "accuracy": "unknown" if accuracy is None else f"{accuracy:.2%}",
            "note": note,
        }


def _accuracy_on(file, data):
    """Returns a file's accuracy as a client runs it, and a note where the client resizes images."""
    if not file.class_names:
        raise ValueError(f"Expected files of classes for an accuracy. Received: {file.path}, which returns numbers")
    examples, _ = examples_for(file.path, file.class_names, data)
    answers = file.predict_encoded(map(read_file, examples.pictures))["probabilities"]
    accuracy = float(np.mean(answers.argmax(axis=1) == examples.labels))
    return accuracy, resize_note(file, accuracy) if resizes(file, examples.pictures) else ""


def _accuracy_proven(file):
    """Returns a file's accuracy by its proof, None without, and a note where a client's resize gives another one."""
    proof = next((item for item in read_proof(file.path.parent) if item["file"] == file.path.name), {})
    accuracy, of_client = proof.get("accuracy"), proof.get("from_bytes", {}).get("accuracy")
    differs = of_client is not None and of_client != accuracy
    return accuracy, resize_note(file, of_client, accuracy) if differs else ""


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
        return _spread(count, PROOF_PICTURES), _spread(len(others.labels), CALIBRATION_PICTURES)
    # One lot of pictures: each fourth to set ranges by, evenly spread, for folders come sorted by class.
    every, rest = np.arange(0, count, 4), np.delete(np.arange(count), np.s_[::4])
    return rest[_spread(len(rest), PROOF_PICTURES)], every[_spread(len(every), CALIBRATION_PICTURES)]


def _spread(count, most):
    return np.linspace(0, count - 1, min(count, most)).astype(int)
