"""Masked autoencoder (MAE): pre-trains a small ViT on the images of Fashion-MNIST without their classes.

    keras-vit fit recipes/mae.py
    keras-vit fit recipes/mae.py --quick    # a one-minute test on synthetic images
    keras-vit evaluate runs/mae --knn --linear-probe
    keras-vit fit recipes/mae.py objective=classes weights=runs/mae/model.keras freeze_to=norm --output runs/mae_probe

The run writes runs/mae/model.keras, for another run's `weights` as in the last line (a linear probe; without freeze_to,
fine-tuning), and report.html, with masked images and their reconstructions.

Source: arXiv:2111.06377: 75 % of the patches hidden, the loss on normalized pixels; sizes are this project's.
Results, and a study with few labels: docs/self_supervision.md.
"""

from keras_vit.commands.cli import run
from keras_vit.models.config import Variant
from keras_vit.training import Recipe

RECIPE = Recipe(
    data="fashion_mnist",
    variant=Variant(patch_size=4, hidden_size=64, num_layers=4, num_heads=4, mlp_dim=128, pooling="gap"),
    image_size=28,  # 7 x 7 patches; the encoder sees 12 of them
    objective="mae",
    decoder_layers=1,
    decoder_size=32,
    steps=1600,
    batch_size=128,
    learning_rate=2e-3,
    warmup_steps=100,
    flip=True,
)

if __name__ == "__main__":
    run(__file__)
