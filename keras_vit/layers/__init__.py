"""The Keras layers a Vision Transformer is composed of."""

from keras_vit.layers.attention_kinds import RelativeAttention, RelativeBlock, WindowAttention, WindowBlock
from keras_vit.layers.bottleneck import Bottleneck, Stem
from keras_vit.layers.patches import PatchEncoder, Patches, TokenMap
from keras_vit.layers.pooling import (
    AttentionPooling,
    ClassAndDistillation,
    ClassAndMean,
    ClassToken,
    DistilledHead,
)
from keras_vit.layers.positions import Positions
from keras_vit.layers.standardized import GroupNorm, StdConv
from keras_vit.layers.transformer import MLP, Attention, LayerScale, SwiGLU, TransformerBlock

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
