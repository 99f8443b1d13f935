"""The Keras layers a Vision Transformer is composed of."""

from keras_vit.layers.patches import PatchEncoder, Patches
from keras_vit.layers.pooling import AttentionPooling, ClassToken
from keras_vit.layers.transformer import EPSILON, MLP, Attention, TransformerBlock

__all__ = [
    "EPSILON",
    "MLP",
    "Attention",
    "AttentionPooling",
    "ClassToken",
    "PatchEncoder",
    "Patches",
    "TransformerBlock",
]
