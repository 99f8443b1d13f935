"""The Vision Transformer, plain or hybrid."""

import dataclasses
import functools
from typing import Any

import keras

from keras_vit import layers
from keras_vit.models.config import POOLINGS, Numerics, Variant
from keras_vit.models.resnet import classifier, resnet_map
from keras_vit.preprocessing import Pixels


def vit(
    images: keras.KerasTensor,
    variant: Variant,
    numerics: Numerics,
    *,
    include_top: bool,
    pooling: str | None,
    classes: int,
    classifier_activation: Any,
    representation_size: int | None,
    dropout: float,
    attention_dropout: float,
    stochastic_depth: float,
    position_resize: str | None,
    drop_remainder: bool = False,
    pixels: Pixels | None = None,
) -> keras.KerasTensor:
    """Returns the output of a Vision Transformer, plain or hybrid; for the arguments see `keras_vit.build`.

    Source: arXiv:2010.11929, figure 1; the official `models_vit.py`.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"Expected pooling to be None or one of {POOLINGS}. Received: pooling={pooling!r}")
    chosen: Any = pooling or variant.pooling
    variant = dataclasses.replace(variant, pooling=chosen)
    pooling = pooling or (variant.pooling if include_top else "none")

    x = resnet_map(images, variant.stem, numerics, preactivation=False, pixels=pixels) if variant.stem else images
    # The height and width of a feature map are rounded up, so that few images would fit: the official code drops the
    # remainder.
    patches = layers.Patches(variant.patch_size, drop_remainder or variant.stem is not None, pixels, name="patches")
    x = patches(x)
    encoder = _patch_encoder(variant, patches.grid, dropout, position_resize)
    x = encoder(x)
    norm = functools.partial(keras.layers.LayerNormalization, epsilon=numerics.norm_epsilon)
    if variant.pre_norm:
        x = norm(name="pre_norm")(x)
    x = _transformer(x, variant, patches.grid, numerics, dropout, attention_dropout, stochastic_depth)
    if variant.norm_at == "tokens":
        x = norm(name="norm")(x)

    if pooling != "none":
        x = _pool(pooling, variant, encoder.extra_tokens, numerics)(x)
        if variant.norm_at == "pooled":
            x = norm(name="pooled_norm")(x)
        if variant.projection_size and (variant.unit_embedding or not include_top):
            x = keras.layers.Dense(variant.projection_size, name="projection")(x)
    if variant.unit_embedding and include_top:
        x = unit_embedding(x)
    if representation_size is not None:
        x = keras.layers.Dense(representation_size, activation="tanh", name="pre_logits")(x)
    head = layers.DistilledHead if pooling == "token+distillation" else keras.layers.Dense
    return classifier(x, classes, classifier_activation, head) if include_top else x


def _patch_encoder(
    variant: Variant, grid: tuple[int, int], dropout: float, position_resize: str | None
) -> layers.PatchEncoder:
    """Returns the patch embedding, with the positions that are added at the stem."""
    at_stem = variant.positions_at == "stem" and variant.positions != "relative"
    positions = variant.positions if at_stem else "none"
    return layers.PatchEncoder(
        variant.hidden_size,
        variant.has_class_token,
        dropout,
        variant.distillation_token,
        position_resize,
        variant.register_tokens,
        positions,
        None if positions in ("learned", "none") else grid,
        variant.patch_bias,
        name="encoder",
    )


def _transformer(
    x: keras.KerasTensor,
    variant: Variant,
    grid: tuple[int, int],
    numerics: Numerics,
    dropout: float,
    attention_dropout: float,
    stochastic_depth: float,
) -> keras.KerasTensor:
    """Returns the tokens after the blocks "block_00" and so on, with the positions that are added before each block.

    An axial block is two, "block_00_rows" and "block_00_columns". The rate of stochastic depth (DropPath) grows
    linearly from 0 in the first block to its full value in the last.
    """
    shared = layers.Positions(variant.positions, grid, name="positions") if variant.positions_at == "shared" else None
    for i in range(variant.num_layers):
        name = f"block_{i:02d}"
        if variant.positions_at != "stem":
            x = (shared or layers.Positions(variant.positions, grid, name=f"{name}_positions"))(x)
        for block_class, options, suffix in _block_parts(variant, grid):
            x = block_class(
                variant.num_heads,
                variant.mlp_dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
                stochastic_depth=stochastic_depth * i / max(variant.num_layers - 1, 1),
                gelu=numerics.gelu,
                norm_epsilon=numerics.norm_epsilon,
                layer_scale=variant.layer_scale,
                swiglu=variant.swiglu,
                swiglu_norm=variant.swiglu_norm,
                qkv_bias=variant.qkv_bias,
                name=name + suffix,
                **options,
            )(x)
    return x


def _block_parts(
    variant: Variant, grid: tuple[int, int]
) -> list[tuple[type[layers.TransformerBlock], dict[str, Any], str]]:
    """Returns (class, its additional arguments, suffix of its name) of each layer that a block consists of."""
    if variant.attention == "axial":
        return [
            (layers.WindowBlock, {"grid": grid, "window": window}, suffix)
            for suffix, window in (("_rows", (1, None)), ("_columns", (None, 1)))
        ]
    if variant.attention_window:
        return [(layers.WindowBlock, {"grid": grid, "window": (variant.attention_window,) * 2}, "")]
    if variant.rotary:
        return [(layers.RotaryBlock, {"grid": grid, **dataclasses.asdict(variant.rotary)}, "")]
    if variant.relative_bias:
        return [(layers.BiasBlock, {"grid": grid}, "")]
    return [(layers.RelativeBlock if variant.positions == "relative" else layers.TransformerBlock, {}, "")]


def _pool(pooling: str, variant: Variant, extra_tokens: int, numerics: Numerics) -> keras.layers.Layer:
    """Returns the layer that makes one vector of the tokens."""
    if pooling == "token":
        return layers.ClassToken(name="pooling")
    if pooling == "gap" and extra_tokens:
        return layers.PatchMean(extra_tokens, name="pooling")
    if pooling == "gap":
        return keras.layers.GlobalAveragePooling1D(name="pooling")
    if pooling == "map":
        heads, mlp_dim = variant.pooling_heads or variant.num_heads, variant.pooling_mlp_dim or variant.mlp_dim
        return layers.AttentionPooling(heads, mlp_dim, numerics.gelu, numerics.norm_epsilon, name="pooling")
    if pooling == "token+gap":
        return layers.ClassAndMean(extra_tokens, name="pooling")
    return layers.ClassAndDistillation(name="pooling")


def unit_embedding(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns embeddings scaled to the length 1, in float32 under any dtype policy: their squares are small."""
    return keras.layers.UnitNormalization(name="unit_embedding", dtype="float32")(x)
