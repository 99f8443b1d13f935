"""Measures how planted wrong labels are recognized: python benchmarks/mislabelled.py DATA MODEL [OPTION ...]

DATA is as for `keras-vit fit`, MODEL as for `keras-vit evaluate`. A share of the labels of some training images is
replaced by other classes, uniformly at random. Prints, for `keras_vit.evaluation.label_errors` and for the votes of the
nearest neighbours in the same features, the share of replaced labels among the images that are listed first, as many as
were replaced (so that precision and recall are equal), and the share of all replaced labels in twice as many.

--fit trains a run of the same architecture, from MODEL, on the images with the replaced labels, and repeats the
measurement on its features: what it costs to search with a model that was trained on the wrong labels.
"""

import argparse
import dataclasses
import functools
import tempfile

import keras
import numpy as np

from keras_vit.commands.evaluate import _batches
from keras_vit.commands.image_model import open_model
from keras_vit.data.sources import Examples, open_source
from keras_vit.evaluation.feature_cache import cached_features, extract_features, model_digest
from keras_vit.evaluation.label_errors import label_errors
from keras_vit.evaluation.probes import NEIGHBOURS
from keras_vit.models.features import representation
from keras_vit.training import fit as fitting
from keras_vit.training.recipe import Recipe, change
from keras_vit.weights.download import cache_folder


def some(examples, count, seed=0):
    """Returns `count` of the examples, as many of each class, with their labels."""
    random, classes = np.random.default_rng(seed), np.unique(examples.labels)
    chosen = np.concatenate(
        [
            random.permutation(np.flatnonzero(examples.labels == number))[: round(count / len(classes))]
            for number in classes
        ]
    )
    return Examples(
        tuple(examples.images[i] for i in chosen),
        examples.labels[chosen],
        tuple(examples.names[i] for i in chosen),
        digests=tuple(examples.digests[i] for i in chosen),
        units=examples.units[chosen],
    )


def planted(labels, share, seed):
    """Returns labels of which a share is replaced by other classes, and which are: (images,) each."""
    random, classes = np.random.default_rng(seed), int(labels.max()) + 1
    wrong = np.zeros(len(labels), bool)
    wrong[random.choice(len(labels), round(share * len(labels)), replace=False)] = True
    return np.where(wrong, (labels + random.integers(1, classes, len(labels))) % classes, labels), wrong


def votes_against(features, labels, count=NEIGHBOURS, temperature=0.07):
    """Returns the share of the votes of the nearest images for other labels, (images,); votes as of `knn`."""
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype("float32")
    against = np.empty(len(labels))
    for start in range(0, len(labels), 1024):
        cosines = unit[start : start + 1024] @ unit.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf  # the image itself
        nearest = np.argpartition(-cosines, count, axis=1)[:, :count]
        weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1) / temperature)
        other = labels[nearest] != labels[start : start + 1024, None]
        against[start : start + 1024] = (weights * other).sum(axis=1) / weights.sum(axis=1)
    return against


def features_of(opened, examples):
    """Returns the features of examples, from the cache if they are in it."""
    key = "mislabelled", model_digest(opened.model), examples.digests, opened.image_size, repr(opened.pixels)
    extract = functools.partial(
        extract_features, representation(opened.model), _batches(opened, examples), len(examples.labels)
    )
    return cached_features(cache_folder() / "features", key, extract)[0]


def trained(options, examples, labels):
    """Returns a model that was trained on images with some labels, as the command line's MODEL is opened."""
    recipe = Recipe(
        data="",
        variant=options.variant,
        weights=options.model,
        image_size=options.image_size[0],
        checkpoint_seconds=1e6,
        tensorboard=False,
        exports=(),
    )
    recipe = change(recipe, options.fit)
    source = dataclasses.replace(
        open_source("synthetic:2x3"),
        class_names=tuple(map(str, range(int(labels.max()) + 1))),
        train=dataclasses.replace(examples, labels=labels),
        validation=some(dataclasses.replace(examples, labels=labels), 200),
    )
    with tempfile.TemporaryDirectory() as folder:
        model, log = fitting.train(recipe, source, folder)
    print(f"  trained: accuracy {log[-1]['accuracy']:.1%} on the labels it was given")
    return model


def measure(name, features, labels, wrong):
    """Prints and returns the share of the wrong labels in the first images, and in twice as many, by two methods."""
    errors, count, rows = label_errors(features, labels), int(wrong.sum()), {}
    print(f"  {name}: the regression agrees with {errors.agreement:.1%} of the labels")
    neighbours = f"{NEIGHBOURS} nearest neighbours"
    for method, scores in {"regression": errors.scores, neighbours: votes_against(features, labels)}.items():
        order = np.argsort(-scores, kind="stable")
        rows[f"{name}, {method}"] = wrong[order[:count]].mean(), wrong[order[: 2 * count]].sum() / count
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int, nargs=2)
    parser.add_argument("--pixels")
    parser.add_argument("--variant", default="ViT-S/14")
    parser.add_argument("--fit", nargs="*", metavar="FIELD=VALUE")
    options = parser.parse_args()
    opened = open_model(options.model, options.image_size, pixels=options.pixels)
    examples = some(open_source(options.data).train, options.images)
    features, recalls = features_of(opened, examples), []
    print(f"{len(examples.labels)} images, {opened.path}, {opened.image_size[0]} x {opened.image_size[1]} pixels")
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        labels, wrong = planted(examples.labels, options.share, seed)
        print(f"seed {seed}, {wrong.sum()} wrong labels")
        recalls.append(measure("MODEL", features, labels, wrong))
        if options.fit is not None:
            run = dataclasses.replace(opened, model=trained(options, examples, labels))
            recalls[-1] |= measure("the run", features_of(run, examples), labels, wrong)
    for name in recalls[0]:
        first, twice = np.array([of_seed[name] for of_seed in recalls]).T
        each = ", ".join(f"{recall:.1%}" for recall in first)
        print(f"{name}: recall {first.mean():.1%} ({each}), in twice as many {twice.mean():.1%}")


if __name__ == "__main__":
    main()
