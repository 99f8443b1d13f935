"""Recipes by name: which file a text names, and which texts name data."""

import pathlib
import shutil

import pytest
from click.testing import CliRunner

from keras_vit.commands import cli, recipes
from keras_vit.commands.recipes import find_recipe, recipe_files
from keras_vit.data.sources import BUILT_IN
from keras_vit.data.tfds import is_prepared_name
from keras_vit.training.quick import quick_recipe
from keras_vit.training.recipe import Recipe
from keras_vit.training.transfer import FROM_NOTHING

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"
NAMES = sorted(file.stem for file in RECIPES.glob("*.py") if "run(__file__)" in file.read_text("utf-8"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def output(*arguments, status=0):
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def test_the_recipes_are_found_by_name_outside_the_checkout():
    assert sorted(recipe_files()) == NAMES
    for name in {*NAMES} - {*BUILT_IN}:
        assert find_recipe(name) == find_recipe(RECIPES / f"{name}.py")
        assert find_recipe(f"recipes/{name}.py") == find_recipe(RECIPES / f"{name}.py")


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_name_of_a_data_set_is_not_that_of_a_recipe(name):
    assert find_recipe(name) == (Recipe(data=name, **FROM_NOTHING), name, None)
    assert find_recipe(f"recipes/{name}.py") == find_recipe(RECIPES / f"{name}.py")
    assert find_recipe(name) != find_recipe(f"recipes/{name}.py")


def test_no_other_recipe_has_the_name_of_a_data_set():
    assert [name for name in NAMES if is_prepared_name(name, None) and name not in BUILT_IN] == []


def test_a_file_of_ones_own_comes_first(tmp_path):
    (tmp_path / "recipes").mkdir()
    text = (RECIPES / "mae.py").read_text("utf-8").replace('data="fashion_mnist"', 'data="own"')
    (tmp_path / "recipes" / "mae.py").write_text(text)
    assert find_recipe("recipes/mae.py")[0].data == "own"
    assert find_recipe("mae")[0].data == "fashion_mnist"


def test_a_name_that_is_a_folder_too_is_refused(tmp_path):
    (tmp_path / "mae").mkdir()
    with pytest.raises(
        ValueError, match=r"recipe and of a folder.*\./mae for the folder, recipes/mae\.py for the recipe"
    ):
        find_recipe("mae")
    assert find_recipe("./mae", ["weights=none"])[0].data == str(tmp_path / "mae")
    assert find_recipe("recipes/mae.py") == find_recipe(RECIPES / "mae.py")
    (tmp_path / "mae" / "run.json").write_text("{}")  # the folder of its run
    assert find_recipe("mae") == find_recipe(RECIPES / "mae.py")


def test_settings_are_applied():
    recipe, name, _ = find_recipe("finetune_folder", ["data=images/", "epochs=3"])
    assert (recipe.data, recipe.epochs, name) == ("images/", 3, "finetune_folder")
    with pytest.raises(ValueError, match="unknown field 'epoch'"):
        find_recipe("finetune_folder", ["epoch=3"])


@pytest.mark.parametrize("text", ["finetune_fodler", "recipes/finetune_fodler.py", "finetune_fodler.py"])
def test_an_unknown_name_is_refused_with_the_nearest_and_all_recipes(text):
    for settings in ([], ["data=images/"]):  # with data, too, it is not the default recipe
        message = output("fit", text, *settings, status=2)
        assert "which does not exist. Did you mean the recipe finetune_folder?" in message
        assert all(name in message for name in NAMES) and "recipes/digits.py" in message


def test_a_name_in_data_dir_is_data(tmp_path):
    (tmp_path / "tfds" / "own_set").mkdir(parents=True)
    assert find_recipe("own_set", [f"data_dir={tmp_path}/tfds", "weights=none"])[0].data == "own_set"


def test_list_shows_what_to_type_and_what_each_recipe_does():
    *lines, empty, last = output("list", "--recipes").splitlines()
    typed = [line.split()[0] for line in lines]
    assert [name.removeprefix("recipes/").removesuffix(".py") for name in typed] == NAMES
    assert {name for name in typed if name.endswith(".py")} == {f"recipes/{name}.py" for name in BUILT_IN}
    for line, name in zip(lines, NAMES):
        assert (RECIPES / f"{name}.py").read_text("utf-8").startswith(f'"""{line.split(maxsplit=1)[1]}\n')
    assert empty == "" and str(RECIPES) in last
    assert "one of VARIANT, --recipes and --verify" in output("list", "ViT-S/16", "--recipes", status=2)


def test_an_installed_package_has_the_recipes_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "keras_vit")
    shutil.copytree(RECIPES, tmp_path / "keras_vit" / "recipes")
    (tmp_path / "recipes").mkdir()  # another project's
    assert sorted(recipe_files()) == NAMES
    assert {file.parent for file in recipe_files().values()} == {tmp_path / "keras_vit" / "recipes"}
    assert find_recipe("recipes/digits.py") == find_recipe(RECIPES / "digits.py")


COST = """
import json, sys
from keras_vit.commands.cost import cost_of
print(json.dumps([cost_of(name).cost.parameters for name in sys.argv[1:]]))
"""


def test_cost_knows_the_names(run_warm):
    by_name, by_file = run_warm("-c", COST, "finetune_folder", RECIPES / "finetune_folder.py", KERAS_BACKEND="jax")
    assert by_name == by_file > 20e6


def test_the_other_commands_know_the_names(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "keras_vit.commands.fit.fit", lambda recipe, folder, source: seen.update(fit=recipe, folder=str(folder))
    )
    monkeypatch.setattr("keras_vit.commands.preview.preview", lambda recipe, *_: seen.update(preview=recipe) or "page")

    def learning_rate(recipe, steps, source):
        seen["lr"] = recipe
        raise ValueError("enough")

    monkeypatch.setattr("keras_vit.commands.lr.find_learning_rate", learning_rate)
    output("fit", "finetune_folder", "--quick")
    output("preview", "finetune_folder", "data=images/")
    output("lr", "finetune_folder", "data=images/", status=2)
    recipe = find_recipe(RECIPES / "finetune_folder.py", ["data=images/"])[0]
    assert seen["preview"] == seen["lr"] == recipe
    assert seen["fit"] == quick_recipe(find_recipe(RECIPES / "finetune_folder.py")[0])
    assert pathlib.Path(seen["folder"]) == pathlib.Path("runs/finetune_folder-quick")
