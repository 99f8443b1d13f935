"""Lists the images that a CSV file names."""

import csv
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_vit._arguments import counted
from keras_vit.data.folder import named_format, one_class
from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, WEIGHTS, Learns, ListedImage, Listing
from keras_vit.data.messages import abridged, few, listed

_COLUMNS = {"path": "required", "label": "required", "split": "optional", "weight": "optional", "group": "optional"}
# Other names for the columns: an error names the column to write instead.
_OTHER_NAMES = {
    **dict.fromkeys(("image", "images", "img", "picture", "photo", "file", "files", "uri", "url"), "path"),
    **dict.fromkeys(("filename", "filepath", "imagepath", "imagefile", "imagename", "paths"), "path"),
    **dict.fromkeys(("class", "classname", "category", "target", "y", "labels", "labelname", "species"), "label"),
    **dict.fromkeys(("subset", "set", "fold", "partition", "phase"), "split"),
    **dict.fromkeys(("weights", "sampleweight"), "weight"),
    **dict.fromkeys(("groups", "groupid", "patient", "patientid", "subject", "subjectid"), "group"),
}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
BETWEEN_LABELS = "|"
_HAS_LABEL = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


@dataclass(frozen=True)
class _Layout:
    """What is learned of a table, and from which columns.

    Args:
        learns: of each image.
        columns: {name: "required" or "optional"}; those that are learned from, too.
        targets: the columns of one label or one number each; () where the column label has all that is learned.
    """

    learns: Learns
    columns: dict[str, str]
    targets: tuple[str, ...] = ()

    @property
    def ignores_others(self) -> bool:
        """Whether columns of other names are not used; otherwise they are an error."""
        return self.learns == "numbers"


def list_csv(data: str | os.PathLike[str], learns: Learns | None = None, target: Sequence[str] = ()) -> Listing:
    """Reads a table of images with the columns path and label, and optionally split, weight and group, in any order.

    A path is relative to the file's folder. A label is the name of a class. A split is train, validation (val, valid,
    dev) or test. A weight, by default 1, is that of the image in the training loss: 0, or from 1e-6 to 1e6. It has no
    effect on the validation and test accuracy. Images of one group lie in one split. The text is UTF-8. A column
    without a name, such as the index that pandas writes, is ignored.

    With `learns="labels"`, the column label has the labels of an image with | between them, none if it is empty;
    without that column, every other one is a label, 1 for an image that has it and 0 for one that has not. With
    `learns="numbers"`, the columns `target` are numbers.

    Args:
        data: the file.
        learns: what is learned of an image; None is its class, and a problem if labels are joined by |.
        target: the columns of numbers.

    Raises:
        ValueError: if the file has another form; one error lists all lines.
    """
    path = Path(data)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _listing(path, csv.reader(file, strict=True), learns, target)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}). Save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from error


def _listing(path: Path, reader: Any, learns: Learns | None, target: Sequence[str]) -> Listing:
    header = [name.strip() for name in next(reader, [])]
    layout = _layout(header, learns, target)
    _refuse_header(path, header, layout)
    images: list[ListedImage] = []
    faults: list[str] = []
    backslashes: list[str] = []
    lines: dict[str | None, int] = {}  # {path: line}
    joins = False  # whether a label has a bar
    for cells in reader:
        if cells:
            row = dict(zip(header, map(str.strip, cells)))
            wrong = _faults(row, layout, len(cells), len(header), lines.get(row.get("path")))
            joins |= BETWEEN_LABELS in row.get("label", "")
            faults += [f"line {reader.line_num}: {fault}" for fault in wrong]
            if not wrong:
                lines[row["path"]] = reader.line_num
                images.append(_image(path.parent, row, layout))
                if "\\" in row["path"] and not os.path.exists(path.parent / row["path"]):
                    backslashes.append(f"line {reader.line_num}: {row['path']}")
    if backslashes:
        faults.append(
            f"{counted(len(backslashes), 'path')} with backslashes, which separate no folders here, such as "
            f"{backslashes[0]}; write each from the folder of the table on, with / between folders"
        )
    if faults:
        asks = ["If images have several labels or none, set objective=labels."] if joins and learns is None else []
        raise ValueError("\n".join([f"{path} cannot be trained on:", *listed(faults), *asks]))
    splits = tuple(split for split in SPLITS if any(image.split == split for image in images))
    names = layout.targets or tuple(sorted({name for image in images for name in image.classes}))
    own_splits = splits if "split" in header else ()
    problems = _problems(images, layout, asks=learns is None)
    notes = _notes(images, header, layout)
    return Listing(
        *(str(path), path.stem, own_splits, names, tuple(images)), problems=problems, notes=notes, learns=layout.learns
    )


def _layout(header: list[str], learns: Learns | None, target: Sequence[str]) -> _Layout:
    others = {name: need for name, need in _COLUMNS.items() if name != "label"}
    targets: tuple[str, ...] = ()
    if learns == "numbers":
        targets = tuple(target)
    elif learns == "labels" and not {"label", "labels"} & {*header}:
        targets = tuple(dict.fromkeys(name for name in header if name and name not in others))
    if not targets:
        return _Layout(learns or "classes", _COLUMNS)
    return _Layout(learns or "classes", {**others, **dict.fromkeys(targets, "required")}, targets)


def _refuse_header(path: Path, header: list[str], layout: _Layout) -> None:
    columns = layout.columns
    faults = [f"no column {name!r}" for name, need in columns.items() if need == "required" and name not in header]
    faults += [f"column {name!r} twice" for name in columns if header.count(name) > 1]
    unknown = [name for name in dict.fromkeys(header) if name and name not in columns]
    faults += [] if layout.ignores_others else [f"an unknown column {name!r}" for name in unknown]
    if faults:
        expected = ", ".join(f"{name} ({need})" for name, need in columns.items())
        advice = "" if layout.targets else _header_instead(header)
        if layout.learns == "classes" and unknown and "path" in header:
            advice += (
                " If other columns are labels, each with 0 or 1, set objective=labels; if they are numbers to learn, "
                f"name them, such as target={unknown[-1]}."
            )
        raise ValueError(
            f"The first line of {path} must name the columns {expected}. Received: {abridged(', '.join(header))!r}, "
            f"which has {few(faults)}.{abridged(advice, 600)}"
        )


def _header_instead(header: list[str]) -> str:
    """Returns advice on the first line, where its names or its separator show the intention."""
    line = ",".join(header)
    mark = next((mark for mark in _SEPARATORS if len(header) == 1 and mark in line), None)
    if mark:
        header = [name.strip(' "') for name in line.split(mark)]
    if any(named_format(name) is not None for name in header):
        return " The first line is an image: put a line of names above it, such as path,label."
    forms = {name: "".join(filter(str.isalnum, name.casefold())) for name in header}
    meant = {name: form if form in _COLUMNS else _OTHER_NAMES.get(form) for name, form in forms.items()}
    right = [meant[name] or name for name in header]
    has_both, advice = {"path", "label"} <= {*right}, ""
    if mark:
        advice += f" Its cells are separated by {_SEPARATORS[mark]}: save it anew with commas."
    if right != header and len({*right}) == len(right):
        changed = [f"{name!r} to {meant[name]!r}" for name in header if meant[name] not in (None, name)]
        advice += f" Change {', '.join(changed)}."
    if has_both and (extra := [name for name in right if name and name not in _COLUMNS]):
        advice += f" Remove {', '.join(map(repr, extra))}."
    if has_both and advice:
        advice += f" The first line is then: {','.join(name for name in right if name in _COLUMNS or not name)}"
    return advice


def _faults(row: dict[str, str], layout: _Layout, cells: int, columns: int, earlier: int | None) -> list[str]:
    if cells != columns:
        return [f"{counted(cells, 'cell')} in place of {columns}; put a cell with a comma into quotes"]
    needed = [*(("path", "label") if layout.learns == "classes" else ("path",)), *(["group"] if "group" in row else [])]
    faults = [f"no {name}" for name in needed if not row[name]]
    if "\0" in row["path"]:
        faults.append("a path with a NUL character")
    if earlier:
        faults.append(f"{row['path']} again, as in line {earlier}; a weight makes an image count more")
    if "split" in row and row["split"].casefold() not in SPLIT_OF_NAME:
        faults.append(f"expected split to be train, validation or test. Received: {row['split']!r}")
    if _weight(row) is None:
        least, most = WEIGHTS
        faults.append(f"expected weight to be 0, or from {least:g} to {most:g}. Received: {row['weight']!r}")
    return faults + _target_faults(row, layout)


def _target_faults(row: dict[str, str], layout: _Layout) -> list[str]:
    if layout.learns == "numbers":
        kind, wrong = "a number", [name for name in layout.targets if _number(row[name]) is None]
    elif layout.targets:
        kind, wrong = "0 or 1", [name for name in layout.targets if row[name].casefold() not in _HAS_LABEL]
    elif (
        layout.learns == "labels"
        and (labels := labels_in(row["label"]))
        and ("" in labels or len({*labels}) < len(labels))
    ):
        return [f"expected different labels with {BETWEEN_LABELS} between them. Received: {row['label']!r}"]
    else:
        return []
    return [f"expected {name} to be {kind}. Received: {row[name]!r}" for name in wrong]


def labels_in(cell: str) -> list[str]:
    """Returns the labels in a cell that has several with | between them, or none."""
    return [label.strip() for label in cell.split(BETWEEN_LABELS)] if cell else []


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _weight(row: dict[str, str]) -> float | None:
    weight = _number(row.get("weight", "1"))
    least, most = WEIGHTS
    return weight if weight is not None and (weight == 0 or least <= weight <= most) else None


def _image(folder: Path, row: dict[str, str], layout: _Layout) -> ListedImage:
    split = SPLIT_OF_NAME[row.get("split", "train").casefold()]
    target: tuple[Any, ...] | None = None
    if layout.learns == "numbers":
        target = tuple(float(row[name]) for name in layout.targets)
    elif layout.targets:
        target = tuple(sorted(name for name in layout.targets if _HAS_LABEL[row[name].casefold()]))
    elif layout.learns == "labels":
        target = tuple(sorted(labels_in(row["label"])))
    name = row["label"] if target is None else BETWEEN_LABELS.join(map(str, target))
    weight, group = _weight(row) or 0.0, row.get("group", "")
    return ListedImage(str(folder / row["path"]), row["path"], name, split, weight, group, target=target)


def _problems(images: list[ListedImage], layout: _Layout, asks: bool) -> tuple[str, ...]:
    if not images:
        return ("it names no image",)
    if layout.learns != "classes":
        return ()
    splits_of = defaultdict(set)
    for image in images:
        splits_of[image.class_name].add(image.split)
    problems = [one_class(*splits_of)] if len(splits_of) == 1 else []
    untrained = sorted(name for name, splits in splits_of.items() if "train" not in splits)
    if asks and (joint := _joint(splits_of)):
        problems.append(
            f"labels that join others by {BETWEEN_LABELS}: {few(joint)}. Set objective=labels if an image has several "
            "labels, or objective=classes if each of these is a class of its own"
        )
    elif untrained:
        problems.append(f"classes without an image to train on: {few(untrained)}")
    return tuple(problems)


def _joint(names: Iterable[str]) -> list[str]:
    """Returns the names that join others: a part of each is a name, too, or a part of another."""
    count = Counter(part for name in names for part in labels_in(name))
    return [name for name in names if BETWEEN_LABELS in name and any(count[part] > 1 for part in labels_in(name))]


def _notes(images: list[ListedImage], header: list[str], layout: _Layout) -> tuple[str, ...]:
    notes = []
    if layout.ignores_others and (unused := [name for name in header if name and name not in layout.columns]):
        notes.append(f"columns that are not used, as target does not name them: {few(unused)}")
    if layout.learns == "labels" and (without := [image.name for image in images if not image.target]):
        notes.append(f"{counted(len(without), 'image')} without a label: {few(without)}")
    return tuple(notes)
