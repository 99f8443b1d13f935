"""Training objectives: classes, labels and numbers, and the pre-training tasks that need none of them."""

import dataclasses
import logging
from collections.abc import Callable

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit.data.listing import Learns
from keras_vit.data.sources import Examples
from keras_vit.pretraining import MaskedAutoencoder, MaskedPatches
from keras_vit.pretraining.mae_files import continued_mae
from keras_vit.pretraining.pretext import PretextTask
from keras_vit.training.losses import CrossEntropy, LabelsLoss, LossFunction, NumbersLoss, OutputLoss
from keras_vit.training.recipe import LOSSES, Recipe

logger = logging.getLogger("keras_vit")

_MOST_POSITIVE_WEIGHT = 100.0  # of a label that is rarer than one image in a hundred, one image would rule a batch


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training objective.

    Args:
        metric: name of the metric in the "accuracy" column of the log, 1 at most.
        network: function of (model, recipe) that returns the network to train: the model itself, or a network around it
            whose output (batch, 2) is the loss and the metric of each image.
        loss: function of (recipe, training examples) that returns the loss of the network's outputs, or of the logits
            of the model's head.
        learns: what the head of the model learns; None for a model without a head.
        activation: of the head.
    """

    metric: str
    network: Callable[[keras.Model, Recipe], keras.Model]
    loss: Callable[[Recipe, Examples | None], LossFunction] = lambda recipe, examples: OutputLoss()
    learns: Learns | None = None
    activation: str | None = None

    @property
    def has_classes(self) -> bool:
        """Whether the outputs of the head have class names: of classes or of labels."""
        return self.learns in ("classes", "labels")


def _around(
    task: Callable[[keras.Model, Recipe], keras.layers.Layer],
) -> Callable[[keras.Model, Recipe], keras.Model]:
    """Returns the `network` function of a pre-training task: one layer with the model inside."""

    def network(model: keras.Model, recipe: Recipe) -> keras.Model:
        return keras.Model(model.input, task(model, recipe)(model.input), name=str(recipe.objective).replace("-", "_"))

    return network


def vit_of(network: keras.Model) -> keras.Model:
    """Returns the model that a run saves: the network itself, or the Vision Transformer inside a pre-training task."""
    return getattr(network.layers[-1], "vit", network)


def network_around(trainer: keras.Model, model: keras.Model) -> keras.Model:
    """Returns the network of a trainer around a model of the same architecture, with new weights and in float32."""
    task = trainer.layers[-1]
    if not isinstance(task, PretextTask):
        return model
    return keras.Model(model.input, task.around(model)(model.input), name=trainer.name)


def _itself(model: keras.Model, recipe: Recipe) -> keras.Model:
    return model


def loss_of(recipe: Recipe) -> str:
    """Returns the loss of a recipe: its own, or the default of its objective."""
    return recipe.loss or LOSSES.get(recipe.objective, ("softmax",))[0]


def _labels_loss(recipe: Recipe, examples: Examples | None) -> LossFunction:
    return LabelsLoss(recipe.label_smoothing, _positive_weights(recipe, examples))


def _positive_weights(recipe: Recipe, examples: Examples | None) -> tuple[float, ...] | None:
    """Returns the weight of each label where an image has it: as many as the images without it, or None for 1."""
    if recipe.class_weights != "balanced" or examples is None:
        return None
    share = examples.labels.mean(axis=0)
    weights = np.minimum((1 - share) / np.maximum(share, 1 / len(examples.labels)), _MOST_POSITIVE_WEIGHT)
    return tuple(np.maximum(weights, 1 / _MOST_POSITIVE_WEIGHT).tolist())


def _masked_autoencoder(model: keras.Model, recipe: Recipe) -> MaskedAutoencoder:
    """Returns the task, with the decoder of the recipe's checkpoint where it has one that fits."""
    own = recipe.decoder_layers != Recipe.decoder_layers or recipe.decoder_size is not None
    if recipe.weights and not own and recipe.channels == 3:  # the decoder's last layer predicts as many channels
        if task := continued_mae(recipe.weights, model, recipe.corrupted):
            logger.info(
                "continues with the decoder of %s: %s of %d, %d %% of the patches hidden, pixels %s by their patch",
                recipe.weights,
                counted(task.decoder_layers, "block"),
                task.decoder_size,
                round(100 * task.mask_ratio),
                "normalized" if task.normalized else "not normalized",
            )
            return task
    if recipe.weights:
        logger.info("a new decoder, not one of the checkpoint: %s", counted(recipe.decoder_layers, "block"))
    return MaskedAutoencoder(model, recipe.corrupted or 0.75, recipe.decoder_layers, recipe.decoder_size, name="mae")


OBJECTIVES: dict[str | None, Objective] = {
    "classes": Objective(
        "accuracy",
        _itself,
        lambda recipe, examples: CrossEntropy(loss_of(recipe), recipe.label_smoothing),
        "classes",
        "softmax",
    ),
    "labels": Objective("F1 of an image", _itself, _labels_loss, "labels", "sigmoid"),
    "numbers": Objective("explained variance", _itself, lambda recipe, _: NumbersLoss(loss_of(recipe)), "numbers"),
    "masked-patches": Objective(
        "colour accuracy",
        _around(lambda model, recipe: MaskedPatches(model, recipe.corrupted or 0.5, name="masked_patches")),
    ),
    "mae": Objective("explained variance", _around(_masked_autoencoder)),
}
OBJECTIVES[None] = OBJECTIVES["classes"]  # of a recipe that states none
