"""Quick runs (--quick): the same recipe with a small model and few images, which ends within a minute."""

import dataclasses
import math
import os
import re
from typing import Any

from keras_vit.models.config import ResNet, Variant, get_variant
from keras_vit.training.recipe import Recipe, sides_of

SYNTHETIC = "synthetic:5x32"  # 5 classes of 32 images each
IMAGE_SIZE = 32  # pixels; a grid of 4 x 4 tokens in each of the small architectures, or of about as many
_TOKEN = 8  # pixels a side
STEPS, STEPS_PER_EPOCH = 12, 4
BATCH_SIZE = 16  # or more, so that parts and devices get two images each
HIDDEN_SIZE = 32


def quick_recipe(recipe: Recipe) -> Recipe:
    """Returns a recipe reduced to a run of a minute, to test all of it before the full run.

    The model is a small one of the same family with random weights. The images are few and synthetic, unless the data
    is local. Three short epochs include validation, checkpoints and the EMA. All fields that are not sizes stay:
    optimizer, loss, schedule, augmentation and exports.

    Args:
        recipe: the recipe of the full run.

    Returns:
        The reduced recipe.

    Example:
        ```python
        full = keras_vit.training.augreg_recipe("medium1", "ViT-S/16")
        quick = keras_vit.training.quick_recipe(full)
        assert quick.steps == 12 and quick.randaugment == full.randaugment
        ```
    """
    row = get_variant(recipe.variant)
    small, size = small_variant(row), _small_size(recipe.size)
    return dataclasses.replace(
        recipe,
        variant=small,
        image_size=size,
        crop_from=recipe.crop_from and _scaled(size, recipe),
        weights=None,
        missing_weights=None,
        head="new" if recipe.head == "kept" else recipe.head,
        teacher=None,  # of other classes than those of the synthetic images
        unlabelled=None,
        representation_size=recipe.representation_size and HIDDEN_SIZE,
        decoder_layers=1,
        decoder_size=None,
        freeze_to=recipe.freeze_to and _layer_of(small, recipe.freeze_to, row),
        steps=STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        batch_size=-(-BATCH_SIZE // recipe.accumulation) * recipe.accumulation,
        warmup_steps=_warmup_steps(recipe),
        milestones=_milestones(recipe),
        patch_sizes=recipe.patch_sizes and (_TOKEN // 2, _TOKEN),
        checkpoint_seconds=0.0,
        **_data(recipe),
    )


def _small_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns a (height, width) of the same proportions and of as many pixels as a square of `IMAGE_SIZE`."""
    scale = IMAGE_SIZE / _TOKEN / math.sqrt(math.prod(size))
    height, width = (_TOKEN * max(1, round(scale * side)) for side in size)
    return height, width


def _scaled(size: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
    """Returns `crop_from` for another size of the model's input."""
    sides = zip(size, sides_of(recipe.crop_from or 1), recipe.size, strict=True)
    height, width = (round(side * before / kept) for side, before, kept in sides)
    return height, width


def small_variant(row: Variant | ResNet) -> Variant | ResNet:
    """Returns a small architecture of the same family (plain ViT, hybrid or BiT), with the same kinds of tokens."""
    if isinstance(row, ResNet):
        return _small_resnet(row)
    # A stem of stride 4 or 8 already covers some of a token's pixels.
    stem = row.stem and _small_resnet(row.stem)
    return dataclasses.replace(
        row,
        patch_size=_TOKEN // stem.stride if stem else _TOKEN,
        hidden_size=HIDDEN_SIZE,
        num_layers=2,
        num_heads=2,
        mlp_dim=2 * HIDDEN_SIZE,
        stem=stem,
        parameters=None,
    )


def _small_resnet(row: ResNet) -> ResNet:
    stages = min(len(row.units), 2)
    return ResNet((1,) * stages, (128, 256)[:stages], root_width=32)


def _layer_of(small: Variant | ResNet, name: str, row: Variant | ResNet) -> str:
    """Returns the name of the small variant's layer at the same relative depth as a layer of the full one."""
    if (block := re.fullmatch(r"block_(\d+)", name)) and isinstance(small, Variant) and isinstance(row, Variant):
        depth = int(block[1]) / max(row.num_layers - 1, 1)
        return f"block_{round(min(depth, 1) * (small.num_layers - 1)):02d}"
    if stage := re.fullmatch(r"stage(\d+)_unit\d+", name):
        if resnet := small.stem if isinstance(small, Variant) else small:
            return f"stage{min(int(stage[1]), len(resnet.units))}_unit01"
    return name


def _warmup_steps(recipe: Recipe) -> int:
    """Returns the warm-up, scaled to the short run; an epoch where its fraction of the full run is unknown."""
    warmup, length = recipe.warmup_epochs, None if recipe.steps else recipe.epochs
    if recipe.warmup_steps is not None:
        warmup, length = recipe.warmup_steps, recipe.steps
    if not warmup or not length:
        return STEPS_PER_EPOCH if warmup else 0
    return min(max(round(STEPS * warmup / length), 1), STEPS - 1)


def _milestones(recipe: Recipe) -> tuple[int, ...]:
    length = recipe.steps or sum(recipe.milestones[-1:]) + 1
    return tuple(sorted({min(max(round(STEPS * step / length), 1), STEPS - 1) for step in recipe.milestones}))


def _data(recipe: Recipe) -> dict[str, Any]:
    """Returns the fields of the synthetic data; none where the recipe's data is local."""
    if recipe.data == "digits" or recipe.data.startswith("synthetic") or os.path.exists(recipe.data):
        return {}
    parts = {"train_split": None, "validation_split": None, "test_split": None, "validation": 0.2, "test": 0.2}
    # Weights by name are those of other classes.
    class_weights = "equal" if ":" in recipe.class_weights else recipe.class_weights
    channels = recipe.channels if recipe.channels in (1, 3, 4) else 3  # RGB is converted to no others
    other = {"data": SYNTHETIC, "data_dir": None, "channels": channels, "class_depth": None}
    other |= {"groups": None, "corrections": None}
    return other | {"class_weights": class_weights} | parts
