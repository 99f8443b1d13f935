"""Compares the time of attention within windows of 7 x 7 patches with full attention: a ViT, 4 blocks, hidden size 192.

    python benchmarks/window_attention.py

Rounds alternate between the two; the ratios are of the medians. Random weights, a class token, two images per batch.
"""

import dataclasses

import interleave
import keras
import numpy as np
import tensorflow as tf

import keras_vit

FULL = keras_vit.Variant(patch_size=16, hidden_size=192, num_layers=4, num_heads=3, mlp_dim=768)
VARIANTS = {"full": FULL, "windows": dataclasses.replace(FULL, attention_window=7)}
GRIDS, IMAGES, ROUNDS = (14, 32, 48), 2, 12


def forward(model, images):
    function = tf.function(model).get_concrete_function(tf.TensorSpec(images.shape), training=False)
    return lambda: function(images)


def step(model, images):
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return lambda: model.train_on_batch(images, np.zeros(len(images), "int32"))


def main():
    print("grid     pass      full, ms  windows / full")
    for side in GRIDS:
        images = tf.random.stateless_normal((IMAGES, 16 * side, 16 * side, 3), (0, 0))
        models = {
            name: keras_vit.build(row, input_shape=images.shape[1:], classes=10) for name, row in VARIANTS.items()
        }
        for make in (forward, step):
            seconds = interleave.medians({name: make(model, images) for name, model in models.items()}, ROUNDS)
            ratio = seconds["windows"] / seconds["full"]
            print(f"{side:2d} x {side:2d}  {make.__name__:8s}{1000 * seconds['full']:10.0f}{ratio:16.2f}", flush=True)


if __name__ == "__main__":
    main()
