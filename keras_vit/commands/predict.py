"""`keras-vit predict`: predicts the classes of image files.

Keras and TensorFlow are imported for a model that needs them alone: a .tflite or .onnx file or an OpenVINO model runs
without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit.commands.image_files import read_batches
from keras_vit.export.targets import EXTRA_OUTPUTS
from keras_vit.runtime.files import is_exported, open_exported

if TYPE_CHECKING:
    from keras_vit.preprocessing import Pixels


def predict(
    model: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    top: int = 5,
    *,
    pixels: str | Pixels | None = None,
    outputs: str | None = None,
    dtype: str | None = None,
) -> list[list[tuple[str, float]]]:
    """Predicts the classes of image files.

    Args:
        model: a .keras file, the folder of a run, a checkpoint, or an exported file, which is run as a client runs it.
        images: paths.
        top: number of classes per image.
        pixels: the pixel values that a Keras model expects, as in `keras_vit.pixels_of`.
        outputs: the kind of the outputs of a Keras model, as in `keras_vit.outputs_of`.
        dtype: the dtype that a Keras model computes in, as in `keras_vit.load`.

    Returns:
        For each image, a list of (class name, probability), the most probable class first. For a model that returns
        numbers, a list of (name of the output, number), with an index in the name of an output of several numbers.

    Raises:
        ValueError: if the model cannot be used, or images cannot be read; one message lists all of these.
    """
    predictor = open_predictor(model, pixels, outputs, dtype)
    return [prediction for _, prediction in iterate_predictions(predictor, images, top)]


def open_predictor(
    model: str | os.PathLike[str],
    pixels: str | Pixels | None = None,
    outputs: str | None = None,
    dtype: str | None = None,
) -> Any:
    """Opens a model or an exported file for predictions.

    Args:
        model: as in `predict`.
        pixels: as in `predict`.
        outputs: as in `predict`.
        dtype: as in `predict`.

    Returns:
        An `ImageModel`, or an exported file as `keras_vit.runtime.files.open_exported` returns it. Both have
        `class_names`, `read(image)` and `predict(images)`.

    Raises:
        ValueError: if it cannot be used, or returns neither classes nor numbers.
    """
    if not is_exported(model):
        from keras_vit.commands.image_model import open_model, require_head

        return require_head(open_model(model, pixels=pixels, outputs=outputs, dtype=dtype))
    if (pixels, outputs, dtype) != (None, None, None):
        raise ValueError(
            f"Expected pixels, outputs and dtype for a Keras model only. Received: model={model}, an exported file, "
            "which has its own"
        )
    return open_exported(model)


def iterate_predictions(
    predictor: Any, images: Sequence[str | os.PathLike[str]], top: int = 5
) -> Iterator[tuple[str | os.PathLike[str], list[tuple[str, float]]]]:
    """Yields (path, prediction) for each image, as in `predict`; only one batch of images is in memory.

    Args:
        predictor: as `open_predictor` returns it.
        images: paths.
        top: number of classes per image.

    Raises:
        ValueError: after the last image, if images cannot be read; one message lists them all.
    """
    for indices, pixels in read_batches(predictor, images):
        arrays = predictor.predict(pixels)
        rows = _top_classes(arrays, predictor.class_names, top) if predictor.class_names else _numbers(arrays)
        yield from zip((images[i] for i in indices), rows)


def _top_classes(
    arrays: Mapping[str, np.ndarray], class_names: Sequence[str], top: int
) -> Iterator[list[tuple[str, float]]]:
    for row in arrays["probabilities"]:
        order = np.argsort(-row, kind="stable")[:top]
        yield [(class_names[i], float(row[i])) for i in order]


def _numbers(arrays: Mapping[str, np.ndarray]) -> Iterator[list[tuple[str, float]]]:
    flat = {name: values.reshape(len(values), -1) for name, values in arrays.items() if name not in EXTRA_OUTPUTS}
    for i in range(len(next(iter(flat.values())))):
        yield [
            (name if len(row) == 1 else f"{name} {k}", float(value))
            for name, row in ((name, values[i]) for name, values in flat.items())
            for k, value in enumerate(row)
        ]
