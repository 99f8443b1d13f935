"""Fine-tunes a BiT ResNet by the BiT-HyperRule: all settings follow from the number and size of the images.

    keras-vit fit recipes/bit_hyperrule.py            # Oxford-IIIT Pets
    keras-vit fit recipes/bit_hyperrule.py --quick    # a one-minute test on synthetic images

For other data, pass its number of training images and their usual area in pixels to `hyperrule`.

Source: arXiv:1912.11370, section 3.3; google-research/big_transfer bit_hyperrule.py and bit_pytorch/train.py.
Published: 80.68 % of ImageNet-1k with BiT-M R50x1 (big_transfer README).
Not run at full size here: no accelerator.
"""

from typing import Any

from keras_vit.commands.cli import run
from keras_vit.training import Recipe

SCHEDULES = (  # (number of images below, (warm-up, milestones, total)), all in steps
    (20_000, (100, (200, 300, 400), 500)),
    (500_000, (500, (3_000, 6_000, 9_000), 10_000)),
    (float("inf"), (500, (6_000, 12_000, 18_000), 20_000)),
)


def hyperrule(images: int, area: int, **data: Any) -> Recipe:
    """Returns the recipe for a number of training images and their area in pixels; `data` are its other fields."""
    warmup_steps, milestones, steps = next(schedule for bound, schedule in SCHEDULES if images < bound)
    return Recipe(
        variant="BiT-R50x1",
        weights="imagenet21k",  # BiT-M
        image_size=128 if area < 96 * 96 else 480,
        crop="random",
        crop_from=160 if area < 96 * 96 else 512,
        flip=True,
        mixup=0.0 if images < 20_000 else 0.1,
        evaluation="official",
        steps=steps,
        batch_size=512,
        accumulation=8,  # to save memory, as --batch_split; the result does not depend on it
        optimizer="sgd",
        momentum=0.9,
        learning_rate=0.003,
        schedule="steps",
        milestones=milestones,
        warmup_steps=warmup_steps,
        weight_decay=0.0,
        clip_norm=0.0,
        label_smoothing=0.0,
        **data,
    )


RECIPE = hyperrule(
    3_680,
    500 * 375,
    data="oxford_iiit_pet",
    train_split="train",
    validation=0.0,  # no setting is chosen by it
    test_split="test",
)

if __name__ == "__main__":
    run(__file__)
