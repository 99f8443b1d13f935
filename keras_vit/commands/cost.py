"""What a model, a variant or a recipe costs; joins the parts for the command line."""

import dataclasses
import difflib
import pathlib

import keras

from keras_vit.builders import build
from keras_vit.evaluation.cost import Cost, cost, pretraining_exaflops
from keras_vit.models.config import VARIANTS

# What reads runs and data imports TensorFlow, and so it is imported where it is needed: a variant does without.
CLASSES = 1000  # of the head, where there is no data to count them in: those that parameters are published for


@dataclasses.dataclass(frozen=True)
class Costing:
    """Holds what something costs.

    Args:
        name: what it is.
        cost: of one image, a `Cost`.
        images: that its training sees, those of all epochs; None where that is not known.
    """

    name: str
    cost: Cost
    images: int | None = None

    @property
    def exaflops(self):
        """Of its training, 1e18 floating-point operations; None where the images are not known."""
        return self.images and pretraining_exaflops(self.cost.multiply_accumulates, self.images)


def cost_of(target, image_size=None, settings=(), images=None):
    """Returns the `Costing` of what a command names.

    A variant's or a recipe's weights are never made, so that any size is counted in seconds; Keras keeps them on its
    list of those to be made, so this is for a process of its own.

    Args:
        target: a recipe's .py file; a variant's name; a .keras file, a run's folder, or what `keras_vit.load` takes.
        image_size: (rows, columns), pixels; the target's own by default, 224 x 224 of a variant.
        settings: "field=value" texts that change a recipe.
        images: images of a recipe's training set; counted by default, where that needs no download.

    Raises:
        ValueError: if there is no such target, it takes no images of that size, or settings or images are given
            without a recipe.
    """
    if str(target).endswith(".py"):
        return _of_recipe(target, image_size, settings, images)
    if settings or images is not None:
        raise ValueError(
            f"Expected settings and a number of images with a recipe, a .py file, alone. Received: {target}"
        )
    if target in VARIANTS:
        with keras.StatelessScope(initialize_variables=False):
            return Costing(target, cost(build(target, input_shape=_shape(image_size or (224, 224)))))
    return Costing(str(target), cost(_model(target, image_size)))


def training_images(recipe, images):
    """Returns how many images the training of a recipe sees, or None if that is not known.

    Args:
        recipe: the `Recipe`.
        images: of an epoch; None if that is not known.
    """
    if recipe.steps is not None:
        return recipe.steps * recipe.batch_size
    return images and recipe.epochs * images


def _of_recipe(target, image_size, settings, images):
    from keras_vit.commands.recipes import find_recipe
    from keras_vit.training.recipe import change

    if images is not None and images < 1:
        raise ValueError(f"Expected 1 image or more. Received: images={images}")
    recipe = change(find_recipe(target)[0], settings)
    classes = CLASSES
    if images is None and recipe.steps is None and _is_here(recipe.data):
        images, classes = _counted(recipe)
    with keras.StatelessScope(initialize_variables=False):
        model = build(
            recipe.variant,
            input_shape=_shape(image_size or (recipe.image_size, recipe.image_size)),
            pooling=recipe.pooling,
            classes=classes,
            representation_size=recipe.representation_size,
        )
        return Costing(str(target), cost(model), training_images(recipe, images))


def _is_here(data):
    """Returns whether data is in this machine's files, so that counting it downloads and prepares nothing."""
    return data == "digits" or data.startswith("synthetic") or pathlib.Path(data).exists()


def _counted(recipe):
    """Returns the number of training images and of classes."""
    from keras_vit.commands.examples import open_data

    source = open_data(recipe)
    return len(source.train.labels), len(source.class_names)


def _shape(image_size):
    return (*image_size, 3)


def _model(target, image_size):
    """Returns a model from its file, at another size where one is wanted."""
    from keras_vit.commands.classifier import is_checkpoint, load_model

    if not pathlib.Path(target).exists() and not is_checkpoint(target):
        near = difflib.get_close_matches(str(target), VARIANTS, n=3, cutoff=0.4) or VARIANTS
        raise ValueError(
            "Expected a model's file, the folder of a run, a recipe (.py), or a variant or checkpoint by its name. "
            f"Received: {target}, no such file. Nearest variants: {', '.join(near)}"
        )
    return load_model(target, image_size)[1]
