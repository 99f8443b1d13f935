"""The public names of the package."""

from keras_vit.builders import (
    ViT_B8,
    ViT_B16,
    ViT_B32,
    ViT_G14,
    ViT_g14,
    ViT_H14,
    ViT_L14,
    ViT_L16,
    ViT_L32,
    ViT_S8,
    ViT_S14,
    ViT_S16,
    ViT_S32,
    ViT_Ti16,
    build,
)
from keras_vit.imagenet import decode_predictions
from keras_vit.preprocessing import preprocess_input
from keras_vit.variants import Variant

__all__ = [
    "Variant",
    "ViT_B8",
    "ViT_B16",
    "ViT_B32",
    "ViT_G14",
    "ViT_H14",
    "ViT_L14",
    "ViT_L16",
    "ViT_L32",
    "ViT_S8",
    "ViT_S14",
    "ViT_S16",
    "ViT_S32",
    "ViT_Ti16",
    "ViT_g14",
    "build",
    "decode_predictions",
    "preprocess_input",
]
