"""Opens the pictures to learn from, wherever they lie."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_vit.data.archive import list_zip
from keras_vit.data.decode import Record
from keras_vit.data.embedded import (
    find_fashion_mnist,
    list_digits,
    list_fashion_mnist,
    list_synthetic,
    parse_synthetic,
)
from keras_vit.data.folder import list_folder, what_instead
from keras_vit.data.hub import is_saved, list_hub
from keras_vit.data.listing import SPLITS, Listing, Picture, listed, read_pictures
from keras_vit.data.prepared import is_prepared_name, list_prepared, names_like
from keras_vit.data.splits import assign_splits, check_shares
from keras_vit.data.tabular import list_csv

_FILES = {".zip": list_zip, ".csv": list_csv}
_log = logging.getLogger("keras_vit")


@dataclass(frozen=True, eq=False)
class Examples:
    """Pictures and what is on them.

    `pictures` are paths, encoded bytes or places in a larger file (`decode` takes all three), `labels` (examples,)
    int64 indices into the source's class_names, `names` what a person calls each picture, `weights` (examples,)
    float32 what each counts in training, None if all count 1.
    """

    pictures: tuple[str | bytes | Record, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures in three splits.

    `bad` are (name, reason) of pictures that were left out; `digest` is the sha256 of the rest: their bytes,
    labels, weights and order in each split, and the names of the classes.
    """

    name: str
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    bad: tuple[tuple[str, str], ...]
    digest: str


def open_source(
    data: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    on_bad_image: str = "error",
) -> Source:
    """Opens a source of pictures, reads every picture once, and draws the splits that the source lacks.

    What `data` is, is told in this order:

    - "digits": scikit-learn's 1,797 scans of 8 x 8, with fixed splits; `seed` changes nothing there.
    - "synthetic" or "synthetic:10x64" (classes x pictures of each): made-up pictures, drawn from `seed`.
    - "fashion_mnist": its four IDX files in `data_dir`, or where Debian's package dataset-fashion-mnist has
      them; TFDS' data set of that name if they are in neither.
    - "hf:OWNER/NAME" or "hf:OWNER/NAME/CONFIG", a Hugging Face data set; "tfds:NAME", one of TFDS.
    - a path that exists: a .zip of what a folder may hold, a .csv (columns path and label, perhaps split and
      weight), a folder that Hugging Face's save_to_disk wrote, or any other folder: a folder for each class; or
      train/ and any of test/ and validation/ (val/, valid/, dev/), with a folder for each class in them.
    - a name that TFDS knows, such as "cifar10" or "oxford_iiit_pet:4.0.0". "./cifar10" is a folder.

    Missing splits are drawn from train by the pictures' content, class by class; copies of one picture stay
    together, and a picture that lies in two classes stays in train. Nothing is ever written into the source.

    Files of one's own are decoded while they are read. Of a data set that was prepared or is built in, pictures
    are hashed and told by how they start, but not decoded: that was done when it was made, and would take an hour
    for ImageNet.

    Args:
        data: see above.
        data_dir: where the data sets of TFDS or Hugging Face, or Fashion-MNIST's files, are; None for the default.
        train_split: the part of a TFDS or Hugging Face data set to train on, in its own words, such as
            "train[:98%]" or "train+validation"; by default "train".
        validation_split: the same to validate on; by default "validation" if there is one, it has labels, and no
            example of it is trained or tested on, or else drawn from train.
        test_split: the same to test on; by default "test", or "validation" where there is no test split with labels.
        validation: share of the pictures that are drawn from, 0 to below 1, to validate on (0.02, 0.01 and 0.1 are
            the paper's); for "digits" of those outside the test split. Has no effect on a source with a validation
            split of its own.
        test: the same for testing.
        seed: another seed draws other splits.
        on_bad_image: "error" or "skip"; what to do about pictures that cannot be read.

    Raises:
        ImportError: if the package that a source needs is not installed.
        ValueError: if a setting is out of range or not for this source, there is no such source, it is not as
            described, or, with on_bad_image="error", pictures cannot be read (one error names them all).
    """
    check_shares(validation, test)
    if on_bad_image not in ("error", "skip"):
        raise ValueError(f'on_bad_image must be "error" or "skip". Received: on_bad_image={on_bad_image!r}')
    if data == "digits":
        seed = 0
        if test != 0.2:
            raise ValueError(f'"digits" has a fixed test split of 0.2; leave test at 0.2. Received: test={test!r}')
    wanted = {"train": train_split, "validation": validation_split, "test": test_split}
    listing = _list(data, data_dir, wanted, seed)
    _refuse(listing)
    listing = read_pictures(listing)
    bad = tuple((picture.name, picture.reason) for picture in listing.pictures if picture.reason)
    if bad and on_bad_image == "error":
        raise ValueError(_bad_images(listing.path, bad))
    _refuse(listing)
    for name in listing.stray:
        _log.warning("%s is not used: it lies outside the class folders", name)
    if bad:
        _log.warning("%d pictures cannot be read and are left out", len(bad))
    pictures = assign_splits(listing, validation=validation, test=test, seed=seed)
    numbers = {name: number for number, name in enumerate(listing.class_names)}
    chosen = {split: [picture for picture in pictures if picture.split == split] for split in SPLITS}
    splits = {split: _examples(some, numbers) for split, some in chosen.items()}
    return Source(listing.name, listing.class_names, **splits, bad=bad, digest=_digest(listing.class_names, chosen))


def _list(data, data_dir, wanted: dict[str, str | None], seed: int) -> Listing:
    name, path = (data if isinstance(data, str) else ""), Path(data)
    if name == "fashion_mnist":
        folder = find_fashion_mnist(data_dir)
        if folder is None:
            return list_prepared(name, data_dir, wanted)
        _refuse_options(name, None, wanted)
        return list_fashion_mnist(folder)
    if name.startswith("hf:"):
        return list_hub(name.removeprefix("hf:"), data_dir, wanted)
    if name.startswith("tfds:"):
        return list_prepared(name.removeprefix("tfds:"), data_dir, wanted)
    made_up = parse_synthetic(name)
    if name != "digits" and not made_up:
        if is_saved(path):
            return list_hub(path, data_dir, wanted)
        if not path.exists() and is_prepared_name(name, data_dir):
            return list_prepared(name, data_dir, wanted)
    _refuse_options(data, data_dir, wanted)
    if name == "digits":
        return list_digits()
    if made_up:
        return list_synthetic(*made_up, seed)
    if path.is_dir() or is_file_of_pictures(path):
        return list_own(path)
    raise ValueError(_no_source(data, data_dir))


def is_file_of_pictures(path: Path) -> bool:
    """Returns whether a path is of a file that holds or lists pictures, by its ending."""
    return path.is_file() and path.suffix.lower() in _FILES


def list_own(path: str | os.PathLike) -> Listing:
    """Finds classes, splits and pictures in a folder, a .zip or a .csv."""
    path = Path(path)
    return _FILES[path.suffix.lower()](path) if is_file_of_pictures(path) else list_folder(path)


def _refuse_options(data, data_dir, wanted: dict[str, str | None]) -> None:
    options = {"data_dir": data_dir} | {f"{split}_split": expression for split, expression in wanted.items()}
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if given:
        raise ValueError(
            "data_dir and the splits' expressions are for data sets of TFDS and Hugging Face (for Fashion-MNIST as "
            "IDX files data_dir alone); elsewhere validation and test say what is drawn. "
            f"Received: data={str(data)!r}, {', '.join(given)}"
        )


def _no_source(data, data_dir) -> str:
    names = {"digits", "fashion_mnist", "synthetic"} | names_like(str(data), data_dir)
    return (
        'data must be "digits", "fashion_mnist", "synthetic" or "synthetic:CLASSESxPICTURES"; a folder with a folder '
        "of pictures for each class, or a .zip of one; a .csv with the columns path and label; a folder saved by "
        'Hugging Face\'s datasets, or "hf:OWNER/NAME"; or the name of a TFDS data set, such as "cifar10". '
        f"Received: data={str(data)!r}, {what_instead(Path(data), names)}"
    )


def _refuse(listing: Listing) -> None:
    if listing.problems:
        faults = (f"  - {problem}" for problem in listing.problems)
        raise ValueError("\n".join([f"{listing.path} cannot be learned from:", *faults]))


def _bad_images(path: str, bad: Sequence[tuple[str, str]]) -> str:
    return "\n".join(
        [
            f"{len(bad)} pictures in {path} cannot be read:",
            *listed(f"{name}: {reason}" for name, reason in bad),
            "Repair or remove them, or go on without them with on_bad_image=skip.",
        ]
    )


def _examples(pictures: Sequence[Picture], numbers: dict[str, int]) -> Examples:
    labels = np.array([numbers[picture.class_name] for picture in pictures], np.int64)
    weights = np.array([picture.weight for picture in pictures], np.float32)
    files, names = (tuple(getattr(picture, what) for picture in pictures) for what in ("file", "name"))
    return Examples(files, labels, names, None if (weights == 1).all() else weights)


def _digest(class_names: Sequence[str], chosen: dict[str, list[Picture]]) -> str:
    digest = hashlib.sha256(repr(class_names).encode())
    for split, pictures in chosen.items():
        for picture in pictures:
            digest.update(f"{split} {picture.class_name!r} {picture.digest} {picture.weight!r}\n".encode())
    return digest.hexdigest()
