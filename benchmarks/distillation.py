"""Test accuracy of a small student with and without a teacher, at equal steps.

    python benchmarks/distillation.py [FIELD=VALUE ...] --data cifar10.zip --teacher vit_s14.keras \
        --images 2000 [--unlabelled 3000] [--seeds 0 1 2]

The student is trained from random weights on --images images that are drawn from the training split, the same for each
seed. The teacher, without a head, gets a linear probe on the same images. --unlabelled more images are drawn and their
labels are not read: each is learned from the teacher alone; the student without a teacher has the same number of steps
on the labelled images. FIELD=VALUE changes the recipe of both.
"""

import argparse
import dataclasses
import json
import logging
import pathlib
import statistics
import tempfile
import time

import numpy as np

from keras_vit.data.decoding import read_file
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Source, open_source
from keras_vit.evaluation import score
from keras_vit.models.config import Variant
from keras_vit.models.interface import pixels_of
from keras_vit.training import Recipe, change, train

STUDENT = Variant(patch_size=14, hidden_size=128, num_layers=6, num_heads=4, mlp_dim=256)


def drawn(source: Source, images: int, unlabelled: int, folder: pathlib.Path) -> Source:
    """Returns a source of some of the training images; writes others, without their labels, into a folder."""
    order = np.random.default_rng(0).permutation(len(source.train.labels))
    for i in order[images : images + unlabelled]:
        (folder / f"{i}.jpg").write_bytes(read_file(source.train.images[i]))
    return dataclasses.replace(source, train=source.train.take(np.sort(order[:images])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--unlabelled", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("settings", nargs="*", metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    recipe = Recipe(
        data=arguments.data,
        variant=STUDENT,
        image_size=56,
        steps=1500,
        batch_size=64,
        flip=True,
        exports=(),
        tensorboard=False,
        checkpoint_seconds=1e6,
        distill="logits+features",
        distill_weight=0.9,
    )
    recipe = change(recipe, arguments.settings)
    accuracies: dict[str, list[float]] = {"labels alone": [], "teacher": []}
    with tempfile.TemporaryDirectory() as more:
        whole = open_source(arguments.data, validation=0.0, test=0.0)
        source = drawn(whole, arguments.images, arguments.unlabelled, pathlib.Path(more))
        taught = dataclasses.replace(
            recipe, teacher=arguments.teacher, unlabelled=more if arguments.unlabelled else None
        )
        for seed in arguments.seeds:
            for name, one in (("labels alone", recipe), ("teacher", taught)):
                started = time.monotonic()
                with tempfile.TemporaryDirectory() as folder:
                    model, log = train(dataclasses.replace(one, seed=seed), source, folder)
                batches = evaluation_batches(source.test, model.input_shape[1:3], 256, pixels_of(model))
                accuracy = score(model, batches).accuracy
                accuracies[name].append(accuracy)
                row = {"run": name, "seed": seed, "accuracy": accuracy, "steps": log[-1]["step"]}
                row |= {"parameters": model.count_params(), "seconds": round(time.monotonic() - started)}
                print(json.dumps(row), flush=True)
    for name, values in accuracies.items():
        print(f"{name}: {statistics.mean(values):.3f}, {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main()
