"""Pretext tasks: what a Vision Transformer can learn from images without their classes."""

from keras_vit.pretraining.mae import MaskedAutoencoder
from keras_vit.pretraining.masked_patches import MaskedPatches

__all__ = ["MaskedAutoencoder", "MaskedPatches"]
