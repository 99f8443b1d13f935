"""The recipe of a run: one of this package, that of a .py file, or the default recipe for a folder of images."""

import ast
import dataclasses
import difflib
import logging
import os
import pathlib
import re
import runpy
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from keras_vit.data.sources import BUILT_IN, Source, describe_unknown, is_other_source, names_data_set
from keras_vit.training.recipe import FIELDS, RANGE_OF, Recipe
from keras_vit.training.settings import parse_settings

_log = logging.getLogger("keras_vit")
_PACKAGE = pathlib.Path(__file__).parents[1]

# What a command line can set: the fields of a recipe, and model=NAME for its weights, variant and image_size.
SETTINGS = {**FIELDS, "model": str | None}


class Found(NamedTuple):
    """The recipe that a command line names.

    Args:
        recipe: the recipe.
        name: for its runs.
        source: its images, if they were opened already.
    """

    recipe: Recipe
    name: str
    source: Source | None = None


def find_recipe(
    target: str | os.PathLike[str],
    settings: Iterable[str] = (),
    fetch: bool = True,
    run: Callable[[str], str] | None = None,
) -> Found:
    """Returns the recipe that a command line names, with its settings applied.

    Args:
        target: the name of a recipe of this package, or recipes/NAME.py; another .py file; the run.json of a run, for
            its recipe; or data (a folder, a .zip, a .csv or the name of a data set), for the default recipe. The name
            of a data set is never that of a recipe.
        settings: "field=value" texts.
        fetch: whether files that the recipe needs are downloaded.
        run: function of the name for its runs: the folder of a run, if there is to be one. One that has begun decides
            whether the default recipe starts from a checkpoint.

    Returns:
        (recipe, name for its runs, images if they were opened).

    Raises:
        ValueError: if there is no such recipe or data, a .py file cannot be run or defines no RECIPE, the name of a
            recipe or of a data set is also that of a folder here, or the settings are not those of a recipe.
    """
    settings = list(settings)
    file = find_recipe_file(target)
    if file is not None:
        return Found(_changed(_run(file, target), settings), file.stem)
    path = pathlib.Path(target)
    if path.name == "run.json" and path.is_file():
        from keras_vit.commands.run_folder import read_recipe  # imports Keras

        return Found(_changed(read_recipe(path.parent), settings), path.resolve().parent.name)
    named = names_data_set(target, parse_settings(settings, SETTINGS, RANGE_OF).get("data_dir"))
    if not (named or path.exists() or is_other_source(target)):
        raise ValueError(f"{describe_unknown(target)}{_recipes_like(str(target))}")
    own = path.exists() and not named
    data, name = (str(path.resolve()), path.resolve().stem) if own else (str(target), str(target))
    from keras_vit.commands.default_recipe import default_recipe  # imports Keras
    from keras_vit.commands.run_folder import begun_recipe

    name = re.sub(r"\W+", "-", name)
    recipe, source = default_recipe(data, settings, fetch, begun_recipe(run(name)) if run else None)
    return Found(recipe, name, source)


def default_folder(name: str) -> str:
    """Returns the folder of a run of this name."""
    return os.path.join("runs", name)


def _changed(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    values = parse_settings(settings, SETTINGS, RANGE_OF)
    if "model" in values:
        from keras_vit.commands.default_recipe import named_model  # imports Keras

        model = {"missing_weights": None, **named_model(values)}
        size = model.get("image_size", recipe.image_size)
        if "image_size" not in values and size != recipe.image_size:
            _log.warning("image_size=%s, as %s has; the run had %s", size, values["model"], recipe.image_size)
        values = model | {name: value for name, value in values.items() if name != "model"}
    return dataclasses.replace(recipe, **values)


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
