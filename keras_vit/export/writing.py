"""Writes exported files, and keeps only those that agree with the model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit._atomic import locked, written_aside
from keras_vit._progress import show_progress
from keras_vit.analysis.attention import attention_rollout
from keras_vit.export.proof import (
    BOUNDS,
    Agreement,
    Reference,
    compare,
    figures_in_bfloat16,
    figures_in_float16,
    latency_and_memory,
    read_proof,
    violations,
    write_proof,
)
from keras_vit.export.serving import Serving, features_tensor, has_attention
from keras_vit.export.targets import TARGETS, Bounds, Target
from keras_vit.export.tflite.metadata import LABELS
from keras_vit.models.class_names import write_names
from keras_vit.preprocessing import preprocess_input
from keras_vit.runtime.exported import ExportedFile
from keras_vit.runtime.files import open_exported

logger = logging.getLogger("keras_vit")

EXTRA_OUTPUT_IMAGES = 16  # images on which features and rollout are compared


class ExportsRefused(ValueError):
    """Raised if files of an export are not kept, with the reasons; the other files are written.

    Args:
        agreements: an `Agreement` for each file that is kept.
        refused: {file: reason} of the others.
    """

    exit_status = 3  # of a command that ends in it

    def __init__(self, agreements: list[Agreement], refused: dict[str, str]):
        super().__init__("\n".join(f"{file} is not kept: {reason}" for file, reason in refused.items()))
        self.agreements, self.refused = agreements, refused


def reason_of(error: Exception) -> str:
    """Returns an error's message, with the type of an unexpected one in front."""
    expected = isinstance(error, (ValueError, ImportError, OSError))
    return str(error) if expected else f"{type(error).__name__}: {error}"


@show_progress()
def write_exports(
    serving: Serving,
    folder: str | os.PathLike[str],
    targets: Mapping[str, Target],
    reference: Reference,
    *,
    bounds: Bounds | None = None,
    bundle: bool = False,
) -> list[Agreement]:
    """Writes a file for each target, compares it with the model, and keeps it if it agrees.

    Writes labels.txt and proof.json to the same folder.

    Args:
        serving: the model.
        folder: for the files; files of the same name are replaced.
        targets: {name: `Target`}.
        reference: the model's outputs on the proof images.
        bounds: {figure of `Agreement`: (least, most)} that replace those of the targets, or add to them.
        bundle: whether to write the .zip for an app and a device of each target that has one.

    Returns:
        An `Agreement` for each target.

    Raises:
        ExportsRefused: if files cannot be written or do not agree with the model. They are removed, the others stay,
            and the message names a target that agrees, if one does.
        OSError: if the folder cannot be written to.
        ValueError: if another process writes to it.
    """
    folder = pathlib.Path(folder)
    read_proof(folder)  # raises if an older one cannot be read, before anything is written
    check_writable(folder)
    with locked(folder):
        return _write_all(serving, folder, targets, reference, bounds, bundle)


def _write_all(
    serving: Serving,
    folder: pathlib.Path,
    targets: Mapping[str, Target],
    reference: Reference,
    bounds: Bounds | None,
    bundle: bool,
) -> list[Agreement]:
    labels = folder / LABELS
    if labels.exists() and labels.read_bytes() != "".join(f"{name}\n" for name in serving.class_names).encode():
        logger.warning("%s names the classes of another model; it no longer fits that model's files there", labels)
    agreements, refused, first_error = [], {}, None
    for name, target in targets.items():
        logger.info("exports %s", folder / target.file)
        try:
            agreements.append(_write_and_keep(serving, folder, name, target, reference, bounds, bundle))
        except Exception as error:  # the other files are still written
            refused[target.file], first_error = reason_of(error), first_error or error
    if refused:
        raise ExportsRefused(agreements, refused) from first_error
    return agreements


def _write_and_keep(
    serving: Serving,
    folder: pathlib.Path,
    name: str,
    target: Target,
    reference: Reference,
    bounds: Bounds | None,
    bundle: bool,
) -> Agreement:
    """Writes a file and returns its `Agreement`; if it does not agree, raises an error and leaves no file."""
    with written_aside(folder / target.file) as aside:
        agreement, file, violated = _write_and_compare(serving, name, target, aside, reference, bounds)
        if violated:
            raise ValueError(
                f"it does not agree with the model on {counted(agreement.images, 'image')}:\n"
                + "\n".join(f"  {violation}" for violation in violated)
                + _advice(serving, target, reference, bounds, agreement)
            )
        agreement = dataclasses.replace(
            agreement,
            **latency_and_memory(file.model_path),
            bfloat16=figures_in_bfloat16(file, reference, target.tie),
        )
        if bundle:
            target.write_bundle(folder / f"{pathlib.Path(target.file).stem}.zip", aside, target.file, reference)
        # At once: if a later target fails, this file stays, and so does its entry in proof.json.
        if serving.class_names:
            write_names(folder / LABELS, serving.class_names)
        write_proof(folder, [agreement])
    return agreement


def check_writable(folder: pathlib.Path) -> None:
    """Raises an OSError if files cannot be written to a folder, or if the folder cannot be created."""
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = "is not a folder" if not existing.is_dir() else "cannot be written to"
        raise PermissionError(
            f"Expected a folder to export to. Received: {folder}; {existing} {problem}. Choose another folder"
        )


def _write_and_compare(
    serving: Serving, name: str, target: Target, path: pathlib.Path, reference: Reference, bounds: Bounds | None
) -> tuple[Agreement, ExportedFile, list[str]]:
    """Writes a file; returns its `Agreement`, the file opened, and the bounds that it violates."""
    overrides = dict(target.overrides)
    if not has_attention(serving.inner) and "rollout" in overrides.get("extra_outputs", ()):
        overrides["extra_outputs"] = ()  # a BiT has no attention, and that of a nested model is out of reach
    serving = serving.with_changes(**overrides) if overrides else serving
    target.write(serving, path)
    file = open_exported(path)
    logger.info(
        "runs it on %s as a client does, and compares it with the model", counted(len(reference.pixels), "image")
    )
    agreement = compare(
        file,
        reference,
        name=target.file,
        target=name,
        tie=target.tie,
        client_resize=target.client_resize,
        extra_outputs=_expected_extra_outputs(serving, reference),
    )
    operators, unsupported = target.operators_of(file.model_path)
    agreement = dataclasses.replace(
        agreement,
        input_type=serving.input_type,
        channels=serving.channels,
        pixels=serving.pixels.description,
        operators=operators,
        lint=unsupported,
    )
    if target.in_half_precision:
        agreement = dataclasses.replace(agreement, float16=figures_in_float16(file, reference, target.tie))
    violated = violations(agreement, {**target.bounds, **(bounds or {})})
    if target.delegate:
        violated += [f"{target.delegate}: {problem}" for problem in unsupported[target.delegate]]
    return agreement, file, violated


def _expected_extra_outputs(serving: Serving, reference: Reference) -> dict[str, Any]:
    """Returns the model's features and rollout for the first images, {output: array}."""
    images = preprocess_input(reference.at_model_size(reference.pixels[:EXTRA_OUTPUT_IMAGES]), serving.pixels)
    functions: dict[str, Callable[[], Any]] = {
        "features": lambda: keras.Model(serving.inner.inputs, features_tensor(serving.inner)).predict_on_batch(images),
        "rollout": lambda: attention_rollout(serving.inner, images),
    }
    return {name: np.asarray(functions[name]()) for name in serving.extra_outputs if name in functions}


def _advice(serving: Serving, target: Target, reference: Reference, bounds: Bounds | None, agreement: Agreement) -> str:
    """Tries the fallbacks of a target, and returns a sentence that names the first that agrees; "" if none does."""
    if violations(agreement, {name: limits for name, limits in (bounds or {}).items() if name in BOUNDS}):
        return ""  # the client reads the images in another way, whatever the file
    while target.fallback:
        name, runtime = target.fallback, target.settings.get("runtime")
        target = TARGETS[name].with_settings(runtime=runtime).for_delegate(target.delegate)
        logger.info("tries whether %s keeps its bounds", name)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Exception):  # the advice may fail
            path = pathlib.Path(folder) / target.file
            _, _, violated = _write_and_compare(serving, name, target, path, reference, bounds)
            if not violated:
                return f"\nOn the same images {name} keeps its bounds: export that."
    return ""
