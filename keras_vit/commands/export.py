"""`keras-vit export`: exports a model, chooses the images to compare the files on, and updates report and card."""

import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

import keras_vit
from keras_vit._arguments import counted
from keras_vit._atomic import locked, write_text
from keras_vit._progress import show_progress
from keras_vit.commands.examples import evaluation_examples, open_recipe_data
from keras_vit.commands.image_files import image_paths
from keras_vit.commands.image_model import ImageModel, open_model, remark_on_license, require_head
from keras_vit.commands.run_folder import MODEL_FILE, recipe_beside
from keras_vit.data.decoding import ImageError
from keras_vit.data.sources import Examples, Source, open_source
from keras_vit.export import export_model
from keras_vit.export.proof import Agreement, read_proof, read_refused, write_proof
from keras_vit.export.targets import Target, check_requirements, targets_named
from keras_vit.export.writing import ExportsRefused, check_writable, reason_of
from keras_vit.models.interface import pixels_of
from keras_vit.report.proof_tables import export_tables, replace_card_exports
from keras_vit.report.run_page import Report, replace_page_exports, write_report
from keras_vit.training.recipe import Recipe

logger = logging.getLogger("keras_vit")
INPUT_TYPE: Literal["uint8"] = "uint8"  # unscaled pixels, so that a client cannot scale them wrongly
PROOF_IMAGES = 1000  # to compare a file on, at most
CALIBRATION_IMAGES = 256  # to calibrate quantization on, of which a mode may use fewer; no file is compared on these


class Exports(NamedTuple):
    """The exports of a run.

    Args:
        agreements: the comparison of each kept file with the model.
        refused: {file: reason} for files that are not kept.
    """

    agreements: list[Agreement]
    refused: dict[str, str]


def export_run(folder: pathlib.Path, recipe: Recipe, model: keras.Model, source: Source) -> Exports:
    """Exports the model of a run to the targets of its recipe, and compares the files on its test images.

    An error in an export does not end the run: its reason is returned, logged and written to proof.json.

    Args:
        folder: the folder of the run.
        recipe: its recipe.
        model: the trained model.
        source: its images.
    """
    targets = targets_named(recipe.exports)
    if not targets:
        return Exports([], {})
    try:
        return Exports(_export_run(folder, recipe, model, source, targets), {})
    except ExportsRefused as error:
        exports = Exports(error.agreements, error.refused)
    except Exception as error:  # no target could be exported
        exports = Exports([], {target.file: reason_of(error) for target in targets.values()})
    for file, reason in exports.refused.items():
        logger.warning("%s is refused: %s", file, reason.partition("\n")[0])
    write_proof(folder, [], exports.refused)
    return exports


def _export_run(
    folder: pathlib.Path, recipe: Recipe, model: keras.Model, source: Source, targets: dict[str, Target]
) -> list[Agreement]:
    test = _evenly_spaced(len(source.test.labels), PROOF_IMAGES)
    train = _evenly_spaced(len(source.train.labels), CALIBRATION_IMAGES)
    return export_model(
        model,
        folder,
        targets,
        class_names=None if source.learns == "numbers" else source.class_names,
        images=[source.test.images[i] for i in test],
        labels=None if source.learns == "numbers" else source.test.labels[test],
        pixels=pixels_of(model),
        calibration=[source.train.images[i] for i in train],
        protocol=recipe.evaluation,
        input_type=INPUT_TYPE,
        facts=default_metadata(source.name, len(source.class_names), recipe.license, source.learns),
    )


def default_metadata(name: str, classes: int, license: str | None = None, learns: str = "classes") -> dict[str, str]:
    """Returns the default metadata of an exported file: name, license, description and version.

    Args:
        name: of the data or the model.
        classes: number of classes or labels; 0 for a model that returns numbers.
        license: of the model, if it is known.
        learns: what the model has learned.
    """
    kinds = {
        "classes": f"Image classifier of {classes} classes",
        "labels": f"Image model of {counted(classes, 'label')}",
        "numbers": "Image model that returns numbers",
    }
    return {
        "name": name,
        "license": license or "",
        "description": f"{kinds[learns if classes else 'numbers']}, made with keras_vit {keras_vit.__version__}",
        "version": "1",
    }


@show_progress()
def export(
    model: str | os.PathLike[str],
    targets: str | Iterable[str],
    output: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    **options: Any,
) -> tuple[pathlib.Path, list[Agreement]]:
    """Exports a model, and compares each file with the model on images before it gets its final name.

    Also writes proof.json, and updates report.html and, if the model has a run, card.md.

    Args:
        model: a .keras file, the folder of a run, or an address, which needs `output`.
        targets: names out of `keras_vit.export.targets.TARGETS`.
        output: folder for the files; None for the folder of the model.
        data: images to compare on, as in `keras_vit.commands.evaluate.evaluate`; None for those of the run that the
            model came from, or synthetic images without a run.
        **options: of `keras_vit.export.export_model`.

    Returns:
        (folder, comparison of each file with the model).

    Raises:
        ExportsRefused: if files cannot be exported or do not agree with the model; the other files are kept.
        ImportError: if a package is missing that a target needs; raised before the model is read.
        ValueError: if the model, the data or a target cannot be used, or another process writes to the folder.
    """
    targets = targets_named(targets)
    if output is None and "://" in str(model):
        raise ValueError(f"Expected a folder for the files of {model}. Received: output=None. Name one with --output")
    runtime, path = options.get("runtime"), pathlib.Path(model)
    recipe = recipe_beside(path / MODEL_FILE if path.is_dir() else path)
    rows = {name: target.with_settings(runtime=runtime) for name, target in targets.items()}
    check_requirements(rows, recipe.channels if recipe else None)
    opened = require_head(open_model(model, pixels=options.get("pixels"), outputs=options.pop("outputs", None)))
    folder = pathlib.Path(output) if output else opened.path.parent
    check_writable(folder)
    with locked(folder):
        return folder, _export(opened, targets, folder, data, options)


def _export(
    opened: ImageModel,
    targets: dict[str, Target],
    folder: pathlib.Path,
    data: str | os.PathLike[str] | None,
    options: dict[str, Any],
) -> list[Agreement]:
    """Exports a model, and updates the pages; returns the comparison of each file with the model."""
    recipe = recipe_beside(opened.path)
    remark_on_license(opened.model)
    images: dict[str, Any] = {}
    if opened.kind == "numbers" and (data is not None or recipe is not None):
        files = _images_of(recipe, data, opened.channels)
        images = {"images": [files[i] for i in _evenly_spaced(len(files), PROOF_IMAGES)]}
    elif opened.kind != "numbers" and (data is not None or recipe is not None):
        images = _compared_images(opened, data)
    else:
        logger.info("compared on synthetic images; --data names images of your own")
    name, license = (pathlib.Path(recipe.data).name, recipe.license) if recipe else (opened.path.stem, None)
    options["facts"] = default_metadata(name, len(opened.class_names), license, opened.learns) | {
        key: value for key, value in options.get("facts", {}).items() if value
    }
    pages = folder, opened.path.parent, f"{options['facts']['name']}: exported files"
    try:
        agreements = export_model(
            opened.model,
            folder,
            targets,
            class_names=opened.class_names or None,
            **images,
            **{"input_type": INPUT_TYPE, "outputs": opened.kind, "protocol": opened.protocol, **options},
        )
    except ExportsRefused as error:
        write_proof(folder, [], error.refused)
        update_pages(*pages)
        raise
    update_pages(*pages)
    return agreements


def _compared_images(opened: ImageModel, data: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Returns the images to compare files on: labelled, or those of a folder without the model's classes."""
    try:
        evaluated, training = evaluation_examples(opened.path, opened.class_names, data, opened.learns, opened.channels)
    except ValueError as error:
        paths = image_paths(data) if data is not None and os.path.isdir(data) else ()
        if not (files := [path for path in paths if not isinstance(path, ImageError)]):
            raise
        logger.info("%s: compared without labels: %s", data, str(error).partition("\n")[0])
        return {"images": [files[i] for i in _evenly_spaced(len(files), PROOF_IMAGES)]}
    compared, calibrating = _choose_images(evaluated, training)
    return {
        "images": [evaluated.images[i] for i in compared],
        "labels": evaluated.labels[compared],
        "calibration": [training.images[i] for i in calibrating],
    }


def _images_of(recipe: Recipe | None, data: str | os.PathLike[str] | None, channels: int) -> Sequence[Any]:
    """Returns the images to compare a model of numbers on: those of the data, or the test images of its run."""
    if data is None and recipe is not None:
        return open_recipe_data(recipe).test.images
    return open_source(str(data), validation=0.0, test=0.0, channels=channels).train.images


def update_pages(folder: pathlib.Path, run_folder: pathlib.Path, title: str) -> None:
    """Updates the export tables of report.html and card.md from proof.json.

    Args:
        folder: the folder of the exported files. Pages that it does not have yet are copied from the run.
        run_folder: the folder of the run that the model came from.
        title: the heading of a new report, if the run has none.
    """
    items, refused = read_proof(folder), read_refused(folder)
    try:
        agreements = [Agreement(**item) for item in items]
        tables = export_tables(agreements, refused)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"Expected figures of exported files. Received: {folder / 'proof.json'}, which is damaged "
            f"({type(error).__name__}: {error}). Remove it to export again."
        ) from error
    report, card = ((folder / name, run_folder / name) for name in ("report.html", "card.md"))
    if template := next((path for path in report if path.exists()), None):
        write_text(report[0], replace_page_exports(template.read_text("utf-8"), **tables))
    else:
        write_report(report[0], Report(title, **tables))
    if template := next((path for path in card if path.exists()), None):
        write_text(card[0], replace_card_exports(template.read_text("utf-8"), agreements, refused))


def agreement_line(agreement: Mapping[str, Any]) -> str:
    """Returns a line of text on an exported file: size, accuracy, agreement with the model and latency.

    A second line has those in bfloat16 where its runtime can compute in it.

    Args:
        agreement: the fields of an `Agreement`.
    """
    images = agreement["images"]
    line = f"  {agreement['file']:<24s} {agreement['bytes'] / 1e6:7.2f} MB, {_figures(agreement, images)}"
    if figures := agreement.get("bfloat16"):
        line += f"\n    in bfloat16, the default of its runtime on this CPU: {_figures(figures, images)}"
    return line


def _figures(agreement: Mapping[str, Any], images: int) -> str:
    if numbers := agreement.get("numbers"):
        comparison = f"largest difference {numbers['max_difference']:.1e} on {counted(images, 'image')}"
    else:
        agrees = "agreement of labels" if agreement.get("labels") else "top-1 agreement"
        comparison = (
            f"{agrees} with Keras {agreement['top1_agreement']:.2%} on {counted(images, 'image')}, largest logit "
            f"difference {agreement['logits']['max_difference']:.1e}"
        )
    measure = "micro F1" if agreement.get("labels") else "accuracy"
    accuracy = "" if agreement["accuracy"] is None else f"{measure} {agreement['accuracy']:.2%}, "
    return f"{accuracy}{comparison}, {max(agreement['latency_ms'].items())[1]:.1f} ms"


def refusal_line(file: str, reason: str) -> str:
    """Returns a line of text on an exported file that is not kept.

    Args:
        file: its name.
        reason: why it is not kept.
    """
    return f"  {file} is not kept: {reason}"


def _choose_images(evaluated: Examples, training: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Returns disjoint indices of the images to compare files on, and of those to calibrate quantization on."""
    count = len(evaluated.labels)
    if evaluated is not training:
        return _evenly_spaced(count, PROOF_IMAGES), _evenly_spaced(len(training.labels), CALIBRATION_IMAGES)
    # The same images: every fourth is for calibration, as folders are sorted by class.
    fourth, rest = np.arange(0, count, 4), np.delete(np.arange(count), np.s_[::4])
    return rest[_evenly_spaced(len(rest), PROOF_IMAGES)], fourth[_evenly_spaced(len(fourth), CALIBRATION_IMAGES)]


def _evenly_spaced(count: int, most: int) -> np.ndarray:
    """Returns at most `most` indices, evenly spaced from 0 to count - 1."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)
