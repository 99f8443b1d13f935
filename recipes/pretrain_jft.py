"""Pre-trains a ViT, a hybrid or a BiT on your own data, as the paper does on JFT-300M.

    keras-vit fit recipes/pretrain_jft.py data=/data/many_images precision=mixed_bfloat16
    keras-vit fit recipes/pretrain_jft.py --quick    # a one-minute test on synthetic images

JFT-300M, 303 million images of 18 thousand classes, is not public: `data` is a folder of class folders, or a name of
TFDS. RECIPES has the other rows of the table.

Source: arXiv:2010.11929, table 3 (rows JFT-300M) and appendix B.1; head and loss as for ImageNet-21k
(google-research/vision_transformer issues 2, 34 and 124).
Published: 84.15 % of ImageNet-1k after fine-tuning (table 5, ViT-B/16 from JFT-300M); table 6 has all rows.
Not run at full size here: no accelerator and no such images.
"""

from keras_vit.commands.cli import run
from keras_vit.models.config import get_variant
from keras_vit.training import Recipe

ROWS = {  # variant: (epochs, learning rate)
    "ViT-B/16": (7, 8e-4),
    "ViT-B/32": (7, 8e-4),
    "ViT-L/32": (7, 6e-4),
    "ViT-L/16": (7, 4e-4),  # or 14 epochs
    "ViT-H/14": (14, 3e-4),
    "BiT-R50x1": (7, 1e-3),
    "BiT-R50x2": (7, 1e-3),
    "BiT-R101x1": (7, 8e-4),
    "BiT-R152x1": (7, 6e-4),
    "BiT-R152x2": (7, 6e-4),  # or 14 epochs
    "R50+ViT-B/16": (7, 8e-4),
    "R50+ViT-B/32": (7, 8e-4),
    "R50+ViT-L/32": (7, 2e-4),
    "R50+ViT-L/16": (7, 4e-4),  # or 14 epochs
}


def recipe(variant: str) -> Recipe:
    """Returns the recipe of a variant in `ROWS`."""
    epochs, learning_rate = ROWS[variant]
    return Recipe(
        data="jft",
        validation=0.002,
        test=0.002,
        variant=variant,
        image_size=224,
        representation_size=getattr(get_variant(variant), "hidden_size", None),  # a BiT has no such layer
        dropout=0.0,
        head_bias=-10.0,
        loss="sigmoid",
        label_smoothing=0.0,
        crop="inception",
        flip=True,
        evaluation="official",
        epochs=epochs,
        batch_size=4096,
        optimizer="adamw",  # Adam, beta 0.9 and 0.999, with decoupled weight decay; for BiT, too
        learning_rate=learning_rate,
        schedule="linear",  # to 1e-5
        warmup_steps=10_000,
        weight_decay=0.1,
        clip_norm=0.0,
    )


RECIPES = {variant: recipe(variant) for variant in ROWS}
RECIPE = RECIPES["ViT-B/16"]

if __name__ == "__main__":
    run(__file__)
