"""Presets: the papers' fine-tuning settings, and AugReg's pre-training recipes.

AugReg ("How to train your ViT?") has seven settings of augmentation, and a default of them for each model size.

Source: fine-tuning: arXiv:2010.11929, section 4.1 and table 4; vit_jax configs/common.py, configs/models.py and
input_pipeline.py. AugReg: arXiv:2106.10270; big_vision configs/vit_i1k.py and configs/vit_i21k.py.
"""

from typing import Any

from keras_vit.models.config import Variant, get_variant
from keras_vit.training.recipe import Recipe

# Fields of `Recipe` for fine-tuning as in the Vision Transformer paper: Recipe(**FINE_TUNING, data=...).
FINE_TUNING: dict[str, Any] = {
    "variant": "ViT-B/16",
    "image_size": 384,
    "weights": "imagenet21k",  # the paper's own file is vit_b16_in21k
    "dropout": 0.0,  # 0.1 for ViT-L/16, ViT-H/14 and R50+ViT-B/16; configs/models.py
    "crop": "inception",
    "flip": True,
    "evaluation": "official",
    "batch_size": 512,
    "accumulation": 8,  # to save memory; the result does not depend on it
    "optimizer": "sgd",
    "momentum": 0.9,  # momentum_dtype="bfloat16" saves memory, as the official code does
    "schedule": "cosine",
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "label_smoothing": 0.0,
}

# {AugReg's setting: (RandAugment's layers and magnitude, mixup)}
SETTINGS: dict[str, tuple[tuple[int, int] | None, float]] = {
    "none": (None, 0.0),
    "light1": ((2, 0), 0.0),  # still augments: some of RandAugment's operations have no magnitude
    "light2": ((2, 10), 0.2),
    "medium1": ((2, 15), 0.2),
    "medium2": ((2, 15), 0.5),
    "strong1": ((2, 20), 0.5),
    "strong2": ((2, 20), 0.8),
}
# {data: {variant: setting}}: less augmentation for more images and for smaller models; the mean of the best settings
# after 30 and after 300 epochs.
DEFAULTS: dict[str, dict[str, str]] = {
    "imagenet2012": {
        "ViT-Ti/16": "light1",
        "ViT-S/32": "medium1",
        "ViT-S/16": "medium2",
        "ViT-B/32": "medium2",
        "ViT-B/16": "medium2",
        "ViT-L/16": "medium2",
    },
    "imagenet21k": {
        "ViT-Ti/16": "none",
        "ViT-S/32": "none",
        "ViT-S/16": "light1",
        "ViT-B/32": "light2",
        "ViT-B/16": "light2",
        "ViT-L/16": "medium2",
    },
}
IMAGENET: dict[str, Any] = {
    "train_split": "train[:99%]",
    "validation_split": "train[99%:]",
    "test_split": "validation",
    "pooling": "token",
    "head_bias": -6.9,  # -log(1000)
}
IMAGENET_21K: dict[str, Any] = {
    "validation": 0.002,  # 25,600 images
    "test": 0.002,
    "pooling": "gap",
    "head_bias": -10.0,  # -log(21,843)
}


def augreg_recipe(setting: str | None = None, variant: str = "ViT-B/16", data: str = "imagenet2012") -> Recipe:
    """Returns AugReg's recipe for pre-training a variant on ImageNet-1k or ImageNet-21k.

    Like the official file, it has no dropout and no stochastic depth. The paper found that 0.1 of both helps ViT-B/32,
    B/16 and L/16 on ImageNet-1k.

    Args:
        setting: augmentation, "none", "light1", "light2", "medium1", "medium2", "strong1" or "strong2"; None is the
            variant's default on this data.
        variant: name of an architecture.
        data: "imagenet2012"; all other data gets the settings of ImageNet-21k.

    Returns:
        The recipe.

    Raises:
        ValueError: if the setting is unknown, or is None for a variant without a default.

    Example:
        ```python
        recipe = keras_vit.training.augreg_recipe("light1", "ViT-S/16")
        assert recipe.randaugment == (2, 0) and recipe.epochs == 300
        ```

    Source: arXiv:2106.10270; big_vision configs/vit_i1k.py and configs/vit_i21k.py.
    """
    small = data == "imagenet2012"
    defaults = DEFAULTS["imagenet2012" if small else "imagenet21k"]
    setting = setting or defaults.get(variant)
    if setting not in SETTINGS:
        raise ValueError(
            f"Expected setting to be one of {', '.join(SETTINGS)}, or None with a variant of {', '.join(defaults)}. "
            f"Received: setting={setting!r}, variant={variant!r}"
        )
    randaugment, mixup = SETTINGS[setting]
    row = get_variant(variant)
    return Recipe(
        data=data,
        variant=variant,
        image_size=224,
        representation_size=row.hidden_size if small and isinstance(row, Variant) else None,
        loss="sigmoid",
        label_smoothing=0.0,
        crop="inception",
        flip=True,
        randaugment=randaugment,
        mixup=mixup,
        evaluation="big_vision",
        epochs=300,
        batch_size=4096,
        optimizer="adamw",
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=10_000,
        weight_decay=0.1,  # times the learning rate; the official 1e-4 is the product of both
        clip_norm=1.0,
        **(IMAGENET if small else IMAGENET_21K),
    )
