# ---
# jupyter:
#   jupytext:
#     formats: ipynb,_notebook.py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Export a model and run the files
#
# You export a Keras model to TFLite, SavedModel and ONNX, and run each file as a client does: TFLite with LiteRT's own
# interpreter, which phones have, SavedModel with TensorFlow and ONNX with onnxruntime. Each file is compared with the
# model.
#
# The stored outputs are of a small model of scikit-learn's scanned digits, on two shared CPU cores. Nothing here was
# run on a phone.

# %% tags=["parameters"]
PACKAGE = "keras-vit-kit"  # or "git+https://..." with the repository's address, or the path of a wheel
MODEL = None  # a .keras file, the folder of a run, or a checkpoint as in `keras-vit list`; None: digits
IMAGES = None  # a folder with one folder of images for each class, to compare on; None: digits
FOLDER = "exports"  # for the files
FACTS = {}  # for the metadata, such as {"description": "...", "author": "...", "license": "..."}
EPOCHS = 20  # of the model that is trained on the digits

# %% [markdown]
# ## Installation
#
# The first time, this takes about two minutes and 2.6 GB, most of it for TensorFlow. The package is called
# `keras-vit-kit`; `keras-vit` in the package index is another project. TensorFlow writes a few lines about the machine
# when it is imported; they are no errors.

# %%
import importlib.util
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's notes on its own work

needed = {"keras_vit": PACKAGE, "tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"}
missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
if missing:
    print("Installing", *missing, "...", flush=True)
    if subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing]).returncode:
        raise RuntimeError(
            f"pip could not install {' '.join(missing)}; its message is above. keras-vit-kit may not be in the package "
            "index yet: set PACKAGE to the address of the repository, git+https://..., or to the path of a wheel."
        )
importlib.invalidate_caches()
print("keras_vit", importlib.import_module("keras_vit").__version__)

# %% [markdown]
# ## The model and the images
#
# With `MODEL = None`, a small model is trained on the digits, and the images to compare on are those that it has not
# seen. A model of your own is compared on your images; without a folder of them, on synthetic ones, which prove less.

# %%
import statistics
import time
import zipfile

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_vit
from keras_vit.commands.image_model import open_model
from keras_vit.data.sources import open_source

images = labels = None
if MODEL is None:
    keras.utils.set_random_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    levels = np.repeat(digits.images[order, ..., None] * 255 / 16, 3, axis=-1)
    scans = np.asarray(keras.ops.image.resize(levels, (16, 16), interpolation="nearest")).astype("uint8")
    classes = digits.target[order]
    small = keras_vit.Variant(patch_size=4, hidden_size=64, num_layers=4, num_heads=4, mlp_dim=128)
    model = keras_vit.build(small, input_shape=(16, 16, 3), classes=10)
    rate = keras.optimizers.schedules.CosineDecay(0.0, 22 * EPOCHS, warmup_target=2e-3, warmup_steps=2 * EPOCHS)
    model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(model.preprocess_input(scans[:1400]), classes[:1400], 64, EPOCHS, verbose=2)
    model.class_names = [str(digit) for digit in digits.target_names]
    images, labels = scans[1400:], classes[1400:]
    FACTS = {"description": "Digits, trained on scikit-learn's scans", "license": "Apache-2.0"} | FACTS
    MODEL = "digits.keras"
    model.save(MODEL)

opened = open_model(MODEL)
if IMAGES is not None:
    split = open_source(str(IMAGES)).test
    images, labels = np.stack([opened.read(image) for image in split.images]), np.asarray(split.labels)
print(f"{MODEL}: {opened.image_size[0]} x {opened.image_size[1]} pixels, {len(opened.class_names)} classes")

# %% [markdown]
# ## Export
#
# Each function writes one file, runs it as a client does, and keeps it only if it agrees with the model. 8-bit weights
# make the smallest file, which is also the fastest on a CPU.

# %%
options = {"class_names": opened.class_names, "images": images, "labels": labels, "facts": FACTS}
agreements = [
    keras_vit.export.tflite(opened.model, f"{FOLDER}/model_float32.tflite", mode="float32", **options),
    keras_vit.export.tflite(opened.model, f"{FOLDER}/model_int8.tflite", mode="int8", **options),
    keras_vit.export.savedmodel(opened.model, f"{FOLDER}/saved_model", **options),
    keras_vit.export.onnx(opened.model, f"{FOLDER}/model.onnx", **options),
]

# %%
print(f"{'file':24}{'kB':>8}{'same class':>12}{'accuracy':>10}{'largest difference':>20}")
for each in agreements:
    accuracy = "" if each.accuracy is None else f"{each.accuracy:.1%}"
    difference = each.probabilities["max_difference"]
    print(f"{each.file:24}{each.bytes / 1000:8,.0f}{each.top1_agreement:12.1%}{accuracy:>10}{difference:20.1e}")

# %% [markdown]
# *Same class* is the share of the images for which file and model predict the same class; the largest difference is
# that of a probability.

# %% [markdown]
# ## What is in the file
#
# A .tflite file of this package is read by MediaPipe's ImageClassifier and by Android Studio: it says what its input
# is, and has the class names. The class names are a text file in a zip archive at its end.

# %%
path = f"{FOLDER}/model_int8.tflite"
with zipfile.ZipFile(path) as archive:
    for name in archive.namelist():
        print(name, archive.read(name).decode().split())

file = keras_vit.runtime.open_exported(path)
for name, value in file.description.facts.items():
    if value:
        print(f"{name}: {value}")
scaled = file.description.mean is not None
print("input:", f"(pixel - {file.description.mean}) / {file.description.std}" if scaled else "pixels from 0 to 255")

# %% [markdown]
# ## Run it with LiteRT
#
# `ai_edge_litert` is the interpreter that a phone has, without the rest of TensorFlow. The file reads one image of
# uint8 RGB pixels and returns the probabilities.

# %%
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(path, num_threads=2)
interpreter.allocate_tensors()
(entry,), (end, *_) = interpreter.get_input_details(), interpreter.get_output_details()
print("input:", entry["name"], entry["shape"], entry["dtype"].__name__)
print("output:", end["name"], end["shape"], end["dtype"].__name__)

if images is None:
    images = np.random.default_rng(0).integers(0, 256, (4, *opened.image_size, 3), "uint8")


def run_litert(image):
    """Returns the probabilities of an image, uint8 (height, width, 3)."""
    interpreter.set_tensor(entry["index"], image[None])
    interpreter.invoke()
    return interpreter.get_tensor(end["index"])[0]


some = images[:100]
by_litert = np.stack([run_litert(image) for image in some])
by_runtime = file.predict(some)["probabilities"]
by_keras = opened.predict(some)["probabilities"]
for name, probabilities in ("keras_vit.runtime", by_runtime), ("the Keras model", by_keras):
    same = np.mean(by_litert.argmax(axis=1) == probabilities.argmax(axis=1))
    print(f"LiteRT and {name}: largest difference {np.abs(by_litert - probabilities).max():.1e}, same class {same:.0%}")

# %% [markdown]
# The classes of the first images:

# %%
for i, probabilities in enumerate(by_litert[:5]):
    best = probabilities.argsort()[::-1][:3]
    print(f"image {i + 1}:", *(f"{file.class_names[k]} {probabilities[k]:.1%}" for k in best))

# %% [markdown]
# ## Run the others
#
# `open_exported` opens a file of any kind with the same methods: `read` decodes and resizes an image file, `predict`
# returns the outputs for pixels.

# %%
files = {each.file: keras_vit.runtime.open_exported(f"{FOLDER}/{each.file}") for each in agreements}
for name, each in files.items():
    print(f"{name:24}", np.round(each.predict(some[:1])["probabilities"][0], 3))

# %% [markdown]
# The same with the libraries alone:

# %%
import onnxruntime
import tensorflow as tf

session = onnxruntime.InferenceSession(f"{FOLDER}/model.onnx", providers=["CPUExecutionProvider"])
print(np.round(session.run(["probabilities"], {session.get_inputs()[0].name: some[:1]})[0][0], 3))

served = tf.saved_model.load(f"{FOLDER}/saved_model/1").signatures["serving_default"]
print(np.round(served(images=tf.constant(some[:1], tf.float32))["probabilities"].numpy()[0], 3))

# %% [markdown]
# ## Time
#
# The median of 50 runs of one image on this machine, in milliseconds. `model.predict` prepares a data pipeline in each
# call, which is most of its time here. The order of the files can differ on a phone: measure there, as
# `docs/android.md` shows.


# %%
def milliseconds(run, *arguments):
    """Returns the median time of a call."""
    times = []
    for _ in range(53):
        start = time.perf_counter()
        run(*arguments)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[3:])  # the first runs prepare the others


for name, each in {"Keras, model.predict": opened, **files}.items():
    print(f"{name:24}{milliseconds(each.predict, some[:1]):8.2f}")
