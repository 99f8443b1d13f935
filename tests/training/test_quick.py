import dataclasses

import pytest

from keras_vit.builders import build
from keras_vit.models.config import VARIANTS, ResNet, Variant, get_variant
from keras_vit.training.quick import STEPS, quick_recipe
from keras_vit.training.recipe import FIELDS, Recipe

LARGE = Recipe(
    data="imagenet2012", variant="ViT-B/16", image_size=384, weights="imagenet21k", train_split="train[:99%]"
)
SIZES = {
    *("data", "data_dir", "train_split", "validation_split", "test_split", "validation", "test"),
    *("class_depth", "groups", "corrections"),
    *("variant", "image_size", "crop_from", "weights", "missing_weights", "representation_size", "freeze_to"),
    *("decoder_layers", "decoder_size", "patch_sizes", "teacher", "unlabelled"),
    *("steps", "steps_per_epoch", "batch_size", "warmup_steps", "milestones", "checkpoint_seconds"),
}
# Every field that is not a size, away from its default.
KEPT = {
    "on_bad_image": "skip",
    "split_seed": 5,
    "objective": "mae",
    "target": ("age",),
    "channels": 4,
    "corrupted": 0.6,
    "pooling": "gap",
    "head": "probe",
    "reject": 0.05,
    "gelu": "erf",
    "dropout": 0.1,
    "stochastic_depth": 0.2,
    "head_bias": -10.0,
    "lora": 4,
    "epochs": 7,
    "full_batches": False,
    "sampling": "balanced",
    "accumulation": 8,
    "optimizer": "sgd",
    "momentum": 0.8,
    "momentum_dtype": "bfloat16",
    "learning_rate": 0.03,
    "schedule": "linear",
    "warmup_epochs": 2,
    "weight_decay": 0.3,
    "layer_decay": 0.75,
    "clip_norm": 2.0,
    "ema": 0.9999,
    "loss": "sigmoid",
    "label_smoothing": 0.0,
    "class_weights": "balanced",
    "early_stopping": 3,
    "early_stopping_steps": 40,
    "keep": "best",
    "max_loss": 1e5,
    "precision": "mixed_bfloat16",
    "remat": True,
    "jit_compile": True,
    "strategy": "one",
    "crop": "inception",
    "flip": True,
    "rotate": 10.0,
    "shift": 0.1,
    "zoom": 0.2,
    "shear": 0.3,
    "randaugment": (2, 15),
    "mixup": 0.2,
    "cutmix": 1.0,
    "keras_cv": ("RandomHue",),
    "evaluation": "timm",
    "distill": "hard",
    "temperature": 3.0,
    "distill_weight": 0.7,
    "seed": 3,
    "keep_checkpoints": 2,
    "tensorboard": False,
    "exports": ("tflite-int8",),
    "license": "mit",
}


def test_every_field_is_a_size_or_kept():
    assert {*KEPT, *SIZES} == set(FIELDS)
    assert not {*KEPT} & SIZES


@pytest.mark.parametrize("field", KEPT)
def test_fields_that_are_not_sizes_stay(field):
    recipe = dataclasses.replace(LARGE, **{field: KEPT[field]})
    assert getattr(recipe, field) != getattr(LARGE, field)
    assert getattr(quick_recipe(recipe), field) == KEPT[field]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_small_variant_is_of_the_same_family_and_builds(name):
    large = get_variant(name)
    made = quick_recipe(dataclasses.replace(LARGE, variant=name))
    small = made.variant
    assert type(small) is type(large)
    if isinstance(small, Variant):
        assert (small.pooling, small.distillation_token) == (large.pooling, large.distillation_token)
        assert (small.stem is None) == (large.stem is None)
        assert small.grid(made.image_size, made.image_size) == (4, 4)
        assert not small.stem or bool(small.stem.units) == bool(large.stem.units)
    model = build(small, input_shape=(made.image_size, made.image_size, 3), classes=3)
    assert model.count_params() < 400_000


@pytest.mark.parametrize(
    "settings, image_size, crop_from",
    [
        ({"image_size": (96, 160)}, (24, 40), None),
        ({"image_size": (160, 96), "crop": "random", "crop_from": (200, 120)}, (40, 24), (50, 30)),
        ({"image_size": (96, 160), "crop": "random", "crop_from": 192}, (24, 40), 48),
        ({"image_size": (16, 1600)}, (8, 320), None),
    ],
)
def test_the_proportions_of_images_stay(settings, image_size, crop_from):
    made = quick_recipe(dataclasses.replace(LARGE, **settings))
    assert (made.image_size, made.crop_from) == (image_size, crop_from)


def test_bands_are_not_asked_of_synthetic_images(tmp_path):
    assert quick_recipe(dataclasses.replace(LARGE, channels=5)).channels == 3
    assert quick_recipe(dataclasses.replace(LARGE, channels=5, data=str(tmp_path))).channels == 5


def test_the_head_reads_what_it_read():
    row = Variant(16, 96, 3, 3, 48, pooling="gap", dropout=0.1)
    assert quick_recipe(dataclasses.replace(LARGE, variant=row)).variant.pooling == "gap"
    hidden = Variant(16, 96, 3, 3, 48, pooling="token", distillation_token=True)
    small = quick_recipe(dataclasses.replace(LARGE, variant=hidden, representation_size=96))
    assert small.variant.distillation_token
    assert small.representation_size == small.variant.hidden_size
    assert quick_recipe(LARGE).representation_size is None


@pytest.mark.parametrize(
    "variant, name, expected",
    [
        ("ViT-B/16", None, None),
        ("ViT-B/16", "norm", "norm"),
        ("ViT-B/16", "encoder", "encoder"),
        ("ViT-B/16", "block_00", "block_00"),
        ("ViT-B/16", "block_05", "block_00"),
        ("ViT-B/16", "block_06", "block_01"),
        ("ViT-L/16", "block_23", "block_01"),
        (Variant(8, 16, 1, 2, 24), "block_00", "block_00"),
        ("R50+ViT-B/16", "stage3_unit09", "stage2_unit01"),
        ("R50+ViT-B/16", "block_11", "block_01"),
        ("BiT-R50x1", "stage1_unit03", "stage1_unit01"),
        (ResNet((2,), (128,)), "stage1_unit02", "stage1_unit01"),
    ],
)
def test_the_frozen_layer_exists(variant, name, expected):
    made = quick_recipe(dataclasses.replace(LARGE, variant=variant, freeze_to=name))
    assert made.freeze_to == expected
    model = build(made.variant, input_shape=(made.image_size, made.image_size, 3), classes=2)
    assert expected is None or expected in {layer.name for layer in model.layers}


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"steps": 20_000, "warmup_steps": 500}, 1),
        ({"steps": 500, "warmup_steps": 100}, 2),
        ({"epochs": 30, "warmup_epochs": 10}, 4),
        ({"epochs": 3, "warmup_epochs": 5}, STEPS - 1),
        ({"epochs": 90, "warmup_steps": 10_000}, 4),
        ({"steps": 20_000, "warmup_epochs": 1}, 4),
        ({"steps": 20_000, "warmup_steps": 0}, 0),
        ({"epochs": 30, "warmup_epochs": 0}, 0),
    ],
)
def test_the_warm_up_shrinks_with_the_run(settings, expected):
    assert quick_recipe(dataclasses.replace(LARGE, **settings)).warmup_steps == expected


@pytest.mark.parametrize(
    "steps, milestones, expected",
    [
        (10_000, (3_000, 6_000, 9_000), (4, 7, 11)),
        (500, (200, 300, 400), (5, 7, 10)),
        (10_000, (10, 20, 9_999), (1, 11)),
        (None, (100, 200, 300), (4, 8, 11)),
    ],
)
def test_milestones_shrink_and_stay_within(steps, milestones, expected):
    recipe = dataclasses.replace(LARGE, steps=steps, schedule="steps", milestones=milestones)
    assert quick_recipe(recipe).milestones == expected


@pytest.mark.parametrize("accumulation, batch_size", [(1, 16), (8, 16), (3, 18), (32, 32)])
def test_the_batch_is_small_and_can_be_cut_into_its_parts(accumulation, batch_size):
    recipe = dataclasses.replace(LARGE, accumulation=accumulation, batch_size=accumulation * 512)
    assert quick_recipe(recipe).batch_size == batch_size


def test_remote_data_is_synthetic_and_local_data_stays(tmp_path):
    made = quick_recipe(dataclasses.replace(LARGE, data_dir="/data", validation=0.0))
    assert made.data.startswith("synthetic:")
    assert (made.data_dir, made.train_split, made.weights) == (None, None, None)
    assert made.validation == made.test == 0.2
    for own in ("digits", "synthetic", "synthetic:3x7", str(tmp_path)):
        kept = quick_recipe(dataclasses.replace(LARGE, data=own, validation=0.3))
        assert (kept.data, kept.validation, kept.train_split) == (own, 0.3, LARGE.train_split)


def test_the_decoder_is_small_too():
    made = quick_recipe(dataclasses.replace(LARGE, objective="mae", decoder_size=512))
    assert (made.objective, made.decoder_layers, made.decoder_size) == ("mae", 1, None)


def test_a_quick_recipe_is_as_quick_as_it_gets():
    once = quick_recipe(LARGE)
    assert quick_recipe(once) == once


def test_class_weights_by_name_stay_with_the_classes_that_they_name():
    named = dataclasses.replace(LARGE, class_weights="dark:2,light:1")
    assert quick_recipe(named).class_weights == "equal"
    assert quick_recipe(dataclasses.replace(named, data="digits")).class_weights == "dark:2,light:1"


def test_patch_sizes_are_drawn_in_a_quick_run_too():
    flexible = dataclasses.replace(LARGE, patch_sizes=(12, 16, 24))
    made = quick_recipe(flexible)
    assert len(made.patch_sizes) == 2 and made.variant.patch_size in made.patch_sizes
    assert quick_recipe(LARGE).patch_sizes == ()
