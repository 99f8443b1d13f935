"""Runs contestants in turn, each in its own process, so that a slow minute of the machine affects them all.

A worker builds its model, then waits: for each line that it reads, it runs a step and prints the seconds. So only one
process works at a time, and the figures of one round can be compared with each other: use their ratios.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

THREADS = 2
LEAST_CORES = 1.5  # median of a contestant; if it is lower, other programs used the machine
ENVIRONMENT = {
    "OMP_NUM_THREADS": str(THREADS),
    "TF_NUM_INTRAOP_THREADS": str(THREADS),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
}


class Worker:
    """A contestant in its own process.

    Args:
        *command: the arguments of `python`; the process must call `serve`.
        python: another Python than this one, such as that of an environment with other libraries.
        paused: whether the process and those that it starts are stopped between two steps, for a worker that goes on
            in the background. What it has in its buffers at the end of a step is there at the start of the next one.

    Raises:
        RuntimeError: if the process ends before it is ready or in a step; with the end of its output.
    """

    def __init__(self, *command, python=sys.executable, paused=False):
        self._log, self._paused = tempfile.TemporaryFile("w+"), paused
        self._process = subprocess.Popen(
            [python, *command],
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=paused,
        )
        try:
            self.facts = self._read_result()
        except RuntimeError:
            self.close()
            raise
        self._send(signal.SIGSTOP)

    def step(self):
        """Returns the seconds of one step, and the number of processor cores that it used."""
        self._send(signal.SIGCONT)
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        result = self._read_result()
        self._send(signal.SIGSTOP)
        return result["seconds"], result["cores"]

    def close(self):
        self._send(signal.SIGCONT)
        self._process.communicate()
        self._log.close()

    def _send(self, number):
        if self._paused and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _read_result(self):
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # what a library prints before `serve`
            line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            raise RuntimeError(self._log.read().strip()[-1500:] or f"exit status {self._process.returncode}")
        return json.loads(line)


def serve(step, **facts):
    """Runs `step` twice to warm up, reports `facts`, then runs one step for each line from the parent process."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print greetings
    for _ in range(2):  # the first one traces and allocates
        step()
    print(json.dumps(facts), file=pipe, flush=True)
    for _ in sys.stdin:
        start, start_cpu = time.perf_counter(), time.process_time()
        step()
        seconds = time.perf_counter() - start
        cores = (time.process_time() - start_cpu) / seconds
        print(json.dumps({"seconds": seconds, "cores": cores}), file=pipe, flush=True)


def rounds(workers, count):
    """Returns {name: seconds of each round} and {name: cores}; a round runs each worker once, in rotating order."""
    seconds, cores = {name: [] for name in workers}, {name: [] for name in workers}
    names = list(workers)
    for i in range(count):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            for values, value in zip((seconds, cores), workers[name].step(), strict=True):
                values[name].append(value)
    return seconds, cores


def busy(cores):
    """Returns a reason if the machine was too busy for a comparison, or None.

    Other programs slow threads that wait for each other, like PyTorch's, far more than TensorFlow, so ratios mislead.
    """
    least = min(map(statistics.median, cores.values()), default=THREADS)
    if least < LEAST_CORES:
        return f"the machine was busy: a contestant got {least:.2f} of {THREADS} cores. Run it again when it is quiet"
    return None


def ratio(ours, theirs):
    """Returns the speed of `ours` relative to `theirs`: the median of the ratios of the rounds."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def print_table(title, seconds, ours, images):
    """Prints a line per contestant: images/s, and the relative speed of `ours`; median, minimum and maximum."""
    if ours not in seconds:
        return
    print(f"\n{title}\n{'':24}{'images/s':>9}{'min':>8}{'max':>8}{'ours is':>10}{'min':>8}{'max':>8}")
    for name, values in seconds.items():
        speeds = [images / value for value in values]
        ratios = [b / a for a, b in zip(seconds[ours], values, strict=True)]
        print(
            f"{name:24}"
            + "".join(f"{f(speeds):{width}.2f}" for f, width in ((statistics.median, 9), (min, 8), (max, 8)))
            + "".join(f"{f(ratios):{width}.3f}" for f, width in ((statistics.median, 10), (min, 8), (max, 8)))
        )


def median_seconds(step, count, warm_up=1):
    """Returns the median seconds of a step, after some that compile."""
    for _ in range(warm_up):
        step()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def results_of(*command, **environment):
    """Returns the lines of JSON that a process of this Python prints, before an error if there are any.

    Raises:
        RuntimeError: if there are none; with the end of the process' errors.
    """
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not results:
        raise RuntimeError(done.stderr.strip()[-1500:] or f"exit status {done.returncode}")
    return results


def medians(functions, rounds):
    """Returns {name: median seconds} of functions that run in turn in this process, without the first round."""
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}
