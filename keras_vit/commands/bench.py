"""`keras-vit bench`: size, latency, memory and accuracy of exported files, side by side."""

import numpy as np

from keras_vit.commands.examples import examples_for, resize_note, resizes
from keras_vit.data.decoding import read_file
from keras_vit.export.proof import latency_and_memory, read_proof, size_on_disk
from keras_vit.runtime.files import open_exported


def bench(files, data=None):
    """Yields a row of figures an exported file, {heading: words}.

    Args:
        files: paths, of any kind that `keras_vit.runtime.files.open_exported` takes.
        data: images for the accuracy; by default what proof.json beside a file says is taken, where it says it.

    Yields:
        The figures; "note" is a sentence on the accuracy, or "".

    Raises:
        ValueError: if one is no exported file, or the data cannot be used.
    """
    for path, file in [(path, open_exported(path)) for path in files]:  # all are looked at before one is measured
        figures = latency_and_memory(file.model_path)
        accuracy, note = _accuracy_proven(file) if data is None else _accuracy_on(file, data)
        times, memory = figures["latency_ms"], figures["peak_memory"]
        yield {
            "file": str(path),
            "size": f"{size_on_disk(file.path) / 1e6:.2f} MB",
            **{f"{threads} threads": f"{times[threads]:.2f} ms" if threads in times else "" for threads in ("1", "2")},
            "memory": f"{memory / 2**20:.0f} MiB" if memory else "unknown",
            "accuracy": "unknown" if accuracy is None else f"{accuracy:.2%}",
            "note": note,
        }


def _accuracy_on(file, data):
    """Returns a file's accuracy as a client runs it, and a note where the client resizes images."""
    if not file.class_names:
        raise ValueError(f"Expected files of classes for an accuracy. Received: {file.path}, which returns numbers")
    examples, _ = examples_for(file.path, file.class_names, data)
    answers = file.predict_encoded(map(read_file, examples.images))["probabilities"]
    accuracy = float(np.mean(answers.argmax(axis=1) == examples.labels))
    return accuracy, resize_note(file, accuracy) if resizes(file, examples.images) else ""


def _accuracy_proven(file):
    """Returns a file's accuracy by its proof, None without, and a note where a client's resize gives another one."""
    proof = next((item for item in read_proof(file.path.parent) if item["file"] == file.path.name), {})
    accuracy, of_client = proof.get("accuracy"), proof.get("from_encoded", {}).get("accuracy")
    differs = of_client is not None and of_client != accuracy
    return accuracy, resize_note(file, of_client, accuracy) if differs else ""
