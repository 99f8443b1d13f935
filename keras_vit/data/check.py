"""Reports what is in a folder of images, what would be done with it, and all that is wrong with it."""

import itertools
import os
from collections import Counter, defaultdict
from dataclasses import dataclass

from keras_vit.data.folder import named_format
from keras_vit.data.listing import SPLITS, ListedImage
from keras_vit.data.names import one_line, quoted
from keras_vit.data.problems import find_problems
from keras_vit.data.sources import is_other_source, list_own, names_data_set
from keras_vit.data.splits import check_shares

_LISTED = 10  # names under a heading of the text; the fields hold all


@dataclass(frozen=True)
class FolderReport:
    """What `check` found. Images go by their path in the folder; sizes are (rows, columns) in pixels."""

    folder: str
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]  # split -> readable images of each class, as fit would use them
    drawn: tuple[str, ...]  # the splits that fit would draw from train, having no folder of their own
    bad: tuple[tuple[str, str], ...]  # (name, reason)
    formats: dict[str, int]
    modes: dict[str, int]
    misnamed: tuple[tuple[str, str], ...]  # (name, the format that it really has)
    rotated: tuple[str, ...]  # stored with an EXIF orientation other than upright
    sizes: tuple[tuple[int, int], ...]  # smallest, median and largest by area; () if no image can be read
    not_images: tuple[str, ...]
    stray: tuple[str, ...]  # images and folders that lie where nothing is looked for
    empty: tuple[str, ...]  # class folders
    copies: tuple[tuple[str, ...], ...]  # the same bytes again in one split and class
    leaks: tuple[tuple[str, ...], ...]  # in two splits
    conflicts: tuple[tuple[str, ...], ...]  # in two classes
    problems: tuple[str, ...]  # why fit would refuse the folder, with or without its unreadable images
    notes: tuple[str, ...]  # what is odd about it
    smaller: int  # images with a side below image_size
    image_size: int | None  # side of the images that would enter the model, pixels
    command: str  # what to type next

    @property
    def imbalance(self) -> float:
        """Images to train on in the largest class for each one in the smallest; 0.0 if a class has none."""
        train = self.counts["train"]
        return max(train) / min(train) if train and min(train) else 0.0

    @property
    def verdict(self) -> str:
        """One line: whether fit would take the folder."""
        if self.problems:
            return f"fit would not take this folder: {'; '.join(self.problems)}"
        if self.bad:
            left_out = f"leaving out {len(self.bad)} that cannot be read"
            return f"fit would take this folder with on_bad_image=skip, {left_out}"
        return "fit would take this folder as it is"

    def text(self) -> str:
        """Lays the findings out for a terminal; they end with the verdict, and the command to type if it is good."""
        lines = [self.folder, "", *_table(self)]
        lines.append("the model's outputs are the classes in this order, that of their text")
        if self.drawn:
            lines.append(f"drawn from train, by content: {', '.join(self.drawn)}")
        if self.imbalance > 1:
            lines.append(f"largest class / smallest class in train: {self.imbalance:.1f}")
        for title, counts in (("formats", self.formats), ("modes", self.modes)):
            if counts:
                lines.append(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        if self.sizes:
            small, median, large = (f"{columns} x {rows}" for rows, columns in self.sizes)
            lines.append(f"width x height: smallest {small}, median {median}, largest {large}")
        total = sum(map(sum, self.counts.values()))
        if self.image_size and 2 * self.smaller > total:
            lines.append(
                f"image_size={self.image_size} is larger than {self.smaller:,} of {total:,} images, which are enlarged "
                "to it; a smaller image_size, a multiple of the patch size, learns from fewer pixels and is quicker"
            )
        lines += _listed("cannot be read", [f"{name}: {reason}" for name, reason in self.bad])
        lines += _listed("the same image in two classes, one label is wrong", map(" = ".join, self.conflicts))
        lines += _listed("the same image in two splits, scores will flatter", map(" = ".join, self.leaks))
        lines += _listed("the same image again", map(" = ".join, self.copies))
        lines += _listed("named otherwise than what they are", [f"{n} is {kind}" for n, kind in self.misnamed])
        lines += _listed("turned upright by their EXIF orientation", self.rotated)
        lines += _listed("class folders without an image", self.empty)
        lines += _listed("outside the class folders, not used", self.stray)
        lines += _listed("not images, not used", self.not_images)
        lines += _listed("to look at", self.notes)
        lines += ["", self.verdict, *([] if self.problems else [self.command])]
        return "\n".join(map(one_line, lines))


def check(
    folder: str | os.PathLike,
    *,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    class_depth: int | None = None,
    image_size: int | None = None,
) -> FolderReport:
    """Reads every image of a folder, a .zip or a .csv once and reports all there is to know before training on it.

    What is wrong inside is reported, not raised.

    Args:
        folder, validation, test, seed, class_depth: as for `open_source`.
        image_size: side of the images that would enter the model, pixels; None to leave out how theirs compare.

    Raises:
        ValueError: if it is none of these, or as `open_source` does before it looks at a single image.
    """
    check_shares(validation, test)
    if names_data_set(folder) or is_other_source(folder):
        raise ValueError(
            "check reads a folder, a .zip or a .csv of one's own images. "
            f"Received: {os.fspath(folder)!r}, a prepared data set; fit takes it and names what is wrong with it"
        )
    listing = list_own(folder, class_depth)
    found, used = find_problems(listing, validation=validation, test=test, seed=seed, require_test=True)
    count = Counter((image.split, image.class_name) for image in used)
    facts = [image.facts for image in used]
    areas = sorted((fact.rows * fact.columns, fact.rows, fact.columns) for fact in facts)
    copies, leaks, conflicts = _same(used)
    return FolderReport(
        folder=found.path,
        class_names=found.class_names,
        counts={split: tuple(count[split, name] for name in found.class_names) for split in SPLITS},
        drawn=tuple(split for split in SPLITS[1:] if split not in found.given),
        bad=tuple((image.name, image.reason) for image in found.images if image.reason),
        formats=dict(Counter(fact.format for fact in facts).most_common()),
        modes=dict(Counter(fact.mode for fact in facts).most_common()),
        misnamed=tuple((p.name, p.facts.format) for p in used if named_format(p.name) != p.facts.format),
        rotated=tuple(p.name for p in used if p.facts.orientation != 1),
        sizes=tuple(areas[index][1:] for index in (0, len(areas) // 2, -1)) if areas else (),
        not_images=found.other,
        stray=found.stray,
        empty=found.empty,
        copies=copies,
        leaks=leaks,
        conflicts=conflicts,
        problems=found.problems,
        notes=found.notes,
        smaller=sum(min(fact.rows, fact.columns) < (image_size or 0) for fact in facts),
        image_size=image_size,
        command=" ".join(
            [
                f"keras-vit fit {quoted(folder)}",
                *([f"class_depth={class_depth}"] if class_depth else []),
                *(["on_bad_image=skip"] if any(image.reason for image in found.images) else []),
            ]
        ),
    )


def _same(images: tuple[ListedImage, ...]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Returns (copies, leaks, conflicts): names with the same bytes; a group may be a leak and a conflict."""
    groups = defaultdict(list)
    for image in images:
        groups[image.digest].append(image)
    copies, leaks, conflicts = [], [], []
    for group in groups.values():
        names = tuple(image.name for image in group)
        across_splits = len({image.split for image in group}) > 1
        across_classes = len({image.class_name for image in group}) > 1
        if across_splits:
            leaks.append(names)
        if across_classes:
            conflicts.append(names)
        if len(group) > 1 and not across_splits and not across_classes:
            copies.append(names)
    return tuple(copies), tuple(leaks), tuple(conflicts)


def _table(findings: FolderReport) -> list[str]:
    """Lays out a row per class and their sum, a column per split."""
    rows = [("class", *SPLITS)]
    counts = zip(*(findings.counts[split] for split in SPLITS), strict=True)
    rows += [(name, *map(str, row)) for name, row in zip(findings.class_names, counts, strict=True)]
    rows.append(("all", *(str(sum(findings.counts[split])) for split in SPLITS)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *itertools.starmap(str.rjust, zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _listed(title: str, items) -> list[str]:
    items = list(items)
    more = [f"  and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
    return [f"{title}: {len(items)}", *(f"  {item}" for item in items[:_LISTED]), *more] if items else []
