"""A run killed (SIGKILL) repeatedly while it writes checkpoints ends with the same weights as one that was not."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).with_name("killed_run.py")
KILLS = 5


def start(folder):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process):
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def whole(folder):
    return list(folder.glob("checkpoints/step_*"))


def half_written(folder, process):
    return list(folder.glob(f"checkpoints/.{process.pid}-*.step_*"))


def kill_in_a_write(folder):
    """Starts the run and kills it in the middle of a write; returns its step, and whether half a checkpoint is left."""
    process = start(folder)
    behind = steps_of(folder)
    while process.poll() is None:
        moved_on = whole(folder) and len(steps_of(folder)) > len(behind) + 2
        if moved_on and half_written(folder, process):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0005 if moved_on else 0.01)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    return len(steps_of(folder)), bool(half_written(folder, process))


def steps_of(folder):
    path = folder / "steps.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return folder, finish(start(folder))


@pytest.mark.soak  # `make test` has a run that receives a signal, and kills in writes of checkpoints and of logs
def test_a_run_killed_in_its_writes_ends_with_the_same_bits(straight, tmp_path):
    expected, rows = straight
    in_writes = 0
    for _ in range(4 * KILLS):  # a write may be over before the kill arrives: such a kill does not count
        _, half = kill_in_a_write(tmp_path)
        in_writes += half
        if in_writes == KILLS:
            break
    assert in_writes == KILLS
    assert finish(start(tmp_path)) == rows
    with np.load(expected / "weights.npz") as ours, np.load(tmp_path / "weights.npz") as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    once = {step: (images, loss) for step, images, loss in steps_of(expected)}
    assert sorted(once) == list(range(60)) and len(steps_of(expected)) == 60
    again = {}
    for step, images, loss in steps_of(tmp_path):
        assert (images, loss) == once[step]  # also where a step was repeated
        again[step] = True
    assert sorted(again) == sorted(once)
    assert [row["step"] for row in rows] == [13, 26, 39, 52, 60]


STOPPED = """
import dataclasses, json, os, pathlib, signal, sys
import keras, numpy as np
sys.path.insert(0, sys.argv[1])
import killed_run
from keras_vit.training.fit import train
from keras_vit.data.sources import open_source

recipe = dataclasses.replace(killed_run.RECIPE, steps=12, steps_per_epoch=5)
source = open_source(recipe.data)

class Stopping(killed_run.run.Run):
    def on_train_batch_end(self, batch, logs=None):
        if self.step in stops:
            stops.remove(self.step)
            os.kill(os.getpid(), signal.SIGTERM)
        super().on_train_batch_end(batch, logs)

def trained(folder):
    sys.modules["keras_vit.training.fit"].Run = Stopping
    while True:
        try:
            model, log = train(recipe, source, pathlib.Path(sys.argv[2], folder))
            return [keras.ops.convert_to_numpy(weight) for weight in model.weights], [row["loss"] for row in log]
        except SystemExit:
            print("stopped", file=sys.stderr)

stops = []
straight, losses = trained("straight")
stops = [2, 4, 7]
stopped, again = trained("stopped")
equal = sum(np.array_equal(one, other) for one, other in zip(straight, stopped, strict=True))
print(json.dumps({"left": stops, "equal": equal, "of": len(straight), "losses": losses == again}))
"""


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
def test_a_run_on_pytorch_that_is_stopped_ends_with_the_same_bits(run_warm, tmp_path):
    """Dropout draws from PyTorch's own generators, which no checkpoint holds."""
    result = run_warm("-c", STOPPED, SCRIPT.parent, tmp_path, KERAS_BACKEND="torch")
    assert result["left"] == [] and result["losses"]
    assert result["equal"] == result["of"] > 20
