"""A small hybrid Vision Transformer on Fashion-MNIST, from nothing: 11 epochs, 93.53 % on the test images.

    keras-vit fit recipes/fashion_mnist.py
    keras-vit fit recipes/fashion_mnist.py --quick    # all of it in a minute, on synthetic images

34.6 minutes of training, by the clock, on a 2-core shared cloud CPU (AVX-512), no GPU. docs/fashion_mnist.md has the
rest.

Source: this project; the hybrid is that of arXiv:2010.11929, section 3.1.
"""

from keras_vit.commands.cli import run
from keras_vit.models.config import ResNet, Variant
from keras_vit.training.recipe import Recipe

RECIPE = Recipe(
    data="fashion_mnist",
    variant=Variant(
        patch_size=1,  # of the stem's map, 7 x 7: 49 tokens, each 4 pixels wide
        hidden_size=128,
        num_layers=2,
        num_heads=4,
        mlp_dim=256,
        stem=ResNet((1, 1), (128, 256), root_width=32),
        positions="sincos-2d",
        pooling="gap",
    ),
    image_size=56,  # twice the images' own, so that the stem's first map is as large as they are
    validation=0.05,
    gelu="erf",  # on a CPU three quarters of the tanh form's time, forward and back
    epochs=11,
    batch_size=64,  # what fits a core's cache: 128 takes longer an image
    optimizer="muon",
    learning_rate=3e-3,
    warmup_steps=200,
    flip=True,
    shift=0.05,
    license="apache-2.0",
)

if __name__ == "__main__":
    run(__file__)
