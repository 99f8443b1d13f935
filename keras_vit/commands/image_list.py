"""The list of a run's images, beside its run.json: what tells which of them have changed since."""

import csv
import gzip
import pathlib

from keras_vit._atomic import written_aside
from keras_vit.data.messages import few

_IMAGES = "images.csv.gz"
_COLUMNS = ("name", "class", "split", "weight", "sha256")
_DIGITS = 16  # of the sha256, in hexadecimal: 64 bits tell a changed image from the same one


def write_images(folder, source):
    """Writes the list of a source's images into a run's folder, a row each."""
    with written_aside(pathlib.Path(folder) / _IMAGES) as aside, gzip.open(aside, "wt", 6, "utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((name, *row) for name, row in _rows(source).items())


def image_changes(folder, source):
    """Returns which images of a source are others than those in a run's list, a line for each kind of change.

    Args:
        folder: the run's.
        source: the `Source` as it is now.

    Returns:
        None where the folder has no such list.

    Raises:
        ValueError: if the list cannot be read.
    """
    path = pathlib.Path(folder) / _IMAGES
    if not path.exists():
        return None
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            there = {name: tuple(row) for name, *row in list(csv.reader(file))[1:]}
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    here = _rows(source)
    both = [name for name in there if name in here]

    def differ(column):
        return [name for name in both if there[name][column] != here[name][column]]

    kinds = {
        "added": [name for name in here if name not in there],
        "removed": [name for name in there if name not in here],
        "changed": differ(3),
        "of another class": differ(0),
        "of another weight": differ(2),
    }
    if not any(kinds.values()):
        kinds["in another split"] = differ(1)  # else most of these follow from the other changes
    return [f"  {len(names):,} images {kind}: {few(sorted(names))}" for kind, names in kinds.items() if names]


def _rows(source):
    """Returns {name of an image: (class, split, weight, digest)}, all of them texts."""
    rows = {}
    for split in ("train", "validation", "test"):
        examples = getattr(source, split)
        weights = [1.0] * len(examples.labels) if examples.weights is None else examples.weights.tolist()
        for name, label, weight, digest in zip(examples.names, examples.labels, weights, examples.digests, strict=True):
            rows[name] = (source.class_names[label], split, f"{weight:g}", digest[:_DIGITS])
    return rows
