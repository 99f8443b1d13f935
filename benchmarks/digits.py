"""Trains the recipe of the demo with five seeds and prints the test accuracies.

python benchmarks/digits.py
"""

import dataclasses
import logging
import pathlib
import runpy
import tempfile

import numpy as np

from keras_vit.commands.fit import fit

RECIPE = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "recipes" / "digits.py"))["RECIPE"]
SEEDS = range(5)


def main():
    """Prints accuracy and training time of each seed, then the mean and the worst accuracy."""
    logging.basicConfig(format="%(message)s")
    accuracies = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            run = fit(dataclasses.replace(RECIPE, seed=seed, exports=()), pathlib.Path(folder) / "run")
        accuracies.append(run["test_accuracy"])
        print(
            f"seed {seed}: test accuracy {accuracies[-1]:.2%}, {run['training_seconds']:.0f} s of training", flush=True
        )
    print(f"mean {np.mean(accuracies):.2%}, worst {min(accuracies):.2%}")


if __name__ == "__main__":
    main()
