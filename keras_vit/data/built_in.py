"""Built-in data sets: scikit-learn's digits, Fashion-MNIST from its IDX files, and synthetic images."""

import gzip
import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_vit.data.listing import ListedImage, Listing, digest_of

FASHION_CLASSES = tuple("T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(","))
_DEBIAN = "/usr/share/datasets/fashion-mnist"  # of its package dataset-fashion-mnist
_IDX = {"train": "train", "test": "t10k"}  # split -> how its two files begin
_SIZE = (48, 64)  # height, width of a synthetic image
_MOST = 200_000  # synthetic images, which are held in memory: 2 GB
_WAVES = 5  # waves of a synthetic pattern in each direction


def list_digits() -> Listing:
    """Lists scikit-learn's 1,797 scans of digits, 8 x 8 pixels, encoded as PNG to be read like other images."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8); the scans count 0 to 16
    _, held_out = train_test_split(
        np.arange(len(grey)), test_size=0.2, random_state=0, stratify=digits.target, shuffle=True
    )
    splits = np.where(np.isin(np.arange(len(grey)), held_out), "test", "train").tolist()
    images = tuple(
        # The splits depend on the digests: they are those of the scans, not of the PNG files that a library writes.
        ListedImage(_png(scan), f"digit {i:04d}", str(label), split, digest=hashlib.sha256(scan.tobytes()).hexdigest())
        for i, (scan, label, split) in enumerate(zip(grey, digits.target, splits, strict=True))
    )
    return Listing("digits", "digits", ("train", "test"), tuple("0123456789"), images)


def find_fashion_mnist(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """Returns the folder of Fashion-MNIST's four IDX files: `data_dir`, or by default that of Debian's package."""
    for folder in map(Path, [data_dir] if data_dir is not None else [_DEBIAN]):
        if any(_idx_file(folder, start, "images-idx3").exists() for start in _IDX.values()):
            return folder
    return None


def list_fashion_mnist(folder: Path) -> Listing:
    """Lists the 60,000 and 10,000 images of 28 x 28 pixels in the IDX files, which may be compressed with gzip.

    Args:
        folder: of the four files.

    Raises:
        ValueError: if one of the four is missing, damaged, or differs from its header.
    """
    listed: list[ListedImage] = []
    for split, start in _IDX.items():
        images = _read_idx(_idx_file(folder, start, "images-idx3"), 3)
        labels = _read_idx(_idx_file(folder, start, "labels-idx1"), 1)
        if len(images) != len(labels) or labels.max(initial=0) >= len(FASHION_CLASSES):
            raise ValueError(
                f"Expected a label from 0 to {len(FASHION_CLASSES) - 1} for each image. Received: {folder}, "
                f"{len(images):,} images and {len(labels):,} labels up to {labels.max(initial=0)} to {split}"
            )
        names = (f"{split} {index:05d}" for index in range(len(images)))
        listed += _encoded(images, names, (FASHION_CLASSES[label] for label in labels), split)
    return Listing(str(folder), "fashion_mnist", tuple(_IDX), FASHION_CLASSES, tuple(listed))


def _idx_file(folder: Path, start: str, kind: str) -> Path:
    path = folder / f"{start}-{kind}-ubyte"
    return path if path.exists() else path.with_name(path.name + ".gz")


def _read_idx(path: Path, axes: int) -> np.ndarray:
    """Reads a file of unsigned bytes: 0, 0, 8, the number of axes, their lengths (big-endian), the bytes."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * axes)
            if len(header) < 4 + 4 * axes or header[:4] != bytes([0, 0, 8, axes]):
                raise ValueError(f"Expected an IDX file of unsigned bytes with {axes} axes. Received: {path}")
            shape = struct.unpack_from(f">{axes}I", header, 4)
            size = int(np.prod(shape, dtype=object))
            data = b"".join(iter(lambda: file.read(2**20), b"")) if size < 2**31 else b""
    except FileNotFoundError as error:
        raise ValueError(f"Fashion-MNIST is four files; there is no {path}") from error
    except (EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); get it again") from error
    if len(data) != size:
        raise ValueError(
            f"{path} is damaged: its header promises {size:,} bytes, and it has {len(data):,}; get it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def parse_synthetic(text: str) -> tuple[int, int] | None:
    """Parses "synthetic" or "synthetic:10x64" into (classes, images of each); None for any other text."""
    match = re.fullmatch(r"synthetic(?::(\d{1,5})x(\d{1,7}))?", text)
    return (int(match[1] or 10), int(match[2] or 64)) if match else None


def list_synthetic(classes: int, count: int, seed: int) -> Listing:
    """Generates images of 48 x 64 pixels that a small model can learn: a class is a smooth pattern of colours.

    Each image is the pattern of its class, a weaker pattern of its own, and noise.

    Args:
        classes: number of classes.
        count: number of images of each class.
        seed: of the patterns and the noise.

    Raises:
        ValueError: if there are less than two classes, less than one image of each, or more than 200,000 images.
    """
    if classes < 2 or count < 1 or classes * count > _MOST:
        raise ValueError(
            f"Expected two classes or more, an image or more of each, and {_MOST:,} images at most. "
            f"Received: synthetic:{classes}x{count}"
        )
    names = tuple(f"class {number:0{len(str(classes - 1))}d}" for number in range(classes))
    listed: list[ListedImage] = []
    for number, name in enumerate(names):
        images = (_synthetic(seed, number, index) for index in range(count))
        titles = (f"{name}/{index:0{len(str(count - 1))}d}" for index in range(count))
        listed += _encoded(images, titles, [name] * count, "train")
    return Listing("synthetic", "synthetic", (), names, tuple(listed))


def _synthetic(seed: int, number: int, index: int) -> np.ndarray:
    """Returns an image of a class, (height, width, 3) uint8."""
    of_class, of_image = np.random.default_rng([seed, number]), np.random.default_rng([seed, number, index, 1])
    waves = of_class.normal(size=(3, _WAVES, _WAVES)) + 0.4 * of_image.normal(size=(3, _WAVES, _WAVES))
    y, x = (np.cos(np.pi * np.arange(_WAVES)[:, None] * (np.arange(side) + 0.5) / side) for side in _SIZE)
    smooth = np.moveaxis(y.T @ waves @ x, 0, -1)  # (height, width, 3)
    noise = of_image.standard_normal(smooth.shape, np.float32)
    return np.clip(127.5 + 25 * smooth + 10 * noise, 0, 255).astype(np.uint8)


def _encoded(
    images: Iterable[np.ndarray], names: Iterable[str], classes: Iterable[str], split: str
) -> list[ListedImage]:
    return [
        ListedImage(data, name, class_name, split, digest=digest_of(data))
        for data, name, class_name in zip(map(_png, images), names, classes, strict=True)
    ]


def _png(pixels: np.ndarray) -> bytes:
    """Encodes (height, width) or (height, width, 3) uint8 as PNG without compression, several times as fast as Pillow.

    Source: ISO/IEC 15948, chapters 5 and 11.
    """
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with its filter, 0 for none
    lines[:, 1:] = pixels.reshape(height, -1)
    colour = 0 if pixels.ndim == 2 else 2
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0),
        b"IDAT": zlib.compress(lines.tobytes(), level=0),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
