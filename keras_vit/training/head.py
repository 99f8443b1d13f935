"""The head of a model at the start of a run: a linear probe on the features of its checkpoint, or its own."""

import logging
from collections.abc import Sequence

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit._arguments import counted
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Source
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.probes import probe_head
from keras_vit.models.features import representation
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import pixels_of
from keras_vit.models.resnet import classifier
from keras_vit.models.vision_model import VisionModel
from keras_vit.training.recipe import Recipe

_log = logging.getLogger("keras_vit")

MOST_PROBED = 10_000  # that a head is fitted on; of more, these are drawn


def start_head(recipe: Recipe, model: keras.Model, source: Source) -> None:
    """Sets a model's head to a linear classifier or regression on its features of the training images, if asked for.

    Training all weights from such a head changes the features less than from a random or a zero head.

    Args:
        recipe: its `head` is "probe"; nothing is changed if it is another.
        model: the model of `new_model`, before it is trained.
        source: the images, as `prepared` returns them.

    Source: arXiv:2202.10054.
    """
    head = head_of(model)
    if recipe.head != "probe" or head is None:
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


def with_head_of(model: keras.Model, class_names: Sequence[str], activation: str | None) -> VisionModel:
    """Returns a classifier with the part of its head that is of some of its classes, in their order.

    Args:
        model: the classifier, with class names.
        class_names: the classes to keep.
        activation: of the outputs.

    Raises:
        ValueError: if the model has no head of one dense layer, or lacks one of the classes.
    """
    head, own = head_of(model), getattr(model, "class_names", None) or ()
    if missing := [name for name in class_names if name not in own]:
        raise ValueError(
            f"Expected a checkpoint with the classes of the images for head='kept'. Received: {model.name!r} with "
            f"{checked.first_few(own) or 'no class names'}, without {checked.first_few(missing)}. Set head=probe for a "
            "new head, or give the classes the same names"
        )
    if head is None or type(head) is not keras.layers.Dense:
        raise ValueError(f"Expected a head of one dense layer for head='kept'. Received: {model.name!r}")
    others = [name for name in own if name not in class_names]
    _log.info(
        "head=kept: begins with the head of the checkpoint%s", f", without {checked.first_few(others)}" * bool(others)
    )
    outputs = classifier(head.input, len(class_names), activation)
    result = VisionModel(
        model.input, outputs, name=model.name, class_names=class_names, license=getattr(model, "license", None)
    )
    columns = [own.index(name) for name in class_names]
    for new, old in zip(result.get_layer("head").weights, head.weights):
        new.assign(keras.ops.convert_to_numpy(old)[..., columns])
    return result
