"""What happens between two steps: rows for the log, states to go on from, and the end where something goes wrong."""

import logging
import math
import time

import keras
from keras import ops

from keras_vit import _compat
from keras_vit.training.display import Display
from keras_vit.training.model import with_means
from keras_vit.training.objectives import OBJECTIVES

logger = logging.getLogger("keras_vit")

# The part of a run's time that goes into checkpoints at most, where a large model takes long to write.
CHECKPOINT_SHARE = 0.05
# What is summed up over an epoch: the weights of the images, and, by these, loss and right answers.
SUMS = ("weight", "loss", "accuracy")


class Run(keras.callbacks.Callback):
    """Keeps a run's books, so that it can be killed at any moment and go on as if nothing had been.

    Args:
        recipe: the `Recipe`.
        plan: its `Plan`.
        images_of: function from a step to the names of its images.
        checkpoints: the `TrainingCheckpoints` to go on from and to add to.
        logs: the `Logs`.
        devices: the `Devices`; the chief alone writes.
        signals: the `Signals` to heed.
        early_stopping: the `EarlyStopping`, or None.
    """

    def __init__(self, recipe, plan, images_of, checkpoints, logs, devices, signals, early_stopping=None):
        super().__init__()
        self.recipe, self.plan, self.images_of = recipe, plan, images_of
        self.checkpoints, self.logs, self.devices, self.signals = checkpoints, logs, devices, signals
        self.early_stopping = early_stopping
        self.step = 0
        self.best = {"accuracy": -1.0, "epoch": 0}
        self.finished = False
        self._sums = dict.fromkeys(SUMS, 0.0)  # over the epoch's steps
        self._seconds = 0.0  # of the epoch, before this process
        self._saved_at, self._saving_takes = time.monotonic(), 0.0

    def restore(self, model):
        """Sets a model to the newest whole checkpoint, if there is one.

        Raises:
            ValueError: if it is of another model, the model is unchanged then; or if workers do not see the same.
        """
        self.set_model(model)
        if checkpoint := self.checkpoints.newest():
            self._take(checkpoint)
            self.step = checkpoint.step
            self.best, self.finished = checkpoint.notes["best"], checkpoint.notes["finished"]
            self._sums, self._seconds = checkpoint.notes["sums"], checkpoint.notes["seconds"]
            if self.early_stopping:
                self.early_stopping.state = checkpoint.notes["early_stopping"]
            logger.info("goes on after step %d of %d", self.step, self.plan.steps)
        if not self.devices.agree(self.step):
            raise ValueError(
                "Expected all workers to see the same checkpoints, in a shared folder. Received: this one goes on "
                f"from step {self.step} in {self.checkpoints.folder}, another from elsewhere."
            )
        if self.devices.chief:
            self.logs.resume(self.step)

    def take_best(self):
        """Sets the model to the best checkpoint, where that is what the run is to keep."""
        best = self.checkpoints.best() if self.recipe.keep == "best" else None
        if best and best.step != self.step:
            self._take(best)
            logger.info("takes the weights of epoch %d, the best", self.best["epoch"])

    def _take(self, checkpoint):
        arrays, variables = checkpoint.arrays(), self._variables()
        expected = {name: tuple(variable.shape) for name, variable in variables.items()}
        received = {name: array.shape for name, array in arrays.items()}
        if expected != received:
            raise ValueError(
                f"{checkpoint.path} is of another model or optimizer; choose another folder with --output, or remove "
                f"{self.checkpoints.folder} to start again."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def _variables(self):
        """Returns all that changes in training, {number: variable}; Keras' own files leave out the random states."""
        # Not by their paths: those of optimizers and random generators count what else a process has made.
        groups = {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
        return {f"{group}/{i:04d}": variable for group, some in groups.items() for i, variable in enumerate(some)}

    def on_train_begin(self, logs=None):
        share = OBJECTIVES[self.recipe.objective].share
        self._display = Display(self.plan, self.recipe.batch_size, share)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs["loss"], logs["gradient_norm"])
        self.step += 1
        self._sums["weight"] += logs["weight"]
        for name in ("loss", "accuracy"):
            self._sums[name] += logs["weight"] * logs[name]
        self._gradient_norm = logs["gradient_norm"]
        self._display.step(self.step, self._means())
        # At an epoch's end, its row comes first.
        if self.step % self.plan.steps_per_epoch and self.step != self.plan.steps and self._wanted():
            self._save()
            self._leave_if_asked()

    def on_test_begin(self, logs=None):
        if self.recipe.ema:
            self._before = with_means(self.model, self._optimizer())

    def on_test_end(self, logs=None):
        if self.recipe.ema:
            for weight, value in zip(self.model.trainable_weights, self._before):
                weight.assign(value)

    def on_epoch_end(self, epoch, logs=None):
        seconds = self._seconds + time.monotonic() - self._epoch_started
        steps = self.step - epoch * self.plan.steps_per_epoch
        row = {
            "epoch": epoch + 1,
            "step": self.step,
            **self._means(),
            "gradient_norm": self._gradient_norm,
            **{name: float(value) for name, value in logs.items() if name.startswith("val_")},
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": seconds,
            "images_per_second": steps * self.recipe.batch_size / seconds,
        }
        self._sums, self._seconds = dict.fromkeys(SUMS, 0.0), 0.0
        self._display.epoch(row)
        if self.devices.chief:
            self.logs.row(row)
        better = row.get("val_accuracy", -1.0) > self.best["accuracy"]
        if better:
            self.best = {"accuracy": row["val_accuracy"], "epoch": epoch + 1}
        if self.early_stopping:
            self.early_stopping.see(row["val_accuracy"], epoch + 1, self.step)
            if self.early_stopping.is_over(epoch + 1, self.step):
                since = self.early_stopping.state["epoch"]
                logger.info("validation accuracy no better than after epoch %d: the run ends here", since)
                self.finished = self.model.stop_training = True
        self.finished = self.finished or self.step == self.plan.steps
        keeps_best = better and self.recipe.keep == "best"
        if keeps_best or self.finished or self._wanted():
            self._save(best=keeps_best)
        self._leave_if_asked()

    def _check(self, loss, norm):
        """Raises a ValueError if a step's loss or gradient went wrong; the step is not counted then."""
        fine = loss <= self.recipe.max_loss and (math.isfinite(norm) or self.recipe.precision == "mixed_float16")
        if fine:
            return
        images = self.images_of(self.step)
        checkpoint = self.checkpoints.newest()
        stands = f"{checkpoint.path} (step {checkpoint.step})" if checkpoint else "none was written yet"
        raise ValueError(
            f"The run is stopped at step {self.step + 1} of {self.plan.steps}: loss {loss:g}, gradient norm {norm:g}. "
            "No weight was changed by a value that is not finite.\n"
            f"  images of the step: {', '.join(images)}\n"
            f"  last good checkpoint: {stands}\n"
            f"  what to try: a lower learning_rate (now {self.recipe.learning_rate:g}), longer warmup_steps, "
            "clip_norm=1; precision=float32; look at the images. A loss that is merely large: raise max_loss."
        )

    def _means(self):
        return {name: self._sums[name] / self._sums["weight"] for name in ("loss", "accuracy")}

    def _wanted(self):
        return self.signals.received or self._due()

    def _due(self):
        between = self.recipe.checkpoint_seconds and max(
            self.recipe.checkpoint_seconds, self._saving_takes / CHECKPOINT_SHARE
        )
        return self.devices.chief and time.monotonic() - self._saved_at >= between

    def _save(self, best=False):
        if not self.devices.chief:
            return
        self._sync()
        started = time.monotonic()
        within = self.step % self.plan.steps_per_epoch
        notes = {
            "best": self.best,
            "early_stopping": self.early_stopping and self.early_stopping.state,
            "finished": self.finished,
            "sums": self._sums,
            "seconds": self._seconds + started - self._epoch_started if within else 0.0,
        }
        arrays = {name: ops.convert_to_numpy(variable) for name, variable in self._variables().items()}
        self.checkpoints.save(self.step, arrays, notes, best=best)
        self._saved_at = time.monotonic()
        self._saving_takes = self._saved_at - started

    def _leave_if_asked(self):
        if self.signals.received:
            logger.info("stopped after step %d; the same command goes on from there", self.step)
            self.signals.leave()

    def _sync(self):
        """Brings the variables up to date on JAX, where a step leaves them behind."""
        _compat.sync_weights(self.model)

    def _optimizer(self):
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
