"""A row of a study: trains a recipe on a fraction of its images, and evaluates the model on the test images."""

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Examples, Source, open_source
from keras_vit.evaluation.cost import cost
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.few_shot import REGULARIZER, few_shot
from keras_vit.models.features import representation
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import pixels_of
from keras_vit.training import Recipe
from keras_vit.training.fit import train
from keras_vit.training.model import new_model

DATA = ("data", "data_dir", "train_split", "validation_split", "test_split", "validation", "test", "on_bad_image")
DRAWS, DRAWN_FROM = 10, 100  # few-shot draws, whose mean is the result, and the images of a class to draw from
BATCH = 500  # images of a batch in evaluation


@dataclasses.dataclass(frozen=True)
class Trial:
    """A row that trains a recipe and evaluates the model on the test images.

    Args:
        recipe: the recipe; the seed of the run replaces its own, but for the split.
        share: fraction of each class's training images to train on; each seed draws others.
        shots: images a class of a few-shot linear classifier on the features; 0 for none.
    """

    recipe: Recipe
    share: float = 1.0
    shots: int = 0

    def __call__(self, seed: int) -> dict[str, float]:
        """Returns the numbers of one run: accuracies from 0 to 1, and the seconds of processor time."""
        started = time.process_time()
        whole = opened(*(getattr(self.recipe, name) for name in DATA))
        count = round(self.share * len(whole.train.labels))
        # Images that a short run never reaches need not be decoded: a fraction of the fraction, drawn in the same way.
        seen = min(1.0, self.recipe.steps * self.recipe.batch_size / count) if self.recipe.steps else 1.0
        source = dataclasses.replace(whole, train=fraction_of(whole.train, self.share * seen, seed))
        recipe = dataclasses.replace(self.recipe, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            model, log = train(recipe, source, folder)
        model_cost = cost(keras.Model(model.input, model.output))  # of all tokens, as published counts are
        numbers = {
            "images": count,
            "steps": log[-1]["step"],
            "parameters": model_cost.parameters,
            "multiply_accumulates": model_cost.multiply_accumulates,
            "train_loss": log[-1]["loss"],
            "train_accuracy": log[-1]["accuracy"],
        }
        numbers |= {name: log[-1][name] for name in ("val_loss", "val_accuracy") if name in log[-1]}
        numbers |= scores(model, whole, recipe.evaluation, self.shots)
        return numbers | {"seconds": time.process_time() - started}


@functools.lru_cache(maxsize=2)
def opened(
    data: str,
    data_dir: str | None,
    train_split: str | None,
    validation_split: str | None,
    test_split: str | None,
    validation: float,
    test: float,
    on_bad_image: str,
) -> Source:
    """Returns the source of a recipe's data, with the same splits for all seeds."""
    splits = {"train_split": train_split, "validation_split": validation_split, "test_split": test_split}
    shares = {"validation": validation, "test": test}
    return open_source(data, data_dir=data_dir, **splits, **shares, on_bad_image=on_bad_image)


def fraction_of(examples: Examples, fraction: float, seed: int) -> Examples:
    """Returns a fraction of each class's examples, at least one; with the same seed, larger ones contain smaller."""
    if fraction == 1:
        return examples
    random = np.random.default_rng(seed)
    drawn = [random.permutation(np.flatnonzero(examples.labels == label)) for label in np.unique(examples.labels)]
    return examples.take(np.sort(np.concatenate([some[: max(1, round(fraction * len(some)))] for some in drawn])))


def cost_of(recipe: Recipe) -> int:
    """Returns the multiply-accumulates of one image in a recipe's model with ten classes, for all of its tokens."""
    model = new_model(recipe, [str(i) for i in range(10)])
    return cost(keras.Model(model.input, model.output)).multiply_accumulates


def scores(model: keras.Model, source: Source, protocol: str = "official", shots: int = 0) -> dict[str, float]:
    """Returns the test accuracy of a model's head and, with `shots`, that of a few-shot classifier on its features."""
    reader, head = representation(model), head_of(model)

    def features_of(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        return extract_features(reader, batches(examples, model.input_shape[1:3], pixels_of(model), protocol))

    features, labels = features_of(source.test)
    kernel, bias = (np.asarray(weight) for weight in (head.kernel, head.bias))
    accuracies = {"accuracy": float(np.mean((features @ kernel + bias).argmax(axis=1) == labels))}
    if shots:
        counts = np.bincount(source.train.labels)
        pool = features_of(fraction_of(source.train, min(1.0, DRAWN_FROM / counts[counts > 0].min()), seed=0))
        drawn = [few_shot(*pool, features, labels, (shots,), (REGULARIZER,), seed) for seed in range(DRAWS)]
        accuracies[f"{shots}_shot"] = statistics.mean(result.at(shots) for result in drawn)
    return accuracies


@functools.lru_cache(maxsize=2)
def batches(examples: Examples, image_size: tuple[int, int], pixels: Any, protocol: str) -> Sequence[Any]:
    """Returns a list of (images, labels); cached, as all rows of a study are evaluated on the same examples."""
    read = evaluation_batches(examples, image_size, batch_size=BATCH, contract=pixels, protocol=protocol)
    return list(read.as_numpy_iterator())
