"""What a command does from end to end; joins the parts for the command line and for recipes."""

import dataclasses
import json
import logging
import pathlib
import shutil

import numpy as np

from keras_vit.atomic import write_text, written_aside
from keras_vit.class_names import write_names
from keras_vit.client.files import is_exported, open_file
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.evaluation.accuracy import evaluate as score
from keras_vit.evaluation.progress import told
from keras_vit.export.targets import ALSO, targets_named
from keras_vit.models.interface import pixels_of
from keras_vit.report.page import write_report
from keras_vit.run_data import open_data
from keras_vit.run_evaluations import evaluate as judge
from keras_vit.run_exports import export_run, update_pages
from keras_vit.run_folder import (
    LABELS,
    METRICS,
    MODEL,
    RUN,
    describe,
    finished,
    open_model,
    predictor,
    read_batches,
    refuse_other_data,
    weights_digest,
)
from keras_vit.run_images import write_images
from keras_vit.run_pages import card, pretext_report, preview_page, report
from keras_vit.screen import shown
from keras_vit.training.devices import devices_of
from keras_vit.training.fit import SNAPSHOTS
from keras_vit.training.fit import fit as train
from keras_vit.training.lr_finder import find_learning_rate as search
from keras_vit.training.objectives import OBJECTIVES, vit_of
from keras_vit.variants import get_variant

logger = logging.getLogger("keras_vit")

REPORT = "report.html"
USES = {"train": "train on", "validation": "validate on", "test": "test on"}


@shown()
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
        target.require()
    devices = devices_of(recipe.strategy, recipe.jit_compile)  # before anything is computed: workers have to be first
    source = open_data(recipe)
    refuse_other_data(folder, source)
    weights = weights_digest(folder, recipe)
    logger.info(
        "%s: %d classes, %s, on %s",
        source.name,
        len(source.class_names),
        ", ".join(f"{len(getattr(source, split).labels):,} pictures to {use}" for split, use in USES.items()),
        devices.words,
    )
    if not objective.has_classes:
        logger.info("objective=%s learns no classes: no test accuracy, no exports, no card", recipe.objective)

    def begin(contract):
        logger.info("the model reads pixels as %s", contract.words)
        if devices.chief:
            # The recipe goes first: from here on the folder is this run's.
            facts = describe(recipe, source, devices, contract, weights)
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
        "test_pictures": len(source.test.labels),
        "training_seconds": sum(row["seconds"] for row in history),
        "parameters": model.count_params(),
        "bad_pictures": len(source.bad),
    }
    conclude = _conclude_classes if OBJECTIVES[recipe.objective].has_classes else _conclude_pretext
    metrics |= conclude(folder, recipe, source, network, history, batches, metrics)
    # The metrics go last: a folder that has them is finished.
    write_text(folder / METRICS, json.dumps(metrics, indent=1))
    shutil.rmtree(folder / SNAPSHOTS, ignore_errors=True)
    return metrics


def _conclude_classes(folder, recipe, source, model, history, batches, metrics):
    """Scores a classifier, exports it and writes its pages; returns what that adds to the metrics."""
    logger.info("scores the model on %d test images", metrics["test_pictures"])
    scores = score(model, told(batches, "scored", metrics["test_pictures"]))
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
    """Judges a pretext task on the test pictures and shows some; returns what that adds to the metrics."""
    logger.info("scores the task on %d test images", metrics["test_pictures"])
    loss, share = np.concatenate([network.predict_on_batch(np.asarray(images)) for images, _ in batches]).mean(axis=0)
    found = {"objective": recipe.objective, "test_loss": float(loss), "test_share": float(share), "exports": []}
    write_report(folder / REPORT, pretext_report(recipe, network, source, history, metrics | found))
    return found


def words_of(metrics):
    """Says in a line how a run ended, from its metrics."""
    if "test_accuracy" in metrics:
        found = f"test accuracy {metrics['test_accuracy']:.2%}"
    else:
        share = OBJECTIVES[metrics["objective"]].share
        found = f"test loss {metrics['test_loss']:.4f}, {share} {metrics['test_share']:.1%}"
    return f"{found} on {metrics['test_pictures']:,} pictures, {metrics['training_seconds']:.0f} s of training"


@shown()
def preview(recipe, path):
    """Writes a page of pictures as the training sees them, with their labels, and returns its path.

    Args:
        recipe: the `Recipe`.
        path: the page, an .html file.
    """
    source = open_data(recipe)
    preview_page(path, recipe, source)
    return pathlib.Path(path)


@shown()
def find_learning_rate(recipe, steps=100):
    """Returns the `Finding` of a search for a recipe's learning rate; nothing is kept of the training in it."""
    return search(recipe, open_data(recipe), steps)


def predict(model, pictures, top=5, *, pixels=None, outputs=None):
    """Names what is on images.

    Args:
        model: a .keras file, a run's folder, a checkpoint, or an exported file, which is run as a client does.
        pictures: paths.
        top: classes an image.
        pixels, outputs: as of `keras_vit.run_folder.open_model`.

    Returns:
        A list an image of (class name, probability), the best first; of (name of the output, number) where the model
        returns numbers, with the place in it where an output has several.

    Raises:
        ValueError: if the model cannot be used, or images cannot be read; all of them in one message.
    """
    return [found for _, found in predictions(open_subject(model, pixels, outputs), pictures, top)]


def open_subject(model, pixels=None, outputs=None):
    """Opens what predicts: an exported file, or a Keras model as `keras_vit.run_folder.open_model` does.

    Raises:
        ValueError: if it cannot be used, or returns neither classes nor numbers.
    """
    if not is_exported(model):
        return predictor(open_model(model, pixels=pixels, outputs=outputs))
    if pixels is not None or outputs is not None:
        raise ValueError(
            f"Expected pixels and outputs for a Keras model. Received: {model}, an exported file, which says of itself "
            "what it reads and returns"
        )
    return open_file(model)


def predictions(subject, pictures, top=5):
    """Yields (path, list) of what `predict` returns, image by image; no more than a batch is in memory.

    Args:
        subject: as `open_subject` returns it.
        pictures, top: as of `predict`.

    Raises:
        ValueError: at the end, if images cannot be read; all of them in one message.
    """
    for numbers, pixels in read_batches(subject, pictures):
        found = subject.predict(pixels)
        rows = _classes(subject, found, top) if subject.class_names else _numbers(subject, found)
        yield from zip((pictures[i] for i in numbers), rows)


def _classes(subject, found, top):
    for row in found["probabilities"]:
        order = np.argsort(-row, kind="stable")[:top]
        yield [(subject.class_names[i], float(row[i])) for i in order]


def _numbers(subject, found):
    arrays = {name: values.reshape(len(values), -1) for name, values in found.items() if name not in ALSO}
    for i in range(len(next(iter(arrays.values())))):
        yield [
            (name if len(row) == 1 else f"{name} {k}", float(value))
            for name, row in ((name, values[i]) for name, values in arrays.items())
            for k, value in enumerate(row)
        ]


def evaluate(model, data=None):
    """Scores a model on pictures whose classes are known; `keras_vit.run_evaluations.evaluate` finds more.

    Args:
        model, data: as there.

    Returns:
        The `Scores`, and the names of the classes.

    Raises:
        ValueError: if the model or the data cannot be used, or the data has a class that the model has not.
    """
    found = judge(model, data)
    return found.scores, found.class_names
