"""The head of a model at the start of a run: a linear probe on the features of its checkpoint."""

import logging

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Source
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.probes import probe_head
from keras_vit.models.features import representation
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import pixels_of
from keras_vit.training.recipe import Recipe

_log = logging.getLogger("keras_vit")

MOST_PROBED = 10_000  # that a head is fitted on; of more, these are drawn


def start_head(recipe: Recipe, model: keras.Model, source: Source) -> None:
    """Sets a model's head to a linear classifier or regression on its features of the training images, if asked for.

    Training all weights from such a head changes the features less than from a random or a zero head.

    Args:
        recipe: its `head` is "new", and nothing is changed, or "probe".
        model: the model of `new_model`, before it is trained.
        source: the images, as `prepared` returns them.

    Source: arXiv:2202.10054.
    """
    head = head_of(model)
    if recipe.head == "new" or head is None:
        return
    examples, count = source.train, len(source.train.labels)
    if count > MOST_PROBED:
        random = np.random.default_rng(recipe.seed)
        examples = examples.take(np.sort(random.choice(count, MOST_PROBED, replace=False)))
    _log.info("head=probe: fits the head on the features of %s", counted(len(examples.labels), "training image"))
    size, protocol = model.input_shape[1:3], recipe.evaluation
    batches = evaluation_batches(examples, size, contract=pixels_of(model), protocol=protocol)
    features, labels = extract_features(representation(model), batches, len(examples.labels))
    _log.info("head=probe: chooses the regularisation on %d features of each image", features.shape[1])
    kernel, bias = probe_head(features, labels, source.learns, head.units, recipe.seed)
    head.kernel.assign(kernel)
    head.bias.assign(bias)
