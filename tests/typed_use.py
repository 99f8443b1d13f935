"""What a type checker says of a program that uses the package: `make check` runs mypy over this file.

Each comment `type: ignore[...]` is an error that mypy has to find: it reports the comments that ignore nothing.
"""

import keras_vit

keras_vit.ViT_B16(weights="imagenet21k", classes=10, register_tokens=4, gelu="erf")
keras_vit.ViT_B16(weigths=1)  # type: ignore[call-arg]
keras_vit.ViT_B16(pooling="avg")  # type: ignore[arg-type]
keras_vit.R50_ViT_B16(True, "model.npz", None, (224, 224, 3))
keras_vit.build("ViT-B/16", register_token=4)  # type: ignore[call-arg]
keras_vit.load("model.npz", num_classes=10)  # type: ignore[call-arg]
keras_vit.Variant(8, 32, 1, 2, 64, positions="sincos")  # type: ignore[arg-type]
keras_vit.layers.Attention(num_head=2)  # type: ignore[call-arg]
keras_vit.ViT_B17()  # type: ignore[attr-defined]
pixels: keras_vit.Pixels = keras_vit.ViT_B16().pixels
words: str = keras_vit.pixels_of(keras_vit.ViT_B16()).description
