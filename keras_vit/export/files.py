"""Writes exported files, and keeps only those that are proven to answer like the model."""

import dataclasses
import logging
import os
import pathlib
import tempfile

import keras
import numpy as np

from keras_vit.analysis.attention import attention_rollout
from keras_vit.atomic import written_aside
from keras_vit.class_names import write_names
from keras_vit.client.files import open_file
from keras_vit.client.operators import operators
from keras_vit.export.bundle import write_bundle
from keras_vit.export.metadata import LABELS
from keras_vit.export.proof import check, faults, measured, read_proof, write_proof
from keras_vit.export.serving import features_tensor, has_blocks
from keras_vit.export.targets import TARGETS
from keras_vit.preprocessing import preprocess_input

logger = logging.getLogger("keras_vit")

REFERENCES = 16  # pictures on which the outputs beside the probabilities are compared


def export(serving, folder, targets, witness, *, bounds=None, bundle=False):
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
        ValueError: if the model cannot be exported so, or a file does not answer like the model; no such file is left,
            and the message says which target would do.
        OSError: if the folder cannot be written to.
    """
    folder = pathlib.Path(folder)
    read_proof(folder)  # before anything is written: whether there is one that cannot be read
    refuse_unwritable(folder)
    agreements = []
    for name, target in targets.items():
        logger.info("exports %s", folder / target.file)
        with written_aside(folder / target.file) as aside:
            agreement, runs, wrong = _written(serving, name, target, aside, witness, bounds)
            if wrong:
                raise ValueError(
                    f"{target.file} does not answer like the model on {agreement.pictures} pictures and is not kept:\n"
                    + "\n".join(f"  {words}" for words in wrong)
                    + _advice(serving, target, witness, bounds)
                )
            agreements.append(dataclasses.replace(agreement, **measured(runs)))
            if bundle and aside.suffix == ".tflite":
                write_bundle(folder / f"{pathlib.Path(target.file).stem}.zip", aside, target.file, witness)
        # At once: should a later target fail, this file stays, and so does its proof.
        if serving.class_names:
            write_names(folder / LABELS, serving.class_names)
        write_proof(folder, agreements)
    return agreements


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
    file = open_file(path)
    references = _references(serving, witness)
    agreement = check(file, witness, name=target.file, target=name, tie=target.tie, references=references)
    found = {"takes": serving.takes, "pixels": serving.pixels.words}
    if file.runs.suffix == ".tflite":
        kinds, refused = operators(file.runs.read_bytes())
        found |= {"operators": kinds, "gpu_refused": refused}
    agreement = dataclasses.replace(agreement, **found)
    return agreement, file.runs, faults(agreement, {**target.bounds, **(bounds or {})})


def _references(serving, witness):
    """Returns what the outputs beside the probabilities should be for the first pictures, {output: array}."""
    images = preprocess_input(witness.at_model_size(witness.pixels[:REFERENCES]), serving.pixels)
    made = {
        "features": lambda: keras.Model(serving.inner.inputs, features_tensor(serving.inner)).predict_on_batch(images),
        "rollout": lambda: attention_rollout(serving.inner, images),
    }
    return {name: np.asarray(made[name]()) for name in serving.also}


def _advice(serving, target, witness, bounds):
    """Returns which other target would keep its bounds, by trying; "" where there is none to try."""
    while target.otherwise:
        name, runtime = target.otherwise, target.settings.get("runtime")
        target = TARGETS[name].told(runtime=runtime)
        with tempfile.TemporaryDirectory() as folder:
            _, _, wrong = _written(serving, name, target, pathlib.Path(folder) / target.file, witness, bounds)
        if not wrong:
            return f"\nOn the same pictures {name} keeps its bounds: export that."
    return ""
