"""`keras-vit lr`: looks for a learning rate."""

from keras_vit._progress import show_progress
from keras_vit.commands.examples import open_data
from keras_vit.training.lr_finder import search_learning_rate as search


@show_progress()
def find_learning_rate(recipe, steps=100):
    """Returns the `Finding` of a search for a recipe's learning rate; nothing is kept of the training in it."""
    return search(recipe, open_data(recipe), steps)
