"""The Vision Transformer."""

import keras

from keras_vit import layers
from keras_vit.variants import POOLINGS


def vit(
    images,
    variant,
    *,
    include_top,
    pooling,
    classes,
    classifier_activation,
    representation_size,
    dropout,
    attention_dropout,
    stochastic_depth,
    gelu,
):
    """Returns the output of a Vision Transformer on `images`; for the arguments see `keras_vit.build`.

    Stochastic depth grows linearly from 0 in the first block to its full rate in the last.

    Source: arXiv:2010.11929, figure 1; the official `models_vit.py`.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"Expected pooling to be None or one of {POOLINGS}. Received: pooling={pooling!r}")
    has_class_token = (pooling or variant.pooling) == "token"
    pooling = pooling or (variant.pooling if include_top else "none")

    x = layers.Patches(variant.patch_size, name="patches")(images)
    x = layers.PatchEncoder(variant.hidden_size, has_class_token, dropout, name="encoder")(x)
    for i in range(variant.num_layers):
        x = layers.TransformerBlock(
            variant.num_heads,
            variant.mlp_dim,
            dropout,
            attention_dropout,
            stochastic_depth * i / max(variant.num_layers - 1, 1),
            gelu,
            name=f"block_{i:02d}",
        )(x)
    x = keras.layers.LayerNormalization(epsilon=layers.EPSILON, name="norm")(x)

    if pooling == "token":
        x = layers.ClassToken(name="pooling")(x)
    elif pooling == "gap":
        x = keras.layers.GlobalAveragePooling1D(name="pooling")(x)
    elif pooling == "map":
        x = layers.AttentionPooling(variant.num_heads, variant.mlp_dim, gelu, name="pooling")(x)
    if representation_size is not None:
        x = keras.layers.Dense(representation_size, activation="tanh", name="pre_logits")(x)
    if include_top:
        # float32 under a mixed policy too. Zeros, so that a new head starts with equal odds.
        x = keras.layers.Dense(classes, kernel_initializer="zeros", name="head", dtype="float32")(x)
        if classifier_activation is not None:
            x = keras.layers.Activation(classifier_activation, name="predictions", dtype="float32")(x)
    return x
