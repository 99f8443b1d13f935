"""Keras layers of Vision Transformers and ResNets: patches, attention, MLP, blocks, pooling, convolution."""

from keras_vit.layers.attention import (
    Attention,
    BiasAttention,
    CausalAttention,
    RelativeAttention,
    RotaryAttention,
    WindowAttention,
)
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
    PatchMean,
    TextToken,
)
from keras_vit.layers.positions import Positions
from keras_vit.layers.transformer import (
    BiasBlock,
    CausalBlock,
    LayerScale,
    RelativeBlock,
    RotaryBlock,
    TransformerBlock,
    WindowBlock,
)

__all__ = [
    "MLP",
    "Attention",
    "AttentionPooling",
    "BiasAttention",
    "BiasBlock",
    "Bottleneck",
    "CausalAttention",
    "CausalBlock",
    "ClassAndDistillation",
    "ClassAndMean",
    "ClassToken",
    "DistilledHead",
    "GroupNorm",
    "LayerScale",
    "NamedNumbers",
    "PatchEncoder",
    "PatchMean",
    "Patches",
    "Positions",
    "RelativeAttention",
    "RelativeBlock",
    "RotaryAttention",
    "RotaryBlock",
    "Stem",
    "StdConv",
    "SwiGLU",
    "TextToken",
    "TokenMap",
    "TransformerBlock",
    "WindowAttention",
    "WindowBlock",
]
