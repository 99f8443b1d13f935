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
        line: function of the path of an image, its prediction, whether that is of classes, and whether the image is
            rejected as none of these, None where that is unknown; returns a line.
        heading: function of a prediction, whether it is of classes, and whether the image is rejected; returns the line
            above all others, or "".
    """

    line: Callable[[str, Prediction, bool, bool | None], str]
    heading: Callable[[Prediction, bool, bool | None], str] = lambda prediction, is_classes, rejected: ""


def _text(image: str, prediction: Prediction, is_classes: bool, rejected: bool | None) -> str:
    if is_classes:
        shown = [f"{name} {value:.1%}" for name, value in prediction] or ["no label reaches its threshold"]
        shown = [f"none of these ({', '.join(shown)})"] if rejected else shown
    else:
        shown = [f"{value:.6g}" if name == "numbers" else f"{name} {value:.6g}" for name, value in prediction]
    return one_line(image) + (f": {', '.join(shown)}" if shown else "")


def _json(image: str, prediction: Prediction, is_classes: bool, rejected: bool | None) -> str:
    values = [(name, float(_digits(value)) if math.isfinite(value) else None) for name, value in prediction]
    classes = [{"class": name, "probability": value} for name, value in values]
    found = {"classes": classes} if is_classes else {"numbers": dict(values)}
    return json.dumps({"image": image, **found, **({} if rejected is None else {"none_of_these": rejected})})


def _csv(image: str, prediction: Prediction, is_classes: bool, rejected: bool | None) -> str:
    cells = ((name, _digits(value)) if is_classes else (_digits(value),) for name, value in prediction)
    last = [] if rejected is None else [str(rejected).lower()]
    return _csv_line([image, *(cell for group in cells for cell in group), *last])


def _csv_heading(prediction: Prediction, is_classes: bool, rejected: bool | None) -> str:
    if not is_classes:
        return _csv_line(["image", *(name for name, _ in prediction)])
    places = range(1, len(prediction) + 1)
    last = [] if rejected is None else ["none_of_these"]
    return _csv_line(["image", *(f"{name}_{place}" for place in places for name in ("class", "probability")), *last])


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
