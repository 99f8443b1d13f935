"""Measures how long keras_vit takes to start: python benchmarks/startup.py

Two targets, each the median of several fresh processes:
  `keras-vit --help` answers in less than 0.5 seconds;
  `import keras_vit` adds less than 0.3 seconds to `import keras`.

Exits with 1 and says why if a target is missed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

TARGETS = {"keras-vit --help": 0.5, "import keras_vit adds": 0.3}  # seconds
# What the installed command runs.
COMMAND = "import sys; sys.argv = ['keras-vit', '--help']; from keras_vit_command import main; sys.exit(main())"
# In one process: two imports of TensorFlow differ by more than what is measured.
IMPORTS = """
import time
times = [time.perf_counter()]
import keras
times.append(time.perf_counter())
import keras_vit
times.append(time.perf_counter())
print(times[1] - times[0], times[2] - times[1])
"""


def run(code):
    """Returns the seconds of a fresh process that runs `code`, and what it printed.

    Raises:
        RuntimeError: if it fails.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{code!r} failed:\n{done.stderr.strip()[-1500:]}")
    return seconds, done.stdout


def measure(rounds):
    """Returns {what: seconds of each round}; the processes take turns."""
    seconds = {"python alone": [], "keras-vit --help": [], "import keras": [], "import keras_vit adds": []}
    for i in range(rounds + 1):
        taken = [run("pass")[0], run(COMMAND)[0], *map(float, run(IMPORTS)[1].split())]
        if i:  # the first fills the disk's cache and writes bytecode
            for values, value in zip(seconds.values(), taken, strict=True):
                values.append(value)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes of each kind (default: 7)")
    seconds = measure(parser.parse_args().rounds)
    print(f"{'':24}{'seconds':>9}{'min':>8}{'max':>8}")
    for name, values in seconds.items():
        print(f"{name:24}{statistics.median(values):9.3f}{min(values):8.3f}{max(values):8.3f}")
    reasons = [
        f"{name} takes {taken:.3f} seconds, less than {target} is allowed"
        for name, target in TARGETS.items()
        if (taken := statistics.median(seconds[name])) >= target
    ]
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "Both targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
