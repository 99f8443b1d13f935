"""Trains with all random settings on, in a process that a test kills: python killed_run.py FOLDER.

Appends a line to FOLDER/steps.txt for each step, with its images and loss; writes FOLDER/weights.npz at the end.
"""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_vit.data.sources import open_source
from keras_vit.models.config import Variant
from keras_vit.training import run
from keras_vit.training.fit import train
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    data="digits",
    variant=Variant(patch_size=4, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=24),
    image_size=8,
    steps=60,
    steps_per_epoch=13,
    batch_size=32,
    accumulation=2,
    dropout=0.1,
    stochastic_depth=0.2,
    ema=0.8,
    mixup=0.2,
    rotate=10.0,
    shift=0.1,
    full_batches=False,
    checkpoint_seconds=0.0,
)


class Recording(run.Run):
    def on_train_batch_end(self, batch, logs=None):
        with open(FOLDER / "steps.txt", "a") as file:
            file.write(json.dumps([self.step, self.images_of(self.step), logs["loss"]]) + "\n")
        super().on_train_batch_end(batch, logs)


if __name__ == "__main__":
    FOLDER = pathlib.Path(sys.argv[1])
    FOLDER.mkdir(parents=True, exist_ok=True)
    tf.config.experimental.enable_op_determinism()
    sys.modules["keras_vit.training.fit"].Run = Recording
    source = open_source(RECIPE.data)
    model, history = train(RECIPE, source, FOLDER)
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    np.savez(FOLDER / "weights.npz", **weights)
    timed = ("seconds", "images_per_second")
    print(json.dumps([{name: value for name, value in row.items() if name not in timed} for row in history]))
