"""A small Vision Transformer on scikit-learn's digits: 1,797 real scans of 8 x 8 pixels.

keras-vit fit recipes/digits.py
"""

from keras_vit.commands.cli import run
from keras_vit.models.config import Variant
from keras_vit.training import Recipe

RECIPE = Recipe(
    data="digits",
    variant=Variant(patch_size=4, hidden_size=64, num_layers=6, num_heads=4, mlp_dim=128),
    image_size=16,  # twice the size of the scans: 4 x 4 patches, each of 2 x 2 scanned pixels
    epochs=60,
    learning_rate=2e-3,
    warmup_epochs=5,
    rotate=10.0,  # more, or a flip, would turn one digit into another
    shift=0.06,
    zoom=0.1,
    shear=0.1,
    license="apache-2.0",
)

if __name__ == "__main__":
    run(__file__)
