"""What a run can have its model learn: classes, or a pretext task that needs none."""

import dataclasses
from collections.abc import Callable

import keras

from keras_vit.pretraining import MaskedAutoencoder, MaskedPatches


@dataclasses.dataclass(frozen=True)
class Objective:
    """Describes what a model learns.

    Args:
        share: what the log's "accuracy" is, in words.
        network: function of (model, recipe) that returns the network to train: the model itself, or one around it
            whose output is (batch, 2), its own loss and share of right answers.
        has_classes: whether the model has a head for classes.
    """

    share: str
    network: Callable
    has_classes: bool = False


def _around(task):
    """Returns a `network` that has one layer, a pretext task with the model inside."""

    def network(model, recipe):
        return keras.Model(model.input, task(model, recipe)(model.input), name=recipe.objective.replace("-", "_"))

    return network


def vit_of(network):
    """Returns the model that a run leaves: its network itself, or the transformer inside the pretext task."""
    return getattr(network.layers[-1], "vit", network)


OBJECTIVES = {
    "classes": Objective("accuracy", lambda model, recipe: model, has_classes=True),
    "masked-patches": Objective(
        "colours right",
        _around(lambda model, recipe: MaskedPatches(model, recipe.corrupted or 0.5, name="masked_patches")),
    ),
    "mae": Objective(
        "variance explained",
        _around(
            lambda model, recipe: MaskedAutoencoder(
                model, recipe.corrupted or 0.75, recipe.decoder_layers, recipe.decoder_size, name="mae"
            )
        ),
    ),
}
