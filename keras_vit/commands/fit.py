"""`keras-vit fit`: trains a recipe, evaluates and exports the model, and writes the report and the model card."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_vit._arguments import counted
from keras_vit._atomic import is_locked, locked, write_text, written_aside
from keras_vit._progress import log_progress, show_progress
from keras_vit.commands.examples import open_recipe_data
from keras_vit.commands.export import Exports, agreement_line, export_run, refusal_line, update_pages
from keras_vit.commands.image_list import write_images
from keras_vit.commands.image_model import load_keras_model, remark_on_license
from keras_vit.commands.pages import pretext_report, run_report, write_run_card
from keras_vit.commands.run_folder import (
    LABELS_FILE,
    METRICS_FILE,
    MODEL_FILE,
    RUN_FILE,
    finished_metrics,
    require_same_data,
    run_description,
    weights_digest,
)
from keras_vit.commands.target_results import score_model, target_line, target_report, thresholds_on
from keras_vit.commands.verdict import run_verdict
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation.accuracy import Scores, score
from keras_vit.evaluation.predictions import predicted
from keras_vit.evaluation.reject import false_rejects, fit_reject
from keras_vit.export.targets import check_requirements, targets_named
from keras_vit.models.class_names import write_names
from keras_vit.models.config import get_variant
from keras_vit.models.interface import pixels_of
from keras_vit.models.reject import Reject
from keras_vit.pretraining import MaskedAutoencoder, save_mae
from keras_vit.report.run_page import write_report
from keras_vit.runtime.files import open_exported
from keras_vit.training.devices import Devices, devices_of
from keras_vit.training.fit import CHECKPOINTS, train
from keras_vit.training.objectives import OBJECTIVES, vit_of
from keras_vit.training.recipe import Recipe

logger = logging.getLogger("keras_vit")
REPORT_FILE, CARD_FILE, MAE_FOLDER = "report.html", "card.md", "mae"


@show_progress()
def fit(recipe: Recipe, output: str | os.PathLike[str], source: Source | None = None) -> dict[str, Any] | None:
    """Trains a recipe, evaluates and exports the model, and writes the report and the model card.

    An interrupted run continues from its last checkpoint. A finished run is not trained again; it only gets those files
    of `recipe.exports` that are missing. For an objective without classes, the run writes the model, which other runs
    can start from, and a report.

    Args:
        recipe: the recipe.
        output: the folder of the run; empty, or with a run of the same recipe.
        source: its images, if they are open.

    Returns:
        The metrics of the run, as in metrics.json. An export that failed is not kept, and its reason is in "refused".
        None on a worker other than the chief, which writes no files.

    Raises:
        ValueError: if the folder contains anything else, another process writes to it, or the data cannot be used.
        ImportError: if a package is missing that an export needs; raised before the training.
    """
    get_variant(recipe.variant)
    targets = targets_named(recipe.exports)
    folder = pathlib.Path(output)
    if metrics := _finished(folder, recipe, source):
        return metrics
    check_requirements(targets, recipe.channels)
    devices = devices_of(
        recipe.strategy, recipe.jit_compile
    )  # first: a cluster has to be set up before any computation
    with locked(folder) if devices.chief else contextlib.nullcontext():
        # Another process may have finished the run meanwhile.
        return _finished(folder, recipe, source) or _run(folder, recipe, devices, source)


def _run(folder: pathlib.Path, recipe: Recipe, devices: Devices, source: Source | None) -> dict[str, Any] | None:
    """Trains a recipe and writes all files of its run; returns the metrics, or None on a worker."""
    objective = OBJECTIVES[recipe.objective]
    source = source or open_recipe_data(recipe)
    require_same_data(folder, source)
    weights = weights_digest(folder, recipe)
    logger.info(
        "%s: %d %s, %s images, on %s",
        source.name,
        len(source.class_names),
        source.learns,
        ", ".join(f"{len(getattr(source, split).labels):,} {split}" for split in ("train", "validation", "test")),
        devices.description,
    )
    if objective.learns is None:
        logger.info("objective=%s has no classes: no test accuracy, no exports, no model card", recipe.objective)

    def begin(model: keras.Model) -> None:
        logger.info("the model reads pixels as %s", pixels_of(model).description)
        remark_on_license(model)
        if devices.chief:
            # run.json is written first: it marks the folder as that of this run.
            description = run_description(recipe, source, devices, model, weights)
            write_text(folder / RUN_FILE, json.dumps(description, indent=1))
            write_images(folder, source)
            if objective.has_classes:
                write_names(folder / LABELS_FILE, source.class_names)

    network, history = train(recipe, source, folder, devices, begin)
    return _finish(folder, recipe, source, network, history) if devices.chief else None


def _opens(path: pathlib.Path) -> bool:
    """Returns whether an exported file is there and, as far as the installed runtimes tell, whole."""
    try:
        open_exported(path)
    except ImportError:
        return path.exists()
    except ValueError:
        return False
    return True


def _finished(folder: pathlib.Path, recipe: Recipe, source: Source | None) -> dict[str, Any] | None:
    """Returns the metrics of a finished run, with those files of its recipe exported that are missing or damaged."""
    metrics = finished_metrics(folder, recipe)
    if metrics is None:
        return None
    try:  # all that is read of them later
        result_lines(metrics)
        exported = {item["target"] for item in metrics["exports"]}
        for item in metrics["exports"]:
            agreement_line(item)
        for item in metrics.get("refused", []):
            refusal_line(**item)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"Expected the metrics of a run. Received: {folder / METRICS_FILE}, which is damaged "
            f"({type(error).__name__}: {error}). Restore it, or remove it to run the recipe again."
        ) from error
    source = source or open_recipe_data(recipe)
    require_same_data(folder, source)
    if (folder / CHECKPOINTS).exists() or is_locked(folder):  # by a process that was killed at its end, or writes now
        with contextlib.suppress(ValueError), locked(folder):
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    targets = targets_named(recipe.exports) if OBJECTIVES[recipe.objective].learns else {}
    model = load_keras_model(folder)[1]
    missing = [name for name, target in targets.items() if name not in exported or not _opens(folder / target.file)]
    if not missing:
        logger.info("%s already contains this run, finished; nothing is changed", folder)
        return metrics
    logger.info("%s already contains this run, finished; exporting its model to the missing or damaged files", folder)
    check_requirements({name: targets[name] for name in missing}, recipe.channels)
    with locked(folder):
        exports = export_run(folder, dataclasses.replace(recipe, exports=tuple(missing)), model, source)
        added = _export_metrics(exports)
        kept = [item for item in metrics["exports"] if item["target"] not in missing]
        metrics |= added | {"exports": kept + added["exports"]}
        update_pages(folder, folder, folder.name)
        write_text(folder / METRICS_FILE, json.dumps(metrics, indent=1))
    return metrics


def _finish(
    folder: pathlib.Path, recipe: Recipe, source: Source, network: keras.Model, history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Writes all files of a run from its trained network, and returns the metrics."""
    model, objective = vit_of(network), OBJECTIVES[recipe.objective]
    if objective.has_classes:
        model.class_names = source.class_names
    if objective.learns == "labels":
        model.thresholds = thresholds_on(model, source.validation, recipe.evaluation)
        count = counted(len(source.validation.labels), "validation image")
        logger.info("thresholds of the labels, chosen on %s", count)
    if recipe.reject:
        model.reject = _reject_on(model, source.validation, recipe)
    with written_aside(folder / MODEL_FILE) as aside:
        model.save(aside)
    contract = pixels_of(model)
    batches = evaluation_batches(source.test, model.input_shape[1:3], contract=contract, protocol=recipe.evaluation)
    metrics = {
        "test_images": len(source.test.labels),
        "training_seconds": sum(row.get("seconds", 0.0) for row in history),
        "parameters": model.count_params(),
        "bad_images": len(source.bad),
    }
    finish = _finish_trained if objective.learns else _finish_pretext
    metrics |= finish(folder, recipe, source, network, history, batches, metrics)
    # metrics.json is written last: it marks the run as finished.
    write_text(folder / METRICS_FILE, json.dumps(metrics, indent=1))
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return metrics


def _reject_on(model: keras.Model, examples: Examples, recipe: Recipe) -> Reject:
    """Returns when a model rejects an image, chosen on the validation images."""
    batches = evaluation_batches(
        examples, model.input_shape[1:3], contract=pixels_of(model), protocol=recipe.evaluation
    )
    scores = score(model, batches)
    reject = fit_reject(scores.probabilities, recipe.reject)
    logger.info(
        "rejects images with a highest probability below %.4f, chosen on %d validation images for %.3g%% false rejects",
        reject.threshold,
        len(scores.labels),
        100 * reject.share,
    )
    return reject


def _finish_trained(
    folder: pathlib.Path,
    recipe: Recipe,
    source: Source,
    model: keras.Model,
    history: Sequence[Mapping[str, Any]],
    batches: Iterable[Any],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """Evaluates and exports a model, writes its report and card, and returns the metrics to add."""
    logger.info("evaluates the model on %s", counted(metrics["test_images"], "test image"))
    scores = score_model(model, log_progress(batches, "evaluated", metrics["test_images"]), source)
    exports = export_run(folder, recipe, model, source)
    verdict = run_verdict(recipe, source, scores, history, folder)
    rejects = None
    if recipe.reject and isinstance(scores, Scores):
        rejects = false_rejects(model.reject, scores.probabilities)
        verdict = dataclasses.replace(verdict, notes=(rejects.text,))
    added = {"objective": source.learns, **verdict.metrics, **_export_metrics(exports)}
    added |= {"reject": rejects.metrics} if rejects else {}
    logger.info("writes the report and the model card")
    report = run_report if source.learns == "classes" else target_report
    write_report(folder / REPORT_FILE, report(recipe, model, source, verdict, history, *exports))
    write_run_card(folder / CARD_FILE, recipe, model, source, verdict, {**metrics, **added}, *exports, rejects=rejects)
    return added


def _export_metrics(exports: Exports) -> dict[str, Any]:
    """Returns the part of metrics.json on the exports of a run."""
    return {
        "exports": [dataclasses.asdict(item) for item in exports.agreements],
        "refused": [{"file": file, "reason": reason} for file, reason in exports.refused.items()],
    }


def _finish_pretext(
    folder: pathlib.Path,
    recipe: Recipe,
    source: Source,
    network: keras.Model,
    history: Sequence[Mapping[str, Any]],
    batches: Iterable[Any],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """Evaluates a pretext task on the test images, writes its report, and returns the metrics to add."""
    logger.info("evaluates the pretext task on %s", counted(metrics["test_images"], "test image"))
    loss, metric = predicted(network, batches)[1].mean(axis=0)
    added: dict[str, Any] = {
        "objective": recipe.objective,
        "test_loss": float(loss),
        "test_metric": float(metric),
        "exports": [],
    }
    write_report(folder / REPORT_FILE, pretext_report(recipe, network, source, history, {**metrics, **added}))
    if isinstance(task := network.layers[-1], MaskedAutoencoder):
        try:
            save_mae(task, folder / MAE_FOLDER)
            logger.info("%s has the encoder and the decoder in transformers' format, to continue from", MAE_FOLDER)
        except ValueError as error:  # transformers' MAE has fewer options than ours
            logger.info("the decoder is not kept, as transformers' MAE has no such encoder: %s", error)
    return added


def result_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Returns a line with the figures of a finished run on the test images, or its test loss, and its verdict.

    Args:
        metrics: as `fit` returns them; those of older versions have no verdict.
    """
    if "test_accuracy" in metrics:
        result = f"test accuracy {metrics['test_accuracy']:.2%}"
    elif OBJECTIVES[metrics["objective"]].learns:
        result = f"test images: {target_line(metrics)}"
    else:
        metric = OBJECTIVES[metrics["objective"]].metric
        result = f"test loss {metrics['test_loss']:.4f}, {metric} {metrics['test_metric']:.1%}"
    line = f"{result} on {counted(metrics['test_images'], 'image')}, {metrics['training_seconds']:.0f} s of training"
    return [line, *(f"  {line}" for line in metrics.get("verdict", ()))]
