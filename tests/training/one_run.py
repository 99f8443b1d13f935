"""Trains one small run in its own process: python one_run.py FOLDER DEVICES OPTIMIZER...

DEVICES is a `strategy`, or "mirrored" for two logical CPU devices. Writes FOLDER/OPTIMIZER.npz, the weights by
path and the log; prints the description of its devices.
"""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_vit.data.sources import open_source
from keras_vit.models.config import Variant
from keras_vit.training.devices import devices_of
from keras_vit.training.fit import train
from keras_vit.training.recipe import Recipe

# All that has to be equal on any number of devices: every step's gradient is clipped, a batch is worked on in parts,
# the mean of the weights is kept, and the last batch of each pass is short (3 x 11 - 7 images in batches of 12).
EQUAL = {
    "data": "synthetic:3x11",
    "variant": Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12),
    "image_size": 12,
    "epochs": 3,
    "batch_size": 12,
    "full_batches": False,
    "accumulation": 3,
    "clip_norm": 0.01,
    "ema": 0.7,
    "weight_decay": 0.1,
    "layer_decay": 0.8,
    "class_weights": "balanced",
    "flip": True,
    "mixup": 0.3,
    "checkpoint_seconds": 0.0,  # after every step: the chief alone saves, and must not wait for the others
    "exports": (),
}
LEARNING_RATES = {"sgd": 0.5, "adamw": 1e-3, "muon": 1e-3}


def run(folder, optimizer, devices, **settings):
    if optimizer == "adamw":  # labels with positive weights, as independent sigmoids
        settings["objective"] = "labels"
    teacher = folder / "teacher.keras"
    if teacher.exists():
        settings |= {"teacher": str(teacher), "distill": "logits+features"}
    recipe = Recipe(
        **EQUAL,
        remat=keras.backend.backend() != "tensorflow",
        optimizer=optimizer,
        learning_rate=LEARNING_RATES[optimizer],
        weights=str(folder / "start.npz"),
        **settings,
    )
    source = open_source(recipe.data, validation=recipe.validation, test=recipe.test, learns=recipe.objective)
    model, history = train(
        recipe, source, folder / f"{optimizer}-{keras.backend.backend()}-{devices.replicas}", devices
    )
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    return weights, history


if __name__ == "__main__":
    folder, strategy, *optimizers = sys.argv[1:]
    if strategy == "mirrored" and keras.backend.backend() == "tensorflow":
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    devices = devices_of(strategy)
    for optimizer in optimizers:
        weights, history = run(pathlib.Path(folder), optimizer, devices)
        if devices.chief:
            name = f"{keras.backend.backend()}-{strategy}-{optimizer}.npz"
            columns = {f"log/{name}": np.array([row[name] for row in history]) for name in history[0]}
            np.savez(pathlib.Path(folder) / name, **weights, **columns)
    print(json.dumps({"description": devices.description, "chief": devices.chief}))
