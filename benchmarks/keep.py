"""Compares the last weights of a run with those of its best epoch, on a test set.

Usage: python benchmarks/keep.py FOLDER [FIELD=VALUE ...] [--seeds 5]

FOLDER contains train/, val/ and test/ with one folder of images per class. For each seed, a small ViT is trained on it
from random weights with a cosine schedule and with a constant learning rate; FIELD=VALUE changes the recipe. Also
prints the result of early stopping after 8 epochs, and its epoch: by the earlier rule, 8 epochs without an improvement
and then the best weights, and by that of `EarlyStopping`, with the last weights.
"""

import argparse
import dataclasses
import statistics
import tempfile

import numpy as np

from keras_vit.data.pipeline import read_all
from keras_vit.data.sources import open_source
from keras_vit.models.config import Variant
from keras_vit.preprocessing import preprocess_input
from keras_vit.training import fit as fitting
from keras_vit.training.early_stopping import EarlyStopping
from keras_vit.training.recipe import Recipe, change
from keras_vit.training.run import Run

SMALL = Variant(patch_size=4, hidden_size=48, num_layers=3, num_heads=3, mlp_dim=96)
RECIPE = Recipe(
    data="",
    variant=SMALL,
    image_size=32,
    epochs=40,
    batch_size=32,
    warmup_epochs=3,
    checkpoint_seconds=1e6,
    tensorboard=False,
    exports=(),
)
EPOCHS, STEPS = 8, Recipe.early_stopping_steps


def trained(recipe, source):
    """Returns steps, validation accuracy and test accuracy after each epoch of a run, (epochs, 3)."""
    images = preprocess_input(read_all(source.test.images, (recipe.image_size,) * 2))
    rows = []

    class Judged(Run):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            right = self.model.predict(images, batch_size=256, verbose=0).argmax(axis=1) == source.test.labels
            rows.append((self.step, logs["val_accuracy"], right.mean()))

    fitting.Run = Judged
    with tempfile.TemporaryDirectory() as folder:
        fitting.train(recipe, source, folder)
    return np.array(rows)


def best(rows):
    """Returns the row of the highest validation accuracy, the first of equals."""
    return rows[:, 1].argmax()


def stopped(rows, steps, images):
    """Returns the row, counted from 0, after which early stopping ends a run."""
    watched = EarlyStopping(EPOCHS, steps, images)
    for epoch, (step, accuracy, _) in enumerate(rows, 1):
        watched.update(accuracy, epoch, step)
        if watched.should_stop(epoch, step):
            return epoch - 1
    return len(rows) - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    base = change(dataclasses.replace(RECIPE, data=options.folder), options.settings)
    print("| schedule | seed | last | best | stopped before | stopped now |\n|---|---|---|---|---|---|")
    for schedule in ("cosine", "constant"):
        found = []
        for seed in range(options.seeds):
            recipe = dataclasses.replace(base, schedule=schedule, seed=seed)
            source = open_source(options.folder, validation=recipe.validation, test=recipe.test, seed=seed)
            rows = trained(recipe, source)
            # With very many images, every improvement is above the noise.
            before, now = stopped(rows, 0, 10**12), stopped(rows, STEPS, len(source.validation.labels))
            given = len(rows) - 1, best(rows), best(rows[: before + 1]), now
            found.append([rows[row, 2] for row in given])
            ends = ("", f" ({given[1] + 1})", f" ({before + 1})", f" ({now + 1})")
            cells = [f"{accuracy:.2%}{end}" for accuracy, end in zip(found[-1], ends)]
            print("|", " | ".join([schedule, str(seed), *cells]), "|", flush=True)
        means = [f"{statistics.mean(column):.2%}" for column in zip(*found)]
        print("|", " | ".join([schedule, "mean", *means]), "|", flush=True)


if __name__ == "__main__":
    main()
