"""Compares the speed of a run with that of its bare training step: python benchmarks/training.py [COMPARISON...]

The bare step is that of the trainer, called in a plain loop on a batch in memory: a ViT-S/16 at 224 x 224
pixels, AdamW, on two cores. Three comparisons, all of them by default:
  path       a recipe in `fit`, from JPEGs with RandAugment and mixup to the log and checkpoints, without
             validation, takes less than 3 % longer than the bare step;
  precision  mixed_bfloat16 is at least 1.6 times as fast as float32, if the CPU has instructions for it;
  workers    two processes of one thread each reach at least 0.9 of the speed of one process of two threads, on the same
             global batch; also one process with two logical devices, without a target.

Exits with status 1 and prints the reason if a target is missed, a process fails, or the machine was busy.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import socket
import statistics
import sys
import tempfile
import time

import interleave
import keras
import numpy as np
import pipeline
import tensorflow as tf

from keras_vit.data.sources import open_source
from keras_vit.training import fit, model
from keras_vit.training.devices import devices_of
from keras_vit.training.recipe import Recipe
from keras_vit.training.run import Run
from keras_vit.training.schedules import plan_of

VARIANT, IMAGE_SIZE, CLASSES, IMAGES = "ViT-S/16", 224, 8, 64
BATCH, PATH_BATCH = 16, 8  # images per step; fewer on the path, for many steps between two checkpoints
BARE_STEPS = 10  # between two turns of the path
BARE, PATH, ONE, TWO, MIRRORED = "bare step", "recipe path", "one process", "two workers", "mirrored"
MOST_OVER, LEAST_BFLOAT16, LEAST_WORKERS = 0.03, 1.6, 0.9


def recipe_of(data, batch_size, **settings):
    """Returns a recipe with more steps than are ever run."""
    return Recipe(
        data, VARIANT, IMAGE_SIZE, steps=100_000, batch_size=batch_size, learning_rate=1e-5, warmup_epochs=0, **settings
    )


def in_memory(recipe, parts=(0, 1, 1)):
    """Returns a dataset that repeats one batch, or a part of it, in the form of `training_batches`."""
    rng, rows = np.random.default_rng(0), recipe.batch_size // parts[2]
    images = rng.uniform(-1, 1, (rows, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(rows) % CLASSES]
    options = tf.data.Options()
    options.autotune.enabled = False  # with it, the end of an iterator can take up to a minute
    return tf.data.Dataset.from_tensors((images, targets, np.ones(rows, np.float32))).repeat().with_options(options)


def bare_step(trained, batches):
    """Returns a function that runs one training step on the next batch."""
    trained.make_train_function()
    return lambda: keras.ops.convert_to_numpy(trained.train_function(batches)["loss"])


class Timer:
    """Measures seconds and the number of processor cores used."""

    def __init__(self):
        self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def read(self):
        seconds = time.perf_counter() - self.began
        return seconds, (time.process_time() - self.cpu_began) / seconds


class Turns(Run):
    """A `Run` that times bare steps after each checkpoint, on the same model in the same process.

    A turn of the path is from one checkpoint to the next.

    Args:
        count: number of turns, without the first, which includes tracing.
        turns: list to append them to, dicts of {name: number}.
        recipe, *others: of `Run`.
    """

    class Over(Exception):
        """Ends the run after the last turn."""

    def __init__(self, count, turns, recipe, *others):
        super().__init__(recipe, *others)
        self.count, self.turns = count, turns
        self.batches = iter(in_memory(recipe))
        self._begin_turn()

    def _begin_turn(self):
        self.timer, self.first_step, self.spent = Timer(), self.step, collections.Counter()
        self._saved_at = time.monotonic()  # the bare steps do not count towards the next checkpoint

    def on_train_batch_begin(self, batch, logs=None):
        if "checkpoints" in self.spent:
            turn = self._end_turn()
            if self.first_step:
                self.turns.append(turn)
            if len(self.turns) == self.count:
                raise self.Over
            self._begin_turn()

    def _end_turn(self):
        path_seconds, path_cores = self.timer.read()
        steps = self.step - self.first_step
        step = bare_step(self.model, self.batches)
        step()  # meanwhile the pipeline fills its buffers, then it is idle
        timer = Timer()
        for _ in range(BARE_STEPS):
            step()
        bare_seconds, bare_cores = timer.read()
        return {
            "seconds": {BARE: bare_seconds / BARE_STEPS, PATH: path_seconds / steps},
            "cores": {BARE: bare_cores, PATH: path_cores},
            "spent": {what: seconds / steps for what, seconds in self.spent.items()},
        }

    @contextlib.contextmanager
    def _spending(self, what):
        timer = Timer()
        yield
        self.spent[what] += timer.read()[0]

    def on_train_batch_end(self, batch, logs=None):
        with self._spending("callback"):
            super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        with self._spending("callback"):
            super().on_epoch_end(epoch, logs)

    def _save(self, best=False):
        with self._spending("checkpoints"):
            super()._save(best)


def work_on_path(count):
    """Runs a recipe with turns of bare steps, and reports all turns."""
    turns = []
    fit.Run = functools.partial(Turns, count, turns)
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(Turns.Over):
        folder = pathlib.Path(name)
        pipeline.write_images(folder / "images", 500, IMAGES, CLASSES)
        recipe = recipe_of(
            str(folder / "images"),
            PATH_BATCH,
            steps_per_epoch=25,  # about one line of the log per checkpoint
            crop="inception",
            flip=True,
            randaugment=(2, 15),
            mixup=0.2,
        )
        fit.train(recipe, open_source(recipe.data, validation=0.0, test=0.0), folder / "run")
    interleave.serve(lambda: None, turns=turns)


def work_on_steps(strategy="one", precision="float32", addresses=(), index=0):
    """Serves bare steps, as one of several workers if there are addresses."""
    if addresses:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        os.environ["TF_CONFIG"] = json.dumps(task)
    if strategy == "mirrored":
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    devices, recipe = devices_of(strategy), recipe_of("synthetic", BATCH, precision=precision)
    with devices.scope(), model.dtype_policy(recipe):
        trained = model.compiled_trainer(
            recipe, plan_of(recipe, 1), model.new_model(recipe, [str(i) for i in range(CLASSES)])
        )
        batches = iter(devices.distribute(functools.partial(in_memory, recipe)))
        interleave.serve(bare_step(trained, batches))


def stepper(**settings):
    return interleave.Worker(__file__, "--steps", json.dumps(settings))


class Together:
    """Workers that run steps at the same time: the seconds of the slowest, the cores of all."""

    def __init__(self, count):
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
            addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
        self.pool = concurrent.futures.ThreadPoolExecutor(count)
        start = functools.partial(stepper, strategy="multiworker", addresses=addresses)
        self.workers = list(self.pool.map(lambda index: start(index=index), range(count)))

    def step(self):
        seconds, cores = zip(*self.pool.map(interleave.Worker.step, self.workers))
        return max(seconds), sum(cores)

    def close(self):
        list(self.pool.map(interleave.Worker.close, self.workers))


def compare_path(count):
    """Returns a line for each target that is missed, like the other comparisons."""
    worker = interleave.Worker(__file__, "--path", str(count))
    worker.close()
    seconds, cores, spent = (
        {what: [turn[key][what] for turn in worker.facts["turns"]] for what in worker.facts["turns"][0][key]}
        for key in ("seconds", "cores", "spent")
    )
    interleave.print_table(f"path, {VARIANT}", seconds, PATH, PATH_BATCH)

    def share(values):
        return statistics.median(value / bare for value, bare in zip(values, seconds[BARE]))

    over, callback, checkpoints = share(seconds[PATH]) - 1, share(spent["callback"]), share(spent["checkpoints"])
    print(
        f"longer than the bare step: {over:.2%}, of which checkpoints {checkpoints:.2%}, the rest of the callback "
        f"{callback - checkpoints:.2%}, pipeline and Keras' loop {over - callback:.2%}"
    )
    missed = [f"the path takes {over:.2%} longer than the bare step; the target is less than {MOST_OVER:.0%}"] * (
        over >= MOST_OVER
    )
    return missed + busy(cores)


def compare_precision(count):
    workers = {name: lambda name=name: stepper(precision=name) for name in ("mixed_bfloat16", "float32")}
    seconds, cores = take_turns("precision", workers, "mixed_bfloat16", count)
    ratio = interleave.ratio(*seconds.values())
    if not has_bfloat16():
        print("no target: this CPU has no instructions for bfloat16")
    elif ratio < LEAST_BFLOAT16:
        return [f"mixed_bfloat16 is {ratio:.3f} times as fast as float32, below {LEAST_BFLOAT16}"] + busy(cores)
    return busy({"float32": cores["float32"]})


def compare_workers(count):
    workers = {TWO: lambda: Together(2), ONE: stepper, MIRRORED: lambda: stepper(strategy="mirrored")}
    seconds, cores = take_turns("workers", workers, TWO, count)
    ratio = interleave.ratio(seconds[TWO], seconds[ONE])
    missed = [f"two workers reach {ratio:.3f} of one process, below {LEAST_WORKERS}"] * (ratio < LEAST_WORKERS)
    return missed + busy({ONE: cores[ONE]})


COMPARISONS = {"path": compare_path, "precision": compare_precision, "workers": compare_workers}


def take_turns(title, makers, ours, count):
    """Starts workers, prints their speeds, and returns {name: seconds of each round} and {name: cores}."""
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(contextlib.closing(make())) for name, make in makers.items()}
        seconds, cores = interleave.rounds(workers, count)
    interleave.print_table(f"{title}, {VARIANT}", seconds, ours, BATCH)
    print("cores: " + ", ".join(f"{name} {statistics.median(values):.2f}" for name, values in cores.items()))
    return seconds, cores


def busy(cores):
    return [reason for reason in [interleave.busy(cores)] if reason]


def has_bfloat16():
    information = pathlib.Path("/proc/cpuinfo")
    flags = set(information.read_text().split()) if information.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", nargs="*", metavar="COMPARISON", help=", ".join(COMPARISONS))
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    parser.add_argument("--path", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.path:
        return work_on_path(arguments.path)
    if arguments.steps is not None:
        return work_on_steps(**arguments.steps)
    if unknown := [name for name in arguments.comparisons if name not in COMPARISONS]:
        parser.error(f"unknown comparison: {', '.join(unknown)}")
    reasons = []
    for name in arguments.comparisons or COMPARISONS:
        print(f"\nload before {name}: {os.getloadavg()[0]:.2f}", flush=True)
        try:
            reasons += [f"{name}: {reason}" for reason in COMPARISONS[name](arguments.rounds)]
        except RuntimeError as error:
            reasons.append(f"{name} does not run:\n{error}")
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "All targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
