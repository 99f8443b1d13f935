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
from keras_vit.data.messages import one_line

Prediction = Sequence[tuple[str, float]]  # (class name, probability), or (name of the output, number)


class Style(NamedTuple):
    """How predictions are written.

    Args:
        line: function of the path of an image, its prediction, and whether that is of classes; returns a line.
        heading: function of a prediction, and whether it is of classes; returns the line above all others, or "".
    """

    line: Callable[[str, Prediction, bool], str]
    heading: Callable[[Prediction, bool], str] = lambda prediction, is_classes: ""


def _text(image: str, prediction: Prediction, is_classes: bool) -> str:
    if is_classes:
        shown = [f"{name} {value:.1%}" for name, value in prediction] or ["no label reaches its threshold"]
    else:
        shown = [f"{value:.6g}" if name == "numbers" else f"{name} {value:.6g}" for name, value in prediction]
    return one_line(image) + (f": {', '.join(shown)}" if shown else "")


def _json(image: str, prediction: Prediction, is_classes: bool) -> str:
    values = [(name, float(_digits(value)) if math.isfinite(value) else None) for name, value in prediction]
    classes = [{"class": name, "probability": value} for name, value in values]
    return json.dumps({"image": image, **({"classes": classes} if is_classes else {"numbers": dict(values)})})


def _csv(image: str, prediction: Prediction, is_classes: bool) -> str:
    cells = ((name, _digits(value)) if is_classes else (_digits(value),) for name, value in prediction)
    return _csv_line([image, *(cell for group in cells for cell in group)])


def _csv_heading(prediction: Prediction, is_classes: bool) -> str:
    if not is_classes:
        return _csv_line(["image", *(name for name, _ in prediction)])
    places = range(1, len(prediction) + 1)
    return _csv_line(["image", *(f"{name}_{place}" for place in places for name in ("class", "probability"))])


STYLES = {"text": Style(_text), "json": Style(_json), "csv": Style(_csv, _csv_heading)}


def _digits(value: float) -> str:
    """Returns the fewest digits that are read as the same float32."""
    return str(np.float32(value))


def _csv_line(cells: Sequence[str]) -> str:
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
