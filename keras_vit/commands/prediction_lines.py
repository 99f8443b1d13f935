"""Predictions as lines of text, as JSON lines and as CSV."""

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_vit._atomic import written_aside
from keras_vit.data.csv_table import BETWEEN_LABELS
from keras_vit.data.messages import one_line

Prediction = Sequence[tuple[str, float]]  # (class name, probability), or (name of the output, number)


class PredictedImage(NamedTuple):
    """What a model predicts for an image.

    Args:
        image: its path.
        prediction: the classes, labels or numbers to write.
        is_classes: whether these are classes or labels.
        rejected: whether the image is none of the classes; None where that is unknown.
        scores: of all labels, in the order of the outputs, of a model of several labels an image; else ().
    """

    image: str
    prediction: Prediction
    is_classes: bool
    rejected: bool | None = None
    scores: Prediction = ()


class Style(NamedTuple):
    """How predictions are written.

    Args:
        line: function of what is predicted for an image, that returns a line.
        heading: function of the same, that returns the line above all others, or "".
    """

    line: Callable[[PredictedImage], str]
    heading: Callable[[PredictedImage], str] = lambda predicted: ""


def _text(predicted: PredictedImage) -> str:
    image, prediction, is_classes, rejected, _ = predicted
    if is_classes:
        shown = [f"{name} {value:.1%}" for name, value in prediction] or ["no label reaches its threshold"]
        shown = [f"none of these ({', '.join(shown)})"] if rejected else shown
    else:
        shown = [f"{value:.6g}" if name == "numbers" else f"{name} {value:.6g}" for name, value in prediction]
    return one_line(image) + (f": {', '.join(shown)}" if shown else "")


def _json(predicted: PredictedImage) -> str:
    image, prediction, is_classes, rejected, _ = predicted
    values = [(name, float(digits(value)) if math.isfinite(value) else None) for name, value in prediction]
    classes = [{"class": name, "probability": value} for name, value in values]
    found = {"classes": classes} if is_classes else {"numbers": dict(values)}
    return json.dumps({"image": image, **found, **({} if rejected is None else {"none_of_these": rejected})})


def _csv(predicted: PredictedImage) -> str:
    return csv_line([cell for _, cell in _cells(predicted)])


def _csv_heading(predicted: PredictedImage) -> str:
    return csv_line([name for name, _ in _cells(predicted)])


def _cells(predicted: PredictedImage) -> Iterator[tuple[str, str]]:
    """Yields (column, cell); every image of a model has the same columns."""
    image, prediction, is_classes, rejected, scores = predicted
    yield "image", image
    if scores:
        yield "labels", BETWEEN_LABELS.join(name for name, _ in prediction)
        yield from ((f"score_{name}", digits(value)) for name, value in scores)
    elif is_classes:
        for place, (name, value) in enumerate(prediction, 1):
            yield f"class_{place}", name
            yield f"probability_{place}", digits(value)
    else:
        yield from ((name, digits(value)) for name, value in prediction)
    if rejected is not None:
        yield "none_of_these", str(rejected).lower()


STYLES = {"text": Style(_text), "json": Style(_json), "csv": Style(_csv, _csv_heading)}


def digits(value: float) -> str:
    """Returns the fewest digits that are read as the same float32."""
    return str(np.float32(value))


def csv_line(cells: Sequence[str]) -> str:
    """Returns a row of a CSV table, without its line break."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().removesuffix("\r\n")


@contextlib.contextmanager
def lines_to(path: str | os.PathLike[str] | None, echo: Callable[[str], object]) -> Iterator[Callable[[str], object]]:
    """Yields a function that writes a line to a file, which appears at the end of the block; `echo` without a path."""
    if path is None:
        yield echo
        return
    with (
        written_aside(path) as aside,
        open(aside, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        yield lambda line: file.write(f"{line}\n")
