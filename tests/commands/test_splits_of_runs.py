import dataclasses
import json

import pytest

from keras_vit.commands.examples import open_recipe_data
from keras_vit.commands.run_folder import RUN_FILE, finished_metrics, read_recipe
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(data="synthetic:2x20", variant="ViT-Ti/16", image_size=32)


def digest(**settings):
    return open_recipe_data(dataclasses.replace(RECIPE, **settings)).digest


def test_the_split_seed_alone_draws_other_splits():
    assert digest(seed=1) == digest()
    assert digest(split_seed=1) != digest()


def test_groups_of_a_recipe(tmp_path, image_folder):
    recipe = dataclasses.replace(RECIPE, data=str(image_folder), groups="(.).*")
    with pytest.raises(ValueError, match="all images are in one group, i"):
        open_recipe_data(recipe)
    with pytest.raises(ValueError, match=r"groups='\[\.', expected a regular expression"):
        dataclasses.replace(recipe, groups="[.")


@pytest.fixture
def image_folder(tmp_path):
    from PIL import Image

    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), ord(name) + number).save(tmp_path / "data" / name / f"i{number}.png")
    return tmp_path / "data"


def test_the_splits_of_an_older_run_are_those_of_its_seed(tmp_path):
    settings = dataclasses.asdict(dataclasses.replace(RECIPE, seed=3))
    del settings["split_seed"]
    (tmp_path / RUN_FILE).write_text(json.dumps({"recipe": settings}))
    assert read_recipe(tmp_path).split_seed == 3
    (tmp_path / "model.keras").write_text("")
    with pytest.raises(ValueError, match="split_seed: 3 there, 0 here"):
        finished_metrics(tmp_path, dataclasses.replace(RECIPE, seed=3))
    assert finished_metrics(tmp_path, dataclasses.replace(RECIPE, seed=3, split_seed=3)) is None
