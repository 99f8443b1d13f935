"""Writes exported files, runs each again, and keeps it only if it answers like the model."""

import dataclasses
import logging
import pathlib
import time

import numpy as np

from keras_vit.atomic import written_aside
from keras_vit.export.targets import TARGETS, with_pixels
from keras_vit.preprocessing import pixels_of, preprocess_input

logger = logging.getLogger("keras_vit")

BATCH = 64  # pictures that the model answers at once


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Holds how an exported file answers next to the Keras model, on the same pictures.

    Args:
        file: its name.
        bytes: its size; of all files together for a folder.
        pictures: how many pictures both answered.
        largest_difference: between any two outputs; probabilities, or numbers of the model's scale.
        top1_agreement: part of the pictures whose first class is the same.
        top1_or_tie: the same, but a class that the model gives as much as its first, up to the target's `tie`, counts.
        accuracy: of the file; None where the classes are not known.
        milliseconds: a picture, on this machine: one at a time for TFLite with 2 threads, in batches of 64 for a
            SavedModel.
    """

    file: str
    bytes: int
    pictures: int
    largest_difference: float
    top1_agreement: float
    top1_or_tie: float
    accuracy: float | None
    milliseconds: float


def export(model, folder, targets, pixels, *, labels=None, takes="uint8"):
    """Exports a classifier, and proves each file before it gets its name.

    Args:
        model: a Keras model, preprocessed pictures (batch, rows, columns, channels) -> (batch, classes).
        folder: where the files go; files of the same name are replaced.
        targets: names out of `TARGETS`.
        pixels: (pictures, rows, columns, channels) uint8 to compare on.
        labels: (pictures,) their classes, or None.
        takes: what the files take, out of `INPUTS`.

    Returns:
        An `Agreement` a target.

    Raises:
        ValueError: if a target is unknown or a file does not answer like the model; no such file is left.
    """
    check_targets(targets)
    folder = pathlib.Path(folder)
    contract = pixels_of(model)
    batches = (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
    expected = np.concatenate([model.predict_on_batch(preprocess_input(batch, contract)) for batch in batches])
    serving = with_pixels(model, takes)
    entries = preprocess_input(pixels, contract) if takes == "scaled" else pixels.astype(takes, copy=False)
    agreements = []
    for name in targets:
        target = TARGETS[name]
        logger.info("exports %s", folder / target.file)
        with written_aside(folder / target.file) as aside:
            target.write(serving, aside)
            agreement = _compare(target, aside, entries, expected, labels)
            _refuse_if_different(agreement, target.bounds)
        agreements.append(agreement)
    return agreements


def check_targets(targets):
    """Raises ValueError if a name is not out of `TARGETS`."""
    unknown = [name for name in targets if name not in TARGETS]
    if unknown:
        raise ValueError(f"Expected exports out of {', '.join(TARGETS)}. Received: {', '.join(unknown)}")


def _compare(target, path, entries, expected, labels):
    started = time.perf_counter()
    outputs = target.run(path, entries)
    seconds = time.perf_counter() - started
    chosen = outputs.argmax(axis=1)
    behind = expected.max(axis=1) - np.take_along_axis(expected, chosen[:, None], axis=1)[:, 0]
    return Agreement(
        file=target.file,
        bytes=sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()),
        pictures=len(entries),
        largest_difference=float(np.abs(outputs - expected).max()),
        top1_agreement=float((chosen == expected.argmax(axis=1)).mean()),
        top1_or_tie=float((behind <= target.tie).mean()),
        accuracy=None if labels is None else float((chosen == labels).mean()),
        milliseconds=1000 * seconds / len(entries),
    )


def _refuse_if_different(agreement, bounds):
    faults = [
        f"  {name} is {value:g}, expected {least:g} to {most:g}"
        for name, (least, most) in bounds.items()
        if not least <= (value := getattr(agreement, name)) <= most  # a NaN is refused too
    ]
    if faults:
        raise ValueError(
            f"{agreement.file} does not answer like the model on {agreement.pictures} pictures and is not kept:\n"
            + "\n".join(faults)
        )
