"""Measures the startup time of keras_vit: python benchmarks/startup.py

Two targets, each the median of several fresh processes:
  `keras-vit --help` takes less than 0.5 seconds;
  `import keras_vit` adds less than 0.3 seconds to `import keras`.

Exits with status 1 and prints the reason if a target is missed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

TARGETS = {"keras-vit --help": 0.5, "import keras_vit adds": 0.3}  # seconds
# The code of the installed command.
COMMAND = "import sys; sys.argv = ['keras-vit', '--help']; from keras_vit_command import main; sys.exit(main())"
# In one process, because the times of two imports of TensorFlow differ by more than the measured time.
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
    """Returns the seconds of a fresh process that runs `code`, and its output.

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
    """Returns {name: seconds of each round}; the processes run in turn."""
    seconds = {"python only": [], "keras-vit --help": [], "import keras": [], "import keras_vit adds": []}
    for i in range(rounds + 1):
        taken = [run("pass")[0], run(COMMAND)[0], *map(float, run(IMPORTS)[1].split())]
        if i:  # the first round fills the disk cache and writes bytecode
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
        f"{name} takes {taken:.3f} seconds; the target is less than {target}"
        for name, target in TARGETS.items()
        if (taken := statistics.median(seconds[name])) >= target
    ]
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "Both targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
