"""What a command does from end to end; joins the parts for the command line and for recipes."""

import dataclasses
import json
import logging
import pathlib
import shutil

import numpy as np

from keras_vit._atomic import write_text, written_aside
from keras_vit._progress import log_progress, show_progress
from keras_vit.commands.classifier import open_model
from keras_vit.commands.examples import open_data
from keras_vit.commands.export import export_run, update_pages
from keras_vit.commands.image_list import write_images
from keras_vit.commands.pages import card, pretext_report, report
from keras_vit.commands.run_folder import (
    LABELS,
    METRICS,
    MODEL,
    RUN,
    finished,
    refuse_other_data,
    run_facts,
    weights_digest,
)
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.evaluation.accuracy import score as score
from keras_vit.export.targets import targets_named
from keras_vit.models.class_names import write_names
from keras_vit.models.config import get_variant
from keras_vit.models.interface import pixels_of
from keras_vit.report.run_page import write_report
from keras_vit.training.devices import devices_of
from keras_vit.training.fit import CHECKPOINTS
from keras_vit.training.fit import train as train
from keras_vit.training.objectives import OBJECTIVES, vit_of

logger = logging.getLogger("keras_vit")
REPORT = "report.html"
USES = {"train": "train on", "validation": "validate on", "test": "test on"}


@show_progress()
def fit(recipe, output):
    """Trains a recipe and makes everything of it: model, exports, report, card.

    An export that fails is not kept; "refused" in the metrics says why, and everything else is made.

    Of one whose objective has no classes there is the model, for another run's `weights`, and the report.

    A run that was cut off goes on where its last checkpoint stands; a finished one is left as it is, and gets the files
    of `exports` that it has not yet.

    Args:
        recipe: the `Recipe`.
        output: the run's folder; holds nothing, or a run of the same recipe.

    Returns:
        The run's metrics, as in metrics.json; None on a worker that is not the chief, which writes no files.

    Raises:
        ValueError: if the folder holds anything else, or the data cannot be used.
        ImportError, ValueError: if something is not installed that the exports need; before the training.
    """
    get_variant(recipe.variant)
    targets = targets_named(recipe.exports)
    objective = OBJECTIVES[recipe.objective]
    folder = pathlib.Path(output)
    if metrics := finished(folder, recipe):
        source = open_data(recipe)
        refuse_other_data(folder, source)
        return _with_exports(folder, recipe, source, metrics)
    for target in targets.values():
        target.check_requirements()
    devices = devices_of(recipe.strategy, recipe.jit_compile)  # before anything is computed: workers have to be first
    source = open_data(recipe)
    refuse_other_data(folder, source)
    weights = weights_digest(folder, recipe)
    logger.info(
        "%s: %d classes, %s, on %s",
        source.name,
        len(source.class_names),
        ", ".join(f"{len(getattr(source, split).labels):,} images to {use}" for split, use in USES.items()),
        devices.description,
    )
    if not objective.has_classes:
        logger.info("objective=%s learns no classes: no test accuracy, no exports, no card", recipe.objective)

    def begin(contract):
        logger.info("the model reads pixels as %s", contract.description)
        if devices.chief:
            # The recipe goes first: from here on the folder is this run's.
            facts = run_facts(recipe, source, devices, contract, weights)
            write_text(folder / RUN, json.dumps(facts, indent=1))
            write_images(folder, source)
            if objective.has_classes:
                write_names(folder / LABELS, source.class_names)

    network, history = train(recipe, source, folder, devices, begin)
    return _finish(folder, recipe, source, network, history) if devices.chief else None


def _with_exports(folder, recipe, source, metrics):
    """Exports a finished run to the files of its recipe that are not there yet; returns its metrics."""
    wanted = targets_named(recipe.exports) if OBJECTIVES[recipe.objective].has_classes else {}
    made = {item["target"] for item in metrics["exports"]}
    missing = [name for name, target in wanted.items() if name not in made or not (folder / target.file).exists()]
    if not missing:
        logger.info("%s holds this run already, finished; it is left as it is", folder)
        return metrics
    logger.info("%s holds this run already, finished; its model is exported to what is missing", folder)
    for name in missing:
        wanted[name].require()
    more = dataclasses.replace(recipe, exports=tuple(missing))
    others = [item for item in metrics["exports"] if item["target"] not in missing]
    found = _told(export_run(folder, more, open_model(folder).model, source))
    metrics |= found | {"exports": others + found["exports"]}
    update_pages(folder, folder, folder.name)
    write_text(folder / METRICS, json.dumps(metrics, indent=1))
    return metrics


def _finish(folder, recipe, source, network, history):
    """Makes of a trained network all that a run's folder holds, and returns the metrics."""
    model = vit_of(network)
    if OBJECTIVES[recipe.objective].has_classes:
        model.class_names = source.class_names
    with written_aside(folder / MODEL) as aside:
        model.save(aside)
    contract = pixels_of(model)
    batches = evaluation_batches(source.test, model.input_shape[1:3], contract=contract, protocol=recipe.evaluation)
    metrics = {
        "test_images": len(source.test.labels),
        "training_seconds": sum(row["seconds"] for row in history),
        "parameters": model.count_params(),
        "bad_images": len(source.bad),
    }
    conclude = _conclude_classes if OBJECTIVES[recipe.objective].has_classes else _conclude_pretext
    metrics |= conclude(folder, recipe, source, network, history, batches, metrics)
    # The metrics go last: a folder that has them is finished.
    write_text(folder / METRICS, json.dumps(metrics, indent=1))
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return metrics


def _conclude_classes(folder, recipe, source, model, history, batches, metrics):
    """Scores a classifier, exports it and writes its pages; returns what that adds to the metrics."""
    logger.info("scores the model on %d test images", metrics["test_images"])
    scores = score(model, log_progress(batches, "scored", metrics["test_images"]))
    exports = export_run(folder, recipe, model, source)
    found = {"test_accuracy": scores.accuracy} | _told(exports)
    logger.info("writes the report and the card")
    write_report(folder / REPORT, report(recipe, model, source, scores, history, *exports))
    card(folder / "card.md", recipe, model, source, scores, metrics | found, *exports)
    return found


def _told(exports):
    """Returns what metrics.json says of a run's `Exports`."""
    return {
        "exports": [dataclasses.asdict(item) for item in exports.agreements],
        "refused": [{"file": file, "reason": reason} for file, reason in exports.refused.items()],
    }


def _conclude_pretext(folder, recipe, source, network, history, batches, metrics):
    """Judges a pretext task on the test images and shows some; returns what that adds to the metrics."""
    logger.info("scores the task on %d test images", metrics["test_images"])
    loss, metric = np.concatenate([network.predict_on_batch(np.asarray(images)) for images, _ in batches]).mean(axis=0)
    found = {"objective": recipe.objective, "test_loss": float(loss), "test_metric": float(metric), "exports": []}
    write_report(folder / REPORT, pretext_report(recipe, network, source, history, metrics | found))
    return found


def result_line(metrics):
    """Says in a line how a run ended, from its metrics."""
    if "test_accuracy" in metrics:
        found = f"test accuracy {metrics['test_accuracy']:.2%}"
    else:
        metric = OBJECTIVES[metrics["objective"]].metric
        found = f"test loss {metrics['test_loss']:.4f}, {metric} {metrics['test_metric']:.1%}"
    return f"{found} on {metrics['test_images']:,} images, {metrics['training_seconds']:.0f} s of training"
