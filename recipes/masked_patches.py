"""Masked patch prediction: a small ViT on Fashion-MNIST predicts the mean colours of corrupted patches.

    keras-vit fit recipes/masked_patches.py
    keras-vit fit recipes/masked_patches.py --quick    # a one-minute test on synthetic images
    keras-vit evaluate runs/masked_patches --knn --linear-probe

The run writes runs/masked_patches/model.keras, for another run's `weights`, and report.html, with its predictions.

Source: arXiv:2010.11929, appendix B.1.2: 50 % of the patches corrupted, 80 % of these replaced by a learned mask token,
10 % by another patch, 10 % unchanged; 512 mean colours. Sizes are this project's.
Results, and a study with few labels: docs/self_supervision.md.
"""

from keras_vit.commands.cli import run
from keras_vit.models.config import Variant
from keras_vit.training import Recipe

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
