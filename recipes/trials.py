"""What a row of a study is: a recipe on a part of its images, trained by the one fit path and scored."""

import dataclasses
import functools
import statistics
import tempfile
import time

import numpy as np

from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Examples, open_source
from keras_vit.evaluation.cost import cost
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.few_shot import REGULARIZER, few_shot
from keras_vit.models.features import representation
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import pixels_of
from keras_vit.training.fit import train
from keras_vit.training.model import new_model
from keras_vit.training.recipe import Recipe

DATA = ("data", "data_dir", "train_split", "validation_split", "test_split", "validation", "test", "on_bad_image")
DRAWS, DRAWN_FROM = 10, 100  # drawings of a few images, whose mean is told, and the images of a class for them
BATCH = 500  # images scored at once


@dataclasses.dataclass(frozen=True)
class Trial:
    """Describes a row that is trained by the one fit path and scored on the test images.

    Args:
        recipe: its `Recipe`; the seed of the run takes the place of its own, but for the split.
        share: part of each class's training images that is trained on; each seed draws others.
        shots: images a class that a linear classifier learns from on the features; 0 for no such score.
    """

    recipe: Recipe
    share: float = 1.0
    shots: int = 0

    def __call__(self, seed):
        """Returns the numbers of one run: accuracies from 0 to 1, and the processor's seconds for all of it."""
        started = time.process_time()
        whole = opened(*(getattr(self.recipe, name) for name in DATA))
        given = round(self.share * len(whole.train.labels))
        # What a run will not see need not be decoded: a part of the part, drawn alike.
        seen = min(1.0, self.recipe.steps * self.recipe.batch_size / given) if self.recipe.steps else 1.0
        source = dataclasses.replace(whole, train=share_of(whole.train, self.share * seen, seed))
        recipe = dataclasses.replace(self.recipe, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            model, log = train(recipe, source, folder)
        spent = cost(model)
        found = {
            "images": given,
            "steps": log[-1]["step"],
            "parameters": spent.parameters,
            "multiply_accumulates": spent.multiply_accumulates,
            "train_loss": log[-1]["loss"],
            "train_accuracy": log[-1]["accuracy"],
        }
        found |= {name: log[-1][name] for name in ("val_loss", "val_accuracy") if name in log[-1]}
        found |= scores(model, whole, recipe.evaluation, self.shots)
        return found | {"seconds": time.process_time() - started}


@functools.lru_cache(maxsize=2)
def opened(data, data_dir, train_split, validation_split, test_split, validation, test, on_bad_image):
    """Returns the `Source` of a recipe's data, always of the same splits."""
    splits = {"train_split": train_split, "validation_split": validation_split, "test_split": test_split}
    shares = {"validation": validation, "test": test}
    return open_source(data, data_dir=data_dir, **splits, **shares, on_bad_image=on_bad_image)


def share_of(examples, share, seed):
    """Returns a part of each class's examples, at least one; a smaller part of the same seed lies in a larger one."""
    if share == 1:
        return examples
    random = np.random.default_rng(seed)
    drawn = [random.permutation(np.flatnonzero(examples.labels == label)) for label in np.unique(examples.labels)]
    return _some(examples, np.sort(np.concatenate([some[: max(1, round(share * len(some)))] for some in drawn])))


def _some(examples, indices):
    images, names = (tuple(getattr(examples, what)[i] for i in indices) for what in ("images", "names"))
    weights = None if examples.weights is None else examples.weights[indices]
    return Examples(images, examples.labels[indices], names, weights)


def cost_of(recipe):
    """Returns the multiply-accumulates of one image, of a recipe's model with ten classes."""
    return cost(new_model(recipe, 10)).multiply_accumulates


def scores(model, source, protocol="official", shots=0):
    """Returns the test accuracy of a model's head and, with `shots`, that of a linear classifier on its features."""
    reader, head = representation(model), head_of(model)

    def features_of(examples):
        return extract_features(reader, batches(examples, model.input_shape[1:3], pixels_of(model), protocol))

    features, labels = features_of(source.test)
    kernel, bias = (np.asarray(weight) for weight in (head.kernel, head.bias))
    found = {"accuracy": float(np.mean((features @ kernel + bias).argmax(axis=1) == labels))}
    if shots:
        counts = np.bincount(source.train.labels)
        pool = features_of(share_of(source.train, min(1.0, DRAWN_FROM / counts[counts > 0].min()), seed=0))
        drawn = [few_shot(*pool, features, labels, (shots,), (REGULARIZER,), seed) for seed in range(DRAWS)]
        found[f"{shots}_shot"] = statistics.mean(result.at(shots) for result in drawn)
    return found


@functools.lru_cache(maxsize=2)
def batches(examples, image_size, pixels, protocol):
    """Returns a list of (images, labels); those of the last examples are kept, for a study scores on the same."""
    read = evaluation_batches(examples, image_size, batch_size=BATCH, contract=pixels, protocol=protocol)
    return list(read.as_numpy_iterator())
