"""`keras-vit cost` of a model, a variant and a recipe."""

import pathlib

import keras
import pytest
from click.testing import CliRunner

import keras_vit
from keras_vit.commands.cli import cost_command as command
from keras_vit.commands.cost import cost_of, training_images
from keras_vit.training.recipe import Recipe

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"
TINY = keras_vit.Variant(patch_size=4, hidden_size=12, num_layers=2, num_heads=3, mlp_dim=20)


def by_hand(patches, classes):
    """As in evaluation/test_cost.py: the last block computes keys and values of all tokens, and the rest of one."""
    tokens, last = patches + 1, 2 * 12 * 12 + 2 * 12 * 20
    blocks = tokens * (4 * 12 * 12 + 2 * 12 * 20) + tokens * 2 * 12 * 12 + last + 2 * (tokens + 1) * tokens * 12
    return patches * 48 * 12 + blocks + 12 * classes


MULTIPLY_ACCUMULATES = by_hand(15, 7)  # of a run on 12 x 20 pixels with 7 classes


def shown(*arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.keras"
    keras_vit.build(TINY, input_shape=(12, 20, 3), classes=7).save(path)
    return path


def recipe_file(folder, **fields):
    path = folder / "mine.py"
    fields = {"data": "synthetic:3x20", "image_size": 12, "epochs": 4, "validation": 0.0, "test": 0.5, **fields}
    path.write_text(
        "from keras_vit.training.recipe import Recipe\nfrom keras_vit.models.config import Variant\n"
        f"RECIPE = Recipe(variant={TINY!r}, **{fields!r})\n"
    )
    return path


def test_a_file_and_the_folder_of_a_run(model):
    for target in (model, model.parent):
        result = cost_of(target)
        assert result.cost.multiply_accumulates == MULTIPLY_ACCUMULATES
        assert (result.name, result.images, result.exaflops) == (str(target), None, None)


def test_a_file_at_another_size(model):
    result = cost_of(model, (8, 20))
    assert result.cost.input_shape == (8, 20, 3)
    assert result.cost.multiply_accumulates < MULTIPLY_ACCUMULATES


def test_any_model_that_keras_saved(tmp_path):
    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((9, 7, 4)), keras.layers.Dense(5)]).save(path)
    assert cost_of(path).cost.multiply_accumulates == 9 * 7 * 4 * 5


def test_the_command_shows_a_model(model):
    lines = shown(model).splitlines()
    assert lines[0] == f"{model}, one image of 12 x 20 x 3, 3.752e-05 GMACs"
    assert lines[1].split()[0] == "layer" and lines[2].split()[0] == "Dense"
    assert not any(line.startswith("training") for line in lines)


def test_a_recipe_with_data_at_hand(tmp_path):
    """Half of 60 images, in 4 epochs; the head has the data's 3 classes."""
    result = cost_of(recipe_file(tmp_path))
    assert result.images == 4 * 30
    macs = by_hand(9, 3)
    assert result.cost.multiply_accumulates == macs
    assert result.exaflops == pytest.approx(macs * 2 * 3 * 120 / 1e18)


def test_a_recipe_without_its_data(tmp_path):
    path = recipe_file(tmp_path, data="jft")
    assert cost_of(path).images is None
    assert "set it with --images N" in shown(path)
    words = shown(path, "epochs=7", "--images", 1000, "--image-size", 8, 16).splitlines()
    assert "8 x 16 x 3" in words[0]
    assert words[-1].startswith("training: ") and words[-1].endswith(" x 7,000 images")


def test_a_recipe_in_steps_needs_no_data(tmp_path):
    assert cost_of(recipe_file(tmp_path, data="jft", steps=50, batch_size=32)).images == 1600


def test_the_images_of_training():
    recipe = Recipe(data="jft", variant="ViT-B/16", image_size=224, epochs=7, batch_size=10)
    assert training_images(recipe, 303) == 2121
    assert training_images(recipe, None) is None


# The variants' own weights are never made, so they are counted in a Python of their own.
VARIANTS = """
import json, sys
from keras_vit.commands.cost import cost_of

small = cost_of("ViT-Ti/16", (32, 48)).cost
jft = cost_of(sys.argv[1], images=303_000_000)
heavy = {"tensorflow_datasets", "keras_cv"} & set(sys.modules)
print(json.dumps({"shape": small.input_shape, "parameters": small.parameters, "exaflops": jft.exaflops,
                  "heavy": sorted(heavy)}))
"""


def test_a_variant_and_the_papers_recipe(run_warm):
    result = run_warm("-c", VARIANTS, RECIPES / "pretrain_jft.py", KERAS_BACKEND="jax")
    assert result["shape"] == [32, 48, 3]
    assert result["parameters"] == 5_717_416 - (196 - 6) * 192  # 6 patches have a position, and not 196
    # The paper counts the query, the output and the MLP of the last block for the 196 patches, too.
    not_read = 196 * (2 * 768 * 768 + 2 * 768 * 3072 + 2 * 768 * 197)
    assert result["exaflops"] + not_read * 2 * 3 * 7 * 303e6 / 1e18 == pytest.approx(224, rel=0.03)
    assert result["heavy"] == []


def test_an_unknown_name():
    with pytest.raises(ValueError, match="Received: ViT-B/17, which does not exist. Nearest variants: ViT-B/16"):
        cost_of("ViT-B/17")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("ViT-Ti/16", (20, 32)), "multiples of the patch size"),
        (("ViT-Ti/16", None, ("epochs=3",)), "with a recipe only"),
        (("ViT-Ti/16", None, (), 100), "with a recipe only"),
        (("nothing.py",), "nothing.py, which does not exist"),
        ((RECIPES / "pretrain_jft.py", None, ("epoch=3",)), "unknown field 'epoch'. Nearest: epochs"),
        ((RECIPES / "pretrain_jft.py", None, (), 0), "images=0"),
    ],
)
def test_invalid_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        cost_of(*arguments)


def test_a_file_that_is_not_a_model(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("no zip")
    with pytest.raises(ValueError, match="not a model that Keras can load"):
        cost_of(path)
