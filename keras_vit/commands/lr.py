"""`keras-vit lr`: searches for a learning rate."""

from keras_vit._progress import show_progress
from keras_vit.commands.examples import open_recipe_data
from keras_vit.training.lr_finder import LearningRateSearch, search_learning_rate
from keras_vit.training.recipe import Recipe


@show_progress()
def find_learning_rate(recipe: Recipe, steps: int = 100) -> LearningRateSearch:
    """Searches for a learning rate of a recipe with a learning-rate range test.

    Args:
        recipe: the recipe.
        steps: maximum number of training steps. No weights are kept.

    Returns:
        The losses by learning rate, and a suggestion.

    Raises:
        ValueError: if the data cannot be used.
    """
    return search_learning_rate(recipe, open_recipe_data(recipe), steps)
