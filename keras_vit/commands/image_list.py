"""images.csv.gz of a run: the list of its images with digests, to name the ones that have changed since."""

import csv
import gzip
import os
import pathlib
import zlib
from collections.abc import Iterator

import numpy as np

from keras_vit._arguments import counted
from keras_vit._atomic import written_aside
from keras_vit.data.listing import SPLITS
from keras_vit.data.messages import few
from keras_vit.data.sources import Examples, Source
from keras_vit.data.targets import LEARNED

_FILE = "images.csv.gz"
_COLUMNS = ("name", "class", "split", "weight", "sha256")
_DIGITS = 16  # hexadecimal digits of the SHA-256: 64 bits are enough to detect a changed image


def write_images(folder: str | os.PathLike[str], source: Source) -> None:
    """Writes images.csv.gz into the folder of a run: one row per image with its class, split, weight and digest.

    Args:
        folder: the folder of the run.
        source: the images.
    """
    with written_aside(pathlib.Path(folder) / _FILE) as aside, gzip.open(aside, "wt", 6, "utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((name, *row) for name, row in _rows(source))


def image_changes(folder: str | os.PathLike[str], source: Source) -> list[str] | None:
    """Compares images with the list of a run, and returns one line for each kind of change.

    Args:
        folder: the folder of the run.
        source: the images as they are now.

    Returns:
        The lines, with the names of the images; None if the folder has no list.

    Raises:
        ValueError: if the list cannot be read.
    """
    listed = _read(pathlib.Path(folder) / _FILE)
    if listed is None:
        return None
    now = dict(_rows(source))
    both = [name for name in listed if name in now]

    def differing(column: int) -> list[str]:
        return [name for name in both if listed[name][column] != now[name][column]]

    changes = {
        "added": [name for name in now if name not in listed],
        "removed": [name for name in listed if name not in now],
        "changed": differing(3),
        "of another class": differing(0),
        "of another weight": differing(2),
    }
    if not any(changes.values()):
        changes["in another split"] = differing(1)  # with other changes, most of these follow from them
    return [
        f"  {counted(len(names), 'image')} {change}: {few(sorted(names))}" for change, names in changes.items() if names
    ]


def trained_on(folder: str | os.PathLike[str], examples: Examples) -> np.ndarray | None:
    """Returns which images a run was trained on, (images,) bool, by their bytes; None if its folder has no list.

    Args:
        folder: the folder of the run.
        examples: the images.

    Raises:
        ValueError: if the list cannot be read.
    """
    listed = _read(pathlib.Path(folder) / _FILE)
    if listed is None:
        return None
    known = {digest for _, split, _, digest in listed.values() if split == "train"}
    return np.array([digest[:_DIGITS] in known for digest in examples.digests], bool)


def _read(path: pathlib.Path) -> dict[str, tuple[str, ...]] | None:
    """Returns {name of an image: (class, split, weight, digest)} in a list; None if there is none."""
    if not path.exists():
        return None
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            listed = {name: tuple(row) for name, *row in list(csv.reader(file))[1:]}
        if any(len(row) != len(_COLUMNS) - 1 for row in listed.values()):
            raise ValueError("a row of another number of columns")
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return listed


def _rows(source: Source) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Yields (name of an image, (class, split, weight, digest))."""
    for split in SPLITS:
        examples = getattr(source, split)
        weights = [1.0] * len(examples.labels) if examples.weights is None else examples.weights.tolist()
        for name, label, weight, digest in zip(examples.names, examples.labels, weights, examples.digests, strict=True):
            class_name = LEARNED[source.learns].words(label, source.class_names)
            yield name, (class_name, split, f"{weight:g}", digest[:_DIGITS])
