"""Measures how near duplicates are recognized: python benchmarks/near_duplicates.py DATA [--side PIXELS] [--count N]

DATA is a folder or .zip of class folders. Prints, by the number of bits in which each of the two perceptual hashes may
differ, the share of images that are missed after a change, how many pairs of different images of DATA are near, and how
many of those are of two classes. Pairs of one class may be near duplicates in truth: `keras-vit check` lists them.
"""

import argparse
import io
import pathlib

import numpy as np
from PIL import Image, ImageEnhance

from keras_vit.data import decode
from keras_vit.data.near_duplicates import DISTANCE
from keras_vit.data.perceptual_hash import perceptual_hash
from keras_vit.data.sources import list_own

BITS = (2, 4, 6, 8, 10, 12)


def encoded(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def resized(image, factor):
    return image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BICUBIC)


def cropped(image, share):
    (width, height), (left, top) = image.size, (max(1, round(share * side)) for side in image.size)
    return image.crop((left, top, width - left, height - top))


CHANGES = {
    "JPEG of quality 50": lambda image: encoded(image, 50),
    "JPEG of quality 30": lambda image: encoded(image, 30),
    "half the size": lambda image: resized(image, 0.5),
    "twice the size": lambda image: resized(image, 2),
    "brightness x 1.2": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "brightness x 0.8": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "contrast x 1.3": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "margin of 2 %": lambda image: cropped(image, 0.02),
    "margin of 4 %": lambda image: cropped(image, 0.04),
    "0.6 of the size, x 1.15, quality 60": lambda i: encoded(
        ImageEnhance.Brightness(resized(i, 0.6)).enhance(1.15), 60
    ),
}


def distances(ones, others):
    """Returns the larger of the distances of two hashes each, (..., 2) uint64: (...)."""
    return np.bitwise_count(ones ^ others).max(-1)


def near_counts(looks, classes):
    """Returns the number of pairs at each distance, of all and of two classes: (2, 65)."""
    counts = np.zeros((2, 65), np.int64)
    for number, look in enumerate(looks):
        far = distances(looks[number + 1 :], look)
        counts += [np.bincount(far[kept], minlength=65) for kept in (..., classes[number + 1 :] != classes[number])]
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=10_000, help="images, evenly spaced (default: 10000)")
    parser.add_argument("--side", type=int, help="enlarge or reduce the images to this height and width first")
    options = parser.parse_args()
    listed = list_own(options.data).images
    chosen = [listed[i] for i in np.linspace(0, len(listed) - 1, min(options.count, len(listed))).astype(int)]
    images = [Image.fromarray(decode(image.file)) for image in chosen]
    if options.side:
        images = [image.resize((options.side, options.side), Image.Resampling.BICUBIC) for image in images]
    hashes = [perceptual_hash(np.asarray(image)) for image in images]
    kept = [i for i, look in enumerate(hashes) if look is not None]
    looks = np.array([divmod(hashes[i], 2**64) for i in kept], np.uint64)
    print(f"{len(images):,} images, {len(images) - len(kept):,} of them too small or flat for a hash")
    print(f"{'bits':36}" + "".join(f"{bits:>9}" for bits in BITS) + f"   (near: {DISTANCE})")
    for name, change in CHANGES.items():
        changed = [perceptual_hash(np.asarray(change(images[i]))) for i in kept[:1000]]
        again = np.array([divmod(~0 % 2**128 if look is None else look, 2**64) for look in changed], np.uint64)
        far = distances(again, looks[:1000])
        print(f"{name:36}" + "".join(f"{(far > bits).mean():>9.1%}" for bits in BITS))
    counts = near_counts(looks, np.array([chosen[i].class_name for i in kept]))
    for name, row in zip(("pairs of different images", "  of them of two classes"), counts, strict=True):
        print(f"{name:36}" + "".join(f"{row[: bits + 1].sum():>9,}" for bits in BITS))
    print(f"of {counts[0].sum():,} pairs")


if __name__ == "__main__":
    main()
