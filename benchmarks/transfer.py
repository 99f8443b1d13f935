"""Test accuracy of a fine-tuned checkpoint by number of images, beside a linear probe on the same features.

    python benchmarks/transfer.py --data cifar10.zip --weights vit_s14.npz --variant ViT-S/14 --image-size 56 \
        --images 100 600 --seeds 3 [FIELD=VALUE ...]

A row is a run of `keras-vit fit` with its default settings for that number of images, changed by FIELD=VALUE, on
images drawn from the training split, a tenth of them for validation. The linear probe is a logistic regression on the
checkpoint's features of the same training images; the strength of its regularisation is chosen on a fifth of them. Both
are tested on the same images of the test split.
"""

import argparse
import dataclasses
import json
import logging
import tempfile
import time

import numpy as np

import keras_vit
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Examples, Source, open_source
from keras_vit.evaluation import extract_features, linear_probe, score
from keras_vit.models.interface import pixels_of
from keras_vit.training import Recipe, change, train
from keras_vit.training.model import new_model
from keras_vit.training.transfer import transfer_settings


def drawn(examples: Examples, count: int, seed: int) -> list[np.ndarray]:
    """Returns the indices of equally many examples of each class, a random array for each."""
    random = np.random.default_rng(seed)
    classes = np.unique(examples.labels)
    return [random.permutation(np.flatnonzero(examples.labels == c))[-(count // len(classes)) :] for c in classes]


def part_of(source: Source, images: int, test_images: int, seed: int) -> Source:
    """Returns a source with a number of training and validation images, and the same test images for each seed."""
    parts = [np.split(of_class, [max(len(of_class) // 10, 1)]) for of_class in drawn(source.train, images, seed)]
    validation, train = (np.sort(np.concatenate(part)) for part in zip(*parts))
    return dataclasses.replace(
        source,
        train=source.train.take(train),
        validation=source.train.take(validation),
        test=source.test.take(np.sort(np.concatenate(drawn(source.test, test_images, 0)))),
    )


def probe_accuracy(recipe: Recipe, source: Source) -> float:
    model = new_model(recipe, source.class_names)
    reader = keras_vit.representation(model)

    def features(examples: Examples):
        return extract_features(reader, evaluation_batches(examples, model.input_shape[1:3], contract=pixels_of(model)))

    return linear_probe(*features(source.train), *features(source.test), verbose=False).accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--image-size", type=int, default=56)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 600, 2000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--test-images", type=int, default=2000)
    parser.add_argument("settings", nargs="*", metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    whole = open_source(arguments.data, validation=0.0, test=0.0)
    recipe = Recipe(
        data=arguments.data,
        variant=arguments.variant,
        image_size=arguments.image_size,
        weights=arguments.weights,
        exports=(),
        tensorboard=False,
        keep_checkpoints=1,
        checkpoint_seconds=1e6,
    )
    for images in arguments.images:
        for seed in arguments.seeds:
            source = part_of(whole, images, arguments.test_images, seed)
            settings = transfer_settings(len(source.train.labels))
            changed = change(dataclasses.replace(recipe, seed=seed, **settings), arguments.settings)
            row = {"images": images, "seed": seed, "probe": probe_accuracy(changed, source)}
            started = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                model, log = train(changed, source, folder)
            batches = evaluation_batches(source.test, model.input_shape[1:3], contract=pixels_of(model))
            row |= {"fit": score(model, batches).accuracy, "steps": log[-1]["step"]}
            row |= {"train": log[-1]["accuracy"], "val": log[-1].get("val_accuracy")}
            print(json.dumps(row | {"seconds": round(time.process_time() - started)}), flush=True)


if __name__ == "__main__":
    main()
