"""`keras-vit bench`: size, latency, memory and accuracy of exported files, side by side."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_vit.commands.examples import evaluation_examples, needs_resize, resize_note
from keras_vit.data.decoding import read_for_clients
from keras_vit.export.proof import latency_and_memory, read_proof, size_on_disk
from keras_vit.runtime.files import open_exported


def bench(
    files: Sequence[str | os.PathLike[str]], data: str | os.PathLike[str] | None = None
) -> Iterator[dict[str, str]]:
    """Measures exported files and yields a row for each, and one more for bfloat16 where its runtime can compute in it.

    Args:
        files: paths of exported files, as in `keras_vit.runtime.files.open_exported`.
        data: images for the accuracy; by default, the accuracy is read from proof.json in the folder of a file, if
            there is one.

    Yields:
        {heading: text}: "file", "size" (MB), "1 threads" and "2 threads" (latency, ms), "memory" (peak, MiB),
        "accuracy", and "note", a sentence on the accuracy or "".

    Raises:
        ValueError: if a file is not an exported file, or the data cannot be used.
    """
    opened = [(path, open_exported(path)) for path in files]  # all files before it measures one
    for path, file, precision in [(*pair, precision) for pair in opened for precision in pair[1].precisions]:
        figures = latency_and_memory(file.model_path, precision)
        if data is None:
            accuracy, note = _accuracy_in_proof(file, precision)
        else:
            accuracy, note = _measure_accuracy(open_exported(path, precision=precision), data)
        times, memory = figures["latency_ms"], figures["peak_memory"]
        yield {
            "file": f"{path}{', bfloat16' if precision == 'bfloat16' else ''}",
            "size": f"{size_on_disk(file.path) / 1e6:.2f} MB",
            **{f"{threads} threads": f"{times[threads]:.2f} ms" if threads in times else "" for threads in ("1", "2")},
            "memory": f"{memory / 2**20:.0f} MiB" if memory else "unknown",
            "accuracy": "unknown" if accuracy is None else f"{accuracy:.2%}",
            "note": note,
        }


def _measure_accuracy(file: Any, data: str | os.PathLike[str]) -> tuple[float, str]:
    """Returns the accuracy of a file, run as a client runs it, and a note if the client resizes images."""
    if not file.class_names or file.thresholds:
        kind = "several labels an image" if file.thresholds else "numbers"
        raise ValueError(f"Expected classifiers for an accuracy. Received: {file.path}, which returns {kind}")
    examples, _ = evaluation_examples(file.path, file.class_names, data, channels=file.channels)
    encoded = [read_for_clients(image, file.channels) for image in examples.images]
    probabilities = file.predict_encoded(encoded)["probabilities"]
    accuracy = float(np.mean(probabilities.argmax(axis=1) == examples.labels))
    return accuracy, resize_note(file, accuracy) if needs_resize(file, examples.images) else ""


def _accuracy_in_proof(file: Any, precision: str) -> tuple[float | None, str]:
    """Returns the accuracy of a file in proof.json, or None, and a note if the client's resize changes it."""
    proof: dict[str, Any] = next((item for item in read_proof(file.path.parent) if item["file"] == file.path.name), {})
    if proof.get("labels"):
        return None, ""  # an F1 is no accuracy
    if precision == "bfloat16":
        return proof.get("bfloat16", {}).get("accuracy"), ""
    accuracy, client_accuracy = proof.get("accuracy"), proof.get("from_encoded", {}).get("accuracy")
    if client_accuracy is None or client_accuracy == accuracy:
        return accuracy, ""
    return accuracy, resize_note(file, client_accuracy, accuracy)
