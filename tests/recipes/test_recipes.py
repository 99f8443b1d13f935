"""The recipes: their numbers against the papers', and each of them run."""

import dataclasses
import pathlib
import re
import runpy

import pytest

from keras_vit.commands.fit import fit
from keras_vit.commands.recipes import find_recipe
from keras_vit.models.config import VARIANTS, ResNet, get_variant
from keras_vit.training.objectives import loss_of
from keras_vit.training.presets import DEFAULTS, SETTINGS, augreg_recipe
from keras_vit.training.quick import quick_recipe
from keras_vit.training.recipe import FIELDS, Recipe

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"
# Not one run each: notebooks, studies and what runs these.
NOT_ONE_RUN = re.compile("_notebook$|^study_|^studies$|^trials$")
FILES = sorted(path for path in RECIPES.glob("*.py") if not NOT_ONE_RUN.search(path.stem))
RUN_HERE = ("digits", "fashion_mnist", "mae", "masked_patches")
AUGREG = ("none", "light1", "light2", "medium1", "medium2", "strong1", "strong2")


def module(name):
    return runpy.run_path(str(RECIPES / f"{name}.py"))


def test_the_recipes_are_there():
    finetune = {f"finetune_{data}" for data in ("imagenet", "cifar10", "cifar100", "pets", "flowers", "vtab", "folder")}
    pretrain = {f"pretrain_{data}" for data in ("imagenet", "imagenet21k", "jft")}
    others = {
        "digits",
        "fashion_mnist",
        "mae",
        "masked_patches",
        "bit_hyperrule",
        *(f"augreg_{setting}" for setting in AUGREG),
    }
    assert {path.stem for path in FILES} == finetune | pretrain | others


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is_and_how_it_is_run(path):
    recipe, name, _ = find_recipe(str(path))
    docstring, code = path.read_text("utf-8").split('"""', 2)[1:]
    assert isinstance(recipe, Recipe)
    assert name == path.stem
    assert f"keras-vit fit recipes/{path.name}" in docstring
    assert 'if __name__ == "__main__":\n    run(__file__)\n' in code
    if name != "digits":  # the default, of no paper
        assert f"keras-vit fit recipes/{path.name} --quick" in re.sub(" +", " ", docstring)
        assert "\nSource: " in docstring
    assert ("\nNot run at full size here: " in docstring) == (name not in RUN_HERE)


def commands():
    texts = [path.read_text("utf-8") for path in (*FILES, RECIPES / "README.md")]
    return sorted({line for text in texts for line in re.findall(r"^ +(keras-vit .+?)(?: +#.*)?$", text, re.M)})


@pytest.mark.parametrize("command", commands())
def test_the_fields_and_files_of_every_command_exist(command):
    words = re.sub('"', "", command).split()
    assert {word.split("=")[0] for word in words if "=" in word} <= set(FIELDS)
    assert all((RECIPES.parent / word).exists() for word in words if word.startswith("recipes/"))


def test_the_page_of_the_recipes_names_every_file():
    page = (RECIPES.parent / "docs" / "recipes.md").read_text("utf-8")
    named = set(re.findall(r"`(?:recipes/)?(\w+\.(?:py|ipynb))`", page))
    files = {path.name for path in RECIPES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert files - {name for name in files if name.endswith("_notebook.py")} <= named
    assert {name for name in named if name.endswith(".py")} - {"my_recipe.py"} <= files


# Arxiv 2010.11929, table 4; the dev splits are section 4.1's, the learning rates those that it lists.
OTHER_RATES = (0.001, 0.003, 0.01, 0.03)
FINETUNE = {  # name: (data, steps, warm-up, kept for validation, learning rates)
    "imagenet": ("imagenet2012", 20_000, 500, 1, (0.003, 0.01, 0.03, 0.06)),
    "cifar10": ("cifar10", 10_000, 500, 2, OTHER_RATES),
    "cifar100": ("cifar100", 10_000, 500, 2, OTHER_RATES),
    "pets": ("oxford_iiit_pet", 500, 100, 10, OTHER_RATES),
    "flowers": ("oxford_flowers102", 500, 100, 10, OTHER_RATES),
    "vtab": ("caltech101", 2_500, 500, 0, (0.01,)),
}


@pytest.mark.parametrize("name", FINETUNE)
def test_fine_tuning_is_table_4(name):
    data, steps, warmup_steps, kept, rates = FINETUNE[name]
    recipe = module(f"finetune_{name}")["RECIPE"]
    assert (recipe.data, recipe.steps, recipe.warmup_steps) == (data, steps, warmup_steps)
    assert recipe.learning_rate in rates
    assert (recipe.optimizer, recipe.momentum, recipe.schedule) == ("sgd", 0.9, "cosine")
    assert (recipe.batch_size, recipe.accumulation, recipe.image_size) == (512, 8, 384)
    assert (recipe.clip_norm, recipe.weight_decay, recipe.label_smoothing) == (1, 0, 0)
    assert (loss_of(recipe), recipe.dropout, recipe.stochastic_depth, recipe.head_bias) == ("softmax", 0, 0, 0)
    assert (recipe.representation_size, recipe.evaluation, recipe.flip) == (None, "official", True)
    assert (recipe.randaugment, recipe.mixup, recipe.cutmix, recipe.ema, recipe.layer_decay) == (None, 0, 0, 0, 1)
    assert recipe.weights
    assert recipe.test_split == ("validation" if name == "imagenet" else "test")
    if name == "vtab":
        spans = re.findall(r"train\[(\d*):(\d+)\]", recipe.train_split)
        assert sum(int(last) - int(first or 0) for first, last in spans) == 1_000
        assert (recipe.validation_split, recipe.validation) == (None, 0)
    else:
        assert recipe.train_split == f"train[:{100 - kept}%]"
        assert recipe.validation_split == f"train[{100 - kept}%:]"
        assert recipe.crop == "inception"


# Table 3.
JFT = {
    **dict.fromkeys(("ViT-B/16", "ViT-B/32", "R50+ViT-B/16", "R50+ViT-B/32", "BiT-R101x1"), (7, 8e-4)),
    **dict.fromkeys(("ViT-L/32", "BiT-R152x1", "BiT-R152x2"), (7, 6e-4)),
    **dict.fromkeys(("ViT-L/16", "R50+ViT-L/16"), (7, 4e-4)),
    **dict.fromkeys(("BiT-R50x1", "BiT-R50x2"), (7, 1e-3)),
    "ViT-H/14": (14, 3e-4),
    "R50+ViT-L/32": (7, 2e-4),
}
PRETRAIN = {  # name: (epochs, learning rate, schedule, weight decay, dropout, clip, head bias)
    "imagenet": (300, 3e-3, "cosine", 0.3, 0.1, 1, -6.9),
    "imagenet21k": (90, 1e-3, "linear", 0.03, 0.1, 0, -10),
    "jft": (7, 8e-4, "linear", 0.1, 0, 0, -10),
}


@pytest.mark.parametrize("name", PRETRAIN)
def test_pre_training_is_table_3(name):
    recipe = module(f"pretrain_{name}")["RECIPE"]
    assert recipe.variant == "ViT-B/16"
    result = (recipe.epochs, recipe.learning_rate, recipe.schedule, recipe.weight_decay)
    assert (*result, recipe.dropout, recipe.clip_norm, recipe.head_bias) == PRETRAIN[name]
    assert (recipe.optimizer, recipe.batch_size, recipe.warmup_steps, recipe.steps) == ("adamw", 4096, 10_000, None)
    assert (recipe.image_size, recipe.crop, recipe.flip, recipe.weights) == (224, "inception", True, None)
    assert (recipe.loss, recipe.label_smoothing, recipe.representation_size) == ("sigmoid", 0, 768)
    assert (recipe.randaugment, recipe.mixup, recipe.cutmix, recipe.stochastic_depth) == (None, 0, 0, 0)


def test_the_rows_of_jft_are_table_3():
    recipes = module("pretrain_jft")["RECIPES"]
    assert {name: (recipe.epochs, recipe.learning_rate) for name, recipe in recipes.items()} == JFT
    for name, recipe in recipes.items():
        row = get_variant(name)
        assert recipe.variant == name
        assert recipe.representation_size == (None if isinstance(row, ResNet) else row.hidden_size)
        assert (
            dataclasses.replace(
                recipe,
                variant="ViT-B/16",
                epochs=7,
                learning_rate=8e-4,
                representation_size=768,
            )
            == recipes["ViT-B/16"]
        )


# Arxiv 2106.10270 and big_vision configs/vit_i1k.py, vit_i21k.py.
AUGMENTATION = {
    "none": (None, 0),
    "light1": ((2, 0), 0),
    "light2": ((2, 10), 0.2),
    "medium1": ((2, 15), 0.2),
    "medium2": ((2, 15), 0.5),
    "strong1": ((2, 20), 0.5),
    "strong2": ((2, 20), 0.8),
}


@pytest.mark.parametrize("setting", AUGREG)
def test_augreg_is_the_official_file(setting):
    recipe = module(f"augreg_{setting}")["RECIPE"]
    assert (recipe.randaugment, recipe.mixup) == AUGMENTATION[setting] == SETTINGS[setting]
    assert (recipe.data, recipe.train_split, recipe.test_split) == ("imagenet2012", "train[:99%]", "validation")
    assert (recipe.epochs, recipe.batch_size, recipe.warmup_steps, recipe.schedule) == (300, 4096, 10_000, "cosine")
    assert (recipe.optimizer, recipe.learning_rate, recipe.clip_norm) == ("adamw", 1e-3, 1)
    assert recipe.learning_rate * recipe.weight_decay == pytest.approx(1e-4)
    assert (recipe.loss, recipe.label_smoothing, recipe.head_bias) == ("sigmoid", 0, -6.9)
    assert (recipe.pooling, recipe.representation_size, recipe.dropout) == ("token", 768, 0)
    assert (recipe.image_size, recipe.crop, recipe.flip, recipe.evaluation) == (224, "inception", True, "big_vision")
    docstring = (RECIPES / f"augreg_{setting}.py").read_text("utf-8")
    randaugment, mixup = AUGMENTATION[setting]
    assert (f"RandAugment {randaugment}" if randaugment else "no RandAugment") in docstring
    assert (f"mixup {mixup}" if mixup else "no mixup") in docstring


def test_augreg_takes_less_for_more_images_and_smaller_models():
    large = augreg_recipe(variant="ViT-B/16", data="/data/imagenet21k")
    assert (large.randaugment, large.mixup) == AUGMENTATION["light2"]
    assert (large.head_bias, large.pooling, large.representation_size) == (-10, "gap", None)
    small = augreg_recipe(variant="ViT-Ti/16")
    assert (small.randaugment, small.mixup, small.representation_size) == (*AUGMENTATION["light1"], 192)
    order = list(AUGMENTATION)
    for variant in DEFAULTS["imagenet2012"]:
        assert variant in VARIANTS
        less, more = (order.index(DEFAULTS[data][variant]) for data in ("imagenet21k", "imagenet2012"))
        assert less <= more


@pytest.mark.parametrize("wrong", [{"setting": "medium3"}, {"variant": "ViT-H/14"}])
def test_augreg_refuses_what_it_does_not_know(wrong):
    with pytest.raises(ValueError, match="setting=.*variant="):
        augreg_recipe(**wrong)


@pytest.mark.parametrize(
    "images, side, expected",
    [
        (1_000, 95, (128, 100, (200, 300, 400), 500, 0)),
        (19_999, 96, (480, 100, (200, 300, 400), 500, 0)),
        (20_000, 32, (128, 500, (3_000, 6_000, 9_000), 10_000, 0.1)),
        (499_999, 224, (480, 500, (3_000, 6_000, 9_000), 10_000, 0.1)),
        (500_000, 224, (480, 500, (6_000, 12_000, 18_000), 20_000, 0.1)),
    ],
)
def test_bit_is_the_hyperrule(images, side, expected):
    recipe = module("bit_hyperrule")["hyperrule"](images, side * side, data="folder")
    assert recipe.crop_from == {128: 160, 480: 512}[recipe.image_size] and quick_recipe(recipe).crop_from in (34, 40)
    result = (recipe.image_size, recipe.warmup_steps, recipe.milestones, recipe.steps, recipe.mixup)
    assert result == expected
    assert (recipe.optimizer, recipe.momentum, recipe.learning_rate, recipe.schedule) == ("sgd", 0.9, 0.003, "steps")
    assert (recipe.batch_size, recipe.weight_decay, recipe.clip_norm, recipe.label_smoothing) == (512, 0, 0, 0)
    assert (recipe.variant, recipe.weights, recipe.crop, recipe.flip) == ("BiT-R50x1", "imagenet21k", "random", True)


def test_the_recipe_for_a_folder_names_what_small_data_asks_for():
    text = (RECIPES / "finetune_folder.py").read_text("utf-8")
    fields = "layer_decay freeze_to lora class_weights label_smoothing early_stopping ema accumulation remat precision"
    assert not [name for name in fields.split() if f" {name}=" not in text]
    assert "keras-vit lr recipes/finetune_folder.py" in text
    for commented in re.findall(r"^    # (\w+)=(.+?),  #", text, re.M):
        recipe = module("finetune_folder")["RECIPE"]
        assert dataclasses.replace(recipe, **{commented[0]: eval(commented[1])}) != recipe


JFT_FAMILIES = {"a hybrid": "R50+ViT-B/16", "a BiT": "BiT-R50x1"}


# A transformer from random weights with exports, and a BiT; `make test-all` runs every recipe.
RUN_ALWAYS = ("digits", "a BiT")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in RUN_ALWAYS else pytest.mark.soak)
        for name in (*(path.stem for path in FILES), *JFT_FAMILIES)
    ],
)
def test_every_recipe_runs(name, tmp_path):
    result = module("pretrain_jft")["RECIPES"][JFT_FAMILIES[name]] if name in JFT_FAMILIES else module(name)["RECIPE"]
    recipe = dataclasses.replace(
        quick_recipe(result), exports=quick_recipe(result).exports if name == "finetune_cifar10" else ()
    )
    metrics = fit(recipe, tmp_path / name)
    assert 0 <= metrics["test_metric" if "test_metric" in metrics else "test_accuracy"] <= 1
    assert len(metrics["exports"]) == len(recipe.exports)
    lines = (tmp_path / name / "history.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + 3  # epochs
    assert (tmp_path / name / "report.html").exists()
