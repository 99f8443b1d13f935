"""Measures the accuracy of quantized TFLite files by technique: python benchmarks/quantization.py CHECKPOINT IMAGES

The first images of the folder, in a fixed random order, calibrate; `--evaluate` others are evaluated. A row has the
cosine between the features of the float32 file and of the quantized one (minimum and mean over these images), the size,
and the latency with 2 threads relative to the float32 file, with the files in turn.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np

import keras_vit
from keras_vit.data.pipeline import read_all
from keras_vit.export.tflite import quantization
from keras_vit.export.tflite.quantization import QUANTIZATION_MODES, Calibrated, QuantizationMode, run_tflite
from keras_vit.export.tflite.rounding import rounded
from keras_vit.export.tflite.smoothing import smoothed
from keras_vit.models.interface import pixels_of
from keras_vit.preprocessing import Pixels, preprocess_input

IMAGENET = Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SUFFIXES = {".jpg", ".jpeg", ".png"}
NO_LAYER = r"^$"


def nearest(kernel, covariance, bits, block=0):
    """Rounds each weight to the nearest level, with the scale of the largest weight of a row or a block."""
    groups = kernel.reshape(len(kernel), -1, block or kernel.shape[1])
    scales = np.maximum(abs(groups).max(2), 1e-6) / (2 ** (bits - 1) - 1)
    return (np.rint(groups / scales[..., None]) * scales[..., None]).reshape(kernel.shape), scales.astype("float32")


# Technique, whether the scale is moved, mode, rounding.
STEPS = [
    ("dynamic int8", False, QUANTIZATION_MODES["int8"], nearest),
    ("+ scale moved", True, QUANTIZATION_MODES["int8"], nearest),
    ('+ rounding by inputs: "int8"', True, QUANTIZATION_MODES["int8"], rounded),
    ("static int8", False, QuantizationMode(8, 0, True, NO_LAYER), nearest),
    ("+ scale moved", True, QuantizationMode(8, 0, True, NO_LAYER), nearest),
    ("+ rounding by inputs", True, QuantizationMode(8, 0, True, NO_LAYER), rounded),
    ('+ dynamic into the residual stream: "static-int8"', True, QUANTIZATION_MODES["static-int8"], rounded),
    ("int4, a scale a row", False, QuantizationMode(4, 0, False, NO_LAYER), nearest),
    ("+ scale moved", True, QuantizationMode(4, 0, False, NO_LAYER), nearest),
    (
        "+ first and last layer in 8 bits",
        True,
        QuantizationMode(4, 0, False, QUANTIZATION_MODES["int4"].finer),
        nearest,
    ),
    ("+ rounding by inputs", True, QuantizationMode(4, 0, False, QUANTIZATION_MODES["int4"].finer), rounded),
    ('+ a scale every 64 inputs: "int4"', True, QUANTIZATION_MODES["int4"], rounded),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint as for keras_vit.load")
    parser.add_argument("images", type=pathlib.Path, help="folder of JPEG and PNG files")
    parser.add_argument("--size", type=int, default=224, help="side of an image, pixels (default: 224)")
    parser.add_argument("--calibrate", type=int, default=32, help="images to calibrate on (default: 32)")
    parser.add_argument("--evaluate", type=int, default=32, help="images to evaluate on (default: 32)")
    parser.add_argument("--imagenet", action="store_true", help="normalize by ImageNet's mean and standard deviation")
    parser.add_argument("--gelu", help="GELU of the checkpoint, if its file does not store it: tanh or erf")
    parser.add_argument(
        "--sensitivity",
        choices=QUANTIZATION_MODES,
        help="also print the loss of each layer in this mode (takes minutes)",
    )
    arguments = parser.parse_args()

    size = (arguments.size, arguments.size)
    files = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    split = arguments.calibrate
    if len(files) <= split:
        parser.error(f"expected more than {split} images in {arguments.images}, received {len(files)}")
    model = keras_vit.load(arguments.checkpoint, input_shape=(*size, 3), gelu=arguments.gelu)
    if any(
        layer.name == "head" for layer in model.layers
    ):  # features are more sensitive than probabilities, which saturate
        model = keras.Model(model.input, model.get_layer("head").input)
    pixels = IMAGENET if arguments.imagenet else pixels_of(model)
    images = [
        np.asarray(preprocess_input(read_all(part, size, "official"), pixels), "float32")
        for part in (files[:split], files[split : split + arguments.evaluate])
    ]
    print_table(model, *images)
    if arguments.sensitivity:
        for layer, loss in quantization.layer_sensitivity(as_tflite(model), arguments.sensitivity, images[0]):
            print(f"| {layer} | {loss:.2e} |")


def print_table(model, calibration, evaluation):
    tflites = {False: as_tflite(model), True: as_tflite(smoothed(model, calibration))}
    seen = {moved: Calibrated(tflite, calibration) for moved, tflite in tflites.items()}
    expected = run_tflite(tflites[False], evaluation[:, None])
    print("| step | cosine, minimum | mean | MB | time / float32 |\n|---|---|---|---|---|", flush=True)
    for name, moved, mode, rounding in STEPS:
        quantization.rounded, seen[moved].rounded = rounding, {}
        file = seen[moved].file(mode)
        given = run_tflite(file, evaluation[:, None])
        cosine = (given * expected).sum(1) / np.linalg.norm(given, axis=1) / np.linalg.norm(expected, axis=1)
        share = time_share(file, tflites[False], evaluation[:1])
        print(
            f"| {name} | {cosine.min():.5f} | {cosine.mean():.5f} | {len(file) / 1e6:.1f} | {share:.2f} |", flush=True
        )


def time_share(file, reference, image, rounds=9):
    """Returns the median ratio of the latencies of two files over the rounds."""
    interpreters = [quantization._interpreter(one) for one in (file, reference)]
    ratios = []
    for _ in range(rounds + 2):
        seconds = []
        for interpreter in interpreters:
            started = time.perf_counter()
            quantization._run(interpreter, image)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios[2:])


def as_tflite(model):
    signature = [keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32")]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        model.export(path, format="litert", input_signature=signature, verbose=False)
        return path.read_bytes()


if __name__ == "__main__":
    main()
