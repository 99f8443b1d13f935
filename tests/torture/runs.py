"""Kills, stops and starves a small real `keras-vit fit`, and damages its training checkpoints.

A case takes one run, with exports and report, through several kills, or one damage or full disk; then the same command
ends it, and all that is in its folder is compared with a run that nothing befell.

Each start is a fork of a process that has imported all modules, but in which no backend has computed anything yet.
RUNS_BACKEND="jax torch" leaves TensorFlow out, RUNS_KIND=kill, both, stop, damage or full the other kinds.
"""

import contextlib
import csv
import gzip
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import h5py
import numpy as np
from outcome import LONGEST_MESSAGE, Outcome

SHARE = 0.28
HANG = 1800  # seconds; a case is a run of many starts
SLOWEST = 900.0
KILLS = 10  # of one run, at most
ROOM = 3_000_000  # bytes; a run needs about 2 MB
INSTALLED = ["tensorflow", "jax", *(["torch"] if importlib.util.find_spec("torch") else [])]
BACKENDS = os.environ.get("RUNS_BACKEND", " ".join(INSTALLED)).split()
KINDS = os.environ.get("RUNS_KIND", "kill both damage both full both kill both stop").split()
RECIPE = """
from keras_vit.models.config import Variant
from keras_vit.training import Recipe

RECIPE = Recipe(
    data="digits",
    variant=Variant(patch_size=4, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=24),
    image_size=8,
    steps=24,
    steps_per_epoch=8,
    batch_size=64,
    accumulation=2,
    dropout=0.1,
    stochastic_depth=0.1,
    ema=0.9,
    mixup=0.2,
    rotate=10.0,
    checkpoint_seconds=0.0,
    exports={exports!r},
)
"""
# TFLite files need the TensorFlow backend.
EXPORTS = {"tensorflow": ("tflite-float32",), "jax": ("savedmodel",), "torch": ()}

SERVER = """
import json, os, select, sys, time

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import keras_vit_command
from keras_vit.commands import cli

work = cli._import_with_keras("commands.fit")
import jax, sklearn.datasets
from keras_vit.commands import recipes
from keras_vit.export import targets
from keras_vit.training import quick, run

# Measuring a file takes a process that imports TensorFlow, seconds each time; its figures differ from run to run.
sys.modules["keras_vit.export.writing"].latency_and_memory = lambda path: {
    "latency_ms": {"1 thread": 1.0}, "peak_memory": 1
}

class Recording(run.Run):
    def on_train_batch_end(self, batch, logs=None):
        with open(steps, "a") as file:
            file.write(json.dumps([self.step, self.images_of(self.step), logs["loss"]]) + "\\n")
        super().on_train_batch_end(batch, logs)

sys.modules["keras_vit.training.fit"].Run = Recording

def aside(folder):
    found = set()
    for name in (folder, os.path.join(folder, "checkpoints")):
        if os.path.isdir(name):
            found |= {entry for entry in os.listdir(name) if entry.startswith(f".{child}-")}
    return found

print("ready", file=out, flush=True)
for line in sys.stdin:
    job = json.loads(line)
    steps, folder = job["steps"], job["arguments"][-1]
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.setsid()
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        os.environ.update(job["environment"])
        status = 1
        try:
            cli.main(job["arguments"])
        except SystemExit as error:
            status = error.code or 0
            if job["number"] not in (None, 9):
                raise  # with all that Python does at its end
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status) if job["number"] in (None, 9) else None
    seen, sent, writes = set(), None, job["writes"]
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic() - began
        if pid:
            break
        if sent is None and job["number"]:
            new = aside(folder) - seen if writes else set()
            seen |= new
            if now >= job["after"] or len(seen) >= writes > 0:
                time.sleep(job["delay"])
                os.kill(child, job["number"])
                sent = time.monotonic() - began
        elif now > (sent or 0) + job["patience"]:
            os.kill(child, 9)
            sent = -1.0
        time.sleep(0.0005 if writes and not sent else 0.01)
    result = {"status": os.waitstatus_to_exitcode(status), "seconds": now, "sent": sent}
    print(json.dumps(result), file=out, flush=True)
"""


class Server:
    """Starts `keras-vit fit` of a backend, and kills it if asked to."""

    def __init__(self, folder, backend):
        self.folder, self.backend = folder / backend, backend
        self.folder.mkdir()
        self.recipe = self.folder / "recipe.py"
        self.recipe.write_text(RECIPE.format(exports=EXPORTS[backend]))
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-c", SERVER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"The {backend} server did not start")
        self.straight = self.folder / "straight"
        result = self.start(self.straight)
        if result["status"]:
            raise RuntimeError(f"A run that nothing befell failed: {self.log(self.straight)[-2000:]}")
        self.seconds = result["seconds"]
        self.facts = facts(self.straight)
        self.once = {step: rest for step, *rest in self.steps(self.straight)}

    def start(self, folder, number=None, after=0.0, writes=0, delay=0.0, settings=(), environment=None):
        """Runs the recipe in a folder; sends a signal after some seconds, or at the n-th write plus a delay."""
        job = {
            "arguments": ["fit", str(self.recipe), *settings, "--output", str(folder)],
            "log": f"{self._beside(folder)}.log",
            "steps": f"{self._beside(folder)}.steps",
            "environment": environment or {},
            "number": number,
            "after": after,
            "writes": writes,
            "delay": delay,
            "patience": 300.0 if number is None else 60.0,
        }
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def _beside(self, folder):
        return self.folder / folder.name

    def log(self, folder):
        path = pathlib.Path(f"{self._beside(folder)}.log")
        return path.read_text("utf-8", "replace") if path.exists() else ""  # killed before it opened its log

    def steps(self, folder):
        path = pathlib.Path(f"{self._beside(folder)}.steps")
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("]")]

    def differences(self, folder, every_step=True):
        """Returns in words how a run that has ended differs from the one that nothing befell."""
        theirs = facts(folder)
        names = sorted({*self.facts, *theirs})
        found = [name for name in names if not equal(self.facts.get(name), theirs.get(name))]
        done = set()
        for step, *rest in self.steps(folder):
            done.add(step)
            if rest != self.once.get(step):
                found.append(f"images or loss of step {step}")
        if every_step and done != set(self.once):
            found.append("steps")
        return ", ".join(found)


def equal(one, other):
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


def untimed(value):
    """Returns JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {name: untimed(part) for name, part in value.items() if name not in TIMED}
    return [untimed(part) for part in value] if isinstance(value, list) else value


# Times; and the size of a SavedModel, in which names of functions depend on what else the process has traced.
TIMED = {"seconds", "images_per_second", "training_seconds", "bytes"}
# In the report and the card: times, the table of the history's columns with times, and the folder's own name.
TIMES = re.compile(r"\d[\d,.]*(?:&nbsp;|\s|\u202f|\u00a0)*s\b|<td[^>]*>[^<]*</td>|runs?/?[\w-]*")


def facts(folder):
    """Returns {name: content} of all files of a run, without what differs from run to run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[f"{name}/"] = True
        elif name == "model.keras":
            with zipfile.ZipFile(path) as archive, h5py.File(archive.open("model.weights.h5")) as file:
                found["config"] = archive.read("config.json")
                file.visititems(
                    lambda key, item: found.update({key: item[...]}) if isinstance(item, h5py.Dataset) else None
                )
        elif path.suffix == ".json":
            found[name] = untimed(json.loads(path.read_text()))
        elif name == "history.csv":
            found[name] = untimed(list(csv.DictReader(path.read_text().splitlines())))
        elif path.suffix == ".tflite":  # the names of its operators depend on what else the process has traced
            found[name] = outputs(path)
        elif path.suffix == ".gz":
            found[name] = gzip.decompress(path.read_bytes())
        elif path.suffix in (".html", ".md"):
            found[name] = TIMES.sub("", path.read_text())
        elif "tensorboard" in name:
            found["tensorboard/events"] = found.get("tensorboard/events", 0) + 1
        elif name.startswith("saved_model") and (path.suffix == ".pb" or path.name == "SHA256SUMS"):
            found[name] = True  # the first holds numbers drawn at random
        else:
            found[name] = path.read_bytes()
    return found


def outputs(path):
    """Returns the outputs of a .tflite file for an image of noise."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    noise = np.random.default_rng(0).integers(0, 256, given["shape"]).astype(given["dtype"])
    interpreter.set_tensor(given["index"], noise)
    interpreter.invoke()
    return np.concatenate([interpreter.get_tensor(each["index"]).ravel() for each in interpreter.get_output_details()])


def prepare(folder):
    return {"folder": folder, "servers": {}}


def case(state, number, random):
    backend = BACKENDS[number % len(BACKENDS)]
    if backend not in state["servers"]:
        state["servers"][backend] = Server(state["folder"], backend)
    server = state["servers"][backend]
    kind = KINDS[number // len(BACKENDS) % len(KINDS)]
    folder = state["folder"] / f"run_{number}"
    try:
        result, detail, count = globals()[kind](server, folder, random)
    finally:
        if not os.environ.get("RUNS_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
    return Outcome(f"{backend}: {NAMES[kind]}", result, detail[:600], count, limit_s=SLOWEST)


NAMES = {
    "kill": "kill -9 in a run",
    "both": "kill -9 in a run, and then a damaged checkpoint",
    "stop": "SIGTERM, SIGINT in a run",
    "damage": "damaged checkpoint",
    "full": "full disk in a run",
}


def moment(server, folder, random):
    """Returns when to end a run: after some seconds, or at a write of some file."""
    if random.random() < 0.5:
        return {"after": random.uniform(0, server.seconds)}
    most = 12 if (folder / "run.json").exists() else 50  # a run that continues writes fewer files
    return {"after": 10 * server.seconds, "writes": random.randint(1, most), "delay": random.choice([0, 0.002, 0.02])}


def ended(server, folder, count, **options):
    """Ends a run; returns the result of its case."""
    result = server.start(folder)
    if result["status"]:
        return "failed", f"status {result['status']}: {server.log(folder)[-500:]}", max(count, 1)
    differences = server.differences(folder, **options)
    return ("differs" if differences else "equal"), differences, count


def both(server, folder, random):
    return kill(server, folder, random, then=lambda: damage_one(folder, random))


def kill(server, folder, random, then=lambda: True):
    """Kills a run some times; counts those kills after which `then` has done something."""
    count = 0
    for _ in range(random.randint(2, KILLS)):
        result = server.start(folder, signal.SIGKILL, **moment(server, folder, random))
        if result["status"] == -signal.SIGKILL and result["sent"] != -1:
            count += then()
        elif result["status"]:
            return "failed", f"status {result['status']}: {server.log(folder)[-500:]}", count + 1
        else:
            break
    return ended(server, folder, count)


def stop(server, folder, random):
    count = 0
    for _ in range(random.randint(2, KILLS)):
        number = random.choice([signal.SIGTERM, signal.SIGINT])
        result = server.start(folder, number, **moment(server, folder, random))
        text = server.log(folder)
        if result["status"] == 0 or "All files are in" in text:  # the signal came after the end
            break
        if not folder.exists() and "Stopped by" not in text:  # before the command had begun
            continue
        count += 1
        if result["sent"] == -1:
            return "does not end", text[-500:], count
        if result["status"] != 128 + number or f"Stopped by {number.name}." not in text or "Traceback" in text:
            return "ends otherwise", f"status {result['status']}: {text[-500:]}", count
        left = [path.name for path in folder.rglob(".*")] if folder.exists() else []
        if left:
            return "leftovers", ", ".join(left), count
    return ended(server, folder, count)


def damage(server, folder, random):
    """Damages checkpoints of a run that was stopped in its training."""
    stopped = server.folder / "stopped"
    if not stopped.exists():
        server.start(stopped, signal.SIGTERM, after=10 * server.seconds, writes=40)
        for ending in ("log", "steps"):
            shutil.copy(f"{server._beside(stopped)}.{ending}", f"{server._beside(stopped)}.{ending}.kept")
    shutil.copytree(stopped, folder)
    for ending in ("log", "steps"):
        shutil.copy(f"{server._beside(stopped)}.{ending}.kept", f"{server._beside(folder)}.{ending}")
    damage_one(folder, random)
    return ended(server, folder, 1)


def damage_one(folder, random):
    """Damages a checkpoint of a run, or more; returns whether it did."""
    checkpoints = sorted((folder / "checkpoints").glob("step_*"))
    count = min(len(checkpoints), random.choice([1, 1, 1, 2, len(checkpoints)]))
    done = False
    for path in random.sample(checkpoints, count):
        with contextlib.suppress(OSError, ValueError):  # damaged before, so that it cannot be damaged in this way
            random.choice(DAMAGES)(random.choice([path / "state.npz", path / "manifest.json"]), checkpoints, random)
            done = True
    return done


def altered(path, checkpoints, random):
    data = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 1, 3, 30])):
        at = random.randrange(len(data))
        change = random.randrange(4)
        if change == 0:
            data[at] ^= 1 << random.randrange(8)
        elif change == 1:
            data[at : at + random.randint(1, 500)] = b""
        elif change == 2:
            data[at:at] = random.randbytes(random.randint(1, 500))
        else:
            data[at : at + 500] = bytes(len(data[at : at + 500]))
        data = data or bytearray(1)
    path.write_bytes(data)


def cut(path, checkpoints, random):
    os.truncate(path, random.choice([0, random.randrange(path.stat().st_size)]))


def removed(path, checkpoints, random):
    path.unlink() if random.random() < 0.5 else shutil.rmtree(path.parent)


def emptied(path, checkpoints, random):
    path.write_text(random.choice(["{}", "[]", "null", "0", '""', "[" * 100_000, '{"seal": {}}', '{"step": 1}']))


def swapped(path, checkpoints, random):
    other = random.choice(checkpoints) / path.name
    if other.exists() and path.exists():
        aside = path.with_name("aside")
        path.rename(aside), other.exists() and other.rename(path), aside.rename(other)


def renamed(path, checkpoints, random):
    path.parent.rename(
        path.parent.with_name(random.choice(["step_00000099", "step_00000001", "step_x", "step_00000099_2"]))
    )


def retyped(path, checkpoints, random):
    """Gives a field of the manifest another value, also under a right seal."""
    path = path.with_name("manifest.json")
    manifest = json.loads(path.read_text())
    name = random.choice(sorted(manifest))
    manifest[name] = random.choice([None, True, -1, 10**30, "x", [], {}, {"a": []}])
    path.write_text(json.dumps(manifest))


def replaced(path, checkpoints, random):
    """Puts a file in place of a folder, or a folder in place of a file."""
    if random.random() < 0.5:
        shutil.rmtree(path.parent)
        path.parent.write_text("a file")
    else:
        path.unlink()
        path.mkdir()


DAMAGES = [altered, altered, altered, cut, removed, emptied, swapped, renamed, retyped, replaced]


def full(server, folder, random):
    """Fills a disk in a run; once there is room, the same command ends it."""
    disk = server.folder / f"disk_{folder.name}"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    try:
        inner, filler = disk / folder.name, disk / "filler"
        environment = {"TMPDIR": str(disk)} if random.random() < 0.5 else {}
        result = {"status": 0}
        for _ in range(random.choice([1, 1, 2])):
            room = random.choice([random.randrange(ROOM), random.randrange(200_000)])
            filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - room)))
            result = server.start(inner, environment=environment)
            text = server.log(inner)
            filler.unlink()
            if result["status"] == 0:
                break
            faulty = not_clear(text, disk) or [path.name for path in disk.rglob(".*")]
            if result["status"] not in (2, 3) or faulty:
                return "unclear", f"status {result['status']}: {faulty or text[-500:]}", 1
            os.truncate(f"{server._beside(inner)}.log", 0)
        if result["status"]:
            result = server.start(inner, environment=environment)
        if result["status"]:
            return "failed", f"status {result['status']}: {server.log(inner)[-500:]}", 1
        differences = server.differences(inner)
        return ("differs" if differences else "equal"), differences, 1
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def not_clear(text, disk):
    """Returns what a message about a full disk lacks; "" for a good one."""
    message = text[max(text.rfind("Error:"), text.rfind(" is refused: ")) :]
    if "Traceback" in text or "internal error" in text:
        return f"a traceback: {text[-400:]}"
    if len(message) > LONGEST_MESSAGE and text.count("Error:"):
        return f"{len(message)} characters"
    if str(disk) not in message or "No space left on device" not in message:
        return f"no name or reason: {message[-400:]}"
    return ""
