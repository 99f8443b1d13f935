"""Measures how well scores reject foreign images, those of no class of a classifier: the numbers of docs/evaluating.md.

python benchmarks/reject.py digits
python benchmarks/reject.py cifar10 --data cifar10.zip --weights vit_s14.npz [--images 200]

"digits" trains the recipe of the demo, and rejects Fashion-MNIST. "cifar10" fits a linear head on the features of a
ViT-S/14 at 56 x 56 pixels for 7 classes of DATA, others for each seed, and rejects the test images of the 3 others.
DATA is a .zip with train/CLASS and test/CLASS. The first images of each class are used, a fifth of the training images
for validation.

The threshold of each score is chosen for 5 % false rejects, as in `keras_vit.evaluation.fit_reject`. Prints the share
of the foreign images below it, the area under the ROC curve, and the share of the test images below it, which are
rejected wrongly, with its 95 % interval.
"""

import argparse
import collections
import dataclasses
import pathlib
import runpy
import tempfile

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import keras_vit
from keras_vit.data import Examples, open_source
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import list_own
from keras_vit.evaluation import wilson_interval
from keras_vit.models.features import representation
from keras_vit.models.hooks import head_of
from keras_vit.training import train

SHARE = 0.05
SEEDS = range(3)
DIGITS = pathlib.Path(__file__).parents[1] / "recipes" / "digits.py"


def features_of(model, examples):
    batches = evaluation_batches(examples, model.input_shape[1:3], contract=keras_vit.pixels_of(model))
    extractor = representation(model)
    return np.concatenate([np.asarray(extractor.predict_on_batch(np.asarray(images))) for images, _ in batches])


def fit_temperature(logits, labels):
    """Returns the temperature of the least cross-entropy, as in arXiv:1706.04599, from 0.05 to 20."""

    def loss(log_temperature):
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def mahalanobis(train_features, labels):
    """Returns minus the squared distance to the nearest mean of a class, with one covariance of all classes."""
    means = np.stack([train_features[labels == i].mean(axis=0) for i in range(labels.max() + 1)])
    centred = train_features - means[labels]
    covariance = centred.T @ centred / len(centred)
    covariance += 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    whiten = np.linalg.cholesky(np.linalg.inv(covariance))

    def score(features):
        distances = (features @ whiten)[:, None] - (means @ whiten)[None]
        return -(distances**2).sum(axis=-1).min(axis=1)

    return score


def measured(features, labels, kernel, bias):
    """Returns {score: (share of foreign images rejected, area under the ROC curve, false rejects of test images)}.

    Args:
        features: {split: (images, features)}, with the split "foreign".
        labels: {split: (images,)}.
        kernel, bias: of the head.
    """
    logits = {split: values @ kernel + bias for split, values in features.items()}
    temperature = fit_temperature(logits["validation"], labels["validation"])
    distance = mahalanobis(features["train"], labels["train"])
    scores = {
        "highest probability": lambda split: log_softmax(logits[split], axis=1).max(axis=1),
        "highest probability, temperature": lambda split: log_softmax(logits[split] / temperature, axis=1).max(axis=1),
        "energy": lambda split: logsumexp(logits[split], axis=1),
        "energy, temperature": lambda split: temperature * logsumexp(logits[split] / temperature, axis=1),
        "highest logit": lambda split: logits[split].max(axis=1),
        "Mahalanobis": lambda split: distance(features[split]),
    }
    accuracy = (logits["test"].argmax(axis=1) == labels["test"]).mean()
    print(
        f"  temperature {temperature:.2f}, accuracy {accuracy:.2%}, images: "
        + ", ".join(f"{len(values)} {split}" for split, values in features.items()),
        flush=True,
    )
    rows = {}
    for name, score in scores.items():
        validation, test, foreign = (score(split) for split in ("validation", "test", "foreign"))
        threshold = np.sort(validation)[int(SHARE * (len(validation) + 1)) - 1]  # as in fit_reject
        known = np.repeat([1, 0], [len(test), len(foreign)])
        area = roc_auc_score(known, np.concatenate([test, foreign]))
        rejected = int((test < threshold).sum())
        low, high = wilson_interval(rejected, len(test))
        rows[name] = (foreign < threshold).mean(), area, rejected / len(test), low <= SHARE <= high
        print(
            f"  {name:33} foreign rejected {rows[name][0]:6.1%}, area {area:.3f}, "
            f"false rejects {rejected / len(test):.1%} ({low:.1%} to {high:.1%})",
            flush=True,
        )
    return rows


def of_run(model, source, foreign):
    splits = {split: getattr(source, split) for split in ("train", "validation", "test")}
    features = {split: features_of(model, examples) for split, examples in {**splits, "foreign": foreign}.items()}
    head = head_of(model)
    labels = {split: examples.labels for split, examples in splits.items()}
    return measured(features, labels, *(np.asarray(weight) for weight in (head.kernel, head.bias)))


def digits(options):
    recipe = runpy.run_path(str(DIGITS))["RECIPE"]
    source = open_source(recipe.data)
    for seed in SEEDS:
        print(f"seed {seed}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            model, _ = train(dataclasses.replace(recipe, seed=seed, tensorboard=False), source, folder)
        yield of_run(model, source, open_source("fashion_mnist").test)


def cifar10(options):
    listing = list_own(options.data)
    counts, chosen = collections.Counter(), []
    for image in listing.images:
        counts[image.split, image.class_name] += 1
        if counts[image.split, image.class_name] <= options.images:
            chosen.append(image)
    labels = np.array([listing.class_names.index(image.class_name) for image in chosen])
    splits = np.array([image.split for image in chosen])
    size = {"input_shape": (56, 56, 3), "pooling": "token", "gelu": "erf"}
    model = keras_vit.build("ViT-S/14", include_top=False, weights=str(options.weights), **size)
    files, names = zip(*((image.file, image.name) for image in chosen))
    features = features_of(model, Examples(files, labels, names))
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        classes = random.permutation(len(listing.class_names))
        known, held_out = np.sort(classes[3:]), classes[:3]
        print(f"seed {seed}, without {', '.join(listing.class_names[i] for i in held_out)}", flush=True)
        is_known = np.isin(labels, known)
        train = random.permutation(np.flatnonzero(is_known & (splits == "train")))
        validation, train = np.split(train, [len(train) // 5])
        test = np.flatnonzero(is_known & (splits == "test"))
        rows = {"train": train, "validation": validation, "test": test}
        numbers = {split: np.searchsorted(known, labels[indices]) for split, indices in rows.items()}
        head = LogisticRegression(C=0.01, max_iter=1000).fit(features[train], numbers["train"])
        rows["foreign"] = np.flatnonzero(~is_known & (splits == "test"))
        parts = {split: features[indices] for split, indices in rows.items()}
        yield measured(parts, numbers, head.coef_.T, head.intercept_)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("digits", "cifar10"))
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=200, help="of a class and split (default: 200)")
    options = parser.parse_args()
    runs = list({"digits": digits, "cifar10": cifar10}[options.task](options))
    print(f"mean of {len(runs)} seeds (lowest to highest)")
    for name in runs[0]:
        foreign, area, false, _ = np.array([rows[name] for rows in runs]).T
        print(
            f"  {name:33} foreign rejected {foreign.mean():6.1%} ({foreign.min():.1%} to {foreign.max():.1%}), "
            f"area {area.mean():.3f}, false rejects {false.mean():.1%}"
        )


if __name__ == "__main__":
    main()
