"""`keras-vit preview`: writes a page of augmented training images."""

import os
import pathlib

from keras_vit._progress import show_progress
from keras_vit.commands.examples import open_recipe_data
from keras_vit.commands.pages import write_preview_page
from keras_vit.data.sources import Source
from keras_vit.training.recipe import Recipe


@show_progress()
def preview(recipe: Recipe, path: str | os.PathLike[str], source: Source | None = None) -> pathlib.Path:
    """Writes an HTML page of the first training batches of a recipe, augmented and with their labels.

    Args:
        recipe: the recipe.
        path: the .html file to write.
        source: its images, if they are open.

    Returns:
        The path.
    """
    write_preview_page(path, recipe, source or open_recipe_data(recipe))
    return pathlib.Path(path)
