"""From encoded images to batches: one way for training, evaluation, prediction and the exports' proof.

What enters a model is an image of the model's size in whole grey levels, then scaled (only the affine augmentation
leaves fractions). A phone sees the same. Every random choice is a function of (seed, step, row in the batch), so that
a run does not depend on how many threads decode or how many processes train, and can be taken up at any step.
"""

import concurrent.futures
import functools
import math
import os

import numpy as np
import tensorflow as tf

from keras_vit import _compat
from keras_vit.data.augmentation import Augmentation, augment, coins, keras_cv_layers
from keras_vit.data.crop import PROTOCOLS
from keras_vit.data.decoding import decode, examine, read_file
from keras_vit.data.mixing import mix
from keras_vit.data.order import Order, key
from keras_vit.data.randaugment import randaugment
from keras_vit.data.reading import cropped, naming
from keras_vit.preprocessing import OFFICIAL_PIXELS, preprocess_input

# Images that fit into this much memory are decoded once and kept.
_MEMORY = 2**30

# Most of them wait where files come from a slow disk: with a thread a core, eight times as long (20 ms a file).
_THREADS = 16

# What is added to the seed, so that no two random choices of a row go together.
_AFFINE, _CROP, _RANDAUGMENT, _MIX = (n * 2**31 for n in (1, 2, 3, 4))


def read_pixels(image, image_size, protocol="official"):
    """Returns one image as (rows, columns, 3) uint8 of `image_size`, (rows, columns).

    By default resized in one step, bilinear, without keeping the aspect ratio and without antialiasing: the official
    code's evaluation, and what phone clients do.

    Args:
        image: anything that `decode` takes.
        image_size: (rows, columns), pixels.
        protocol: name out of `keras_vit.data.crop.PROTOCOLS`.
    """
    return PROTOCOLS[protocol](decode(image), image_size)


def read_all(images, image_size, protocol="official"):
    """Returns many images as (images, rows, columns, 3) uint8, decoded side by side."""
    read = functools.partial(read_pixels, image_size=image_size, protocol=protocol)
    out = np.empty((len(images), *image_size, 3), np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for i, pixels in enumerate(pool.map(read, images)):
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
    contract=OFFICIAL_PIXELS,
    full_batches=True,
    parts=(0, 1, 1),
):
    """Returns a dataset of training batches: (images, targets, weights), all float32.

    Images are (rows, image rows, image columns, 3), scaled; targets (rows, classes), one-hot unless mixed; weights
    (rows,), how much a row counts. The stream has no epochs of its own: it goes through the examples again and again,
    each time in another order, as `Order` describes.

    Images go through the crop, the flip, RandAugment, the affine augmentation, keras-cv's layers, the scaling and
    the mixing, in this order; where the affine is on, it mirrors, too.

    Args:
        examples: the `Examples`.
        image_size: (rows, columns), pixels.
        num_classes: width of the targets.
        batch_size: images a step, over all parts.
        steps: batches from the start of the run to its end.
        first_step: batch to begin with, for a run that is taken up again.
        seed: of the order and the augmentation, below 2**31.
        augmentation: an `Augmentation`, or None.
        contract: the `Pixels` that images are scaled by.
        full_batches: see `Order`; rows that only fill up a batch have the weight 0.
        parts: (start, stop, of): each batch is cut into `of` parts of consecutive rows, of which the dataset gives
            those from `start` to before `stop`, an element each. Together the parts are the whole batch, bit for bit;
            an image is mixed with that of the next row, which may lie in the next part.

    Raises:
        ValueError: if the batch cannot be cut so.
        tensorflow.errors.OpError: while it is read, if an image cannot be; the message names it.
    """
    start, pieces, here = _cut_up(parts, batch_size)
    augmentation = augmentation or Augmentation()
    order = Order(len(examples.labels), batch_size, seed, full_batches)
    labels, weights = tf.constant(examples.labels), _weights(examples)
    if augmentation.crop == "resize":
        read, together = _reader(examples, image_size, "official")
    else:
        read, together = cropped(examples, image_size, augmentation.crop, seed + _CROP, augmentation.crop_from), False
    change = keras_cv_layers(augmentation.keras_cv) if augmentation.keras_cv else tf.identity
    # The last row of a part is mixed with the first of the next one.
    rows_read = here + 1 if augmentation.mixes and parts[2] > 1 else here

    def rows(element):
        step = first_step + element // pieces
        row = ((start + element % pieces) * here + tf.range(rows_read, dtype=tf.int64)) % batch_size
        flips = coins(batch_size, key(seed + _AFFINE, step)) & (augmentation.flip and not augmentation.moves)
        index = tf.gather(order.indices(step), row)
        return {
            "step": tf.fill([rows_read], step),
            "row": row,
            "number": tf.gather(order.numbers(step), row),
            "index": index,
            "flip": tf.gather(flips, row),
            "weight": tf.gather(order.mask(step), row) * tf.gather(weights, index),
        }

    def augmented(row):
        image = read(row)
        image = _compat.select_whole(row["flip"], tf.reverse(image, [-2]), image)
        if augmentation.randaugment:
            image = randaugment(image, *augmentation.randaugment, seed=key(seed + _RANDAUGMENT, row["number"]))
        return image

    def batch(row, images):
        step = row["step"][0]
        if augmentation.moves:
            images = tf.cast(images, tf.float32)
            images = augment(images, augmentation, key(seed + _AFFINE, step), rows=row["row"], batch_size=batch_size)
        images = preprocess_input(change(images), contract)
        targets = tf.one_hot(tf.gather(labels, row["index"]), num_classes)
        if augmentation.mixes:
            partners = tf.roll(images, -1, 0)[:here], tf.roll(targets, -1, 0)[:here]
            settings = {"mixup": augmentation.mixup, "cutmix": augmentation.cutmix, "seed": key(seed + _MIX, step)}
            images, targets = mix(images[:here], targets[:here], *partners, **settings)
        return images, targets, row["weight"][:here]

    data = tf.data.Dataset.range((steps - first_step) * pieces).map(rows)
    return _batches(data, augmented, batch, rows_read, together=together and not augmentation.randaugment)


def validation_batches(
    examples, image_size, num_classes, *, batch_size, contract=OFFICIAL_PIXELS, protocol="official", parts=(0, 1, 1)
):
    """Returns a dataset of the same triples as `training_batches`, every example once and in order.

    Every example counts the same, whatever it counts in training; the last batch is filled up with rows of weight 0.
    `parts` is as there, `protocol` as in `read_pixels`.
    """
    start, pieces, here = _cut_up(parts, batch_size)
    count = len(examples.labels)
    labels = tf.constant(examples.labels)

    def rows(element):
        place = element // pieces * batch_size + (start + element % pieces) * here + tf.range(here, dtype=tf.int64)
        index = place % count
        return {"index": index, "weight": tf.cast(place < count, tf.float32)}

    def batch(row, images):
        targets = tf.one_hot(tf.gather(labels, row["index"]), num_classes)
        return preprocess_input(images, contract), targets, row["weight"]

    read, together = _reader(examples, image_size, protocol)
    data = tf.data.Dataset.range(math.ceil(count / batch_size) * pieces).map(rows)
    return _batches(data, read, batch, here, together=together)


def evaluation_batches(examples, image_size, batch_size=64, contract=OFFICIAL_PIXELS, protocol="official"):
    """Returns a dataset of (images scaled by a `Pixels` contract, labels), every example once and in order."""
    labels = tf.constant(examples.labels)

    def batch(row, images):
        return preprocess_input(images, contract), tf.gather(labels, row["index"])

    read, together = _reader(examples, image_size, protocol)
    data = tf.data.Dataset.range(len(examples.labels)).batch(batch_size).map(lambda index: {"index": index})
    return _batches(data, read, batch, batch_size, together=together, drop_remainder=False)


def _batches(rows, image, batch, size, *, together, drop_remainder=True):
    """Returns a dataset of `batch(rows, images)`, read ahead.

    Args:
        rows: dataset of {name: (size, ...)}, what is known of the rows of a batch.
        image: makes a row's image of that; or the images of all rows at once, where they go `together`.
    """
    if together:
        data = rows.map(lambda row: batch(row, image(row)), tf.data.AUTOTUNE)
    else:
        data = rows.unbatch().map(lambda row: (row, image(row)), tf.data.AUTOTUNE)
        data = data.batch(size, drop_remainder, tf.data.AUTOTUNE).map(batch, tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.threading.private_threadpool_size = max(_THREADS, os.cpu_count())
    return data.prefetch(tf.data.AUTOTUNE).with_options(options)


def _reader(examples, image_size, protocol):
    """Returns a function from rows to their images, uint8, and whether it takes many rows at once."""
    if len(examples.images) * image_size[0] * image_size[1] * 3 <= _MEMORY:
        table = tf.constant(read_all(examples.images, image_size, protocol))
        return lambda row: tf.gather(table, row["index"]), True
    show = PROTOCOLS[protocol]

    def read(index):
        with naming(examples, index):
            return show(examine(read_file(examples.images[index]))[0], image_size)

    def one(row):
        return tf.ensure_shape(tf.numpy_function(read, [row["index"]], tf.uint8), (*image_size, 3))

    return one, False


def _weights(examples):
    return tf.ones(len(examples.labels)) if examples.weights is None else tf.constant(examples.weights, tf.float32)


def _cut_up(parts, batch_size):
    """Returns the first part, how many parts, and the rows of each."""
    start, stop, of = parts
    if not 0 <= start < stop <= of or batch_size % of:
        raise ValueError(
            "Expected parts=(start, stop, of) with 0 <= start < stop <= of, and a batch that `of` parts share evenly. "
            f"Received: parts={parts}, batch_size={batch_size}"
        )
    return start, stop - start, batch_size // of
