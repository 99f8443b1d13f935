"""Opens the pictures to learn from: a folder of class folders, or scikit-learn's digits."""

import hashlib
import io
import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from keras_vit.data.folder import SPLITS, Folder, Picture, list_folder, read_pictures

_LISTED = 20  # of the pictures that cannot be read, in an error
_log = logging.getLogger("keras_vit")


@dataclass(frozen=True, eq=False)
class Examples:
    """Pictures and what is on them.

    `pictures` are paths or encoded bytes (`decode` takes both), `labels` (examples,) int64 indices into the
    source's class_names, `names` what a person calls each picture.
    """

    pictures: tuple[str | bytes, ...]
    labels: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures in three splits; `bad` are (name, reason) of pictures that were left out."""

    name: str
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    bad: tuple[tuple[str, str], ...]


def open_source(
    data: str | os.PathLike,
    *,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    on_bad_image: str = "error",
) -> Source:
    """Opens "digits" or a folder, reads every picture once, and draws the splits that the folder lacks.

    "digits" is scikit-learn's 1,797 scans of 8 x 8, with fixed splits: `seed` changes nothing there. A folder
    holds a folder for each class; or train/ and any of test/ and validation/ (val/, valid/, dev/), with a
    folder for each class in them. Splits it lacks are drawn from train by the pictures' content, class by
    class; copies of one picture stay together, and a picture that lies in two classes stays in train. The
    folder is never written to. A folder named digits is "./digits".

    Args:
        validation: share of the pictures that are drawn from, 0 to below 1, to validate on; for "digits" of
            those outside the test split. Has no effect on a folder with a validation/ of its own.
        test: the same for testing.
        seed: another seed draws other splits.
        on_bad_image: "error" or "skip"; what to do about pictures that cannot be read.

    Raises:
        ValueError: if a setting is out of range, there is no such folder, its classes are not as described,
            or, with on_bad_image="error", pictures cannot be read (one error names them all).
    """
    check_shares(validation, test)
    if on_bad_image not in ("error", "skip"):
        raise ValueError(f'on_bad_image must be "error" or "skip". Received: on_bad_image={on_bad_image!r}')
    if data == "digits":
        return _digits(validation, test)
    folder = list_folder(data)
    _refuse(folder)
    folder = read_pictures(folder)
    bad = tuple((picture.name, picture.reason) for picture in folder.pictures if picture.reason)
    if bad and on_bad_image == "error":
        raise ValueError(_bad_images(folder.path, bad))
    _refuse(folder)
    for name in folder.stray:
        _log.warning("%s is not used: it lies outside the class folders", name)
    if bad:
        _log.warning("%d pictures cannot be read and are left out", len(bad))
    pictures = assign_splits(folder, validation=validation, test=test, seed=seed)
    splits = {split: _examples(split, pictures, folder.class_names) for split in SPLITS}
    return Source(Path(folder.path).resolve().name, folder.class_names, **splits, bad=bad)


def check_shares(validation: float, test: float) -> None:
    """Raises a ValueError unless both are shares that leave something to train on."""
    shares = {"validation": validation, "test": test}
    for name, share in shares.items():
        number = isinstance(share, int | float | np.number) and not isinstance(share, bool)
        if not number or not 0 <= share < 1:
            raise ValueError(f"{name} must be a share from 0 to below 1, such as 0.1. Received: {name}={share!r}")
    if validation + test >= 1:
        raise ValueError(
            "validation and test together must stay below 1, so that something is left to train on. "
            f"Received: validation={validation!r}, test={test!r}"
        )


def assign_splits(folder: Folder, *, validation: float, test: float, seed: int) -> tuple[Picture, ...]:
    """Returns the readable pictures, those of missing splits moved there from train."""
    good = [picture for picture in folder.pictures if not picture.reason]
    pool = [picture for picture in good if picture.split == "train"]
    wanted = {"test": test, "validation": validation}
    shares = {split: share for split, share in wanted.items() if split not in folder.given}
    drawn = iter(_draw([p.class_name for p in pool], [p.digest for p in pool], shares, seed))
    return tuple(replace(p, split=next(drawn)) if p.split == "train" else p for p in good)


def _draw(labels: Sequence, digests: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    """Draws a split for each example by content alone: file names, order and number of threads have no say.

    Within a class, examples are ordered by sha256 of seed and digest; the first go to the first of `shares`,
    the next to the next, the rest to train. Copies of one picture go where the first of them goes. Train gets
    the last picture of a class in any case, and pictures with two labels: these are not fit to be scored on.
    """
    labels_of, members = defaultdict(set), defaultdict(list)
    for index, (label, digest) in enumerate(zip(labels, digests, strict=True)):
        labels_of[digest].add(label)
        members[label].append((hashlib.sha256(f"{seed}:{digest}".encode()).digest(), digest, index))
    splits = ["train"] * len(digests)
    for drawn in map(sorted, members.values()):
        ends = [int(share * len(drawn) + 0.5) for share in itertools.accumulate(shares.values())]
        split, previous, last = "train", None, drawn[-1][1]
        for position, (_, digest, index) in enumerate(drawn):
            if digest != previous:
                split = next((name for name, end in zip(shares, ends, strict=True) if position < end), "train")
                if digest == last or len(labels_of[digest]) > 1:
                    split = "train"
            splits[index], previous = split, digest
    return splits


def _examples(split: str, pictures: Sequence[Picture], class_names: tuple[str, ...]) -> Examples:
    number = {name: index for index, name in enumerate(class_names)}
    chosen = [picture for picture in pictures if picture.split == split]
    labels = np.array([number[picture.class_name] for picture in chosen], np.int64)
    return Examples(tuple(p.path for p in chosen), labels, tuple(p.name for p in chosen))


def _digits(validation: float, test: float) -> Source:
    """Opens scikit-learn's digits, encoded as PNG so that they take the same way as anyone's pictures."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if test != 0.2:
        raise ValueError(f'"digits" has a fixed test split of 0.2; leave test at 0.2. Received: test={test!r}')
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8); the scans count 0 to 16
    train, held_out = train_test_split(
        np.arange(len(grey)), test_size=0.2, random_state=0, stratify=digits.target, shuffle=True
    )
    digests = [hashlib.sha256(grey[index].tobytes()).hexdigest() for index in train]
    drawn = _draw(digits.target[train], digests, {"validation": validation}, seed=0)
    chosen = {"train": [], "validation": [], "test": list(held_out)}
    for split, index in zip(drawn, train, strict=True):
        chosen[split].append(index)
    splits = {
        split: Examples(
            tuple(_png(grey[index]) for index in sorted(indices)),
            digits.target[sorted(indices)].astype(np.int64),
            tuple(f"digit {index:04d}" for index in sorted(indices)),
        )
        for split, indices in chosen.items()
    }
    return Source("digits", tuple("0123456789"), **splits, bad=())


def _png(grey: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(file, "PNG")
    return file.getvalue()


def _refuse(folder: Folder) -> None:
    if folder.problems:
        raise ValueError(f"{folder.path} cannot be learned from:\n" + "\n".join(f"  - {p}" for p in folder.problems))


def _bad_images(path: str, bad: Sequence[tuple[str, str]]) -> str:
    lines = [f"  {name}: {reason}" for name, reason in bad[:_LISTED]]
    if len(bad) > _LISTED:
        lines.append(f"  and {len(bad) - _LISTED} more")
    return "\n".join(
        [
            f"{len(bad)} pictures in {path} cannot be read:",
            *lines,
            "Repair or remove them, or go on without them with on_bad_image=skip.",
        ]
    )
