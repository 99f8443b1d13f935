"""Makes a run small enough to be over in a minute, whatever its recipe."""

import dataclasses
import os
import re

from keras_vit.models.config import ResNet, Variant, get_variant

SYNTHETIC = "synthetic:5x32"  # classes x images of each
IMAGE_SIZE = 32  # pixels; four tokens to a side, in each of the small architectures
STEPS, STEPS_PER_EPOCH = 12, 4
BATCH_SIZE = 16  # at least, so that parts and devices get two images each
HIDDEN_SIZE = 32


def quick(recipe):
    """Returns the same recipe in a minute's size, to see that all of it works before a day is spent on it.

    The model is a small one of the same family, from nothing, the images are few and made up, unless the data is
    embedded or lies here. Three short epochs make room for validation, checkpoints and the mean of the weights. All
    that is not a size stays: optimizer, loss, schedule, augmentation, and what is made of the model.
    """
    row = get_variant(recipe.variant)
    small = small_variant(row)
    return dataclasses.replace(
        recipe,
        variant=small,
        image_size=IMAGE_SIZE,
        crop_from=recipe.crop_from and round(IMAGE_SIZE * recipe.crop_from / recipe.image_size),
        weights=None,
        representation_size=recipe.representation_size and HIDDEN_SIZE,
        decoder_layers=1,
        decoder_size=None,
        freeze_to=recipe.freeze_to and _layer_of(small, recipe.freeze_to, row),
        steps=STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        batch_size=-(-BATCH_SIZE // recipe.accumulation) * recipe.accumulation,
        warmup_steps=_warmup_steps(recipe),
        milestones=_milestones(recipe),
        checkpoint_seconds=0.0,
        **_data(recipe),
    )


def small_variant(row):
    """Returns a small row of the family of another: plain, hybrid or BiT, with the same tokens."""
    if isinstance(row, ResNet):
        return _small_resnet(row)
    # A token is 8 pixels wide; a stem has made 4 or 8 of them one already.
    stem = row.stem and _small_resnet(row.stem)
    return dataclasses.replace(
        row,
        patch_size=8 // stem.stride if stem else 8,
        hidden_size=HIDDEN_SIZE,
        num_layers=2,
        num_heads=2,
        mlp_dim=2 * HIDDEN_SIZE,
        stem=stem,
        parameters=None,
    )


def _small_resnet(row):
    stages = min(len(row.units), 2)
    return ResNet((1,) * stages, (128, 256)[:stages], root_width=32)


def _layer_of(small, name, row):
    """Returns the layer of the small variant that stands where a layer of the large one does."""
    if (block := re.fullmatch(r"block_(\d+)", name)) and isinstance(small, Variant):
        depth = int(block[1]) / max(row.num_layers - 1, 1)
        return f"block_{round(min(depth, 1) * (small.num_layers - 1)):02d}"
    if stage := re.fullmatch(r"stage(\d+)_unit\d+", name):
        resnet = small.stem if isinstance(small, Variant) else small
        return f"stage{min(int(stage[1]), len(resnet.units))}_unit01"
    return name


def _warmup_steps(recipe):
    """Returns the warm-up's part of the run, at least a step; an epoch where the run's length is not known in steps."""
    warmup, length = recipe.warmup_epochs, None if recipe.steps else recipe.epochs
    if recipe.warmup_steps is not None:
        warmup, length = recipe.warmup_steps, recipe.steps
    if not warmup or not length:
        return STEPS_PER_EPOCH if warmup else 0
    return min(max(round(STEPS * warmup / length), 1), STEPS - 1)


def _milestones(recipe):
    length = recipe.steps or sum(recipe.milestones[-1:]) + 1
    return tuple(sorted({min(max(round(STEPS * step / length), 1), STEPS - 1) for step in recipe.milestones}))


def _data(recipe):
    """Returns the fields of the data: none where it is embedded or lies here."""
    if recipe.data == "digits" or recipe.data.startswith("synthetic") or os.path.exists(recipe.data):
        return {}
    parts = {"train_split": None, "validation_split": None, "test_split": None, "validation": 0.2, "test": 0.2}
    return {"data": SYNTHETIC, "data_dir": None, "class_depth": None, **parts}
