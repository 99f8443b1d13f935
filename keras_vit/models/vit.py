"""The Vision Transformer."""

import keras

from keras_vit import layers
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
):
    """Returns the output of a Vision Transformer, plain or hybrid; for the arguments see `keras_vit.build`.

    Stochastic depth grows linearly from 0 in the first block to its full rate in the last.

    Source: arXiv:2010.11929, figure 1; the official `models_vit.py`.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"Expected pooling to be None or one of {POOLINGS}. Received: pooling={pooling!r}")
    has_class_token = (pooling or variant.pooling) == "token"
    pooling = pooling or (variant.pooling if include_top else "none")

    x = resnet_map(images, variant.stem, numerics, preactivation=False) if variant.stem else images
    # A map's sides follow from the picture's by rounding up, so that few pictures would fit: the official code's rule.
    x = layers.Patches(variant.patch_size, drop_remainder=variant.stem is not None, name="patches")(x)
    x = layers.PatchEncoder(
        variant.hidden_size,
        has_class_token,
        dropout,
        variant.distillation_token and has_class_token,
        position_resize,
        name="encoder",
    )(x)
    for i in range(variant.num_layers):
        x = layers.TransformerBlock(
            variant.num_heads,
            variant.mlp_dim,
            dropout,
            attention_dropout,
            stochastic_depth * i / max(variant.num_layers - 1, 1),
            numerics.gelu,
            numerics.norm_epsilon,
            name=f"block_{i:02d}",
        )(x)
    x = keras.layers.LayerNormalization(epsilon=numerics.norm_epsilon, name="norm")(x)

    if pooling == "token":
        x = layers.ClassToken(name="pooling")(x)
    elif pooling == "gap":
        x = keras.layers.GlobalAveragePooling1D(name="pooling")(x)
    elif pooling == "map":
        x = layers.AttentionPooling(
            variant.num_heads, variant.mlp_dim, numerics.gelu, numerics.norm_epsilon, name="pooling"
        )(x)
    if representation_size is not None:
        x = keras.layers.Dense(representation_size, activation="tanh", name="pre_logits")(x)
    return classifier(x, classes, classifier_activation) if include_top else x
