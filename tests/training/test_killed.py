"""A run killed (SIGKILL) repeatedly while it writes checkpoints ends with the same weights as one that was not."""

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
