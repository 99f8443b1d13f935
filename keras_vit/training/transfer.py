"""The settings of `keras-vit fit DATA`: a checkpoint is fine-tuned by a table, by the number of training images.

docs/fine_tuning.md has the accuracies that the table was chosen by, and the command that measures them.
"""

import math
from typing import Any

from keras_vit.models.config import Variant

# Of the small AugReg files: docs/fine_tuning.md compares it with Ti/16 and S/32.
DEFAULT_MODEL = "vit_s16_augreg_in21k"
PATCH_SIZE = 16  # pixels a side, of this model
DEFAULT_SIZE = 224  # pixels, of a checkpoint that does not show its own

# Without a checkpoint: small enough to train from random weights on two CPU cores in minutes.
FROM_NOTHING: dict[str, Any] = {
    "variant": Variant(patch_size=8, hidden_size=128, num_layers=6, num_heads=4, mlp_dim=256),
    "image_size": 64,
    "epochs": 30,
    "warmup_epochs": 3,
    "shift": 0.1,
    "zoom": 0.1,
    "flip": True,
}

# Starts from a linear probe, and trains all weights from there, the lower blocks at lower rates.
SETTINGS: dict[str, Any] = {
    "head": "probe",
    "batch_size": 32,
    "optimizer": "adamw",
    "learning_rate": 3e-4,
    "layer_decay": 0.75,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "crop": "resize",
    "flip": True,
    "shift": 0.1,
    "zoom": 0.1,
}
# (largest number of training images, epochs): few images need more epochs for as many steps. The best learning rate and
# augmentation were the same for 90 and for 540 images.
EPOCHS: tuple[tuple[int | None, int], ...] = ((300, 40), (1_500, 20), (10_000, 8), (None, 3))


def transfer_settings(images: int | None) -> dict[str, Any]:
    """Returns the fields of a `Recipe` for fine-tuning a checkpoint on a number of training images.

    Args:
        images: number of training images; None for many.

    Example:
        ```python
        from keras_vit.training.transfer import transfer_settings

        settings = transfer_settings(600)
        recipe = keras_vit.training.Recipe(
            data="images", variant="ViT-S/16", image_size=224, weights="imagenet21k", **settings
        )
        assert recipe.head == "probe" and recipe.epochs == 20
        ```
    """
    epochs = next(epochs for most, epochs in EPOCHS if most is None or images is not None and images <= most)
    return {**SETTINGS, "epochs": epochs}


def fitting_size(size: tuple[float, float]) -> tuple[int, int]:
    """Returns the nearest (height, width) in pixels that `DEFAULT_MODEL` reads: multiples of its patch size."""
    height, width = (PATCH_SIZE * max(1, math.floor(side / PATCH_SIZE + 0.5)) for side in size)
    return height, width


def like_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) in pixels of the same proportions for `DEFAULT_MODEL`, of about as many pixels as by
    default."""
    height, width = size
    scale = DEFAULT_SIZE / math.sqrt(height * width)
    return fitting_size((scale * height, scale * width))
