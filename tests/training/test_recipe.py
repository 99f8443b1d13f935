import dataclasses
import inspect
import math
import pathlib
import re

import pytest

import keras_vit
from keras_vit.models.config import Variant
from keras_vit.training.recipe import FIELDS, Recipe, change

RECIPE = Recipe(data="digits", variant="ViT-Ti/16", image_size=32)


@pytest.mark.parametrize(
    "text, field, value",
    [
        ("epochs=3", "epochs", 3),
        ("learning_rate=1e-4", "learning_rate", 1e-4),
        ("learning_rate=1", "learning_rate", 1),
        ("flip=true", "flip", True),
        ("flip=False", "flip", False),
        ("weights=None", "weights", None),
        ("weights=a=b.npz", "weights", "a=b.npz"),
        ("data=2024", "data", "2024"),
        ("variant=ViT-S/16", "variant", "ViT-S/16"),
        ("pooling=gap", "pooling", "gap"),
        ("exports=savedmodel,tflite-int8", "exports", ("savedmodel", "tflite-int8")),
        ("exports=tflite-int8", "exports", ("tflite-int8",)),
        ("exports=", "exports", ()),
        ("randaugment=2,15", "randaugment", (2, 15)),
        ("steps=500", "steps", 500),
        ("keras_cv=GridMask", "keras_cv", ("GridMask",)),
        ("class_weights=dark:2,light:1", "class_weights", "dark:2,light:1"),
        ("class_weights=0:2,1:1", "class_weights", "0:2,1:1"),
        ("class_weights=1:2", "class_weights", "1:2"),
    ],
)
def test_a_setting_is_read_as_its_fields_type(text, field, value):
    changed = change(RECIPE, [text])
    assert getattr(changed, field) == value
    assert type(getattr(changed, field)) is type(value)
    assert dataclasses.replace(changed, **{field: getattr(RECIPE, field)}) == RECIPE


def test_all_faulty_settings_are_in_one_message():
    with pytest.raises(ValueError) as error:
        change(RECIPE, ["epoch=3", "flip=maybe", "nonsense", "seed=1.5", "epochs=True"])
    message = str(error.value)
    for words in ("unknown field 'epoch'", "epochs, ", "flip='maybe'", "'nonsense': expected field=value"):
        assert words in message
    assert "seed='1.5': expected an integer" in message
    assert "epochs='True': expected an integer" in message


def test_wrong_types_are_in_one_message():
    with pytest.raises(
        TypeError, match=r"(?s)variant=3, expected text or Variant.*image_size='x', expected an integer"
    ):
        Recipe(data="digits", variant=3, image_size="x")


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip_norm", -1.0),
        ("test", 1.0),
        ("label_smoothing", -0.1),
        ("on_bad_image", "ignore"),
        ("gelu", "relu"),
        ("head_bias", math.inf),
        ("layer_decay", 1.5),
        ("milestones", (5, 3)),
        ("randaugment", (2, 31)),
        ("randaugment", (2,)),
        ("crop", "middle"),
        ("precision", "float16"),
        ("objective", "colours"),
        ("corrupted", 1.0),
        ("decoder_layers", 0),
        ("image_size", (32, 0)),
        ("image_size", (32, 48, 3)),
        ("crop_from", (40,)),
        ("channels", 0),
        ("class_weights", "heavy"),
        ("sampling", "equal"),
    ],
)
def test_values_out_of_range_are_refused_with_their_name(field, value):
    with pytest.raises(ValueError, match=rf"{field}="):
        dataclasses.replace(RECIPE, **{field: value})


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"batch_size": 10, "accumulation": 4}, "batch_size a multiple of accumulation"),
        ({"milestones": (3, 5)}, "milestones with schedule='steps'"),
        ({"schedule": "steps"}, "milestones with schedule='steps'"),
        ({"crop_from": 40}, "crop_from with crop='random' alone"),
        ({"crop": "random", "crop_from": 31}, "crop_from with crop='random' alone"),
        ({"crop": "random", "image_size": (32, 48), "crop_from": 40}, "crop_from with crop='random' alone"),
        ({"channels": 1, "keras_cv": ("GridMask",)}, "keras_cv with channels=3"),
        ({"channels": 5, "objective": "masked-patches"}, "channels of 4 or fewer with objective='masked-patches'"),
        ({"lora": 4, "freeze_to": "norm"}, "lora or freeze_to"),
        ({"remat": True, "dropout": 0.1}, "dropout and stochastic_depth of 0 with remat"),
        ({"patch_sizes": (8, 16), "stochastic_depth": 0.1}, "of 0 with remat=True and with patch_sizes"),
        ({"patch_sizes": (8, 15)}, "patch_sizes that divide image_size"),
        ({"patch_sizes": (8, 16), "objective": "mae"}, "patch_sizes that divide image_size, without objective='mae'"),
        ({"patch_sizes": (8, 8)}, "patch_sizes=.*, expected different sizes|different sizes"),
        ({"sampling": "balanced", "class_weights": "balanced"}, "sampling='balanced' for classes"),
        ({"sampling": "balanced", "full_batches": False}, "full_batches=True and without class_weights"),
        ({"sampling": "balanced", "objective": "mae"}, "sampling='balanced' for classes"),
        ({"objective": "mae", "lora": 4}, "lora, representation_size and head_bias without objective='mae'"),
        ({"objective": "mae", "head_bias": -7.0}, "lora, representation_size and head_bias without objective='mae'"),
        ({"objective": "numbers"}, "target, names of columns, with objective='numbers'"),
        ({"objective": "classes", "target": ("age",)}, "target, names of columns, with objective='numbers'"),
        ({"target": ("age",), "loss": "softmax"}, "loss of the objective"),
        ({"objective": "labels", "loss": "huber"}, "loss of the objective"),
        ({"target": ("age", "age")}, "different names of columns"),
        ({"objective": "labels", "class_weights": "a:2"}, "class_weights by name for classes"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(RECIPE, **settings)


@pytest.mark.parametrize("text", ["48,", "48x80", "48,80,3", "0", "48,0"])
def test_a_size_of_another_form_is_refused_with_both_forms(text):
    with pytest.raises(ValueError, match="image_size=.*one number of 1 or more, or HEIGHT,WIDTH"):
        change(RECIPE, [f"image_size={text}"])


@pytest.mark.parametrize(
    "text, image_size, size", [("96,160", (96, 160), (96, 160)), ("96", 96, (96, 96)), ("96,96", 96, (96, 96))]
)
def test_the_height_and_the_width_of_images_may_differ(text, image_size, size):
    recipe = change(RECIPE, [f"image_size={text}"])
    assert (recipe.image_size, recipe.size) == (image_size, size)
    assert recipe == dataclasses.replace(RECIPE, image_size=size)


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="epoch"):
        Recipe(data="digits", variant="ViT-Ti/16", image_size=32, epoch=3)


def test_every_field_is_described_and_read():
    described = set(re.findall(r"^    (\w+):", inspect.getdoc(Recipe), re.M))
    assert set(FIELDS) <= described
    package = pathlib.Path(keras_vit.__file__).parent
    files = ("commands/fit.py", "commands/examples.py", "commands/export.py", "commands/verdict.py")
    files += tuple(
        f"training/{name}.py"
        for name in ("fit", "head", "model", "objectives", "optimizers", "schedules", "run", "distillation")
    )
    readers = "".join((package / name).read_text("utf-8") for name in files)
    read_as = {"image_size": "size"}
    unread = [name for name in FIELDS if not re.search(rf"recipe\.{read_as.get(name, name)}\b", readers)]
    assert not unread


def test_a_recipe_is_frozen_and_takes_a_variant_of_ones_own():
    recipe = dataclasses.replace(RECIPE, variant=Variant(4, 8, 1, 2, 16))
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 3
