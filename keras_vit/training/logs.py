"""Keeps the log of a run, without gaps or doubles however often it is killed and goes on."""

import contextlib
import csv
import errno
import io
import logging
import math
import numbers
import os
import pathlib

import tensorflow as tf

from keras_vit._atomic import written_aside

logger = logging.getLogger("keras_vit")

HISTORY, EVENTS = "history.csv", "tensorboard"

# What makes TensorBoard draw a curve; tf.summary.scalar would say the same, but needs the tensorboard package.
_SCALAR = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR")


class Logs:
    """The log of one run: history.csv, a row at a time, and the same numbers for TensorBoard.

    history.csv is the truth, and TensorBoard's file is made from it anew whenever a run goes on. A run that saves its
    state writes the row of a step before the state, and calls `resume` with the step of the state it goes on from: then
    the later rows are dropped, and come again.

    One process writes.

    Args:
        folder: the run's folder; made by the first row.
        tensorboard: whether to write event files, to the folder tensorboard/ in it.
    """

    def __init__(self, folder, tensorboard=True):
        self.path = pathlib.Path(folder) / HISTORY
        self.events = pathlib.Path(folder) / EVENTS if tensorboard else None
        self._columns = None  # None until the files are known to be whole, () until there is a row
        self._last = -1
        self._writer = None

    def rows(self):
        """Returns the rows that were written whole, as dicts of int and float; a missing value has no key.

        Raises:
            ValueError: if the file is no history.
        """
        return _read(self.path)[1]

    def row(self, values):
        """Writes a row; it is on the disk when this returns.

        Args:
            values: {"step": steps done, "epoch": ..., name: number}. The first row says which columns there are; a
                later one may leave some out.

        Raises:
            ValueError: if a value is no number, a name is none of the columns, or the step is not after the last one.
            OSError: if the disk does not take it; the file is as it was.
        """
        if self._columns is None:
            self.resume(math.inf)
        values = _plain(values)
        columns = self._columns or tuple(values)
        if unknown := [name for name in values if name not in columns]:
            raise ValueError(f"Expected the columns of {self.path}, {', '.join(columns)}. Received also: {unknown}")
        if values["step"] <= self._last:
            raise ValueError(
                f"Expected a step after {self._last}, the last in {self.path}. Received: step={values['step']}. "
                "A run that goes on calls resume first."
            )
        with _named(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _append(self.path, _line(columns, values) if self._columns else _text(columns, [values]))
        self._columns, self._last = columns, values["step"]
        self._draw([values])

    def resume(self, step):
        """Drops the rows after a step, and makes TensorBoard's file anew of those that stay.

        Raises:
            ValueError: if the file is no history; nothing is changed then.
            OSError: if the disk does not take it; history.csv is as it was.
        """
        columns, rows = _read(self.path)
        kept = [row for row in rows if row["step"] <= step]
        with _named(self.path):
            if kept:
                with written_aside(self.path) as aside, open(aside, "w", encoding="utf-8") as file:
                    file.write(_text(columns, kept))
                    file.flush()
                    os.fsync(file.fileno())
            else:
                self.path.unlink(missing_ok=True)
        self._columns = columns if kept else ()
        self._last = kept[-1]["step"] if kept else -1
        self.close()
        if self.events:
            with _named(self.events):
                for old in self.events.glob("*.tfevents.*"):
                    old.unlink()
        self._draw(kept)

    def close(self):
        """Closes TensorBoard's file; a row opens the next one."""
        writer, self._writer = self._writer, None
        if writer:
            with _named(self.events):
                writer.close()

    def _draw(self, rows):
        if not (self.events and rows):
            return
        with _named(self.events):
            self._writer = self._writer or tf.summary.create_file_writer(str(self.events))
            with self._writer.as_default():
                for row in rows:
                    for name, value in row.items():
                        if name != "step":
                            tf.summary.write(name, tf.constant(value, tf.float32), row["step"], metadata=_SCALAR)
            self._writer.flush()


def _plain(values):
    """Returns a row's numbers as Python's own."""
    faults = {name: value for name, value in values.items() if not isinstance(value, numbers.Real)}
    if faults or not isinstance(values.get("step"), numbers.Integral):
        raise ValueError(f"Expected numbers, the step among them, a whole one. Received: {faults or values}")
    return {name: int(value) if isinstance(value, numbers.Integral) else float(value) for name, value in values.items()}


def _read(path):
    """Returns the columns of a history and its rows; () and [] where there is none."""
    # What follows the last line end was torn off by a kill.
    lines = path.read_text("utf-8-sig", errors="replace").split("\n")[:-1] if path.exists() else []
    if not lines:
        return (), []
    columns = tuple(next(csv.reader(lines[:1])))
    if "step" not in columns:
        raise ValueError(f"Expected {path} to be a run's history. Received a file without a column step; move it away.")
    rows = []
    for i, line in enumerate(lines[1:], 2):
        row = _numbers(columns, line.split(","))
        if row is None or "step" not in row:
            logger.warning("%s: line %d is no row and is left out", path, i)
        else:
            rows.append(row)
    return columns, rows


def _numbers(columns, fields):
    """Returns a row, or None if the fields are none."""
    if len(fields) != len(columns):
        return None
    try:
        return {name: _number(field) for name, field in zip(columns, fields) if field}
    except ValueError:
        return None


def _number(text):
    try:
        return int(text)
    except ValueError:
        return float(text)


def _text(columns, rows):
    head = io.StringIO()
    csv.writer(head, lineterminator="\n").writerow(columns)
    return head.getvalue() + "".join(_line(columns, row) for row in rows)


def _line(columns, row):
    return ",".join(repr(row[name]) if name in row else "" for name in columns) + "\n"


def _append(path, text):
    """Adds to a file, on the disk at once, and leaves it as it was if there is no room."""
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


@contextlib.contextmanager
def _named(path):
    """Says of an error of the disk which file it met and what to do."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        full = isinstance(error, tf.errors.ResourceExhaustedError)
        code = error.errno if isinstance(error, OSError) else errno.ENOSPC if full else errno.EIO
        raise OSError(
            code,
            f"{path} could not be written: {os.strerror(code)}. Make room there or make it writable, and give the same "
            "command again.",
        ) from error
