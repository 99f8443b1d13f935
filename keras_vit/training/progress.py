"""What happens between two epochs: a line for the user, a checkpoint for the next try."""

import logging
import math
import pathlib
import time

import keras
import numpy as np
from keras import ops

from keras_vit.atomic import written_aside

logger = logging.getLogger("keras_vit")

# Seconds between two checkpoints: a cut-off run repeats no more than this and an epoch.
CHECKPOINT_EVERY = 30.0


class Progress(keras.callbacks.Callback):
    """Says how a run goes, and saves what it takes to go on with it.

    A checkpoint is one .npz file, written aside and renamed: weights, optimizer, the state of the random generators,
    and the history.

    Args:
        path: the checkpoint.
        epochs: epochs of the whole run.
        pictures: pictures an epoch.
    """

    def __init__(self, path, epochs, pictures):
        super().__init__()
        self.path = pathlib.Path(path)
        self.epochs, self.pictures = epochs, pictures
        self.history = []

    def restore(self, model):
        """Sets the model to its checkpoint, if there is one, and returns the number of epochs it has behind it.

        Raises:
            ValueError: if the checkpoint is unreadable or of another model; the model is unchanged then.
        """
        if not self.path.exists():
            return 0
        variables = _variables(model)
        try:
            with open(self.path, "rb") as torn_or_not, np.load(torn_or_not, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception as error:  # a torn file fails in zipfile, zlib or NumPy, each with errors of its own
            raise ValueError(f"The checkpoint {self.path} cannot be read; remove it to start again: {error}") from error
        columns = {
            name.removeprefix("history/"): arrays.pop(name) for name in list(arrays) if name.startswith("history/")
        }
        expected = {name: tuple(variable.shape) for name, variable in variables.items()}
        received = {name: array.shape for name, array in arrays.items()}
        if expected != received:
            raise ValueError(f"The checkpoint {self.path} is of another model; remove it to start again.")
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self.history = [dict(zip(columns, row)) for row in zip(*(column.tolist() for column in columns.values()))]
        logger.info("goes on after epoch %d of %d", len(self.history), self.epochs)
        return len(self.history)

    def on_train_begin(self, logs=None):
        self._saved = time.monotonic()
        self._first = len(self.history)
        self._started = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.monotonic() - self._epoch_started
        if not math.isfinite(logs["loss"]):
            raise ValueError(
                f"The loss is {logs['loss']} in epoch {epoch + 1}: the run is stopped, its last checkpoint stands. "
                "A lower learning_rate, a longer warmup_epochs or clip_norm=1 may help."
            )
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.history.append({"epoch": epoch + 1, **logs, "learning_rate": rate, "seconds": seconds})
        self._say(logs, seconds)
        if time.monotonic() - self._saved > CHECKPOINT_EVERY or epoch + 1 == self.epochs:
            self._save()
            self._saved = time.monotonic()

    def _say(self, logs, seconds):
        done = len(self.history)
        left = (time.monotonic() - self._started) / (done - self._first) * (self.epochs - done)
        validated = f", validation {logs['val_accuracy']:.1%}" if "val_accuracy" in logs else ""
        logger.info(
            f"epoch {done:{len(str(self.epochs))}d}/{self.epochs}: loss {logs['loss']:.4f}, "
            f"accuracy {logs['accuracy']:.1%}{validated}, {self.pictures / seconds:.0f} images/s, "
            f"{left // 60:.0f} min {left % 60:02.0f} s left"
        )

    def _save(self):
        columns = {f"history/{name}": np.array([row[name] for row in self.history]) for name in self.history[0]}
        arrays = {name: ops.convert_to_numpy(value) for name, value in _variables(self.model).items()}
        with written_aside(self.path) as aside:
            np.savez(aside, **arrays, **columns)


def _variables(model):
    """Returns everything that changes in training, {number: variable}; Keras' own files leave out the random states."""
    # Not by their paths: those of optimizers and random generators count what else a process has made.
    return {f"{i:04d}": variable for i, variable in enumerate([*model.variables, *model.optimizer.variables])}
