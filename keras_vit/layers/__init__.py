"""The Keras layers a Vision Transformer is composed of."""

from keras_vit.layers.bottleneck import Bottleneck, Stem
from keras_vit.layers.patches import PatchEncoder, Patches, TokenMap
from keras_vit.layers.pooling import AttentionPooling, ClassToken
from keras_vit.layers.standardized import GroupNorm, StdConv
from keras_vit.layers.transformer import MLP, Attention, TransformerBlock

__all__ = [
    "MLP",
    "Attention",
    "AttentionPooling",
    "Bottleneck",
    "ClassToken",
    "GroupNorm",
    "PatchEncoder",
    "Patches",
    "Stem",
    "StdConv",
    "TokenMap",
    "TransformerBlock",
]
