"""Measures how fast keras_vit starts: python benchmarks/startup.py

The seconds of fresh processes, the median of several rounds, and the largest of their peak memories:
  `keras-vit --help` and `python -m keras_vit --help`    less than 0.5 seconds
  `keras-vit predict FILE IMAGE`, for a file of LiteRT, onnxruntime or OpenVINO
                                                         less than 0.8 seconds and 200 MB
  `keras-vit predict RUN IMAGE`                          less than 1.3 times what Keras needs to be imported and to
                                                         load the model
  `import keras_vit` after `import keras`                less than 0.3 seconds
The files and the run are of the shipped model of digits.

Exits with status 1 and prints the reason if a target is missed.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

RUN = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits"
FILES = ("tflite-int8", "onnx", "openvino")  # targets whose files need no TensorFlow
SUFFIXES = (".tflite", ".onnx", ".xml")
MOST_SECONDS, MOST_FILE_SECONDS, MOST_MEMORY, MOST_RATIO, MOST_IMPORT = 0.5, 0.8, 200, 1.3, 0.3
BARE, FROM_RUN, KERAS, ADDED = "python only", "keras-vit predict RUN", "Keras loads RUN", "import keras_vit adds"
# The code of the installed command; the last line on the error stream is the peak memory in kB.
COMMAND = """
import atexit, sys
sys.argv[0] = "keras-vit"
@atexit.register
def memory():
    print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
from keras_vit_command import main
sys.exit(main())
"""
LOAD = "import sys, keras, keras_vit; keras.saving.load_model(sys.argv[1])"
# In one process, because the times of two imports of TensorFlow differ by more than the measured time.
IMPORTS = """
import time
times = [time.perf_counter()]
import keras
times.append(time.perf_counter())
import keras_vit
times.append(time.perf_counter())
print(times[2] - times[1])
"""


def run(*arguments):
    """Returns the seconds of a fresh Python with these arguments, its output and the last line of its errors.

    Raises:
        RuntimeError: if it fails.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{arguments} failed:\n{done.stderr.strip()[-1500:]}")
    return seconds, done.stdout, (done.stderr.strip().splitlines() or [""])[-1]


def files_of(folder):
    """Exports the shipped run and returns {name: file}."""
    known = run("-c", COMMAND, "export", "--help")[1]
    options = [word for name in FILES if f"\n  {name} " in known for word in ("--to", name)]
    run("-c", COMMAND, "export", RUN, *options, "--output", folder)
    return {f"keras-vit predict {path.suffix}": path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES}


def measure(rounds, folder):
    """Returns {name: seconds of each round} and {name: peak memory of each round in MB}; the processes run in turn."""
    files, image = files_of(folder), folder / "image.png"
    run("-c", f"from PIL import Image; Image.new('RGB', (640, 480), 'red').save({str(image)!r})")
    arguments = {
        BARE: ("-c", "pass"),
        "keras-vit --help": ("-c", COMMAND, "--help"),
        "python -m keras_vit --help": ("-m", "keras_vit", "--help"),
        **{name: ("-c", COMMAND, "predict", path, image) for name, path in files.items()},
        KERAS: ("-c", LOAD, RUN / "model.keras"),
        FROM_RUN: ("-c", COMMAND, "predict", RUN, image),
    }
    seconds, memory = {name: [] for name in (*arguments, ADDED)}, {name: [] for name in files}
    for i in range(rounds + 1):
        for name, words in arguments.items():
            taken, _, last = run(*words)
            if i:  # the first round fills the disk cache and writes bytecode
                seconds[name].append(taken)
                if name in memory:
                    memory[name].append(int(last.split()[1]) / 1000)
        added = float(run("-c", IMPORTS)[1])
        if i:
            seconds[ADDED].append(added)
    return seconds, memory


def missed_targets(seconds, memory):
    """Returns a line for each target that is missed."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    most = {name: MOST_SECONDS for name in median if "--help" in name} | dict.fromkeys(memory, MOST_FILE_SECONDS)
    most |= {FROM_RUN: MOST_RATIO * median[KERAS], ADDED: MOST_IMPORT}
    reasons = [
        f"{name} takes {median[name]:.3f} seconds; the target is less than {target:.3f}"
        for name, target in most.items()
        if median[name] >= target
    ]
    return reasons + [
        f"{name} takes {max(values):.0f} MB; the target is less than {MOST_MEMORY}"
        for name, values in memory.items()
        if max(values) >= MOST_MEMORY
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each kind (default: 5)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory = measure(rounds, pathlib.Path(folder))
    print(f"{'':28}{'seconds':>9}{'min':>8}{'max':>8}{'MB':>6}")
    for name, values in seconds.items():
        most = f"{max(memory[name]):6.0f}" if name in memory else ""
        print(f"{name:28}{statistics.median(values):9.3f}{min(values):8.3f}{max(values):8.3f}{most}")
    ratio = statistics.median(own / bare for own, bare in zip(seconds[FROM_RUN], seconds[KERAS]))
    print(f"{FROM_RUN} takes {ratio:.2f} times as long as Keras needs to be imported and to load the model")
    reasons = missed_targets(seconds, memory)
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "All targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
