"""Input pipelines with tf.data: batches of scaled images for training, validation and evaluation.

Training, evaluation, prediction and the proof of exports use the same functions. An image is resized to the model's
size, rounded to uint8, and then scaled, as on a phone; only the affine augmentation leaves fractions. Every random
choice is a function of (seed, step, row in the batch), so that a run does not depend on the number of threads or
processes, and can be resumed at any step.
"""

import concurrent.futures
import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vit import _compat
from keras_vit.data.augmentation import Augmentation, keras_cv_layers, random_affine, random_flips
from keras_vit.data.crop import PROTOCOLS, Size, cropped, with_name
from keras_vit.data.decoding import EncodedImage, decode, decode_with_info, read_file
from keras_vit.data.listing import weight_faults
from keras_vit.data.mixing import mix
from keras_vit.data.order import key, order_of
from keras_vit.data.randaugment import randaugment
from keras_vit.data.sources import Examples
from keras_vit.preprocessing import OFFICIAL_PIXELS, Pixels, preprocess_input

# Images of training and validation that fit into this much memory are decoded once and kept.
_MEMORY = 2**30

# On a slow disk (20 ms a file) most threads wait: one thread a core takes eight times as long.
_THREADS = 16

# Added to the seed, so that the random choices of a row are independent of each other.
_AFFINE, _CROP, _RANDAUGMENT, _MIX = (n * 2**31 for n in (1, 2, 3, 4))


def read_pixels(image: EncodedImage, image_size: Size, protocol: str = "official", channels: int = 3) -> np.ndarray:
    """Reads an image file and resizes it as in evaluation.

    By default both sides are resized in one step, bilinear, without antialiasing and without keeping the aspect ratio,
    as in the official code and on phones.

    Args:
        image: a path, the bytes of an encoded file, or a `FileRange`, as for `decode`.
        image_size: (height, width), pixels.
        protocol: "official"; "big_vision", resized by area means to 8/7 of the size, then a center crop; or "timm",
            bicubic, then a center crop of 90 %.
        channels: 1 for grey, 3 for RGB, 4 for RGBA, or the number of bands in the file, as for `decode`.

    Returns:
        (height, width, channels) uint8.

    Raises:
        ValueError: if the image cannot be read; the message has the file and the reason.

    Example:
        ```python
        from PIL import Image

        Image.new("RGB", (64, 48), "red").save("red.png")
        pixels = keras_vit.data.read_pixels("red.png", (32, 32))
        assert pixels.shape == (32, 32, 3) and pixels[0, 0].tolist() == [255, 0, 0]
        ```
    """
    return PROTOCOLS[protocol](decode(image, channels), image_size)


def read_all(
    images: Sequence[EncodedImage], image_size: Size, protocol: str = "official", channels: int = 3
) -> np.ndarray:
    """Reads images in threads, as `read_pixels` does, into one array: (images, height, width, channels) uint8."""
    read = functools.partial(read_pixels, image_size=image_size, protocol=protocol, channels=channels)
    out = np.empty((len(images), *image_size, channels), np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for i, pixels in enumerate(pool.map(read, images)):
            out[i] = pixels
    return out


def training_batches(
    examples: Examples,
    image_size: Size,
    num_classes: int,
    *,
    batch_size: int,
    steps: int,
    first_step: int = 0,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    contract: Pixels = OFFICIAL_PIXELS,
    full_batches: bool = True,
    sampling: str = "shuffled",
    parts: tuple[int, int, int] = (0, 1, 1),
    more_targets: Callable[[dict[str, Any], Any], Any] | None = None,
) -> Any:
    """Returns a tf.data dataset of shuffled and augmented training batches.

    The stream has no epochs: it passes through the examples again and again, each time in another order (see `Order`).
    Images go through the crop, the flip, RandAugment, the affine augmentation, keras-cv's layers, the scaling and the
    mixing, in this order. With an affine augmentation, the flip is part of it.

    Args:
        examples: the encoded images and labels.
        image_size: (height, width), pixels.
        num_classes: number of classes, labels or numbers of the targets.
        batch_size: images of a step, over all parts.
        steps: number of batches from the start of the run to its end.
        first_step: the first batch, for a run that is resumed.
        seed: of the order and the augmentation, below 2**31.
        augmentation: the data augmentation; None for none.
        contract: how images are scaled; they are read with as many channels as it has.
        full_batches: see `Order`. Rows that only fill a batch have the weight 0.
        sampling: "shuffled", see `Order`, or "balanced", see `BalancedOrder`.
        parts: (start, stop, of): each batch is divided into `of` parts of consecutive rows, and the dataset has the
            parts from `start` to before `stop`, an element each. Together the parts are the whole batch, bit for bit.
            An image is mixed with that of the next row, which may be in the next part.
        more_targets: function of the rows of a batch ({"index": of the examples, "flip": whether mirrored, ...}) and
            their finished images that returns further columns of the targets, (rows, columns) float32.

    Returns:
        A dataset of (images, targets, weights), all float32: images (rows, height, width, channels), targets (rows,
        classes), one-hot unless mixed, or the labels or numbers as they are, and weights (rows,), the weight of each
        row in the loss.

    Raises:
        ValueError: if a batch cannot be divided into these parts, a weight is out of range, or all are 0.
        tensorflow.errors.OpError: during iteration, if an image cannot be read; the message has its name.

    Example:
        ```python
        data = keras_vit.data.open_source("synthetic:3x8")
        augmentation = keras_vit.data.Augmentation(flip=True)
        batches = keras_vit.data.training_batches(
            data.train, (32, 32), 3, batch_size=4, steps=2, augmentation=augmentation
        )
        for images, targets, weights in batches:
            assert images.shape == (4, 32, 32, 3) and targets.shape == (4, 3)
        ```
    """
    start, pieces, here = _divided(parts, batch_size)
    if faults := weight_faults(examples.weights, examples.names):
        raise ValueError(f"These images cannot be trained on: {'; '.join(faults)}")
    augmentation = augmentation or Augmentation()
    order = order_of(examples.labels, batch_size, seed, full_batches, sampling)
    labels, weights = tf.constant(examples.labels), _weights(examples)
    if augmentation.crop == "resize":
        read, together = _reader(examples, image_size, "official", contract.channels, keep=True)
    else:
        crop = augmentation.crop, seed + _CROP, augmentation.crop_from
        read, together = cropped(examples, image_size, *crop, contract.channels), False
    change = keras_cv_layers(augmentation.keras_cv) if augmentation.keras_cv else tf.identity
    flips = augmentation.flip and not augmentation.moves  # an affine augmentation flips itself
    # The last row of a part is mixed with the first of the next one.
    rows_read = here + 1 if augmentation.mixes and parts[2] > 1 else here

    def rows(element: Any) -> dict[str, Any]:
        step = first_step + element // pieces
        row = ((start + element % pieces) * here + tf.range(rows_read, dtype=tf.int64)) % batch_size
        index = tf.gather(order.indices(step), row)
        return {
            "step": tf.fill([rows_read], step),
            "row": row,
            "number": tf.gather(order.numbers(step), row),
            "index": index,
            **({"flip": tf.gather(random_flips(batch_size, key(seed + _AFFINE, step)), row)} if flips else {}),
            "weight": tf.gather(order.mask(step), row) * tf.gather(weights, index),
        }

    def augmented(row: dict[str, Any]) -> Any:
        image = read(row)
        if flips:
            image = _compat.select_whole(row["flip"], tf.reverse(image, [-2]), image)
        if augmentation.randaugment:
            layers, magnitude = augmentation.randaugment
            image = randaugment(image, layers, magnitude, key(seed + _RANDAUGMENT, row["number"]))
        return image

    def batch(row: dict[str, Any], images: Any) -> tuple[Any, Any, Any]:
        step = row["step"][0]
        if augmentation.moves:
            images = tf.cast(images, tf.float32)
            images = random_affine(
                images, augmentation, key(seed + _AFFINE, step), rows=row["row"], batch_size=batch_size
            )
        images = preprocess_input(change(images), contract)
        targets = _targets(labels, row["index"], num_classes)
        if augmentation.mixes:
            partners = tf.roll(images, -1, 0)[:here], tf.roll(targets, -1, 0)[:here]
            settings = {"mixup": augmentation.mixup, "cutmix": augmentation.cutmix, "seed": key(seed + _MIX, step)}
            images, targets = mix(images[:here], targets[:here], *partners, **settings)
        if more_targets:
            more = more_targets({name: values[:here] for name, values in row.items()}, images)
            targets = tf.concat([targets, more], axis=1)
        return images, targets, row["weight"][:here]

    data = tf.data.Dataset.range((steps - first_step) * pieces).map(rows)
    return _batches(data, augmented, batch, rows_read, together=together and not augmentation.randaugment)


def validation_batches(
    examples: Examples,
    image_size: Size,
    num_classes: int,
    *,
    batch_size: int,
    contract: Pixels = OFFICIAL_PIXELS,
    protocol: str = "official",
    parts: tuple[int, int, int] = (0, 1, 1),
) -> Any:
    """Returns a tf.data dataset of validation batches: every example once, in order, without augmentation.

    Every example has the weight 1, whatever its weight in training. The last batch is filled with rows of weight 0.

    Args:
        examples: the encoded images and labels.
        image_size: (height, width), pixels.
        num_classes: number of classes, labels or numbers of the targets.
        batch_size: images of a step, over all parts.
        contract: how images are scaled; they are read with as many channels as it has.
        protocol: how images are resized and cropped, as in `read_pixels`.
        parts: as in `training_batches`.

    Returns:
        A dataset of (images, targets, weights), as from `training_batches`.

    Raises:
        ValueError: if a batch cannot be divided into these parts.

    Example:
        ```python
        data = keras_vit.data.open_source("synthetic:3x8")
        batches = keras_vit.data.validation_batches(data.validation, (32, 32), 3, batch_size=4)
        assert sum(weights.numpy().sum() for _, _, weights in batches) == len(data.validation.labels)
        ```
    """
    start, pieces, here = _divided(parts, batch_size)
    count = len(examples.labels)
    labels = tf.constant(examples.labels)

    def rows(element: Any) -> dict[str, Any]:
        place = element // pieces * batch_size + (start + element % pieces) * here + tf.range(here, dtype=tf.int64)
        index = place % count
        return {"index": index, "weight": tf.cast(place < count, tf.float32)}

    def batch(row: dict[str, Any], images: Any) -> tuple[Any, Any, Any]:
        targets = _targets(labels, row["index"], num_classes)
        return preprocess_input(images, contract), targets, row["weight"]

    read, together = _reader(examples, image_size, protocol, contract.channels, keep=True)
    data = tf.data.Dataset.range(math.ceil(count / batch_size) * pieces).map(rows)
    return _batches(data, read, batch, here, together=together)


def evaluation_batches(
    examples: Examples,
    image_size: Size,
    batch_size: int = 64,
    contract: Pixels = OFFICIAL_PIXELS,
    protocol: str = "official",
) -> Any:
    """Returns a tf.data dataset of evaluation batches: every example once, in order, with its label.

    Args:
        examples: the encoded images and labels.
        image_size: (height, width), pixels.
        batch_size: images of a batch; the last batch may have fewer.
        contract: how images are scaled; they are read with as many channels as it has.
        protocol: how images are resized and cropped, as in `read_pixels`.

    Returns:
        A dataset of (images, labels): (rows, height, width, channels) float32 and the labels of the examples, (rows,)
        int64, or (rows, labels or numbers).

    Example:
        ```python
        data = keras_vit.data.open_source("synthetic:3x8")
        images, labels = next(iter(keras_vit.data.evaluation_batches(data.train, (32, 32), batch_size=4)))
        assert images.shape == (4, 32, 32, 3) and labels.shape == (4,)
        ```
    """
    labels = tf.constant(examples.labels)

    def batch(row: dict[str, Any], images: Any) -> tuple[Any, Any]:
        return preprocess_input(images, contract), tf.gather(labels, row["index"])

    read, together = _reader(examples, image_size, protocol, contract.channels, keep=False)
    data = tf.data.Dataset.range(len(examples.labels)).batch(batch_size).map(lambda index: {"index": index})
    return _batches(data, read, batch, batch_size, together=together, drop_remainder=False)


def _batches(
    rows: Any,
    image: Callable[[Any], Any],
    batch: Callable[[Any, Any], Any],
    size: int,
    *,
    together: bool,
    drop_remainder: bool = True,
) -> Any:
    """Returns a dataset of `batch(rows, images)` with prefetching.

    Args:
        rows: dataset of {name: (size, ...)}, the rows of a batch.
        image: returns the image of a row, or with `together` the images of all rows.
        batch: returns an element of the dataset.
        size: rows of a batch.
        together: whether `image` accepts all rows of a batch.
        drop_remainder: whether a last batch with fewer rows is dropped.
    """
    if together:
        data = rows.map(lambda row: batch(row, image(row)), tf.data.AUTOTUNE)
    else:
        data = rows.unbatch().map(lambda row: (row, image(row)), tf.data.AUTOTUNE)
        data = data.batch(size, drop_remainder, tf.data.AUTOTUNE).map(batch, tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.threading.private_threadpool_size = max(_THREADS, os.cpu_count() or 1)
    return data.prefetch(tf.data.AUTOTUNE).with_options(options)


def _reader(
    examples: Examples, image_size: Size, protocol: str, channels: int, *, keep: bool
) -> tuple[Callable[[dict[str, Any]], Any], bool]:
    """Returns a function from rows to their images, uint8, and whether it accepts many rows at once.

    With `keep`, images that fit into memory are decoded once, for data that is read more than once.
    """
    resized, shape, count = PROTOCOLS[protocol], (*image_size, channels), len(examples.images)

    def read(index: int) -> np.ndarray:
        with with_name(examples, index):
            return resized(decode_with_info(read_file(examples.images[index]), channels)[0], image_size)

    def one(row: dict[str, Any]) -> Any:
        return tf.ensure_shape(tf.numpy_function(read, [row["index"]], tf.uint8), shape)

    if count * math.prod(shape) > _MEMORY:
        return one, False
    read_once = _kept(read, count) if keep else read

    def many(row: dict[str, Any]) -> Any:
        def stacked(indices: np.ndarray) -> np.ndarray:
            return np.stack([read_once(index) for index in indices.ravel()]).reshape(*indices.shape, *shape)

        return tf.ensure_shape(tf.numpy_function(stacked, [row["index"]], tf.uint8), (*row["index"].shape, *shape))

    return many, True


def _kept(read: Callable[[int], np.ndarray], count: int) -> Callable[[int], np.ndarray]:
    """Returns `read` for indices below `count`; what it has returned for one is kept."""
    kept: list[Any] = [None] * count
    locks = [threading.Lock() for _ in range(16 * _THREADS)]  # two batches at once may need the same image

    def read_once(index: int) -> np.ndarray:
        if kept[index] is None:
            with locks[index % len(locks)]:
                if kept[index] is None:
                    kept[index] = read(index)
        return kept[index]

    return read_once


def _targets(labels: Any, index: Any, num_classes: int) -> Any:
    """Returns the targets of rows, (rows, classes) float32: one-hot of classes, labels and numbers as they are."""
    chosen = tf.gather(labels, index)
    return tf.one_hot(chosen, num_classes) if labels.shape.rank == 1 else tf.cast(chosen, tf.float32)


def _weights(examples: Examples) -> Any:
    return tf.ones(len(examples.labels)) if examples.weights is None else tf.constant(examples.weights, tf.float32)


def _divided(parts: tuple[int, int, int], batch_size: int) -> tuple[int, int, int]:
    """Returns the first part, the number of parts, and the rows of each."""
    start, stop, of = parts
    if not 0 <= start < stop <= of or batch_size % of:
        raise ValueError(
            "Expected parts=(start, stop, of) with 0 <= start < stop <= of, and a batch_size divisible by `of`. "
            f"Received: parts={parts}, batch_size={batch_size}"
        )
    return start, stop - start, batch_size // of
