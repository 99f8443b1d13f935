"""Self-supervised pre-training of a Vision Transformer: masked patch prediction and the masked autoencoder (MAE)."""

from keras_vit.pretraining.mae import MaskedAutoencoder
from keras_vit.pretraining.mae_files import load_mae, save_mae
from keras_vit.pretraining.masked_patches import MaskedPatches

__all__ = ["MaskedAutoencoder", "MaskedPatches", "load_mae", "save_mae"]
