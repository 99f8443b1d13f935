"""`keras-vit predict`: predicts the classes of image files.

Keras and TensorFlow are imported for a model that needs them alone: a .tflite or .onnx file or an OpenVINO model runs
without.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_vit._progress import log_progress
from keras_vit.commands.feature_file import feature_file
from keras_vit.commands.image_files import image_paths, read_batches, refuse_unread
from keras_vit.commands.prediction_lines import STYLES, PredictedImage
from keras_vit.commands.range_of_run import use_range_beside
from keras_vit.export.targets import EXTRA_OUTPUTS, KNOWN
from keras_vit.runtime.files import is_exported, open_exported

if TYPE_CHECKING:
    from keras_vit.preprocessing import Pixels

    Images = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

logger = logging.getLogger("keras_vit")


class PredictedBatch(NamedTuple):
    """Predictions of a batch of images.

    Args:
        images: paths of those that can be read.
        predictions: of each, the classes with the highest probabilities, or as `predict` returns them.
        rejected: whether each is none of the classes, (images,); None where the model does not know it.
        features: (images, features) float32; None where the model was opened without.
        faults: a line with the name and the reason for each image that cannot be read.
        scores: of all labels, of a model of labels with thresholds; else () for each image.
    """

    images: list[Any]
    predictions: list[list[tuple[str, float]]]
    rejected: np.ndarray | None
    features: np.ndarray | None
    faults: list[str]
    scores: list[Sequence[tuple[str, float]]]


def predict(
    model: str | os.PathLike[str],
    images: Images,
    top: int = 5,
    *,
    pixels: str | Pixels | None = None,
    outputs: str | None = None,
    dtype: str | None = None,
) -> list[list[tuple[str, float]]]:
    """Predicts the classes of image files.

    Args:
        model: a .keras file, the folder of a run, a checkpoint, or an exported file, which is run as a client runs it.
        images: a path, folder, pattern or list, or several, as `keras_vit.commands.image_files.image_paths` reads them.
        top: number of classes per image, of classes that exclude each other.
        pixels: the pixel values that a Keras model expects, as in `keras_vit.pixels_of`.
        outputs: the kind of the outputs of a Keras model, as in `keras_vit.outputs_of`.
        dtype: the dtype that a Keras model computes in, as in `keras_vit.load`.

    Returns:
        For each image, a list of (class name, probability), the most probable class first. For a model that returns
        numbers, a list of (name of the output, number), with an index in the name of an output of several numbers. For
        a model of labels with thresholds, the labels that an image has, with their scores, however many there are. For
        an image that the model rejects as none of its classes, no class.
        `iterate_predictions` yields the paths, too.

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
    *,
    features: bool = False,
) -> Any:
    """Opens a model or an exported file for predictions.

    Args:
        model: as in `predict`.
        pixels: as in `predict`.
        outputs: as in `predict`.
        dtype: as in `predict`.
        features: whether `predict` of what is opened returns the features of the images, too: the input of the head,
            or the output of a Keras model without one.

    Returns:
        An `ImageModel`, or an exported file as `keras_vit.runtime.files.open_exported` returns it. Both have
        `class_names`, `read(image)` and `predict(images)`.

    Raises:
        ValueError: if it cannot be used, or returns neither classes nor numbers, or no features where they are needed.
    """
    if not is_exported(model):
        from keras_vit.commands.image_model import open_model, require_head

        opened = open_model(model, pixels=pixels, outputs=outputs, dtype=dtype)
        return dataclasses.replace(opened, with_features=True) if features else require_head(opened)
    if (pixels, outputs, dtype) != (None, None, None):
        raise ValueError(
            f"Expected pixels, outputs and dtype for a Keras model only. Received: model={model}, an exported file, "
            "which has its own"
        )
    file = open_exported(model)
    use_range_beside(model)
    if features and "features" not in file.outputs:
        raise ValueError(
            f"Expected a model with features. Received: {model}, with the outputs {', '.join(file.outputs)}. Use the "
            "Keras model, or export it with --extra-output features"
        )
    return file


def iterate_predictions(
    predictor: Any, images: Images, top: int = 5
) -> Iterator[tuple[str | os.PathLike[str], list[tuple[str, float]]]]:
    """Yields (path, prediction) for each image, as in `predict`; at most two batches of images are in memory.

    Args:
        predictor: as `open_predictor` returns it.
        images: as in `predict`.
        top: number of classes per image.

    Raises:
        ValueError: after the last image, if images cannot be read; one message lists them all.
    """
    faults: list[str] = []
    for batch in predict_batches(predictor, images, top):
        faults += batch.faults
        rejected = np.zeros(len(batch.images), bool) if batch.rejected is None else batch.rejected
        yield from zip(batch.images, ([] if none else one for one, none in zip(batch.predictions, rejected)))
    refuse_unread(faults)


def predict_batches(predictor: Any, images: Images, top: int = 5) -> Iterator[PredictedBatch]:
    """Yields the predictions of images, batch by batch, in order; at most two batches of images are in memory.

    Args:
        predictor: as `open_predictor` returns it.
        images: as in `predict`.
        top: number of classes per image.
    """
    for batch in read_batches(predictor, image_paths(images)):
        if not batch.images:
            yield PredictedBatch([], [], None, None, batch.faults, [])
            continue
        arrays = predictor.predict(batch.pixels)
        rows = _top_classes(arrays, predictor, top) if predictor.class_names else _numbers(arrays)
        rejected = arrays[KNOWN][:, 0] < 0 if KNOWN in arrays else None
        scores = _scores(arrays, predictor)
        yield PredictedBatch(batch.images, list(rows), rejected, arrays.get("features"), batch.faults, scores)


def write_predictions(
    predictor: Any,
    images: Images,
    write: Callable[[str], object],
    *,
    top: int = 5,
    style: str = "text",
    features: str | os.PathLike[str] | None = None,
) -> tuple[int, int]:
    """Writes a line for each image, in order, and logs a warning for each that cannot be read.

    Args:
        predictor: as `open_predictor` returns it.
        images: as in `predict`.
        write: writes a line.
        top: number of classes per image.
        style: a key of `keras_vit.commands.prediction_lines.STYLES`.
        features: an .npz file for the features, as `keras_vit.commands.feature_file.feature_file` writes it.

    Returns:
        The number of images that were read, and of those that cannot be.

    Raises:
        ValueError: if no image can be read.
    """
    read, unread, is_classes = 0, 0, bool(predictor.class_names)
    line, heading = STYLES[style]
    with feature_file(features) if features else contextlib.nullcontext() as add:
        for batch, paths in log_progress(
            ((batch, batch.images) for batch in predict_batches(predictor, images, top)), "predicted"
        ):
            for fault in batch.faults:
                logger.warning("%s", fault)
            rejected = [None] * len(paths) if batch.rejected is None else batch.rejected.tolist()
            rows = [
                PredictedImage(os.fspath(path), prediction, is_classes, none, scores)
                for path, prediction, none, scores in zip(paths, batch.predictions, rejected, batch.scores)
            ]
            if not read and rows and (text := heading(rows[0])):
                write(text)
            for row in rows:
                write(line(row))
            if add and paths:
                add(paths, batch.features)
            read, unread = read + len(paths), unread + len(batch.faults)
        if not read:
            raise ValueError(f"Expected images. Received: none that can be read, and {unread:,} that cannot")
    return read, unread


def _top_classes(arrays: Mapping[str, np.ndarray], predictor: Any, top: int) -> Iterator[list[tuple[str, float]]]:
    thresholds = np.array(predictor.thresholds)
    for row in arrays["probabilities"]:
        order = np.argsort(-row, kind="stable")
        chosen = order[(row >= thresholds)[order]] if len(thresholds) else order[:top]
        yield [(predictor.class_names[i], float(row[i])) for i in chosen]


def _scores(arrays: Mapping[str, np.ndarray], predictor: Any) -> list[Sequence[tuple[str, float]]]:
    if not (predictor.class_names and len(predictor.thresholds)):
        return [()] * len(next(iter(arrays.values())))
    return [list(zip(predictor.class_names, row)) for row in arrays["probabilities"].tolist()]


def _numbers(arrays: Mapping[str, np.ndarray]) -> Iterator[list[tuple[str, float]]]:
    flat = {name: values.reshape(len(values), -1) for name, values in arrays.items() if name not in EXTRA_OUTPUTS}
    for i in range(len(next(iter(arrays.values())))):
        yield [
            (name if len(row) == 1 else f"{name} {k}", float(value))
            for name, row in ((name, values[i]) for name, values in flat.items())
            for k, value in enumerate(row)
        ]
