"""The ResNets: the stem of a hybrid, and BiT."""

import keras

from keras_vit import layers


def resnet_map(images, row, numerics, preactivation, pixels=None):
    """Returns the last map of a `ResNet` row on `images`, (batch, rows, columns, channels), read by a pixel contract.

    Its layers are named "stem" (stride 2), "stem_pool" (4) and "stage1_unit01" and so on; each stage but the first
    begins with a unit of stride 2.

    Source: the official `models_resnet.py`; BiT's `models.py`.
    """
    x = layers.Stem(row.root_width, preactivation, **numerics.of_convolutions, pixels=pixels, name="stem")(images)
    if preactivation:
        # Nothing rectified these values, so it matters that BiT's padding is 0 and not minus infinity.
        x = keras.layers.ZeroPadding2D(1, name="stem_pad")(x)
    padding = "valid" if preactivation else "same"
    x = keras.layers.MaxPooling2D(3, 2, padding, name="stem_pool")(x)
    for stage, (units, width) in enumerate(zip(row.units, row.widths), 1):
        for unit in range(1, units + 1):
            strides = 2 if unit == 1 < stage else 1
            name = f"stage{stage}_unit{unit:02d}"
            x = layers.Bottleneck(width, strides, preactivation, **numerics.of_convolutions, name=name)(x)
    return x


def bit(images, row, numerics, *, include_top, pooling, classes, classifier_activation, pixels=None):
    """Returns the output of a BiT on `images`; for the arguments see `keras_vit.build`.

    Raises:
        ValueError: if `pooling` is neither None nor "gap" nor "none".

    Source: arXiv:1912.11370; its code's `models.py`.
    """
    if pooling not in (None, "gap", "none"):
        raise ValueError(f"Expected pooling of a BiT to be None, 'gap' or 'none'. Received: pooling={pooling!r}")
    x = resnet_map(images, row, numerics, preactivation=True, pixels=pixels)
    x = layers.GroupNorm(numerics.group_norm_epsilon, name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    if (pooling or ("gap" if include_top else "none")) == "gap":
        x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    return classifier(x, classes, classifier_activation) if include_top else x


def classifier(x, classes, activation, head=keras.layers.Dense):
    """Returns the head on `x`: zeros, so that a new one starts with equal odds, and float32 under any policy."""
    x = head(classes, kernel_initializer="zeros", name="head", dtype="float32")(x)
    if activation is not None:
        x = keras.layers.Activation(activation, name="predictions", dtype="float32")(x)
    return x
