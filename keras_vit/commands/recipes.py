"""The recipe of a run: that of a .py file, or the default recipe for a folder of images."""

import os
import pathlib
import re
import runpy
from typing import Any

from keras_vit.data.sources import names_data_set
from keras_vit.models.config import Variant
from keras_vit.training.recipe import Recipe

# Small enough to train from random weights on two CPU cores in minutes; with weights= and variant= it fine-tunes.
FOLDER_RECIPE: dict[str, Any] = {
    "variant": Variant(patch_size=8, hidden_size=128, num_layers=6, num_heads=4, mlp_dim=256),
    "image_size": 64,
    "epochs": 30,
    "warmup_epochs": 3,
    "shift": 0.1,
    "zoom": 0.1,
    "flip": True,
}


def find_recipe(target: str | os.PathLike[str]) -> tuple[Recipe, str]:
    """Returns the recipe of a .py file, or the default recipe for a folder, a .zip, a .csv or the name of a data set.

    Args:
        target: the file, or the data.

    Returns:
        (recipe, name for its runs).

    Raises:
        ValueError: if a .py file does not exist, cannot be run or defines no RECIPE, or if the name of a data set is
            also that of a folder here.
    """
    path = pathlib.Path(target)
    if path.suffix != ".py" or path.is_dir():
        own = path.exists() and not names_data_set(target)
        data, name = (str(path.resolve()), path.resolve().stem) if own else (str(target), str(target))
        return Recipe(data=data, **FOLDER_RECIPE), re.sub(r"\W+", "-", name)
    if not path.exists():
        raise ValueError(
            f"Expected a recipe (a .py file) or data to train on. Received: {target}, which does not exist"
        )
    try:
        recipe = runpy.run_path(str(path)).get("RECIPE")
    except Exception as error:  # a program of the user's, which can raise any error
        raise ValueError(f"{target} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(f"Expected {target} to define RECIPE = Recipe(...). Received: RECIPE={recipe!r}")
    return recipe, path.stem
