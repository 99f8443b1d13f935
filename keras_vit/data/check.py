"""Checks a folder of images before training: classes, splits, sizes, unreadable images, duplicates, leaks."""

import itertools
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from keras_vit._arguments import counted
from keras_vit.data.corrections import correct_labels
from keras_vit.data.decoding import RANGE_SETTING
from keras_vit.data.folder import named_format
from keras_vit.data.listing import SPLITS, Learns, ListedImage
from keras_vit.data.messages import one_line, quoted
from keras_vit.data.near_duplicates import joined, near_sets, sets_of
from keras_vit.data.problems import find_problems
from keras_vit.data.sources import is_other_source, list_own, names_data_set
from keras_vit.data.splits import check_shares
from keras_vit.data.targets import as_learned

_LISTED = 10  # names below a heading of the text; the fields have all


@dataclass(frozen=True)
class FolderReport:
    """The result of `check_folder`. Images are named by their path in the folder.

    Args:
        folder: its path.
        class_names: in the order of the model's outputs.
        counts: {split: readable images of each class}, as fit would use them.
        drawn: splits that have no folder and that fit would draw from train.
        bad: (name, reason) of images that cannot be read.
        formats: {format: images}.
        modes: {colour mode: images}.
        misnamed: (name, real format) of images whose name has another format.
        rotated: images with another EXIF orientation than upright.
        sizes: (height, width) of the smallest, the median and the largest image by area, in pixels; () without images.
        not_images: other files.
        stray: images and folders outside the class folders, which are not used.
        empty: class folders without an image.
        copies: images with the same bytes in one split and class.
        leaks: images with the same bytes in two splits.
        conflicts: images with the same bytes in two classes.
        near: near duplicates in one split and class: the same image in another encoding, size or brightness.
        near_leaks: near duplicates in two splits.
        near_conflicts: near duplicates in two classes.
        groups: number of groups, each in one split; 0 without groups.
        problems: reasons why fit would refuse the folder, also without the unreadable images.
        notes: on unusual things that are not errors.
        smaller: number of images with a side below that of `image_size`.
        image_size: (height, width) of the model's images, or one number for both, pixels; None if not set.
        command: the command to train on the folder.
        totals: {split: readable images}, where an image can have several labels.
        learns: "classes", "labels" or "numbers".

    Example:
        ```python
        import pathlib

        from PIL import Image

        for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
            path = pathlib.Path("photos", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((64, 48), 50).save(path)
        report = keras_vit.data.check_folder("photos", test=0.5)
        assert report.class_names == ("cat", "dog") and not report.bad
        print(report.text())
        ```
    """

    folder: str
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    drawn: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    formats: dict[str, int]
    modes: dict[str, int]
    misnamed: tuple[tuple[str, str], ...]
    rotated: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    not_images: tuple[str, ...]
    stray: tuple[str, ...]
    empty: tuple[str, ...]
    copies: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, ...], ...]
    near_leaks: tuple[tuple[str, ...], ...]
    near_conflicts: tuple[tuple[str, ...], ...]
    groups: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    smaller: int
    image_size: int | tuple[int, int] | None
    command: str
    totals: dict[str, int] = field(default_factory=dict)
    learns: Learns = "classes"

    @property
    def imbalance(self) -> float:
        """Training images of the largest class over those of the smallest; 0.0 if a class has none."""
        train = self.counts["train"]
        smallest = min(train, default=0)
        return max(train) / smallest if smallest else 0.0

    @property
    def verdict(self) -> str:
        """Whether fit would accept the folder, in one line."""
        if self.problems:
            return f"fit would not accept this folder: {'; '.join(self.problems)}"
        if self.bad:
            left_out = f"without {counted(len(self.bad), 'image')} that cannot be read"
            return f"fit would accept this folder with on_bad_image=skip, {left_out}"
        return "fit would accept this folder as it is"

    def text(self) -> str:
        """Returns the report as text for a terminal, with the verdict and, without problems, the command at the end."""
        lines = [self.folder, "", *_table(self)]
        what = {"classes": "the classes in this order, sorted by name", "labels": "the labels in this order"}
        lines.append(f"the model's outputs are {what.get(self.learns, 'the columns in this order')}")
        if self.drawn:
            lines.append(f"drawn from train, by content: {', '.join(self.drawn)}")
        if self.groups:
            lines.append(f"groups, each in one split: {self.groups:,}")
        if self.imbalance > 1:
            lines.append(f"largest class / smallest class in train: {self.imbalance:.1f}")
        for title, counts in (("formats", self.formats), ("modes", self.modes)):
            if counts:
                lines.append(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        if self.sizes:
            small, median, large = (f"{width} x {height}" for height, width in self.sizes)
            lines.append(f"width x height: smallest {small}, median {median}, largest {large}")
        total = sum(self.totals.values()) or sum(map(sum, self.counts.values()))
        if self.image_size and 2 * self.smaller > total:
            lines.append(
                f"image_size={as_setting(self.image_size)} is larger than {self.smaller:,} of {total:,} images, which "
                "are enlarged to it; a smaller image_size (one number, or HEIGHT,WIDTH), a multiple of the patch size, "
                "is faster"
            )
        lines += _listed("cannot be read", [f"{name}: {reason}" for name, reason in self.bad])
        lines += _listed("the same image in two classes: one label is wrong", map(" = ".join, self.conflicts))
        lines += _listed("the same image in two splits: the accuracy will be too high", map(" = ".join, self.leaks))
        lines += _listed("copies of one image", map(" = ".join, self.copies))
        lines += _listed("nearly the same image in two classes: a label may be wrong", map(joined, self.near_conflicts))
        lines += _listed(
            "nearly the same image in two splits: the accuracy will be too high", map(joined, self.near_leaks)
        )
        lines += _listed("near duplicates, kept in one split", map(joined, self.near))
        lines += _listed("named for another format", [f"{name} is {kind}" for name, kind in self.misnamed])
        lines += _listed("rotated upright by their EXIF orientation", self.rotated)
        lines += _listed("class folders without an image", self.empty)
        lines += _listed("outside the class folders, not used", self.stray)
        lines += _listed("not images, not used", self.not_images)
        lines += _listed("notes", self.notes)
        stated = os.environ.get(RANGE_SETTING)
        command = f"{RANGE_SETTING}={stated} {self.command}" if stated else self.command
        lines += ["", self.verdict, *([] if self.problems else [command])]
        return "\n".join(map(one_line, lines))


def check_folder(
    folder: str | os.PathLike[str],
    *,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    class_depth: int | None = None,
    groups: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    learns: Learns | None = None,
    target: Sequence[str] = (),
    corrections: str | os.PathLike[str] | None = None,
    channels: int = 3,
    propose_size: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> FolderReport:
    """Checks a folder, a .zip or a .csv of images before training. Reads every image once.

    Problems of the contents are in the report. They raise no error.

    Args:
        folder: its path.
        validation, test, seed, class_depth, groups, learns, target, corrections, channels: as in `open_source`.
        image_size: (height, width) of the model's images, or one number for both, pixels, to count the images that are
            smaller; None for no count.
        propose_size: function of the (height, width) of images, which all have the same proportions, that returns an
            image_size of these; it replaces `image_size` if it is not square.

    Returns:
        A `FolderReport`; `print(report.text())` shows it.

    Raises:
        ValueError: if `folder` is none of these, or an argument is out of range.

    Example:
        ```python
        import pathlib

        from PIL import Image

        for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
            path = pathlib.Path("photos", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((64, 48), 50).save(path)
        print(keras_vit.data.check_folder("photos", test=0.5).text())
        ```
    """
    check_shares(validation, test)
    if names_data_set(folder) or is_other_source(folder):
        raise ValueError(
            "Expected a folder, a .zip or a .csv of images. "
            f"Received: {os.fspath(folder)!r}, a prepared data set, which fit checks itself"
        )
    listing, used = find_problems(
        correct_labels(as_learned(list_own(folder, class_depth, groups, learns, target), learns), corrections),
        validation=validation,
        test=test,
        seed=seed,
        require_test=True,
        channels=channels,
    )
    infos = [(image.name, image.info) for image in used if image.info]
    areas = sorted((info.height * info.width, info.height, info.width) for _, info in infos)
    sizes, notes = tuple(areas[index][1:] for index in (0, len(areas) // 2, -1)) if areas else (), listing.notes
    if propose_size and sizes and _are_alike([info.height / info.width for _, info in infos]):
        (high, wide), proposed = sizes[1], propose_size(sizes[1])
        if proposed[0] != proposed[1]:
            image_size, size = proposed, as_setting(proposed)
            notes += (
                f"all images have the proportions of {wide} x {high} (width x height), which image_size={size} "
                "(height,width) keeps to the nearest patch",
            )
    height, width = image_size if isinstance(image_size, tuple) else (image_size or 0,) * 2
    count = Counter(
        (image.split, name)
        for image in used
        for name in (listing.class_names if listing.learns == "numbers" else image.classes)
    )
    copies, leaks, conflicts = _duplicates(sets_of(used, lambda image: image.digest))
    near, near_leaks, near_conflicts = _duplicates(near_sets(used))
    return FolderReport(
        folder=listing.path,
        class_names=listing.class_names,
        counts={split: tuple(count[split, name] for name in listing.class_names) for split in SPLITS},
        drawn=tuple(split for split in SPLITS[1:] if split not in listing.own_splits),
        bad=tuple((image.name, image.reason) for image in listing.images if image.reason),
        formats=dict(Counter(info.format for _, info in infos).most_common()),
        modes=dict(Counter(info.mode for _, info in infos).most_common()),
        misnamed=tuple((name, info.format) for name, info in infos if named_format(name) != info.format),
        rotated=tuple(name for name, info in infos if info.orientation != 1),
        sizes=sizes,
        not_images=listing.other,
        stray=listing.stray,
        empty=listing.empty,
        copies=copies,
        leaks=leaks,
        conflicts=conflicts,
        near=near,
        near_leaks=near_leaks,
        near_conflicts=near_conflicts,
        groups=len({image.group for image in used if image.group}),
        problems=listing.problems,
        notes=notes,
        smaller=sum(info.height < height or info.width < width for _, info in infos),
        image_size=image_size,
        learns=listing.learns,
        command=" ".join(
            [
                f"keras-vit fit {quoted(folder)}",
                *([f"class_depth={class_depth}"] if class_depth else []),
                *([shlex.quote(f"groups={groups}")] if groups else []),
                *([f"target={','.join(target)}"] if target else ["objective=labels"] if learns == "labels" else []),
                *([f"corrections={quoted(corrections)}"] if corrections else []),
                *([f"image_size={as_setting(image_size)}"] if isinstance(image_size, tuple) else []),
                *([f"channels={channels}"] if channels != 3 else []),
                *(["on_bad_image=skip"] if any(image.reason for image in listing.images) else []),
            ]
        ),
        totals=dict(Counter(image.split for image in used)) if listing.learns == "labels" else {},
    )


def as_setting(size: int | tuple[int, int]) -> str:
    """Returns a size as the value of image_size on the command line."""
    sides = size if isinstance(size, tuple) else (size,)
    return ",".join(map(str, dict.fromkeys(sides)))


def _are_alike(proportions: Sequence[float]) -> bool:
    """Returns whether no two proportions differ by more than 5 %."""
    return max(proportions) <= 1.05 * min(proportions)


def _duplicates(sets: Iterable[Sequence[ListedImage]]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Returns (copies, leaks, conflicts), names of sets of equal images; a leak can be a conflict, too."""
    copies, leaks, conflicts = [], [], []
    for images in sets:
        names = tuple(image.name for image in images)
        across_splits = len({image.split for image in images}) > 1
        across_classes = len({image.class_name for image in images}) > 1
        if across_splits:
            leaks.append(names)
        if across_classes:
            conflicts.append(names)
        if not across_splits and not across_classes:
            copies.append(names)
    return tuple(copies), tuple(leaks), tuple(conflicts)


def _table(report: FolderReport) -> list[str]:
    """Returns the lines of a table with a row for each class and their sum, and a column for each split."""
    rows: list[tuple[str, ...]] = [("class", *SPLITS)]
    counts = zip(*(report.counts[split] for split in SPLITS), strict=True)
    rows += [(name, *map(str, row)) for name, row in zip(report.class_names, counts, strict=True)]
    rows.append(("all", *(str(report.totals.get(split, sum(report.counts[split]))) for split in SPLITS)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *itertools.starmap(str.rjust, zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _listed(title: str, items: Iterable[str]) -> list[str]:
    items = list(items)
    more = [f"  and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
    return [f"{title}: {len(items)}", *(f"  {item}" for item in items[:_LISTED]), *more] if items else []
