"""Writes exported files, and keeps only those that are proven to answer like the model."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import tempfile

import keras
import numpy as np

from keras_vit._atomic import written_aside
from keras_vit._progress import show_progress
from keras_vit.analysis.attention import attention_rollout
from keras_vit.export.bundle import write_bundle
from keras_vit.export.proof import BOUNDS, compare, faults, measured, read_proof, write_proof
from keras_vit.export.serving import features_tensor, has_blocks
from keras_vit.export.targets import TARGETS
from keras_vit.export.tflite.metadata import LABELS
from keras_vit.models.class_names import write_names
from keras_vit.preprocessing import preprocess_input
from keras_vit.runtime.files import open_exported
from keras_vit.runtime.operators import operators

logger = logging.getLogger("keras_vit")

REFERENCES = 16  # images on which the outputs beside the probabilities are compared


class ExportsRefused(ValueError):
    """Says which files of an export are not kept and why; the others are made.

    Args:
        agreements: an `Agreement` a file that is kept.
        refused: {file: reason} of the others.
    """

    exit_status = 3  # of a command that ends in it

    def __init__(self, agreements: list, refused: dict[str, str]):
        super().__init__("\n".join(f"{file} is not kept: {reason}" for file, reason in refused.items()))
        self.agreements, self.refused = agreements, refused


def reason_of(error: Exception) -> str:
    """Returns what an error says; an unexpected one is named by its type."""
    expected = isinstance(error, (ValueError, ImportError, OSError))
    return str(error) if expected else f"{type(error).__name__}: {error}"


@show_progress()
def write_exports(serving, folder, targets, witness, *, bounds=None, bundle=False):
    """Exports a classifier, and proves each file before it gets its name.

    Writes labels.txt and proof.json beside the files, too.

    Args:
        serving: the `Serving`.
        folder: where the files go; files of the same name are replaced.
        targets: {name: `Target`}.
        witness: the `Witness` of the classifier.
        bounds: {figure of `Agreement`: (least, most)} in place of the targets' own, or to add to them.
        bundle: whether a .zip to test a device with is written for each .tflite file.

    Returns:
        An `Agreement` a target.

    Raises:
        ExportsRefused: if files cannot be made or do not answer like the model. No such file is left, the others are,
            and the message says which target would do.
        ImportError, ValueError: if something is not installed that a target needs; before anything is written.
        OSError: if the folder cannot be written to.
    """
    for target in targets.values():
        target.require()
    folder = pathlib.Path(folder)
    read_proof(folder)  # before anything is written: whether there is one that cannot be read
    refuse_unwritable(folder)
    labels = folder / LABELS
    if labels.exists() and labels.read_bytes() != "".join(f"{name}\n" for name in serving.class_names).encode():
        logger.warning("%s names the classes of another model, whose files in the folder it no longer fits", labels)
    agreements, refused, first = [], {}, None
    for name, target in targets.items():
        logger.info("exports %s", folder / target.file)
        try:
            agreements.append(_kept(serving, folder, name, target, witness, bounds, bundle))
        except Exception as error:  # whatever one file meets, the others are still made
            refused[target.file], first = reason_of(error), first or error
    if refused:
        raise ExportsRefused(agreements, refused) from first
    return agreements


def _kept(serving, folder, name, target, witness, bounds, bundle):
    """Writes a file and proves it, and returns its `Agreement`; raises what is against it, and no file is left."""
    with written_aside(folder / target.file) as aside:
        agreement, runs, wrong = _written(serving, name, target, aside, witness, bounds)
        if wrong:
            raise ValueError(
                f"it does not answer like the model on {agreement.images} images:\n"
                + "\n".join(f"  {words}" for words in wrong)
                + _advice(serving, target, witness, bounds, agreement)
            )
        agreement = dataclasses.replace(agreement, **measured(runs))
        if bundle and aside.suffix == ".tflite":
            write_bundle(folder / f"{pathlib.Path(target.file).stem}.zip", aside, target.file, witness)
        # At once: should a later target fail, this file stays, and so does its proof.
        if serving.class_names:
            write_names(folder / LABELS, serving.class_names)
        write_proof(folder, [agreement])
    return agreement


def refuse_unwritable(folder):
    """Raises an OSError if files cannot be written to a folder, or to where it would be made."""
    place = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "is no folder" if not place.is_dir() else "cannot be written to"
        raise PermissionError(f"Expected a folder to export to. Received: {folder}; {place} {what}. Choose another")


def _written(serving, name, target, path, witness, bounds):
    """Writes a file; returns its `Agreement`, what is run of it, and which bounds it does not keep."""
    changes = dict(target.serves or {})
    if not has_blocks(serving.inner) and "rollout" in changes.get("also", ()):
        changes["also"] = ()  # a BiT has no attention, and that of a nested model is out of reach
    serving = serving.but(**changes) if changes else serving
    target.writer()(serving, path)
    file = open_exported(path)
    logger.info("runs it on %d images as a client does, and compares it with the model", len(witness.pixels))
    references = _references(serving, witness)
    agreement = compare(file, witness, name=target.file, target=name, tie=target.tie, references=references)
    found = {"input_type": serving.input_type, "pixels": serving.pixels.description}
    if file.runs.suffix == ".tflite":
        kinds, refused = operators(file.runs.read_bytes())
        found |= {"operators": kinds, "gpu_refused": refused}
    agreement = dataclasses.replace(agreement, **found)
    return agreement, file.runs, faults(agreement, {**target.bounds, **(bounds or {})})


def _references(serving, witness):
    """Returns what the outputs beside the probabilities should be for the first images, {output: array}."""
    images = preprocess_input(witness.at_model_size(witness.pixels[:REFERENCES]), serving.pixels)
    made = {
        "features": lambda: keras.Model(serving.inner.inputs, features_tensor(serving.inner)).predict_on_batch(images),
        "rollout": lambda: attention_rollout(serving.inner, images),
    }
    return {name: np.asarray(made[name]()) for name in serving.also}


def _advice(serving, target, witness, bounds, agreement):
    """Returns which other target would keep its bounds, by trying; "" where none would."""
    if faults(agreement, {name: limits for name, limits in (bounds or {}).items() if name in BOUNDS}):
        return ""  # a client reads the images otherwise than it should, whatever the file is made of
    while target.otherwise:
        name, runtime = target.otherwise, target.settings.get("runtime")
        target = TARGETS[name].told(runtime=runtime)
        logger.info("tries whether %s keeps its bounds", name)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Exception):  # advice may fail, not the export
            _, _, wrong = _written(serving, name, target, pathlib.Path(folder) / target.file, witness, bounds)
            if not wrong:
                return f"\nOn the same images {name} keeps its bounds: export that."
    return ""
