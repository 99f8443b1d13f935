"""Kills a run on the digits repeatedly with SIGKILL at random moments, and compares its result.

python benchmarks/kills.py [kills]

Prints a line per kill: seconds, step, and whether it was during a write. Exits with status 1 unless the
model has the same weights, bit for bit, and the log the same rows as a run that was never killed.
"""

import csv
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np

COMMAND = ["fit", "recipes/digits.py", "epochs=20", "dropout=0.1", "stochastic_depth=0.1", "mixup=0.2", "ema=0.99"]
COMMAND += ["accumulation=2", "checkpoint_seconds=0.5", "exports=", "--output"]
CHECKPOINTS = "checkpoints"


def start(folder):
    program = [str(pathlib.Path(sys.executable).with_name("keras-vit")), *COMMAND, str(folder)]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def newest_step(folder):
    names = [re.fullmatch(r"step_(\d+)(_\d+)?", path.name) for path in (folder / CHECKPOINTS).glob("step_*")]
    return max((int(name[1]) for name in names), default=0)


def kill(folder, most):
    """Kills the run at a random moment after it has saved a new checkpoint, and returns a line of text on it."""
    before, began, process = newest_step(folder), time.monotonic(), start(folder)
    while process.poll() is None and newest_step(folder) == before:
        time.sleep(0.01)
    time.sleep(random.uniform(0, most))
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    is_writing = bool(list((folder / CHECKPOINTS).glob(f".{process.pid}.step_*")))
    where = "in a write" if is_writing else "between writes"
    return f"{time.monotonic() - began:5.1f} s after its start, step {newest_step(folder):4d} saved, {where}"


def outcome(folder):
    model = keras.saving.load_model(folder / "model.keras")
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    timed = ("seconds", "images_per_second")
    rows = [{name: value for name, value in row.items() if name not in timed} for row in rows]
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights], rows


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = pathlib.Path(folder, "straight"), pathlib.Path(folder, "killed")
        began = time.monotonic()
        start(straight).wait()
        print(f"a run that is not killed: {time.monotonic() - began:.0f} s", flush=True)
        done = 0
        while done < kills and (line := kill(killed, most=4.0)):
            done += 1
            print(f"kill {done:2d}: {line}", flush=True)
        start(killed).wait()
        (weights, rows), (others, other_rows) = outcome(straight), outcome(killed)
    same = all(np.array_equal(one, other) for one, other in zip(weights, others, strict=True))
    print(f"after {done} kills: weights {'bit-identical' if same else 'DIFFER'}, log of {len(rows)} rows", end=" ")
    print("the same" if rows == other_rows else "DIFFERS")
    sys.exit(0 if same and rows == other_rows and done == kills else 1)


if __name__ == "__main__":
    main()
