"""Compares RandAugment's speed with keras-cv's: python benchmarks/augmentation.py

The input pipeline only, on two cores: JPEGs of 500 x 375 pixels, randomly cropped while they are decoded, resized to
224 x 224, randomly flipped, in batches of 32; without RandAugment, with ours at the setting (2, 15), and with
keras-cv's, two of its operations at half of its full magnitude, per image or per batch. Two targets:
  ours  at least twice the speed of keras-cv's faster variant, and half that of the pipeline without RandAugment.

Exits with status 1 and prints the reason if a target is missed, another library is missing or fails, or the machine was
busy.
"""

import argparse
import contextlib
import io
import itertools
import pathlib
import queue
import sys
import tempfile

import interleave

BATCH, BATCHES, IMAGES = 32, 8, 64  # images per batch, batches per step, images on disk
HEIGHT, WIDTH, SIDE = 375, 500, 224
LAYERS, MAGNITUDE = 2, 15
OURS, WITHOUT, PEERS = "keras_vit", "without", ("keras-cv, image", "keras-cv, batch")
TARGETS = {WITHOUT: 0.5, **dict.fromkeys(PEERS, 2.0)}


def write_images(folder):
    """Writes JPEGs with the size and detail of photographs: smooth gradients with noise."""
    import numpy as np
    from PIL import Image

    for number in range(IMAGES):
        random = np.random.default_rng(number)
        hills = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
        hills = np.asarray(hills.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        pixels = hills + random.normal(0, 8, hills.shape)
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        (folder / f"{number}.jpg").write_bytes(file.getvalue())


def pipeline(name, folder, tickets):
    """Returns a dataset of batches (BATCH, SIDE, SIDE, 3) uint8: one for each number that `tickets` yields."""
    import tensorflow as tf

    files = tf.constant([str(path) for path in sorted(folder.glob("*.jpg"))])

    def read(number):
        encoded, seed = tf.io.read_file(files[number % IMAGES]), tf.stack([0, number])
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(encoded),
            tf.zeros([1, 0, 4]),
            seed,
            min_object_covered=0.0,
            area_range=(0.05, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], axis=0)
        image = tf.image.resize(tf.image.decode_and_crop_jpeg(encoded, window, channels=3), (SIDE, SIDE))
        image = tf.cast(tf.round(image), tf.uint8)
        return tf.image.stateless_random_flip_left_right(image, seed), seed

    one, many = augmenters(name)
    batches = tf.data.Dataset.from_generator(tickets, output_signature=tf.TensorSpec((), tf.int32))
    images = batches.flat_map(lambda i: tf.data.Dataset.range(BATCH).map(lambda k: i * BATCH + tf.cast(k, tf.int32)))
    images = images.map(read, interleave.THREADS).map(one, interleave.THREADS)
    return images.batch(BATCH, drop_remainder=True).map(many, interleave.THREADS).prefetch(1)


def augmenters(name):
    """Returns a function of (image, seed), and a function of a batch of images."""
    if name == OURS:
        from keras_vit.data.randaugment import randaugment

        return lambda image, seed: randaugment(image, LAYERS, MAGNITUDE, seed), lambda images: images
    if name == WITHOUT:
        return lambda image, seed: image, lambda images: images
    import keras_cv

    # Its magnitude is a fraction of the maximum, with a random deviation.
    layer = keras_cv.layers.RandAugment((0, 255), augmentations_per_image=LAYERS, magnitude=MAGNITUDE / 30)
    if name == "keras-cv, image":
        return lambda image, seed: layer(image), lambda images: images
    return lambda image, seed: image, layer


def work(name, folder):
    """Serves one contestant; a step requests and reads BATCHES batches, so that no pipeline works outside its turn."""
    tickets, numbers = queue.Queue(), itertools.count()
    batches = iter(pipeline(name, pathlib.Path(folder), lambda: iter(tickets.get, None)))

    def step():
        for number in itertools.islice(numbers, BATCHES):
            tickets.put(number)
        for _ in range(BATCHES):
            next(batches)

    interleave.serve(step)
    tickets.put(None)  # ends the dataset; otherwise its thread would wait forever


def measure(count):
    """Returns {name: seconds of each round}, and a line for each contestant that failed."""
    failures, workers = [], {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        write_images(pathlib.Path(folder))
        for name in (OURS, *TARGETS):
            try:
                workers[name] = interleave.Worker(__file__, "--serve", name, folder)
            except RuntimeError as error:
                failures.append(f"{name} does not run:\n{error}")
                continue
            stack.callback(workers[name].close)
        seconds, cores = interleave.rounds(workers, count)
    if reason := interleave.busy(cores):
        failures.append(reason)
    return seconds, failures


def missed_targets(seconds):
    """Returns a line for each target that is missed."""
    ratios = {name: interleave.ratio(seconds[OURS], values) for name, values in seconds.items() if OURS in seconds}
    return [
        f"ours is {ratios[name]:.3f} times as fast as {name}, below the target of {target}"
        for name, target in TARGETS.items()
        if name in ratios and ratios[name] < target
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds (default: 9)")
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        work(*arguments.serve)
        return
    seconds, reasons = measure(arguments.rounds)
    interleave.print_table("input pipeline", seconds, OURS, BATCH * BATCHES)
    reasons += missed_targets(seconds)
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "Both targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
