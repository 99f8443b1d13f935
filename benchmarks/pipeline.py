"""Compares the input pipeline with torchvision's and keras-cv's: python benchmarks/pipeline.py [COMPARISON...]

Four comparisons on two cores, all by default: "500 crop", "500 randaugment", "32 crop" and "32 randaugment". JPEGs of
500 x 375 pixels become batches of 32 images of 224 x 224, JPEGs of 32 x 32 batches of 128 of the same size, shuffled,
in float32 from -1 to 1: a random window of 5 to 100 % of the area is resized and randomly flipped, with "randaugment"
two of its operations at magnitude 15 follow. The contestants:
  keras_vit            `keras_vit.data.training_batches`
  torchvision, PIL     its v2 transforms of Pillow images, in a DataLoader with two workers
  torchvision, tensor  the same of uint8 tensors
  keras-cv             its layers on batches, in tf.data, after `tf.image.decode_jpeg`
The target: keras_vit at least 1.2 times as fast as the fastest other, and no more memory after 100,000 images than
after 20,000.

Exits with status 1 and prints the reason if a target is missed, a contestant fails, or the machine was busy.
"""

import argparse
import contextlib
import io
import pathlib
import sys
import tempfile

import interleave

BATCH = {500: 32, 32: 128}  # images per batch
BATCHES = {500: 16, 32: 40}  # per step
SIDE = {500: 224, 32: 32}  # pixels of an image of a batch
IMAGES = {500: 256, 32: 10_000}
LAYERS, MAGNITUDE = 2, 15
OURS, PEERS = "keras_vit", ("torchvision, PIL", "torchvision, tensor", "keras-cv")
COMPARISONS = [f"{size} {what}" for size in BATCH for what in ("crop", "randaugment")]
LEAST, MOST_MEMORY = 1.2, 1.05  # times the fastest other; times the memory after MANY[0] images
MANY = (20_000, 100_000)


def write_images(folder, size, count, classes=2):
    """Writes JPEGs, windows of scikit-learn's two photographs, into class folders."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs, random = load_sample_images().images, np.random.default_rng(0)
    for number in range(count):
        pixels = photographs[number % 2]
        scale = random.uniform(0.5, 1)
        height, width = (int(scale * side) for side in pixels.shape[:2])
        top, left = (random.integers(0, side - kept + 1) for side, kept in zip(pixels.shape, (height, width)))
        window = Image.fromarray(pixels[top : top + height, left : left + width])
        image = window.resize((500, 375) if size == 500 else (32, 32), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        place = folder / f"class {number % classes}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(file.getvalue())


def ours(folder, size, randaugment):
    from keras_vit.data import Augmentation, open_source, training_batches

    source = open_source(folder, validation=0.0, test=0.0)
    augmentation = Augmentation(crop="inception", flip=True, randaugment=(LAYERS, MAGNITUDE) if randaugment else None)
    side, classes = SIDE[size], len(source.class_names)
    batches = training_batches(
        source.train, (side, side), classes, batch_size=BATCH[size], steps=10**6, augmentation=augmentation
    )
    return iter(batches)


def torchvision(folder, size, randaugment, tensors):
    import torch

    for name in ("nms", "qnms"):  # missing in a torchvision for CUDA with a torch for CPUs
        with contextlib.suppress(RuntimeError):
            torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    torch.set_num_threads(1)  # the workers do the work
    side = SIDE[size]
    steps = [v2.RandomResizedCrop(side, scale=(0.05, 1.0), antialias=False), v2.RandomHorizontalFlip()]
    steps += [v2.RandAugment(LAYERS, MAGNITUDE)] * randaugment
    steps = [v2.PILToTensor(), *steps] if tensors else [*steps, v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    images = ImageFolder(folder, v2.Compose(steps))
    order = torch.utils.data.RandomSampler(images, replacement=True, num_samples=10**9)  # no epoch, which costs time
    return iter(torch.utils.data.DataLoader(images, BATCH[size], sampler=order, num_workers=interleave.THREADS))


def keras_cv(folder, size, randaugment):
    import keras_cv
    import tensorflow as tf

    side, files = SIDE[size], sorted(map(str, pathlib.Path(folder).rglob("*.jpg")))
    layers = keras_cv.layers
    steps = [layers.RandomCropAndResize((side, side), (0.05, 1.0), (0.75, 1.33)), layers.RandomFlip()]
    # Its magnitude is a fraction of the maximum, with a random deviation.
    steps += [layers.RandAugment((0, 255), augmentations_per_image=LAYERS, magnitude=MAGNITUDE / 30)] * randaugment

    def change(images):
        for step in steps:
            images = step(images, training=True)
        return images / 127.5 - 1

    names = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
    images = names.map(lambda name: tf.image.decode_jpeg(tf.io.read_file(name), 3), tf.data.AUTOTUNE)
    return iter(images.batch(BATCH[size]).map(change, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))


def batches_of(name, folder, comparison):
    """Returns an endless iterator over the batches of a contestant."""
    size, _, what = comparison.partition(" ")
    settings = folder, int(size), what == "randaugment"
    if name == OURS:
        return ours(*settings)
    return keras_cv(*settings) if name == "keras-cv" else torchvision(*settings, "tensor" in name)


def work(name, folder, comparison):
    """Serves one contestant; a step reads some batches."""
    batches, count = batches_of(name, folder, comparison), BATCHES[int(comparison.split()[0])]

    def step():
        for _ in range(count):
            next(batches)

    interleave.serve(step)


def work_on_memory(folder, comparison):
    """Reads MANY images with keras_vit and reports its resident memory after each of these numbers."""
    batches, size = batches_of(OURS, folder, comparison), BATCH[int(comparison.split()[0])]
    memory, read = {}, 0
    for images in MANY:
        while read < images:
            next(batches)
            read += size
        status = pathlib.Path("/proc/self/status").read_text()
        memory[images] = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    interleave.serve(lambda: None, memory=memory)


def compare(comparison, folder, count, peers):
    """Prints the speeds of a comparison and returns a line for each target that is missed."""
    failures, workers = [], {}
    with contextlib.ExitStack() as stack:
        for name in (OURS, *PEERS):
            python = sys.executable if name == OURS else peers
            try:
                worker = interleave.Worker(__file__, "--serve", name, folder, comparison, python=python, paused=True)
            except RuntimeError as error:
                failures.append(f"{comparison}: {name} does not run:\n{error}")
                continue
            workers[name] = stack.enter_context(contextlib.closing(worker))
        seconds, cores = interleave.rounds(workers, count)
    size = int(comparison.split()[0])
    interleave.print_table(comparison, seconds, OURS, BATCH[size] * BATCHES[size])
    for name in PEERS if OURS in seconds else ():
        if name in seconds and (ratio := interleave.ratio(seconds[OURS], seconds[name])) < LEAST:
            failures.append(f"{comparison}: keras_vit is {ratio:.3f} times as fast as {name}, below {LEAST}")
    return failures


def compare_memory(comparison, folder):
    worker = interleave.Worker(__file__, "--memory", folder, comparison)
    worker.close()
    first, last = worker.facts["memory"].values()
    print(f"{comparison}: {first:,.0f} MiB after {MANY[0]:,} images, {last:,.0f} MiB after {MANY[1]:,}")
    return [f"{comparison}: the memory grows from {first:,.0f} to {last:,.0f} MiB"] * (last > MOST_MEMORY * first)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", nargs="*", metavar="COMPARISON", help=", ".join(COMPARISONS) + ", memory")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    parser.add_argument("--small", metavar="FOLDER", help="folder of JPEGs of 32 x 32 pixels (default: written here)")
    parser.add_argument(
        "--peers",
        metavar="PYTHON",
        default=sys.executable,
        help="the Python of the other libraries (default: this one)",
    )
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return work(*arguments.serve)
    if arguments.memory:
        return work_on_memory(*arguments.memory)
    if unknown := set(arguments.comparisons) - {*COMPARISONS, "memory"}:
        parser.error(f"unknown comparison: {', '.join(unknown)}")
    reasons = []
    with tempfile.TemporaryDirectory() as name:
        folders = {500: pathlib.Path(name, "500"), 32: pathlib.Path(arguments.small or pathlib.Path(name, "32"))}
        for size, folder in folders.items():
            if not folder.exists():
                write_images(folder, size, IMAGES[size])
        for comparison in arguments.comparisons or (*COMPARISONS, "memory"):
            if comparison == "memory":
                reasons += compare_memory("32 randaugment", str(folders[32]))
            else:
                folder = folders[int(comparison.split()[0])]
                reasons += compare(comparison, str(folder), arguments.rounds, arguments.peers)
    print("\n" + ("\n".join(f"MISSED {reason}" for reason in reasons) or "All targets are met."))
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
