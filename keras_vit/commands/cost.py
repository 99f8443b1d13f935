"""`keras-vit cost`: parameters, multiply-accumulates and activation memory of a model, a variant or a recipe."""

import dataclasses
import difflib
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import keras

from keras_vit.builders import build
from keras_vit.evaluation.cost import Cost, cost, pretraining_exaflops
from keras_vit.models.config import VARIANTS

if TYPE_CHECKING:
    from keras_vit.models.config import Pooling
    from keras_vit.training.recipe import Recipe

# Modules that read runs and data import TensorFlow, so they are imported where they are needed: a variant needs none.
_CLASSES = 1000  # of the head, if the data is not on this machine; published parameter counts are for 1,000 too


@dataclasses.dataclass(frozen=True)
class NamedCost:
    """The cost of a model, a variant or a recipe.

    Args:
        name: as on the command line.
        cost: of one image.
        images: number of images in its training, over all epochs; None if it is unknown.
    """

    name: str
    cost: Cost
    images: int | None = None

    @property
    def exaflops(self) -> float | None:
        """Floating-point operations of the training, in 1e18; None if the number of images is unknown."""
        return self.images and pretraining_exaflops(self.cost.multiply_accumulates, self.images)


def cost_of(
    target: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
    settings: Iterable[str] = (),
    images: int | None = None,
) -> NamedCost:
    """Counts the parameters, multiply-accumulates and activation memory of a model, a variant or a recipe.

    The weights of a variant or a recipe are never created, so any size is counted in seconds. Keras keeps such
    uninitialized weights in a global list: call this in a process that builds no other models.

    Args:
        target: a recipe (its name or its .py file), the name of a variant, a .keras file, the folder of a run, or a
            checkpoint as in `keras_vit.load`.
        image_size: (height, width) in pixels; by default that of the model or recipe, 224 x 224 for a variant.
        settings: "field=value" texts that change a recipe.
        images: number of training images, for a recipe; by default they are counted if the data is on this machine.

    Raises:
        ValueError: if the target is unknown, the image size does not fit it, or `settings` or `images` are set for
            anything but a recipe.
    """
    if str(target).endswith(".py") or _names_recipe(target):
        return _recipe_cost(target, image_size, settings, images)
    if settings or images is not None:
        raise ValueError(
            "Expected settings and a number of images with a recipe only. "
            f"Received: target={target}, settings={tuple(settings)}, images={images}"
        )
    if target in VARIANTS:
        with keras.StatelessScope(initialize_variables=False):
            return NamedCost(target, cost(build(target, input_shape=(*(image_size or (224, 224)), 3))))
    return NamedCost(str(target), cost(_model(target, image_size)))


def _names_recipe(target: str | os.PathLike[str]) -> bool:
    from keras_vit.commands.recipes import find_recipe_file

    return target not in VARIANTS and not os.path.exists(target) and find_recipe_file(target) is not None


def training_images(recipe: "Recipe", images: int | None) -> int | None:
    """Returns the number of images in the training of a recipe over all epochs, or None if it is unknown.

    Args:
        recipe: the recipe.
        images: number of images in an epoch; None if it is unknown.
    """
    if recipe.steps is not None:
        return recipe.steps * recipe.batch_size
    return None if images is None else recipe.epochs * images


def _recipe_cost(
    target: str | os.PathLike[str], image_size: tuple[int, int] | None, settings: Iterable[str], images: int | None
) -> NamedCost:
    from keras_vit.commands.examples import open_recipe_data
    from keras_vit.commands.recipes import find_recipe

    if images is not None and images < 1:
        raise ValueError(f"Expected 1 image or more. Received: images={images}")
    recipe, _, source = find_recipe(target, settings, fetch=False)
    classes = _CLASSES
    if images is None and recipe.steps is None and _is_local(recipe.data):
        source = source or open_recipe_data(recipe)
        images, classes = len(source.train.labels), len(source.class_names)
    with keras.StatelessScope(initialize_variables=False):
        model = build(
            recipe.variant,
            input_shape=(*(image_size or recipe.size), recipe.channels),
            pooling=cast("Pooling | None", recipe.pooling),
            classes=classes,
            representation_size=recipe.representation_size,
        )
        return NamedCost(str(target), cost(model), training_images(recipe, images))


def _is_local(data: str) -> bool:
    """Returns whether data is on this machine, so that counting its images downloads nothing."""
    return data == "digits" or data.startswith("synthetic") or pathlib.Path(data).exists()


def _model(target: str | os.PathLike[str], image_size: tuple[int, int] | None) -> keras.Model:
    from keras_vit.commands.image_model import is_checkpoint, load_keras_model

    if not pathlib.Path(target).exists() and not is_checkpoint(target):
        near = difflib.get_close_matches(str(target), VARIANTS, n=3, cutoff=0.4) or VARIANTS
        raise ValueError(
            "Expected the file of a model, the folder of a run, or the name of a recipe, a variant or a checkpoint."
            f" Received: {target}, which does not exist. Nearest variants: {', '.join(near)}"
        )
    return load_keras_model(target, image_size)[1]
