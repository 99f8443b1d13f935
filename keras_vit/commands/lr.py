"""`keras-vit lr`: searches for a learning rate."""

from keras_vit._progress import show_progress
from keras_vit.commands.examples import open_recipe_data
from keras_vit.data.sources import Source
from keras_vit.training.lr_finder import LearningRateSearch, search_learning_rate
from keras_vit.training.recipe import Recipe


@show_progress()
def find_learning_rate(recipe: Recipe, steps: int = 100, source: Source | None = None) -> LearningRateSearch:
    """Searches for a learning rate of a recipe with a learning-rate range test.

    Args:
        recipe: the recipe.
        steps: maximum number of training steps. No weights are kept.
        source: its images, if they are open.

    Returns:
        The losses by learning rate, and a suggestion.

    Raises:
        ValueError: if the data cannot be used.
    """
    return search_learning_rate(recipe, source or open_recipe_data(recipe), steps)
