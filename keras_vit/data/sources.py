"""Data sources: opens images to train on from a folder, a zip file, a CSV file or a data set."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from keras_vit._arguments import counted
from keras_vit.data.archive import list_zip
from keras_vit.data.built_in import (
    find_fashion_mnist,
    list_digits,
    list_fashion_mnist,
    list_synthetic,
    parse_synthetic,
)
from keras_vit.data.corrections import correct_labels
from keras_vit.data.csv_table import list_csv
from keras_vit.data.decoding import FileRange
from keras_vit.data.folder import describe_other_path, list_folder
from keras_vit.data.groups import group_images
from keras_vit.data.huggingface import is_saved, list_hub
from keras_vit.data.label_file import list_labelled_folder
from keras_vit.data.listing import SPLITS, Learns, ListedImage, Listing
from keras_vit.data.messages import few, listed, one_line, printable
from keras_vit.data.near_duplicates import joined, near_sets, sets_of
from keras_vit.data.problems import find_problems
from keras_vit.data.splits import check_shares, together
from keras_vit.data.targets import LEARNED, as_learned
from keras_vit.data.tfds import is_prepared_name, list_prepared, names_like

BUILT_IN = ("digits", "fashion_mnist")
_log = logging.getLogger("keras_vit")


@dataclass(frozen=True, eq=False)
class Examples:
    """Encoded images with their labels.

    Args:
        images: paths, encoded bytes or ranges of files, as for `decode`.
        labels: (examples,) int64, indices into the source's class names; for several labels (examples, labels) float32,
            1 where an image has a label and else 0; for numbers (examples, numbers) float64, in their own units.
        names: of the images, for messages.
        weights: (examples,) float32, the weight of each image in training, 0 or from 1e-6 to 1e6; None for 1.
        digests: SHA-256 of each image's bytes.
        units: (examples,) int64, the same for images that lie in one split: copies, near duplicates and a group.

    Example:
        ```python
        examples = keras_vit.data.open_source("synthetic:3x8").train
        image = keras_vit.data.decode(examples.images[0])
        print(examples.names[0], examples.labels[0], image.shape)
        ```
    """

    images: tuple[str | bytes | FileRange, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray | None = None
    digests: tuple[str, ...] = ()
    units: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> "Examples":
        """Returns the examples of the indices, (n,), in their order."""
        images, names = (tuple(getattr(self, field)[i] for i in indices) for field in ("images", "names"))
        weights, units = (None if array is None else array[indices] for array in (self.weights, self.units))
        digests = tuple(self.digests[i] for i in indices) if self.digests else ()
        return Examples(images, self.labels[indices], names, weights, digests, units)


@dataclass(frozen=True, eq=False)
class Source:
    """A data source: images in a training, a validation and a test split.

    Args:
        name: of the source.
        class_names: of the classes, the labels or the numbers, in the order of the labels.
        train, validation, test: the splits.
        bad: (name, reason) of images that cannot be read and are left out.
        digest: SHA-256 of the other images (their bytes, labels, weights and order in each split) and the class names.
        learns: what is learned of an image, "classes", "labels" or "numbers".

    Example:
        ```python
        data = keras_vit.data.open_source("synthetic:3x8")
        print(data.class_names, len(data.train.labels), len(data.test.labels))
        ```
    """

    name: str
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    bad: tuple[tuple[str, str], ...]
    digest: str
    learns: Learns = "classes"


def open_source(
    data: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    class_depth: int | None = None,
    groups: str | None = None,
    require_test: bool = False,
    learns: Learns | None = None,
    target: Sequence[str] = (),
    corrections: str | os.PathLike[str] | None = None,
    channels: int = 3,
) -> Source:
    """Opens a data source, reads every image once, and splits it into training, validation and test images.

    `data` is one of these, in this order:

    - "digits": scikit-learn's 1,797 scans of 8 x 8 pixels, with fixed splits, whatever the `seed`.
    - "synthetic" or "synthetic:10x64" (classes x images of each): synthetic images, generated from `seed`.
    - "fashion_mnist": its four IDX files in `data_dir`, or in the folder of Debian's package dataset-fashion-mnist, or
      else TFDS' data set of this name.
    - "hf:OWNER/NAME" or "hf:OWNER/NAME/CONFIG", a Hugging Face data set; "tfds:NAME", a data set of TFDS.
    - a path that exists: a .zip of such a folder, a .csv (columns path and label, optionally split, weight, group), a
      folder that Hugging Face's save_to_disk wrote, or another folder: a folder for each class; or train/ with test/
      or validation/ (val/, valid/, dev/) or both, with a folder for each class in each.
    - a name of TFDS, such as "cifar10" or "oxford_iiit_pet:4.0.0".

    A name that is also a folder or file here is an error: "./cifar10" is the folder, "tfds:cifar10" the data set.

    Missing splits are drawn from train by the content of the images, class by class. Copies and near duplicates of one
    image stay in one split, and so do the images of a group. An image in two classes stays in train. The source is
    never written to.

    Images in a folder, a .zip or a .csv are decoded once: what the reading has shown is kept in a cache, by path, size
    and time (see docs/training.md). Those of a prepared or a built-in data set are hashed but not
    decoded: that was done when the data set was prepared, and takes an hour for ImageNet.

    Args:
        data: see above.
        data_dir: folder of the data sets of TFDS or Hugging Face, or of Fashion-MNIST's files; None for the default.
        train_split: the part of a TFDS or Hugging Face data set to train on, in their notation, such as "train[:98%]"
            or "train+validation"; by default "train".
        validation_split: the part to validate on; by default "validation", if it has labels and shares no example with
            the other splits, or else a part that is drawn from train.
        test_split: the part to test on; by default "test", or "validation" without a test split with labels.
        validation: fraction of the training images that is drawn for validation, 0 or more and less than 1 (the papers
            have 0.01, 0.02 and 0.1), if the source has no validation split.
        test: fraction that is drawn for testing, if the source has no test split.
        seed: another seed draws other splits, and other images of "synthetic".
        on_bad_image: "error" or "skip" for images that cannot be read.
        class_depth: depth of the class folders in a folder or .zip: 1 for data/class, 2 for data/region/class. None is
            1, but an error if another depth is as likely.
        groups: a regular expression, for a folder or .zip: what its first parentheses match is the group of an image,
            such as `(.+)_[0-9]+` for frames of videos. It has to match the whole path inside the class folder, without
            the ending. A .csv has the column group instead.
        require_test: whether an empty test split is an error.
        learns: "classes", one class an image; "labels", any number of labels an image: in the column label of a .csv
            with | between them, or in a column of 0 and 1 for each, in labels.json of a folder or .zip,
            {file: [label, ...]}, or as lists of a Hugging Face or TFDS data set (images of one class have one label);
            "numbers", the columns `target` of a .csv. None is "classes", but an error if labels are joined by |.
        target: the columns of numbers.
        corrections: a .csv file with other labels for some images: the columns path, label and optionally keep, where
            "no" leaves an image out.
        channels: of the images that are read, as in `keras_vit.data.decode`: an image that cannot be converted to it
            cannot be read.

    Returns:
        A `Source`.

    Raises:
        ImportError: if the package that a source needs is not installed.
        ValueError: if an argument is out of range or not for this source, the source is missing or has another form,
            or, with on_bad_image="error", images cannot be read (one error lists them all).

    Example:
        ```python
        data = keras_vit.data.open_source("synthetic:3x8", validation=0.25, test=0.25)
        assert len(data.train.labels) == 3 * 4 and len(data.class_names) == 3
        ```
    """
    check_shares(validation, test)
    if on_bad_image not in ("error", "skip"):
        raise ValueError(f'Expected on_bad_image to be "error" or "skip". Received: on_bad_image={on_bad_image!r}')
    target = (target,) if isinstance(target, str) else tuple(target)
    if bool(target) != (learns == "numbers"):
        raise ValueError(
            f'Expected target, columns of numbers, with learns="numbers" and only then. Received: {learns=}, {target=}'
        )
    if data == "digits":
        seed = 0
        if test != 0.2:
            raise ValueError(f'Expected test=0.2, the fixed test split of "digits". Received: test={test!r}')
    wanted = {"train": train_split, "validation": validation_split, "test": test_split}
    listing, images = find_problems(
        correct_labels(
            as_learned(_list(data, data_dir, wanted, seed, class_depth, groups, learns, target), learns), corrections
        ),
        validation=validation,
        test=test,
        seed=seed,
        require_test=require_test,
        channels=channels,
    )
    bad = tuple((image.name, image.reason) for image in listing.images if image.reason)
    for note in listing.notes:
        _log.warning("%s", note)
    refuse_unreadable(listing, bad, skips=on_bad_image == "skip")
    for name in listing.stray:
        _log.warning("%s is not used: it lies outside the class folders", name)
    if bad:
        _log.warning("left out: %s that cannot be read", counted(len(bad), "image"))
    _tell_what_is_together(images)
    chosen = {split: [image for image in images if image.split == split] for split in SPLITS}
    units, split_of = np.array(together(images), np.int64), np.array([image.split for image in images])
    train, validated, tested = (_examples(chosen[split], units[split_of == split], listing) for split in SPLITS)
    digest = _digest(listing.class_names, chosen)
    return Source(
        *(listing.name, listing.class_names, train, validated, tested), bad=bad, digest=digest, learns=listing.learns
    )


def _list(
    data: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    wanted: dict[str, str | None],
    seed: int,
    class_depth: int | None,
    groups: str | None,
    learns: Learns | None,
    target: Sequence[str],
) -> Listing:
    name, path = (data if isinstance(data, str) else ""), Path(data)
    named = names_data_set(data, data_dir)
    if named or is_other_source(data):
        _refuse_folder_options(data, class_depth, groups)
    if name.startswith("hf:"):
        return list_hub(name.removeprefix("hf:"), data_dir, wanted, learns)
    if name.startswith("tfds:"):
        return list_prepared(name.removeprefix("tfds:"), data_dir, wanted, learns)
    if name == "fashion_mnist":
        folder = find_fashion_mnist(data_dir)
        if folder is None:
            return list_prepared(name, data_dir, wanted, learns)
        _refuse_options(name, None, wanted)
        return list_fashion_mnist(folder)
    synthetic = parse_synthetic(name)
    if named and name != "digits" and not synthetic:
        return list_prepared(name, data_dir, wanted, learns)
    if not named and is_saved(path):
        return list_hub(path, data_dir, wanted, learns)
    _refuse_options(data, data_dir, wanted)
    if name == "digits":
        return list_digits()
    if synthetic:
        return list_synthetic(*synthetic, seed)
    return list_own(data, class_depth, groups, learns, target)


def names_data_set(data: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None) -> bool:
    """Returns whether a text is the name of a built-in data set or of one of TFDS.

    Args:
        data: the text.
        data_dir: TFDS' data folder; None for its default.

    Raises:
        ValueError: if it is also the path of a file or folder, other than that of a run.
    """
    name = data if isinstance(data, str) else ""
    built_in = name in BUILT_IN or parse_synthetic(name) is not None
    if not built_in and not is_prepared_name(name, data_dir):
        return False
    if os.path.exists(name) and not os.path.exists(os.path.join(name, "run.json")):
        entry = "folder" if os.path.isdir(name) else "file"
        kind, instead = ("built-in", f"work in another folder, or rename this {entry}, for the built-in one")
        if not built_in:
            kind, instead = ("TFDS", f"tfds:{name} for the data set of TFDS")
        raise ValueError(
            f"{name!r} is the name of a {kind} data set and of a {entry} here. Write ./{name} for the {entry}; "
            f"{instead}."
        )
    return True


def is_other_source(data: str | os.PathLike[str]) -> bool:
    """Returns whether `data` has the form of a data set of Hugging Face or TFDS, not of a folder, a .zip or a .csv."""
    return (isinstance(data, str) and data.startswith(("hf:", "tfds:"))) or is_saved(Path(data))


def is_file_of_images(path: Path) -> bool:
    """Returns whether a path is that of a .zip or a .csv file."""
    return path.is_file() and path.suffix.lower() in (".zip", ".csv")


def list_own(
    data: str | os.PathLike[str],
    class_depth: int | None = None,
    groups: str | None = None,
    learns: Learns | None = None,
    target: Sequence[str] = (),
) -> Listing:
    """Lists the classes, splits and images of a folder, a .zip or a .csv.

    Args:
        data: the path.
        class_depth, groups, learns, target: as in `open_source`.

    Raises:
        ValueError: if it is neither of these, or cannot be used whatever its contents.
    """
    path = Path(data)
    if not path.is_dir() and not is_file_of_images(path):
        raise ValueError(describe_unknown(data))
    if class_depth is not None and (type(class_depth) is not int or class_depth < 1):
        raise ValueError(f"Expected class_depth to be an integer, 1 or more. Received: {class_depth=}")
    absolute = os.path.abspath(path)
    if absolute != printable(absolute):
        raise ValueError(
            f"Expected a path in UTF-8. Received: {printable(absolute)}. Rename parts with an escape, such as \\xe9."
        )
    if path.is_file() and path.suffix.lower() == ".csv":
        _refuse_folder_options(data, class_depth, groups)
        return list_csv(path, learns, target)
    if path.is_file():
        listing = list_zip(path, class_depth, learns)
    else:
        listing = (list_labelled_folder if learns == "labels" else list_folder)(path, class_depth)
    return group_images(listing, groups, class_depth) if groups else listing


def _refuse_folder_options(data: str | os.PathLike[str], class_depth: int | None, groups: str | None) -> None:
    if class_depth not in (None, 1):
        raise ValueError(f"class_depth is for folders and .zip files. Received: {class_depth=}, data={str(data)!r}")
    if groups:
        raise ValueError(
            "groups is for folders and .zip files; a .csv has the column group instead. "
            f"Received: {groups=}, data={str(data)!r}"
        )


def _refuse_options(
    data: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, wanted: dict[str, str | None]
) -> None:
    options = {"data_dir": data_dir} | {f"{split}_split": expression for split, expression in wanted.items()}
    received = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if received:
        raise ValueError(
            "data_dir and the splits' expressions are for data sets of TFDS and Hugging Face (for Fashion-MNIST as "
            "IDX files data_dir alone); elsewhere, set validation and test. "
            f"Received: data={str(data)!r}, {', '.join(received)}"
        )


def describe_unknown(data: str | os.PathLike[str]) -> str:
    """Returns the message for a text that names no data: what `data` can be, and the nearest folder or name."""
    names = {*BUILT_IN, "synthetic"} | names_like(str(data), None)
    return (
        'Expected data to be "digits", "fashion_mnist", "synthetic" or "synthetic:CLASSESxIMAGES"; a folder with a '
        "folder of images for each class, or a .zip of one; a .csv with the columns path and label; a folder saved by "
        'Hugging Face\'s datasets, or "hf:OWNER/NAME"; or the name of a TFDS data set, such as "cifar10". '
        f"Received: data={printable(str(data))!r}, {describe_other_path(Path(data), names)}"
    )


def refuse_unreadable(listing: Listing, bad: Sequence[tuple[str, str]], skips: bool) -> None:
    """Raises a ValueError with all problems, if there are any; images that cannot be read are one unless it skips."""
    lines = []
    if listing.problems:
        lines.append(f"{listing.path} cannot be trained on:")
        lines += [f"  - {one_line(problem)}" for problem in listing.problems]
    if bad and (listing.problems or not skips):
        lines += [
            f"{counted(len(bad), 'image')} in {listing.path} cannot be read:",
            *listed(f"{name}: {reason}" for name, reason in bad),
            *([] if skips else ["Repair or remove them, or train with on_bad_image=skip, which leaves them out."]),
        ]
    if lines:
        raise ValueError("\n".join(lines))


def _tell_what_is_together(images: Sequence[ListedImage]) -> None:
    """Logs the groups and near duplicates in one split, and the images that are in two splits, exactly or nearly."""
    if groups := {image.group for image in images if image.group}:
        _log.info("%s of images; no split divides one", counted(len(groups), "group"))
    near = near_sets(images)
    leaks = [one for one in sets_of(images, lambda image: image.content) if len({image.split for image in one}) > 1]
    for sets, level, words in (
        (near, logging.INFO, "near duplicates that no drawn split divides"),
        (
            leaks,
            logging.WARNING,
            "images in two splits of the data, or nearly: the accuracy will be too high",
        ),
    ):
        if sets:
            first = few([joined([image.name for image in one]) for one in sets], 2)
            _log.log(level, "%s of %s: %s", counted(len(sets), "set"), words, first)


def _examples(images: Sequence[ListedImage], units: np.ndarray, listing: Listing) -> Examples:
    labels = LEARNED[listing.learns].labels(images, listing.class_names)
    weights = np.array([image.weight for image in images], np.float32)
    return Examples(
        tuple(image.file for image in images),
        labels,
        tuple(image.name for image in images),
        None if (weights == 1).all() else weights,
        tuple(image.digest for image in images),
        units,
    )


def _digest(class_names: Sequence[str], chosen: dict[str, list[ListedImage]]) -> str:
    digest = hashlib.sha256(repr(class_names).encode())
    for split, images in chosen.items():
        for image in images:
            digest.update(f"{split} {image.class_name!r} {image.digest} {image.weight!r}\n".encode())
    return digest.hexdigest()
