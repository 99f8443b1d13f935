import json
import pathlib

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit.commands import cli
from keras_vit.commands.recipes import find_recipe
from keras_vit.export.proof import read_proof
from keras_vit.training.head import with_head_of
from keras_vit.training.quick import quick_recipe

LABELS = ["--label", "ripe mango", "--label", "unripe mango"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, words, oracle):
    """A checkpoint, the classifier that the command made of it, photo.png, and images of two of its three classes."""
    folder = tmp_path_factory.mktemp("zero_shot")
    words.write(oracle, "clip", folder / "clip")
    random = np.random.default_rng(0)
    for i, name in enumerate(("unripe mango", "ripe mango")):
        (folder / "fruit" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 120, (32, 32, 3)) + 100 * (np.arange(3) == i)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "fruit" / name / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def run(*arguments):
    return CliRunner().invoke(cli.main, list(arguments))


@pytest.fixture(scope="module")
def made(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ("--reject", "something else", "--to", "tflite-float32", "--license", "MIT", "--output", "mango")
        result = run("zero-shot", "clip", *LABELS, *options)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_files_are_those_of_a_classifier(made):
    folder = pathlib.Path("mango")
    assert (folder / "labels.txt").read_text().split("\n")[:3] == ["ripe mango", "unripe mango", "something else"]
    (item,) = read_proof(folder)
    assert item["file"] == "model_float32.tflite" and item["top1_agreement"] == 1
    assert "larger than the image tower" in made and "%" in made
    Image.fromarray(np.full((40, 40, 3), 99, np.uint8)).save("photo.png")
    each = [run("predict", str(folder / name), "photo.png", "--json") for name in ("model.keras", item["file"])]
    classes = [json.loads(result.stdout.splitlines()[0])["classes"] for result in each]
    assert [one["class"] for one in classes[0]] == [one["class"] for one in classes[1]]
    assert sum(one["probability"] for one in classes[0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "message, arguments",
    [
        ("Expected two labels or more", ["clip", "--label", "ripe mango"]),
        ("not both", ["clip", *LABELS, "--templates", "imagenet", "--template", "a {}"]),
        ("Expected {} in place of a label", ["clip", *LABELS, "--template", "a photo"]),
        ("without a run", ["clip", *LABELS, "--output", "run"]),
        ("data=nowhere", ["clip", *LABELS, "--to", "tflite-float32", "--data", "nowhere", "--output", "new"]),
    ],
)
def test_what_a_careless_user_types(message, arguments):
    pathlib.Path("run").mkdir(exist_ok=True)
    pathlib.Path("run/run.json").write_text("{}")
    result = run("zero-shot", *arguments)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output


def test_fine_tuning_begins_with_the_head_of_words(made):
    found = find_recipe("fruit", ["model=mango/model.keras"])
    assert found.recipe.head == "kept" and found.recipe.variant.unit_embedding
    assert quick_recipe(found.recipe).head == "new"
    from keras_vit.training.model import new_model

    words, model = keras_vit.load("mango/model.keras"), new_model(found.recipe, found.source.class_names)
    assert model.class_names == ("ripe mango", "unripe mango")
    turned = new_model(found.recipe, ["something else", "ripe mango"])
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(words(image))[:, [2, 0]]
    output = keras.ops.convert_to_numpy(turned(image))
    np.testing.assert_allclose(output, expected / expected.sum(), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="without green mango. Set head=probe"):
        new_model(found.recipe, ["ripe mango", "green mango"])


def test_another_head_reads_the_features_as_of_any_checkpoint(made):
    from keras_vit.training.model import new_model

    found = find_recipe("fruit", ["model=mango/model.keras", "head=new"])
    model = new_model(found.recipe, found.source.class_names)
    assert "unit_embedding" not in [layer.name for layer in model.layers]
    with pytest.raises(ValueError, match="head='kept', without head_bias"):
        find_recipe("fruit", ["model=mango/model.keras", "head_bias=-3"])


def test_files_of_other_labels_do_not_stay_and_none_is_written_beside_them(made):
    before = pathlib.Path("mango/labels.txt").read_bytes()
    result = run("zero-shot", "clip", "--label", "dog", "--label", "cat", "--output", "mango")
    assert result.exit_code == 2 and "Expected a folder without exported files" in result.output
    assert pathlib.Path("mango/labels.txt").read_bytes() == before


def test_files_are_compared_on_images_without_labels():
    data = pathlib.Path("fruit/ripe mango")
    result = run("zero-shot", "clip", *LABELS, "--to", "tflite-float32", "--data", str(data), "--output", "flat")
    assert result.exit_code == 0, result.output
    (item,) = read_proof(pathlib.Path("flat"))
    assert item["images"] == 8


def test_a_head_that_is_kept_keeps_the_license():
    readme = pathlib.Path("clip/README.md")
    readme.write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    model = keras_vit.zero_shot("clip", ["ripe mango", "unripe mango"])
    readme.unlink()
    assert with_head_of(model, ["unripe mango", "ripe mango"], "softmax").license.name == "cc-by-nc-4.0"


def test_a_head_cannot_be_kept_that_is_not_there():
    result = run("fit", "fruit", "model=clip", "head=kept", "exports=", "--output", "no_head")
    assert result.exit_code == 2 and "without. Set head=probe" in result.output
