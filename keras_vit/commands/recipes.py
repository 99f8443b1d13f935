"""The recipe of a run: one of this package, that of a .py file, or the default recipe for a folder of images."""

import ast
import difflib
import os
import pathlib
import re
import runpy
from collections.abc import Iterable, Iterator
from typing import Any

from keras_vit.data.sources import BUILT_IN, describe_unknown, is_other_source, names_data_set
from keras_vit.models.config import Variant
from keras_vit.training.recipe import FIELDS, Recipe, change
from keras_vit.training.settings import parse_settings

_PACKAGE = pathlib.Path(__file__).parents[1]

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


def find_recipe(target: str | os.PathLike[str], settings: Iterable[str] = ()) -> tuple[Recipe, str]:
    """Returns the recipe that a command line names, with its settings applied.

    Args:
        target: the name of a recipe of this package, or recipes/NAME.py; another .py file; the run.json of a run, for
            its recipe; or data (a folder, a .zip, a .csv or the name of a data set), for the default recipe. The name
            of a data set is never that of a recipe.
        settings: "field=value" texts.

    Returns:
        (recipe, name for its runs).

    Raises:
        ValueError: if there is no such recipe or data, a .py file cannot be run or defines no RECIPE, the name of a
            recipe or of a data set is also that of a folder here, or the settings are not those of a recipe.
    """
    settings = list(settings)
    data_dir = parse_settings(settings, FIELDS).get("data_dir")
    file = find_recipe_file(target)
    if file is not None:
        return change(_run(file, target), settings), file.stem
    path = pathlib.Path(target)
    if path.name == "run.json" and path.is_file():
        from keras_vit.commands.run_folder import read_recipe  # imports Keras

        return change(read_recipe(path.parent), settings), path.resolve().parent.name
    named = names_data_set(target, data_dir)
    if not (named or path.exists() or is_other_source(target)):
        raise ValueError(f"{describe_unknown(target)}{_recipes_like(str(target))}")
    own = path.exists() and not named
    data, name = (str(path.resolve()), path.resolve().stem) if own else (str(target), str(target))
    return change(Recipe(data=data, **FOLDER_RECIPE), settings), re.sub(r"\W+", "-", name)


def find_recipe_file(target: str | os.PathLike[str]) -> pathlib.Path | None:
    """Returns the file of the recipe that a text names, or None if it does not name a recipe.

    Args:
        target: the text, as for `find_recipe`.

    Raises:
        ValueError: if a .py file does not exist, or if the name of a recipe is also that of a file or folder here,
            other than the folder of a run.
    """
    path, files = pathlib.Path(target), recipe_files()
    if path.suffix == ".py" and not path.is_dir():
        if path.exists():
            return path
        if path.parent == pathlib.Path("recipes") and path.stem in files:
            return files[path.stem]
        raise ValueError(
            f"Expected a recipe (a .py file) or data to train on. Received: {target}, which does not exist."
            f"{_recipes_like(path.stem)}"
        )
    name = str(target)
    if name not in files or name in BUILT_IN:
        return None
    if path.exists() and not (path / "run.json").exists():
        entry = "folder" if path.is_dir() else "file"
        raise ValueError(
            f"{name!r} is the name of a recipe and of a {entry} here. Write ./{name} for the {entry}, "
            f"recipes/{name}.py for the recipe."
        )
    return files[name]


def recipe_files() -> dict[str, pathlib.Path]:
    """Returns {name: file} of the recipes of this package."""
    # setup.py packs the same files.
    files = sorted(_folder().glob("*.py"))
    return {file.stem: file for file in files if "run(__file__)" in file.read_text("utf-8")}


def recipe_lines() -> Iterator[str]:
    """Yields a line for each recipe of this package: what to type for it, and the first line of its docstring."""
    typed = {_typed(name): file for name, file in recipe_files().items()}
    width = max(map(len, typed), default=0)
    for name, file in typed.items():
        text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or name
        yield f"{name:<{width}s}  {text.splitlines()[0]}"
    yield f"\nTheir files are in {_folder()}. Copy one to change it."


def _folder() -> pathlib.Path:
    """Returns keras_vit/recipes/, which an installed package has, or recipes/ beside keras_vit/, as in a checkout."""
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"


def _typed(name: str) -> str:
    return f"recipes/{name}.py" if name in BUILT_IN else name


def _recipes_like(text: str) -> str:
    names = {name: _typed(name) for name in recipe_files()}
    near = difflib.get_close_matches(text, names, 1)
    nearest = f" Did you mean the recipe {names[near[0]]}?" if near else ""
    return f"{nearest}\nRecipes (keras-vit list --recipes): {', '.join(names.values())}"


def _run(file: pathlib.Path, target: str | os.PathLike[str]) -> Recipe:
    try:
        recipe = runpy.run_path(str(file)).get("RECIPE")
    except (Exception, SystemExit) as error:  # a program of the user's, which can raise any error
        raise ValueError(f"{target} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(f"Expected {target} to define RECIPE = Recipe(...). Received: RECIPE={recipe!r}")
    return recipe
