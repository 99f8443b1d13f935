"""The ResNets: BiT, and the stem of a hybrid."""

from typing import Any

import keras

from keras_vit import layers
from keras_vit.models.config import Numerics, ResNet
from keras_vit.preprocessing import Pixels


def resnet_map(
    images: keras.KerasTensor, row: ResNet, numerics: Numerics, preactivation: bool, pixels: Pixels | None = None
) -> keras.KerasTensor:
    """Returns the last feature map of a ResNet, (batch, height, width, channels).

    Its layers are named "stem" (stride 2), "stem_pool" (4), "stage1_unit01" and so on; every stage but the first begins
    with a unit of stride 2.

    Args:
        images: images (batch, height, width, channels).
        row: the architecture.
        numerics: epsilons of the norms and of the weight standardization.
        preactivation: whether the order is BiT's.
        pixels: the pixel contract of the weights.

    Source: the official `models_resnet.py`; BiT's `models.py`.
    """
    x = layers.Stem(row.root_width, preactivation, **numerics.of_convolutions, pixels=pixels, name="stem")(images)
    if preactivation:
        # No ReLU comes before, so it matters that BiT pads with 0 and not with minus infinity.
        x = keras.layers.ZeroPadding2D(1, name="stem_pad")(x)
    padding = "valid" if preactivation else "same"
    x = keras.layers.MaxPooling2D(3, 2, padding, name="stem_pool")(x)
    for stage, (units, width) in enumerate(zip(row.units, row.widths), 1):
        for unit in range(1, units + 1):
            strides = 2 if unit == 1 < stage else 1
            name = f"stage{stage}_unit{unit:02d}"
            x = layers.Bottleneck(width, strides, preactivation, **numerics.of_convolutions, name=name)(x)
    return x


def bit(
    images: keras.KerasTensor,
    row: ResNet,
    numerics: Numerics,
    *,
    include_top: bool,
    pooling: str | None,
    classes: int,
    classifier_activation: Any,
    pixels: Pixels | None = None,
) -> keras.KerasTensor:
    """Returns the output of a BiT for images; for the arguments see `keras_vit.build`.

    Raises:
        ValueError: if `pooling` is not None, "gap" or "none".

    Source: arXiv:1912.11370; its code's `models.py`.
    """
    if pooling not in (None, "gap", "none"):
        raise ValueError(f"Expected pooling to be None, 'gap' or 'none' for a BiT. Received: pooling={pooling!r}")
    x = resnet_map(images, row, numerics, preactivation=True, pixels=pixels)
    x = layers.GroupNorm(numerics.group_norm_epsilon, name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    if (pooling or ("gap" if include_top else "none")) == "gap":
        x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    return classifier(x, classes, classifier_activation) if include_top else x


def classifier(
    x: keras.KerasTensor, classes: int, activation: Any, head: type[keras.layers.Dense] = keras.layers.Dense
) -> keras.KerasTensor:
    """Returns the output of the classification head.

    The head's kernel starts at zero, so that all classes have the same probability, and computes in float32 under any
    dtype policy.
    """
    x = head(classes, kernel_initializer="zeros", name="head", dtype="float32")(x)
    if activation is not None:
        x = keras.layers.Activation(activation, name="predictions", dtype="float32")(x)
    return x
