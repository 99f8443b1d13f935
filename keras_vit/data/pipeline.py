"""From encoded pictures to batches: one way for training, evaluation, prediction and the exports' proof.

What enters a model is a picture of the model's size in whole grey levels: decoded by `decode`, resized, rounded. A
phone sees the same. Every random choice is a function of (seed, step), so that a run does not depend on how many
threads decode, and can be taken up at any step.
"""

import concurrent.futures
import functools

import numpy as np
import tensorflow as tf

from keras_vit.data.augmentation import augment
from keras_vit.data.decode import decode
from keras_vit.preprocessing import OFFICIAL, preprocess_input

# Pictures that fit into this much memory are decoded once and kept.
MEMORY = 2**30


def read_pixels(picture, image_size):
    """Returns one picture as (rows, columns, 3) uint8 of `image_size`, (rows, columns).

    Resized in one step, bilinear, without keeping the aspect ratio and without antialiasing: the official code's
    evaluation, and what phone clients do.
    """
    pixels = decode(picture)
    if pixels.shape[:2] != tuple(image_size):
        pixels = tf.clip_by_value(tf.round(tf.image.resize(pixels, image_size)), 0, 255).numpy().astype(np.uint8)
    return pixels


def read_all(pictures, image_size):
    """Returns many pictures as (pictures, rows, columns, 3) uint8, decoded side by side."""
    read = functools.partial(read_pixels, image_size=image_size)
    out = np.empty((len(pictures), *image_size, 3), np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for i, pixels in enumerate(pool.map(read, pictures)):
            out[i] = pixels
    return out


def training_batches(
    examples,
    image_size,
    num_classes,
    *,
    batch_size,
    steps,
    first_step=0,
    seed=0,
    augmentation=None,
    contract=OFFICIAL,
):
    """Returns a dataset of training batches, (pictures (batch, rows, columns, 3) from -1 to 1, one-hot labels).

    The stream has no epochs of its own: it goes through the examples again and again, each time in another order, and
    all batches are full.

    Args:
        examples: the `Examples`.
        image_size: (rows, columns), pixels.
        num_classes: width of the labels.
        batch_size: pictures a batch.
        steps: batches from the start of the run to its end.
        first_step: batch to begin with, for a run that is taken up again.
        seed: of the order and the augmentation.
        augmentation: an `Augmentation`, or None.
    """
    count = len(examples.labels)
    pixels = _pixel_source(examples.pictures, image_size)
    labels = tf.constant(examples.labels)

    def batch(step):
        places = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        passes = places // count
        seeds = tf.stack([tf.fill([batch_size], tf.cast(seed, tf.int64)), passes, tf.zeros_like(passes)], axis=1)
        # The raw operation: tf.random.experimental.index_shuffle pads a seed for each index wrongly (TensorFlow 2.21).
        order = tf.raw_ops.RandomIndexShuffle(index=places % count, seed=seeds, max_index=count - 1, rounds=4)
        images = pixels(order)
        if augmentation is not None:
            images = augment(tf.cast(images, tf.float32), augmentation, seed=tf.stack([seed + 2**31, step]))
        return preprocess_input(images, contract), tf.one_hot(tf.gather(labels, order), num_classes)

    steps = tf.data.Dataset.range(first_step, steps)
    return steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(examples, image_size, batch_size=64, contract=OFFICIAL):
    """Returns a dataset of (pictures scaled by a `Pixels` contract, labels), every example once and in order."""
    pixels = _pixel_source(examples.pictures, image_size)
    data = tf.data.Dataset.from_tensor_slices((np.arange(len(examples.labels)), examples.labels)).batch(batch_size)
    data = data.map(
        lambda i, label: (preprocess_input(pixels(i), contract), label), num_parallel_calls=tf.data.AUTOTUNE
    )
    return data.prefetch(tf.data.AUTOTUNE)


def _pixel_source(pictures, image_size):
    """Returns a function from indices (batch,) to pictures (batch, rows, columns, 3) uint8, usable inside tf.data."""
    if len(pictures) * image_size[0] * image_size[1] * 3 <= MEMORY:
        table = tf.constant(read_all(pictures, image_size))
        return functools.partial(tf.gather, table)

    def read(indices):
        return np.stack([read_pixels(pictures[i], image_size) for i in indices])

    def pixels(indices):
        return tf.ensure_shape(tf.numpy_function(read, [indices], tf.uint8), (None, *image_size, 3))

    return pixels
