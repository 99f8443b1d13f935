"""A small hybrid Vision Transformer on Fashion-MNIST, from scratch: 11 epochs, 93.53 % on the test images.

    keras-vit fit recipes/fashion_mnist.py
    keras-vit fit recipes/fashion_mnist.py --quick    # a one-minute test on synthetic images

Trains in 34.6 minutes (wall clock) on a 2-core shared cloud CPU (AVX-512), no GPU; see
docs/fashion_mnist.md.

Source: this project; the hybrid is that of arXiv:2010.11929, section 3.1.
"""

from keras_vit.commands.cli import run
from keras_vit.models.config import ResNet, Variant
from keras_vit.training import Recipe

RECIPE = Recipe(
    data="fashion_mnist",
    variant=Variant(
        patch_size=1,  # of the stem's feature map of 7 x 7: 49 tokens, each of 4 x 4 image pixels
        hidden_size=128,
        num_layers=2,
        num_heads=4,
        mlp_dim=256,
        stem=ResNet((1, 1), (128, 256), root_width=32),
        positions="sincos-2d",
        pooling="gap",
    ),
    image_size=56,  # twice the size of the images, so that the stem's first feature map has their size
    validation=0.05,
    gelu="erf",  # on a CPU three quarters of the time of the tanh form, forward and backward
    epochs=11,
    batch_size=64,  # fits a core's cache: 128 is slower per image
    optimizer="muon",
    learning_rate=3e-3,
    warmup_steps=200,
    flip=True,
    shift=0.05,
    license="apache-2.0",
)

if __name__ == "__main__":
    run(__file__)
