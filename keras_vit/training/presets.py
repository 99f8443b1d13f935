"""The pre-training of "How to train your ViT?": seven settings of augmentation, and which one fits which model.

Source: arXiv:2106.10270; big_vision configs/vit_i1k.py and configs/vit_i21k.py.
"""

from keras_vit.models.config import get_variant
from keras_vit.training.recipe import Recipe

FINE_TUNING = {
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


SETTINGS = {  # RandAugment's (layers, magnitude) and mixup
    "none": (None, 0.0),
    "light1": ((2, 0), 0.0),  # not nothing: some of RandAugment's operations have no magnitude
    "light2": ((2, 10), 0.2),
    "medium1": ((2, 15), 0.2),
    "medium2": ((2, 15), 0.5),
    "strong1": ((2, 20), 0.5),
    "strong2": ((2, 20), 0.8),
}
# The more images and the smaller the model, the less; a mean of what is best after 30 and after 300 epochs.
DEFAULTS = {
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
IMAGENET = {
    "train_split": "train[:99%]",
    "validation_split": "train[99%:]",
    "test_split": "validation",
    "pooling": "token",
    "head_bias": -6.9,  # -log(1000)
}
IMAGENET_21K = {
    "validation": 0.002,  # 25,600 images each
    "test": 0.002,
    "pooling": "gap",
    "head_bias": -10.0,  # -log(21,843)
}


def augreg_recipe(setting=None, variant="ViT-B/16", data="imagenet2012"):
    """Returns the recipe of a setting, a model and the data.

    It has no dropout and no dropped branches, as the official file. The paper found 0.1 of both to help ViT-B/32, B/16
    and L/16 on ImageNet-1k.

    Args:
        setting: a key of `SETTINGS`; None for the model's own on this data.
        variant: name of an architecture.
        data: "imagenet2012"; or data of many classes, where all is as for ImageNet-21k.

    Raises:
        ValueError: if there is no such setting, or none is known for the model.
    """
    small = data == "imagenet2012"
    defaults = DEFAULTS["imagenet2012" if small else "imagenet21k"]
    setting = setting or defaults.get(variant)
    if setting not in SETTINGS:
        raise ValueError(
            f"Expected a setting of {', '.join(SETTINGS)}, or none and a variant of {', '.join(defaults)}. "
            f"Received: setting={setting!r}, variant={variant!r}"
        )
    randaugment, mixup = SETTINGS[setting]
    return Recipe(
        data=data,
        variant=variant,
        image_size=224,
        representation_size=get_variant(variant).hidden_size if small else None,
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
        weight_decay=0.1,  # of the learning rate; the official 1e-4 is what is left of a kernel after both
        clip_norm=1.0,
        **(IMAGENET if small else IMAGENET_21K),
    )
