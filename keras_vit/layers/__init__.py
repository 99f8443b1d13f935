"""Keras layers of Vision Transformers and ResNets: patches, attention, MLP, blocks, pooling, convolution."""

from keras_vit.layers.attention import Attention, RelativeAttention, WindowAttention
from keras_vit.layers.convolution import Bottleneck, GroupNorm, StdConv, Stem
from keras_vit.layers.mlp import MLP, SwiGLU
from keras_vit.layers.named_numbers import NamedNumbers
from keras_vit.layers.patches import PatchEncoder, Patches, TokenMap
from keras_vit.layers.pooling import (
    AttentionPooling,
    ClassAndDistillation,
    ClassAndMean,
    ClassToken,
    DistilledHead,
)
from keras_vit.layers.positions import Positions
from keras_vit.layers.transformer import LayerScale, RelativeBlock, TransformerBlock, WindowBlock

__all__ = [
    "MLP",
    "Attention",
    "AttentionPooling",
    "Bottleneck",
    "ClassAndDistillation",
    "ClassAndMean",
    "ClassToken",
    "DistilledHead",
    "GroupNorm",
    "LayerScale",
    "NamedNumbers",
    "PatchEncoder",
    "Patches",
    "Positions",
    "RelativeAttention",
    "RelativeBlock",
    "Stem",
    "StdConv",
    "SwiGLU",
    "TokenMap",
    "TransformerBlock",
    "WindowAttention",
    "WindowBlock",
]
