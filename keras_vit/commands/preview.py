"""`keras-vit preview`: a page of images as the training sees them."""

import pathlib

from keras_vit._progress import show_progress
from keras_vit.commands.examples import open_data
from keras_vit.commands.pages import preview_page


@show_progress()
def preview(recipe, path):
    """Writes a page of images as the training sees them, with their labels, and returns its path.

    Args:
        recipe: the `Recipe`.
        path: the page, an .html file.
    """
    source = open_data(recipe)
    preview_page(path, recipe, source)
    return pathlib.Path(path)
