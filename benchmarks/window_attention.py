"""What attention within windows of 7 x 7 patches takes beside full attention, in a ViT of 4 blocks of width 192.

    python benchmarks/window_attention.py

Rounds alternate between the two; the ratios are of the medians. Random weights, a class token, two images a batch.
"""

import dataclasses

import interleave
import keras
import numpy as np
import tensorflow as tf

import keras_vit

FULL = keras_vit.Variant(patch_size=16, hidden_size=192, num_layers=4, num_heads=3, mlp_dim=768)
WAYS = {"full": FULL, "windows": dataclasses.replace(FULL, attention_window=7)}
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
        models = {name: keras_vit.build(row, input_shape=images.shape[1:], classes=10) for name, row in WAYS.items()}
        for make in (forward, step):
            found = interleave.medians({name: make(model, images) for name, model in models.items()}, ROUNDS)
            ratio = found["windows"] / found["full"]
            print(f"{side:2d} x {side:2d}  {make.__name__:8s}{1000 * found['full']:10.0f}{ratio:16.2f}", flush=True)


if __name__ == "__main__":
    main()
