"""Training objectives: classification, and the pre-training tasks that need no classes."""

import dataclasses
from collections.abc import Callable

import keras

from keras_vit.pretraining import MaskedAutoencoder, MaskedPatches
from keras_vit.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training objective.

    Args:
        metric: name of the metric in the "accuracy" column of the log.
        network: function of (model, recipe) that returns the network to train: the model itself, or a network around it
            whose output (batch, 2) is the loss and the metric of each image.
        has_classes: whether the model has a classification head.
    """

    metric: str
    network: Callable[[keras.Model, Recipe], keras.Model]
    has_classes: bool = False


def _around(
    task: Callable[[keras.Model, Recipe], keras.layers.Layer],
) -> Callable[[keras.Model, Recipe], keras.Model]:
    """Returns the `network` function of a pre-training task: one layer with the model inside."""

    def network(model: keras.Model, recipe: Recipe) -> keras.Model:
        return keras.Model(model.input, task(model, recipe)(model.input), name=recipe.objective.replace("-", "_"))

    return network


def vit_of(network: keras.Model) -> keras.Model:
    """Returns the model that a run saves: the network itself, or the Vision Transformer inside a pre-training task."""
    return getattr(network.layers[-1], "vit", network)


OBJECTIVES = {
    "classes": Objective("accuracy", lambda model, recipe: model, has_classes=True),
    "masked-patches": Objective(
        "colour accuracy",
        _around(lambda model, recipe: MaskedPatches(model, recipe.corrupted or 0.5, name="masked_patches")),
    ),
    "mae": Objective(
        "explained variance",
        _around(
            lambda model, recipe: MaskedAutoencoder(
                model, recipe.corrupted or 0.75, recipe.decoder_layers, recipe.decoder_size, name="mae"
            )
        ),
    ),
}
