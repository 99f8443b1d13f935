"""What a command does from end to end; joins the parts for the command line and for recipes."""

import dataclasses
import json
import logging
import pathlib
import shutil

import numpy as np

from keras_vit.atomic import write_text, written_aside
from keras_vit.data.pipeline import MEMORY, evaluation_batches, read_all
from keras_vit.data.sources import Examples, open_source
from keras_vit.evaluation.accuracy import evaluate as score
from keras_vit.export.proof import check_targets
from keras_vit.export.proof import export as prove_exports
from keras_vit.preprocessing import pixels_of, preprocess_input
from keras_vit.report.page import write_report
from keras_vit.run_folder import (
    LABELS,
    METRICS,
    MODEL,
    RUN,
    describe,
    finished,
    load_classifier,
    recipe_of,
    refuse_other_data,
)
from keras_vit.run_pages import card, preview_page, report
from keras_vit.training.devices import devices_of
from keras_vit.training.fit import SNAPSHOTS
from keras_vit.training.fit import fit as train
from keras_vit.training.lr_finder import find_learning_rate as search
from keras_vit.variants import get_variant

logger = logging.getLogger("keras_vit")

# What the exported files of a run take: the pixels as they are, the least that a client can get wrong.
TAKES = "uint8"
PROOF_PICTURES = 256  # pictures that an export on its own is compared on, where the data has as many


def fit(recipe, output):
    """Trains a recipe and makes everything of it: model, exports, report, card.

    A run that was cut off goes on where its last checkpoint stands; a finished one is left as it is.

    Args:
        recipe: the `Recipe`.
        output: the run's folder; holds nothing, or a run of the same recipe.

    Returns:
        The run's metrics, as in metrics.json; None on a worker that is not the chief, which writes no files.

    Raises:
        ValueError: if the folder holds anything else, the data cannot be used, or an export does not answer like the
            model.
    """
    get_variant(recipe.variant)
    check_targets(recipe.exports)
    folder = pathlib.Path(output)
    if metrics := finished(folder, recipe):
        logger.info("%s holds this run already, finished; it is left as it is", folder)
        return metrics
    devices = devices_of(recipe.strategy, recipe.jit_compile)  # before anything is computed: workers have to be first
    source = _open(recipe)
    refuse_other_data(folder, source)
    logger.info(
        "%s: %d classes, %s, on %s",
        source.name,
        len(source.class_names),
        ", ".join(f"{len(getattr(source, split).labels):,} pictures to {use}" for split, use in USES.items()),
        devices.words,
    )

    def begin():
        if devices.chief:
            # The recipe goes first: from here on the folder is this run's.
            write_text(folder / RUN, json.dumps(describe(recipe, source, devices), indent=1))
            write_text(folder / LABELS, "".join(f"{name}\n" for name in source.class_names))

    model, history = train(recipe, source, folder, devices, begin)
    return _finish(folder, recipe, source, model, history) if devices.chief else None


def _finish(folder, recipe, source, model, history):
    """Makes of a trained model all that a run's folder holds, and returns the metrics."""
    with written_aside(folder / MODEL) as aside:
        model.save(aside)
    size = model.input_shape[1:3]
    batches = evaluation_batches(source.test, size, contract=pixels_of(model), protocol=recipe.evaluation)
    scores = score(model, batches)
    # All test pictures, but for those that would not fit into memory.
    pixels, labels = _read_some(source.test, size, recipe.evaluation, max(1, MEMORY // (size[0] * size[1] * 3)))
    agreements = prove_exports(model, folder, recipe.exports, pixels, labels=labels, takes=TAKES)
    metrics = {
        "test_accuracy": scores.accuracy,
        "test_pictures": len(scores.labels),
        "training_seconds": sum(row["seconds"] for row in history),
        "parameters": model.count_params(),
        "bad_pictures": len(source.bad),
        "exports": [dataclasses.asdict(item) for item in agreements],
    }
    write_report(folder / "report.html", report(recipe, model, source, scores, history, agreements))
    card(folder / "card.md", recipe, model, source, metrics, agreements, TAKES)
    # The metrics go last: a folder that has them is finished.
    write_text(folder / METRICS, json.dumps(metrics, indent=1))
    shutil.rmtree(folder / SNAPSHOTS, ignore_errors=True)
    return metrics


def preview(recipe, path):
    """Writes a page of pictures as the training sees them, with their labels, and returns its path.

    Args:
        recipe: the `Recipe`.
        path: the page, an .html file.
    """
    source = _open(recipe)
    preview_page(path, recipe, source)
    return pathlib.Path(path)


def find_learning_rate(recipe, steps=100):
    """Returns the `Finding` of a search for a recipe's learning rate; nothing is kept of the training in it."""
    return search(recipe, _open(recipe), steps)


def predict(model, pictures, top=5):
    """Names what is on pictures.

    Args:
        model: a .keras file, or a run's folder.
        pictures: paths.
        top: classes a picture.

    Returns:
        A list a picture of (class name, probability), the best first.

    Raises:
        ValueError: if the model cannot be used, or pictures cannot be read; all of them in one message.
    """
    classifier = load_classifier(model)
    pixels, faults = [], []
    for picture in pictures:
        try:
            pixels.append(read_all([picture], classifier.image_size, classifier.protocol)[0])
        except ValueError as error:
            faults.append(f"  {error}")
    if faults:
        raise ValueError("Pictures cannot be read:\n" + "\n".join(faults))
    probabilities = classifier.model.predict(preprocess_input(np.stack(pixels), pixels_of(classifier.model)), verbose=0)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [[(classifier.class_names[i], float(row[i])) for i in order] for row, order in zip(probabilities, best)]


def evaluate(model, data=None):
    """Scores a model on pictures whose classes are known.

    Args:
        model: a .keras file, or a run's folder.
        data: a folder of class folders, of which its test/ is used or, without one, all pictures; "digits"; None for
            the test pictures of the run that the model came from.

    Returns:
        The `Scores`, and the names of the classes.

    Raises:
        ValueError: if the model or the data cannot be used, or the data has a class that the model has not.
    """
    classifier = load_classifier(model)
    examples = _examples(classifier, data)
    contract, protocol = pixels_of(classifier.model), classifier.protocol
    batches = evaluation_batches(examples, classifier.image_size, contract=contract, protocol=protocol)
    return score(classifier.model, batches), classifier.class_names


def export(model, targets, output=None, data=None, takes=TAKES):
    """Exports a model, proving each file on pictures before it gets its name.

    Args:
        model: a .keras file, or a run's folder.
        targets: names out of `keras_vit.export.targets.TARGETS`.
        output: folder for the files; None for the model's own.
        data: as for `evaluate`; where there is no run either, made-up pictures serve for the comparison.
        takes: what the files take, out of `keras_vit.export.targets.INPUTS`.

    Returns:
        The folder, and an `Agreement` a target.

    Raises:
        ValueError: if the model, the data or a target cannot be used, or a file does not answer like the model.
    """
    check_targets(targets)
    classifier = load_classifier(model)
    if data is None and recipe_of(classifier.path) is None:
        pixels, labels = _made_up(classifier.image_size), None
        logger.info("compares on %d made-up pictures; real ones prove more: --data FOLDER", len(pixels))
    else:
        examples = _examples(classifier, data)
        pixels, labels = _read_some(examples, classifier.image_size, classifier.protocol, PROOF_PICTURES)
    folder = pathlib.Path(output) if output else classifier.path.parent
    return folder, prove_exports(classifier.model, folder, targets, pixels, labels=labels, takes=takes)


USES = {"train": "train on", "validation": "validate on", "test": "test on"}


def _open(recipe):
    source = open_source(
        recipe.data,
        data_dir=recipe.data_dir,
        train_split=recipe.train_split,
        validation_split=recipe.validation_split,
        test_split=recipe.test_split,
        validation=recipe.validation,
        test=recipe.test,
        seed=recipe.seed,
        on_bad_image=recipe.on_bad_image,
    )
    if not len(source.test.labels):
        raise ValueError(f"{recipe.data} leaves no pictures to test on. Raise test, the part kept aside, above 0.")
    return source


def _examples(classifier, data):
    """Returns the examples to judge a classifier on, with labels that number its classes."""
    if data is None:
        recipe = recipe_of(classifier.path)
        if recipe is None:
            raise ValueError(
                f"Expected pictures to judge {classifier.path} on: a folder of class folders. Received none."
            )
        source = _open(recipe)
    else:
        source = open_source(data, **({} if data == "digits" else {"validation": 0.0, "test": 0.0}))
    examples = source.test if len(source.test.labels) else source.train
    unknown = sorted(set(source.class_names) - set(classifier.class_names))
    if unknown:
        raise ValueError(
            f"Expected pictures of the model's classes, {', '.join(classifier.class_names)}. "
            f"Received classes it does not have: {', '.join(unknown)}"
        )
    numbers = np.array([classifier.class_names.index(name) for name in source.class_names])
    return Examples(examples.pictures, numbers[examples.labels], examples.names)


def _read_some(examples, image_size, protocol, most):
    """Returns pixels and labels of at most so many examples, evenly spread: folders come sorted by class."""
    count = len(examples.labels)
    some = np.linspace(0, count - 1, min(count, most)).astype(int)
    return read_all([examples.pictures[i] for i in some], image_size, protocol), examples.labels[some]


def _made_up(image_size, pictures=64):
    """Returns smooth random pictures, (pictures, rows, columns, 3) uint8."""
    rows, columns = image_size
    waves = np.random.default_rng(0).normal(size=(pictures, 3, 4, 4))
    y, x = (np.cos(np.pi * np.arange(4)[:, None] * (np.arange(side) + 0.5) / side) for side in (rows, columns))
    smooth = np.einsum("nckl,kr,lq->nrqc", waves, y, x)
    return np.clip(127.5 + 40 * smooth, 0, 255).astype(np.uint8)
