"""Run: the Keras callback that logs, saves checkpoints, resumes, and stops early, on a signal or on a bad loss."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_vit import _compat
from keras_vit.data.messages import few
from keras_vit.training.checkpoints import TrainingCheckpoint, TrainingCheckpoints
from keras_vit.training.devices import Devices
from keras_vit.training.display import Display
from keras_vit.training.early_stopping import EarlyStopping
from keras_vit.training.logs import Logs
from keras_vit.training.model import assign_ema
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import Plan
from keras_vit.training.signals import Signals

logger = logging.getLogger("keras_vit")

# Largest fraction of a run's time that is spent on saving checkpoints, which are slow for a large model.
CHECKPOINT_TIME = 0.05
# Sums over an epoch: the weights of the images, the weighted loss and accuracy, and the steps without a weight.
SUMS = ("weight", "loss", "accuracy", "steps_without_weight")


class Run(keras.callbacks.Callback):
    """Keras callback of a run: logs each epoch, saves and restores checkpoints, stops early or on a signal.

    A run may be killed at any moment; it resumes to the same weights as one that was never interrupted.

    Args:
        recipe: the recipe.
        plan: length of the run.
        images_of: function of a step that returns the names of its images.
        checkpoints: the checkpoints to resume from and to add to.
        logs: the training log; None where this process is not the chief.
        devices: the devices; the chief alone writes files.
        signals: the stop signals.
        early_stopping: the early stopping, or None.
        zero_weights: whether images have weight 0: the log then counts the steps without another.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        images_of: Callable[[int], Sequence[str]],
        checkpoints: TrainingCheckpoints,
        logs: Logs | None,
        devices: Devices,
        signals: Signals,
        early_stopping: EarlyStopping | None = None,
        zero_weights: bool = False,
    ) -> None:
        super().__init__()
        self.recipe, self.plan, self.images_of = recipe, plan, images_of
        self.checkpoints, self.logs, self.devices, self.signals = checkpoints, logs, devices, signals
        self.early_stopping, self.zero_weights = early_stopping, zero_weights
        self.step = 0
        self.best: dict[str, float] = {"accuracy": -1.0, "epoch": 0}
        self.finished = False
        self._sums = dict.fromkeys(SUMS, 0.0)  # over the epoch's steps
        self._seconds = 0.0  # of the epoch, before this process
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def restore(self, model: keras.Model) -> None:
        """Resumes from the newest intact checkpoint, if there is one.

        Args:
            model: the trainer, whose weights and optimizer are restored.

        Raises:
            ValueError: if the checkpoint belongs to another model, which stays unchanged; or if workers read different
                checkpoints.
        """
        self.set_model(model)
        log = None
        if checkpoint := self.checkpoints.newest():
            self._load(checkpoint)
            self.step = checkpoint.step
            try:
                self.best, self.finished = checkpoint.notes["best"], checkpoint.notes["finished"]
                self._sums |= checkpoint.notes["sums"]
                self._seconds = checkpoint.notes["seconds"]
                log = checkpoint.notes.get("log")  # missing in those of version 0.1.0
                if self.early_stopping:
                    self.early_stopping.state = checkpoint.notes["early_stopping"]
            except KeyError as error:
                raise ValueError(
                    f"Expected a checkpoint of a run. Received: {checkpoint.path}, whose notes lack {error}. Another "
                    f"version of keras_vit wrote it; remove {self.checkpoints.folder} to start again."
                ) from error
            logger.info("resumes after step %d of %d", self.step, self.plan.steps)
        elif any(self.checkpoints.folder.glob("step_*")):
            logger.warning("no training checkpoint is intact: the run starts again from its beginning")
        if not self.devices.agree(self.step):
            raise ValueError(
                "Expected all workers to read the same checkpoints, in a shared folder. Received: this one resumes "
                f"from step {self.step} in {self.checkpoints.folder}, another from a different step."
            )
        if self.logs:
            # Not history.csv as it is: it lacks rows if a run resumed before from an older checkpoint than this one.
            self.logs.resume(self.step, log)

    def restore_best(self) -> None:
        """Restores the best checkpoint, if the recipe keeps the best weights."""
        best = self.checkpoints.best() if self.recipe.keep == "best" else None
        if best and best.step != self.step:
            self._load(best)
            logger.info("restores the best weights, of epoch %d", self.best["epoch"])

    def _load(self, checkpoint: TrainingCheckpoint) -> None:
        arrays, variables = checkpoint.arrays(), self._variables()
        expected = {name: tuple(variable.shape) for name, variable in variables.items()}
        received = {name: array.shape for name, array in arrays.items()}
        if expected != received:
            raise ValueError(
                f"Expected a checkpoint of this model and optimizer. Received: {checkpoint.path}, of others. Choose "
                f"another folder with --output, or remove {self.checkpoints.folder} to start again."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def _variables(self) -> dict[str, keras.Variable]:
        """Returns all variables that training changes, {number: variable}; Keras' own files omit the random states."""
        # Not by path: the paths of optimizers and random generators depend on what else the process has built.
        groups = {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
        return {
            f"{group}/{i:04d}": variable for group, variables in groups.items() for i, variable in enumerate(variables)
        }

    def on_train_begin(self, logs: Any = None) -> None:
        metric = OBJECTIVES[self.recipe.objective].metric
        self._display = Display(self.plan, self.recipe.batch_size, metric)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check(logs["loss"], logs["gradient_norm"])
        self.step += 1
        self._sums["weight"] += logs["weight"]
        for name in ("loss", "accuracy"):
            self._sums[name] += logs["weight"] * logs[name]
        self._sums["steps_without_weight"] += not logs["weight"]
        self._gradient_norm = logs["gradient_norm"]
        self._display.step(self.step, self._means())
        # At the end of an epoch, `on_epoch_end` saves the checkpoint after the row of the log.
        if self.step % self.plan.steps_per_epoch and self.step != self.plan.steps and self._is_due():
            self._save()
            self._exit_on_signal()

    def on_test_begin(self, logs: Any = None) -> None:
        if self.recipe.ema:
            self._before = assign_ema(self.model)

    def on_test_end(self, logs: Any = None) -> None:
        if self.recipe.ema:
            for weight, value in zip(self.model.trainable_weights, self._before):
                weight.assign(value)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = self._seconds + time.monotonic() - self._epoch_started
        steps = self.step - epoch * self.plan.steps_per_epoch
        row = {
            "epoch": epoch + 1,
            "step": self.step,
            **self._means(),
            **({"steps_without_weight": int(self._sums["steps_without_weight"])} if self.zero_weights else {}),
            "gradient_norm": self._gradient_norm,
            **{name: float(value) for name, value in logs.items() if name.startswith("val_")},
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": seconds,
            "images_per_second": steps * self.recipe.batch_size / seconds,
        }
        self._sums, self._seconds = dict.fromkeys(SUMS, 0.0), 0.0
        self._display.epoch(row)
        if self.logs:
            self.logs.append(row)
        better = row.get("val_accuracy", -1.0) > self.best["accuracy"]
        if better:
            self.best = {"accuracy": row["val_accuracy"], "epoch": epoch + 1}
        if self.early_stopping:
            self.early_stopping.update(row["val_accuracy"], epoch + 1, self.step)
            if self.early_stopping.should_stop(epoch + 1, self.step):
                since = self.early_stopping.state["epoch"]
                logger.info("early stopping: no better validation accuracy since epoch %d", since)
                self.finished = self.model.stop_training = True
        self.finished = self.finished or self.step == self.plan.steps
        keeps_best = better and self.recipe.keep == "best"
        if keeps_best or self.finished or self._is_due():
            self._save(best=keeps_best)
        self._exit_on_signal()

    def _check(self, loss: float, norm: float) -> None:
        """Raises a ValueError if a step's loss is NaN, infinite or too large, or its gradient is not finite."""
        valid = loss <= self.recipe.max_loss and (math.isfinite(norm) or self.recipe.precision == "mixed_float16")
        if valid:
            return
        images = self.images_of(self.step)
        checkpoint = self.checkpoints.newest()
        last = f"{checkpoint.path} (step {checkpoint.step})" if checkpoint else "none yet"
        raise ValueError(
            f"Expected a finite loss of at most max_loss={self.recipe.max_loss:g}, and finite gradients. Received at "
            f"step {self.step + 1} of {self.plan.steps}: loss {loss:g}, gradient norm {norm:g}. "
            "No weight was changed by NaN or infinite values.\n"
            f"  images of the step: {few(images, 20)}\n"
            f"  last checkpoint: {last}\n"
            f"  Try a lower learning_rate (now {self.recipe.learning_rate:g}), more warmup_steps, clip_norm=1 or "
            "precision=float32; check the images. If the loss is large but sound, raise max_loss."
        )

    def _means(self) -> dict[str, float | None]:
        """Returns the means of the epoch so far, None before an image with a weight."""
        weight = self._sums["weight"]
        return {name: self._sums[name] / weight if weight else None for name in ("loss", "accuracy")}

    def _is_due(self) -> bool:
        """Returns whether to save a checkpoint: on a signal, or when enough time has passed."""
        between = self.recipe.checkpoint_seconds and max(
            self.recipe.checkpoint_seconds, self._save_seconds / CHECKPOINT_TIME
        )
        is_time = self.devices.chief and time.monotonic() - self._saved_at >= between
        return bool(self.signals.received) or is_time

    def _save(self, best: bool = False) -> None:
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
            "log": self.logs.text if self.logs else None,
            "seconds": self._seconds + started - self._epoch_started if within else 0.0,
        }
        arrays = {name: ops.convert_to_numpy(variable) for name, variable in self._variables().items()}
        self.checkpoints.save(self.step, arrays, notes, best=best)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def _exit_on_signal(self) -> None:
        if self.signals.received:
            logger.info("stopped after step %d; the same command resumes from there", self.step)
            self.signals.exit()

    def _sync(self) -> None:
        """Updates the variables on JAX, where `fit` does so only at the end of an epoch."""
        _compat.sync_weights(self.model)
