"""Training logs: history.csv and TensorBoard, without gaps or repeated rows when a run is killed and resumes."""

import csv
import io
import logging
import math
import numbers
import os
import pathlib
from collections.abc import Mapping, Sequence

import tensorflow as tf

from keras_vit._atomic import named_errors, write_text

logger = logging.getLogger("keras_vit")

HISTORY, EVENTS = "history.csv", "tensorboard"

# Makes TensorBoard draw a curve, like tf.summary.scalar, which needs the tensorboard package.
_SCALAR = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR")


class Logs:
    """Training log of one run: history.csv, a row for each epoch, and the same numbers for TensorBoard.

    TensorBoard's file is written anew from history.csv whenever a run resumes. A run appends the row of a step before
    it saves the checkpoint of that step, with the text of the log in it. It calls `resume` with the step and the text
    of the checkpoint that it resumes from, which removes the later rows; the run will append them again.

    One process writes.

    Args:
        folder: folder of the run; the first row makes it.
        tensorboard: whether to write TensorBoard event files, to its folder tensorboard/.
    """

    def __init__(self, folder: str | os.PathLike[str], tensorboard: bool = True) -> None:
        self.path = pathlib.Path(folder) / HISTORY
        self.events = pathlib.Path(folder) / EVENTS if tensorboard else None
        self._columns: tuple[str, ...] | None = None  # None until `resume`, () until there is a row
        self._last: float = -1
        self._writer: tf.summary.SummaryWriter | None = None

    def rows(self) -> list[dict[str, float]]:
        """Reads the complete rows.

        Returns:
            {column: int or float} of each row, without its missing values.

        Raises:
            ValueError: if the file is not a training log.
        """
        return _parsed(self.text, self.path)[1]

    def append(self, values: Mapping[str, float | None]) -> None:
        """Appends a row; it is on the disk when this returns.

        Args:
            values: {"step": number of steps done, "epoch": ..., column: number, or None for an empty cell}. The first
                row sets the columns; a later one may omit some.

        Raises:
            ValueError: if a value is not a number, a column is unknown, or the step is not after the last one.
            OSError: if the disk is full or not writable; the file stays as it is.
        """
        if self._columns is None:
            self.resume(math.inf)
        columns = self._columns or tuple(values)
        values = _plain({name: value for name, value in values.items() if value is not None})
        if unknown := [name for name in values if name not in columns]:
            raise ValueError(f"Expected the columns of {self.path}, {', '.join(columns)}. Received: unknown {unknown}")
        if values["step"] <= self._last:
            raise ValueError(
                f"Expected a step after {self._last}, the last in {self.path}. Received: step={values['step']}. "
                "Call resume before a run continues."
            )
        with named_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _append_text(self.path, _line(columns, values) if self._columns else _text(columns, [values]))
        self._columns, self._last = columns, values["step"]
        self._write_events([values])

    @property
    def text(self) -> str:
        """The content of history.csv, or "" without a row."""
        return self.path.read_text("utf-8-sig", errors="replace") if self.path.exists() else ""

    def resume(self, step: float, text: str | None = None) -> None:
        """Removes the rows after a step, and writes TensorBoard's file anew from the others.

        Args:
            step: number of steps done.
            text: the content that history.csv had after this step; by default, the one that it has.

        Raises:
            ValueError: if the file is not a training log; nothing is changed then.
            OSError: if the disk is full or not writable; history.csv stays as it is.
        """
        columns, rows = _parsed(self.text if text is None else text, self.path)
        kept = [row for row in rows if row["step"] <= step]
        with named_errors(self.path):
            if kept:
                write_text(self.path, _text(columns, kept))
            else:
                self.path.unlink(missing_ok=True)
        self._columns = columns if kept else ()
        self._last = kept[-1]["step"] if kept else -1
        self.close()
        if self.events:
            with named_errors(self.events):
                for old in self.events.glob("*.tfevents.*"):
                    old.unlink()
        self._write_events(kept)

    def close(self) -> None:
        """Closes TensorBoard's file; the next row opens another."""
        writer, self._writer = self._writer, None
        if writer and self.events:
            with named_errors(self.events):
                writer.close()

    def _write_events(self, rows: Sequence[Mapping[str, float]]) -> None:
        if not (self.events and rows):
            return
        with named_errors(self.events):
            self._writer = self._writer or tf.summary.create_file_writer(str(self.events))
            with self._writer.as_default():
                for row in rows:
                    for name, value in row.items():
                        if name != "step":
                            tf.summary.write(name, tf.constant(value, tf.float32), row["step"], metadata=_SCALAR)
            self._writer.flush()


def _plain(values: Mapping[str, float]) -> dict[str, float]:
    """Returns a row's numbers as Python's int and float."""
    faults = {name: value for name, value in values.items() if not isinstance(value, numbers.Real)}
    if faults or not isinstance(values.get("step"), numbers.Integral):
        raise ValueError(f"Expected numbers, and a step that is an integer. Received: {faults or values}")
    return {name: int(value) if isinstance(value, numbers.Integral) else float(value) for name, value in values.items()}


def _parsed(text: str, path: pathlib.Path) -> tuple[tuple[str, ...], list[dict[str, float]]]:
    """Returns the columns and the rows of the text of a training log."""
    lines = text.split("\n")[:-1]  # a killed process may leave half a line at the end
    if not lines:
        return (), []
    try:
        columns = tuple(next(csv.reader(lines[:1], strict=True), ()))
    except csv.Error:
        columns = ()
    if "step" not in columns:
        raise ValueError(
            f"Expected {path} to be a training log. Received: columns={str(columns)[:300]}, without 'step'. Move "
            "it away."
        )
    rows = []
    for i, line in enumerate(lines[1:], 2):
        row = _numbers(columns, line.split(","))
        if row is None or not isinstance(row.get("step"), int):
            logger.warning("%s: line %d is not a row of the log and is skipped", path, i)
        else:
            rows.append(row)
    return columns, rows


def _numbers(columns: tuple[str, ...], fields: list[str]) -> dict[str, float] | None:
    """Returns a row, or None if the fields are not one."""
    if len(fields) != len(columns):
        return None
    try:
        return {name: _number(field) for name, field in zip(columns, fields) if field}
    except ValueError:
        return None


def _number(text: str) -> float:
    try:
        number = int(text)
    except ValueError:
        return float(text)
    if abs(number) >= 2**63:
        raise ValueError(f"Expected a number of 64 bits. Received: {text[:50]}")
    return number


def _text(columns: tuple[str, ...], rows: Sequence[Mapping[str, float]]) -> str:
    head = io.StringIO()
    csv.writer(head, lineterminator="\n").writerow(columns)
    return head.getvalue() + "".join(_line(columns, row) for row in rows)


def _line(columns: tuple[str, ...], row: Mapping[str, float]) -> str:
    return ",".join(repr(row[name]) if name in row else "" for name in columns) + "\n"


def _append_text(path: pathlib.Path, text: str) -> None:
    """Appends text to a file, on the disk at once; restores the file if the disk is full."""
    rest = text.encode()
    with open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise
