"""Measures `keras-vit check` and the start of `keras-vit fit` on 100,000 images: python benchmarks/many_images.py DATA

The images of DATA (a folder or .zip of class folders, such as CIFAR-10 as JPEGs) are written with their mirrored and
turned versions, four of each, until there are as many as wanted. Then come fresh processes, first without and then with
what the first has kept in the cache: `check`, and `fit weights=none` up to the beginning of the first training step.
The target for each: less than 60 seconds of a processor and 1 GB, of which TensorFlow takes most. Run it with the
package's own dependencies alone: Keras imports JAX, pandas, OpenCV and Matplotlib where they are installed, and then
takes 0.2 GB more.

Exits with status 1 and prints the reason if a target is missed.
"""

import argparse
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile

from PIL import Image

from keras_vit.data import decode
from keras_vit.data.sources import list_own

MOST_SECONDS, MOST_MEMORY = 60, 1000
TURNS = (None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM)
# The code of the installed command, which ends before the first step and prints its seconds and peak memory in KiB. All
# work is done by threads of this one process.
COMMAND = """
import os, sys, time
sys.argv[0] = "keras-vit"
def end(*_, **__):
    memory = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.process_time(), memory, file=sys.stderr, flush=True)
    os._exit(0)
if sys.argv[1] == "fit":
    from keras_vit.training.run import Run
    Run.on_train_batch_begin = end
from keras_vit_command import main
try:
    main()
finally:
    end()
"""


def write_images(data, folder, count):
    """Writes `count` images and their versions into the class folders of a new folder."""
    places = ((image, turn) for image in list_own(data).images for turn in TURNS)
    for number, (image, turn) in enumerate(itertools.islice(places, count)):
        place = folder / image.class_name
        place.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(decode(image.file))
        (pixels if turn is None else pixels.transpose(turn)).save(place / f"{number:06d}.jpg", quality=90)


def measure(*arguments, cache):
    """Returns the processor seconds and the peak memory in MB of a command."""
    environment = os.environ | {"KERAS_VIT_IMAGE_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{arguments} failed:\n{done.stderr.strip()[-1500:]}")
    seconds, memory = done.stderr.strip().splitlines()[-1].split()
    return float(seconds), int(memory) * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100_000, help="images (default: 100000)")
    options = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory() as place:
        folder, runs = pathlib.Path(place, "images"), itertools.count()
        write_images(options.data, folder, options.count)

        def measured(command, data):
            output = ("weights=none", "--output", pathlib.Path(place, f"run{next(runs)}")) if command == "fit" else ()
            return measure(command, data, *output, cache=pathlib.Path(place, f"cache of {command}"))

        print(f"{options.count:,} images".ljust(20) + f"{'seconds':>12}{'MB':>7}")
        for name, command, data in (
            ("check, first", "check", folder),
            ("check, again", "check", folder),
            ("fit, 640 images", "fit", "synthetic:10x64"),
            ("fit, first", "fit", folder),
            ("fit, again", "fit", folder),
        ):
            seconds, memory = measured(command, data)
            print(f"{name:20}{seconds:12.1f}{memory:7.0f}", flush=True)
            missed += [name] * (seconds >= MOST_SECONDS or memory >= MOST_MEMORY)
    print("\n" + ("\n".join(f"MISSED by {name}" for name in missed) or "All targets are met."))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
