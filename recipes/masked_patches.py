"""Masked patch prediction: a small ViT on Fashion-MNIST guesses the colours of patches that were taken from it.

    keras-vit fit recipes/masked_patches.py
    keras-vit fit recipes/masked_patches.py --quick    # all of it in a minute, on synthetic images
    keras-vit evaluate runs/masked_patches --knn --linear-probe

The run leaves runs/masked_patches/model.keras, for another run's `weights`, and report.html, with what it guessed.

Source: arXiv:2010.11929, appendix B.1.2: 50 % of the patches corrupted, 80 % of these by a learned embedding, 10 % by
that of another patch, 10 % not at all; 512 mean colours. Sizes are this project's.
What it gave, and the same task in a study of few labels: docs/self_supervision.md.
"""

from keras_vit.commands.cli import run
from keras_vit.models.config import Variant
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    data="fashion_mnist",
    variant=Variant(patch_size=4, hidden_size=64, num_layers=4, num_heads=4, mlp_dim=128, pooling="gap"),
    image_size=28,  # 7 x 7 patches, 24 of them corrupted
    objective="masked-patches",
    steps=600,
    batch_size=128,
    learning_rate=2e-3,
    warmup_steps=50,
    flip=True,
)

if __name__ == "__main__":
    run(__file__)
