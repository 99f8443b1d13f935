"""Opens the images to learn from, wherever they lie."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_vit.data.archive import list_zip
from keras_vit.data.decoding import Record
from keras_vit.data.embedded import (
    find_fashion_mnist,
    list_digits,
    list_fashion_mnist,
    list_synthetic,
    parse_synthetic,
)
from keras_vit.data.folder import list_folder, what_instead
from keras_vit.data.hub import is_saved, list_hub
from keras_vit.data.listing import SPLITS, ListedImage, Listing, listed
from keras_vit.data.names import one_line, printable
from keras_vit.data.prepared import is_prepared_name, list_prepared, names_like
from keras_vit.data.problems import find_problems
from keras_vit.data.splits import check_shares
from keras_vit.data.tabular import list_csv

_log = logging.getLogger("keras_vit")


@dataclass(frozen=True, eq=False)
class Examples:
    """Images and what is on them.

    `images` are paths, encoded bytes or places in a larger file (`decode` takes all three), `labels` (examples,)
    int64 indices into the source's class_names, `names` what a person calls each image, `weights` (examples,)
    float32 what each counts in training, None if all count 1. `digests` are the sha256 of each image's bytes.
    """

    images: tuple[str | bytes | Record, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """Images in three splits.

    `bad` are (name, reason) of images that were left out; `digest` is the sha256 of the rest: their bytes,
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
    class_depth: int | None = None,
    require_test: bool = False,
) -> Source:
    """Opens a source of images, reads every image once, and draws the splits that the source lacks.

    What `data` is, is told in this order:

    - "digits": scikit-learn's 1,797 scans of 8 x 8, with fixed splits; `seed` changes nothing there.
    - "synthetic" or "synthetic:10x64" (classes x images of each): synthetic images, drawn from `seed`.
    - "fashion_mnist": its four IDX files in `data_dir`, or where Debian's package dataset-fashion-mnist has
      them; TFDS' data set of that name if they are in neither.
    - "hf:OWNER/NAME" or "hf:OWNER/NAME/CONFIG", a Hugging Face data set; "tfds:NAME", one of TFDS.
    - a path that exists: a .zip of what a folder may hold, a .csv (columns path and label, perhaps split and
      weight), a folder that Hugging Face's save_to_disk wrote, or any other folder: a folder for each class; or
      train/ and any of test/ and validation/ (val/, valid/, dev/), with a folder for each class in them.
    - a name that TFDS knows, such as "cifar10" or "oxford_iiit_pet:4.0.0".

    A name that is a folder or file here, too, is refused: "./cifar10" is the folder, "tfds:cifar10" the data set.

    Missing splits are drawn from train by the images' content, class by class; copies of one image stay
    together, and an image that lies in two classes stays in train. Nothing is ever written into the source.

    Files of one's own are decoded while they are read. Of a data set that was prepared or is built in, images
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
        validation: share of the images that are drawn from, 0 to below 1, to validate on (0.02, 0.01 and 0.1 are
            the paper's); for "digits" of those outside the test split. Has no effect on a source with a validation
            split of its own.
        test: the same for testing.
        seed: another seed draws other splits.
        on_bad_image: "error" or "skip"; what to do about images that cannot be read.
        class_depth: how many folders down the class folders of a folder or .zip lie: 1 for data/class, 2 for
            data/region/class. None is 1, but refused where 2 or more are as likely.
        require_test: whether a source is refused that leaves no image to test on, as training needs it.

    Raises:
        ImportError: if the package that a source needs is not installed.
        ValueError: if a setting is out of range or not for this source, there is no such source, it is not as
            described, or, with on_bad_image="error", images cannot be read (one error names them all).
    """
    check_shares(validation, test)
    if on_bad_image not in ("error", "skip"):
        raise ValueError(f'on_bad_image must be "error" or "skip". Received: on_bad_image={on_bad_image!r}')
    if data == "digits":
        seed = 0
        if test != 0.2:
            raise ValueError(f'"digits" has a fixed test split of 0.2; leave test at 0.2. Received: test={test!r}')
    wanted = {"train": train_split, "validation": validation_split, "test": test_split}
    listing, images = find_problems(
        _list(data, data_dir, wanted, seed, class_depth),
        validation=validation,
        test=test,
        seed=seed,
        require_test=require_test,
    )
    bad = tuple((image.name, image.reason) for image in listing.images if image.reason)
    for note in listing.notes:
        _log.warning("%s", note)
    _refuse(listing, bad if on_bad_image == "error" else ())
    for name in listing.stray:
        _log.warning("%s is not used: it lies outside the class folders", name)
    if bad:
        _log.warning("%d images cannot be read and are left out", len(bad))
    numbers = {name: number for number, name in enumerate(listing.class_names)}
    chosen = {split: [image for image in images if image.split == split] for split in SPLITS}
    splits = {split: _examples(some, numbers) for split, some in chosen.items()}
    return Source(listing.name, listing.class_names, **splits, bad=bad, digest=_digest(listing.class_names, chosen))


def _list(data, data_dir, wanted: dict[str, str | None], seed: int, class_depth: int | None) -> Listing:
    name, path = (data if isinstance(data, str) else ""), Path(data)
    named = names_data_set(data, data_dir)
    if class_depth not in (None, 1) and (named or is_other_source(data)):
        raise ValueError(f"class_depth is for folders and .zip files. Received: {class_depth=}, data={str(data)!r}")
    if name.startswith("hf:"):
        return list_hub(name.removeprefix("hf:"), data_dir, wanted)
    if name.startswith("tfds:"):
        return list_prepared(name.removeprefix("tfds:"), data_dir, wanted)
    if name == "fashion_mnist":
        folder = find_fashion_mnist(data_dir)
        if folder is None:
            return list_prepared(name, data_dir, wanted)
        _refuse_options(name, None, wanted)
        return list_fashion_mnist(folder)
    made_up = parse_synthetic(name)
    if named and name != "digits" and not made_up:
        return list_prepared(name, data_dir, wanted)
    if not named and is_saved(path):
        return list_hub(path, data_dir, wanted)
    _refuse_options(data, data_dir, wanted)
    if name == "digits":
        return list_digits()
    if made_up:
        return list_synthetic(*made_up, seed)
    return list_own(data, class_depth)


def names_data_set(data: str | os.PathLike, data_dir: str | os.PathLike | None = None) -> bool:
    """Returns whether a text is the name of a data set: one that is built in, or one of TFDS.

    Raises:
        ValueError: if it is also the path of a file or folder, other than that of a run.
    """
    name = data if isinstance(data, str) else ""
    built_in = name in ("digits", "fashion_mnist") or parse_synthetic(name) is not None
    if not built_in and not is_prepared_name(name, data_dir):
        return False
    if os.path.exists(name) and not os.path.exists(os.path.join(name, "run.json")):
        what = "folder" if os.path.isdir(name) else "file"
        kind, instead = ("built-in", f"work in another folder, or rename this {what}, for the built-in one")
        if not built_in:
            kind, instead = ("TFDS", f"tfds:{name} for the data set of TFDS")
        raise ValueError(
            f"{name!r} is the name of a {kind} data set and of a {what} here. Write ./{name} for the {what}; {instead}."
        )
    return True


def is_other_source(data: str | os.PathLike) -> bool:
    """Returns whether images are to come from elsewhere than a folder, a .zip or a .csv, told by how `data` looks."""
    return (isinstance(data, str) and data.startswith(("hf:", "tfds:"))) or is_saved(Path(data))


def is_file_of_images(path: Path) -> bool:
    """Returns whether a path is of a file that holds or lists images, by its ending."""
    return path.is_file() and path.suffix.lower() in (".zip", ".csv")


def list_own(data: str | os.PathLike, class_depth: int | None = None) -> Listing:
    """Finds classes, splits and images in a folder, a .zip or a .csv.

    Raises:
        ValueError: if it is none of these, or cannot be used whatever is in it.
    """
    path = Path(data)
    if not path.is_dir() and not is_file_of_images(path):
        raise ValueError(_no_source(data))
    if class_depth is not None and (type(class_depth) is not int or class_depth < 1):
        raise ValueError(f"class_depth must be a whole number from 1 on. Received: {class_depth=}")
    place = os.path.abspath(path)
    if place != printable(place):
        raise ValueError(
            f"Expected a path in UTF-8. Received: {printable(place)}. Rename what has an escape, such as \\xe9, in it."
        )
    if path.is_dir():
        return list_folder(path, class_depth)
    if path.suffix.lower() == ".zip":
        return list_zip(path, class_depth)
    if class_depth not in (None, 1):
        raise ValueError(f"class_depth is for folders and .zip files. Received: {class_depth=}, data={str(data)!r}")
    return list_csv(path)


def _refuse_options(data, data_dir, wanted: dict[str, str | None]) -> None:
    options = {"data_dir": data_dir} | {f"{split}_split": expression for split, expression in wanted.items()}
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if given:
        raise ValueError(
            "data_dir and the splits' expressions are for data sets of TFDS and Hugging Face (for Fashion-MNIST as "
            "IDX files data_dir alone); elsewhere validation and test say what is drawn. "
            f"Received: data={str(data)!r}, {', '.join(given)}"
        )


def _no_source(data) -> str:
    names = {"digits", "fashion_mnist", "synthetic"} | names_like(str(data), None)
    return (
        'data must be "digits", "fashion_mnist", "synthetic" or "synthetic:CLASSESxIMAGES"; a folder with a folder '
        "of images for each class, or a .zip of one; a .csv with the columns path and label; a folder saved by "
        'Hugging Face\'s datasets, or "hf:OWNER/NAME"; or the name of a TFDS data set, such as "cifar10". '
        f"Received: data={printable(str(data))!r}, {what_instead(Path(data), names)}"
    )


def _refuse(listing: Listing, bad: Sequence[tuple[str, str]]) -> None:
    """Raises a ValueError with all that is wrong, if there is anything."""
    lines = []
    if listing.problems:
        lines += [f"{listing.path} cannot be learned from:", *(f"  - {one_line(it)}" for it in listing.problems)]
    if bad:
        lines += [
            f"{len(bad)} images in {listing.path} cannot be read:",
            *listed(f"{name}: {reason}" for name, reason in bad),
            "Repair or remove them, or go on without them with on_bad_image=skip.",
        ]
    if lines:
        raise ValueError("\n".join(lines))


def _examples(images: Sequence[ListedImage], numbers: dict[str, int]) -> Examples:
    labels = np.array([numbers[image.class_name] for image in images], np.int64)
    weights = np.array([image.weight for image in images], np.float32)
    files, names, digests = (tuple(getattr(it, what) for it in images) for what in ("file", "name", "digest"))
    return Examples(files, labels, names, None if (weights == 1).all() else weights, digests)


def _digest(class_names: Sequence[str], chosen: dict[str, list[ListedImage]]) -> str:
    digest = hashlib.sha256(repr(class_names).encode())
    for split, images in chosen.items():
        for image in images:
            digest.update(f"{split} {image.class_name!r} {image.digest} {image.weight!r}\n".encode())
    return digest.hexdigest()
