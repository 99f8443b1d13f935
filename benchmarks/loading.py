"""Measures the time and memory of loading a checkpoint: python benchmarks/loading.py

A ViT-B/16 at 224 x 224 pixels with 1,000 classes, from a file on disk (read once before, so from the disk's cache) to
the logits of one image, in fresh processes in turn, without the imports. keras-hub reads its own
preset. Four targets:
  to the first logits  in less than 0.7 times keras-hub's time;
  load                 at most 1.0 seconds more than building the model only;
  memory               of build and load above that of the import, less than 2.2 times the weights;
  ViT-H/14             builds and loads in less than 8 GiB in all.

Exits with status 1 and prints the reason if a target is missed.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

RATIO, SECONDS, TIMES, GIB = 0.7, 1.0, 2.2, 8.0

START = """
import json, sys, time
import numpy as np, keras
def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 2**20 for line in status if line.startswith(key))
path, variant = sys.argv[1:]
images = np.zeros((1, 224, 224, 3), "float32")
"""
END = """
before = memory("VmRSS")
begin = time.perf_counter()
model = make()
made = time.perf_counter()
logits = keras.ops.convert_to_numpy(model(images))
done = time.perf_counter()
print(json.dumps({"make": made - begin, "first logits": done - begin, "GiB": memory("VmHWM"),
                  "times": (memory("VmHWM") - before) * 2**30 / (4 * model.count_params())}))
"""
MAKE = {
    "build": "import keras_vit\ndef make(): return keras_vit.build(variant)",
    "build and load": "import keras_vit\ndef make(): return keras_vit.build(variant, weights=path)",
    "keras-hub": "import keras_hub\ndef make(): return keras_hub.models.ViTImageClassifier.from_preset(path)",
}
WRITE = {
    "build and load": """
import sys, keras_vit
keras_vit.save_checkpoint(keras_vit.build(sys.argv[2]), sys.argv[1], format="npz")
""",
    "keras-hub": """
import sys; sys.path.insert(0, "benchmarks")
import contestants
contestants.keras_hub("ViT-B/16").save_to_preset(sys.argv[1])
""",
}


def run(code, *arguments):
    """Returns the last line of output of a fresh process, parsed as JSON.

    Raises:
        RuntimeError: if it fails.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{code!r} failed:\n{done.stderr.strip()[-1500:]}")
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None


def measure(folder, rounds):
    """Returns {name: results of each round}; the processes run in turn."""
    paths = {"build": "-", "build and load": folder / "b16.npz", "keras-hub": folder / "preset"}
    for name, code in WRITE.items():
        run(code, paths[name], "ViT-B/16")
    found = {name: [] for name in MAKE}
    for i in range(rounds + 1):
        for name, code in MAKE.items():
            numbers = run(START + code + END, paths[name], "ViT-B/16")
            if i:  # the first fills the disk's cache
                found[name].append(numbers)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each kind (default: 5)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        found = measure(folder, rounds)
        run(WRITE["build and load"], folder / "h14.npz", "ViT-H/14")
        huge = run(START + MAKE["build and load"] + END, folder / "h14.npz", "ViT-H/14")
    medians = {
        name: {key: statistics.median(numbers[key] for numbers in all_) for key in all_[0]}
        for name, all_ in found.items()
    }
    print(f"{'':16}{'model, s':>10}{'first logits, s':>17}{'memory / weights':>18}{'GiB in all':>12}")
    for name, row in {**medians, "ViT-H/14": huge}.items():
        print(f"{name:16}{row['make']:10.2f}{row['first logits']:17.2f}{row['times']:18.2f}{row['GiB']:12.2f}")
    ours = medians["build and load"]
    ratio = statistics.median(
        one["first logits"] / other["first logits"] for one, other in zip(found["build and load"], found["keras-hub"])
    )
    figures = (
        ("time to the first logits / keras-hub's", ratio, RATIO),
        ("seconds of loading minus seconds of building", ours["make"] - medians["build"]["make"], SECONDS),
        ("memory / weights", ours["times"], TIMES),
        ("GiB for a ViT-H/14", huge["GiB"], GIB),
    )
    for words, value, most in figures:
        print(f"{'MISSED' if value > most else 'met   '} {words}: {value:.2f}, at most {most}")
    sys.exit(any(value > most for _, value, most in figures))


if __name__ == "__main__":
    main()
