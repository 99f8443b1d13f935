"""`keras-vit predict`: the classes of images."""

import numpy as np

from keras_vit.commands.classifier import open_model, predictor, read_batches
from keras_vit.export.targets import EXTRA_OUTPUTS
from keras_vit.runtime.files import is_exported, open_exported


def predict(model, images, top=5, *, pixels=None, outputs=None):
    """Names what is on images.

    Args:
        model: a .keras file, a run's folder, a checkpoint, or an exported file, which is run as a client does.
        images: paths.
        top: classes an image.
        pixels, outputs: as of `keras_vit.commands.classifier.open_model`.

    Returns:
        A list an image of (class name, probability), the best first; of (name of the output, number) where the model
        returns numbers, with the place in it where an output has several.

    Raises:
        ValueError: if the model cannot be used, or images cannot be read; all of them in one message.
    """
    return [found for _, found in predictions(open_subject(model, pixels, outputs), images, top)]


def open_subject(model, pixels=None, outputs=None):
    """Opens what predicts: an exported file, or a Keras model as `keras_vit.commands.classifier.open_model` does.

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
    return open_exported(model)


def predictions(subject, images, top=5):
    """Yields (path, list) of what `predict` returns, image by image; no more than a batch is in memory.

    Args:
        subject: as `open_subject` returns it.
        images, top: as of `predict`.

    Raises:
        ValueError: at the end, if images cannot be read; all of them in one message.
    """
    for numbers, pixels in read_batches(subject, images):
        found = subject.predict(pixels)
        rows = _classes(subject, found, top) if subject.class_names else _numbers(subject, found)
        yield from zip((images[i] for i in numbers), rows)


def _classes(subject, found, top):
    for row in found["probabilities"]:
        order = np.argsort(-row, kind="stable")[:top]
        yield [(subject.class_names[i], float(row[i])) for i in order]


def _numbers(subject, found):
    arrays = {name: values.reshape(len(values), -1) for name, values in found.items() if name not in EXTRA_OUTPUTS}
    for i in range(len(next(iter(arrays.values())))):
        yield [
            (name if len(row) == 1 else f"{name} {k}", float(value))
            for name, row in ((name, values[i]) for name, values in arrays.items())
            for k, value in enumerate(row)
        ]
