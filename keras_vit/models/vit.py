"""The Vision Transformer."""

import dataclasses

import keras

from keras_vit import layers
from keras_vit.models.parts import patch_encoder, pool, transformer
from keras_vit.models.resnet import classifier, resnet_map
from keras_vit.variants import POOLINGS


def vit(
    images,
    variant,
    numerics,
    *,
    include_top,
    pooling,
    classes,
    classifier_activation,
    representation_size,
    dropout,
    attention_dropout,
    stochastic_depth,
    position_resize,
    pixels=None,
):
    """Returns the output of a Vision Transformer, plain or hybrid; for the arguments see `keras_vit.build`.

    Stochastic depth grows linearly from 0 in the first block to its full rate in the last.

    Source: arXiv:2010.11929, figure 1; the official `models_vit.py`.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"Expected pooling to be None or one of {POOLINGS}. Received: pooling={pooling!r}")
    variant = dataclasses.replace(variant, pooling=pooling or variant.pooling)
    pooling = pooling or (variant.pooling if include_top else "none")

    x = resnet_map(images, variant.stem, numerics, preactivation=False, pixels=pixels) if variant.stem else images
    # A map's sides follow from the picture's by rounding up, so that few pictures would fit: the official code's rule.
    patches = layers.Patches(variant.patch_size, variant.stem is not None, pixels, name="patches")
    x = patches(x)
    encoder = patch_encoder(variant, patches.grid, dropout, position_resize)
    x = encoder(x)
    x = transformer(x, variant, patches.grid, numerics, dropout, attention_dropout, stochastic_depth)
    x = keras.layers.LayerNormalization(epsilon=numerics.norm_epsilon, name="norm")(x)

    if pooling != "none":
        x = pool(pooling, variant, encoder.extra_tokens, numerics)(x)
    if representation_size is not None:
        x = keras.layers.Dense(representation_size, activation="tanh", name="pre_logits")(x)
    head = layers.DistilledHead if pooling == "token+distillation" else keras.layers.Dense
    return classifier(x, classes, classifier_activation, head) if include_top else x
