"""Lists the images that a CSV file names."""

import csv
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from keras_vit.data.folder import named_format, one_class
from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, WEIGHTS, ListedImage, Listing
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


def list_csv(data: str | os.PathLike[str]) -> Listing:
    """Reads a table of images with the columns path and label, and optionally split, weight and group, in any order.

    A path is relative to the file's folder. A label is the name of a class. A split is train, validation (val, valid,
    dev) or test. A weight, by default 1, is that of the image in the training loss: 0, or from 1e-6 to 1e6. It has no
    effect on the validation and test accuracy. Images of one group lie in one split. The text is UTF-8. A column
    without a name, such as the index that pandas writes, is ignored.

    Args:
        data: the file.

    Raises:
        ValueError: if the file has another form; one error lists all lines.
    """
    path = Path(data)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _listing(path, csv.reader(file, strict=True))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}). Save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from error


def _listing(path: Path, reader: Any) -> Listing:
    header = [name.strip() for name in next(reader, [])]
    _refuse_header(path, header)
    images: list[ListedImage] = []
    faults: list[str] = []
    backslashes: list[str] = []
    lines: dict[str | None, int] = {}  # {path: line}
    for cells in reader:
        if cells:
            row = dict(zip(header, map(str.strip, cells)))
            wrong = _faults(row, len(cells), len(header), lines.get(row.get("path")))
            faults += [f"line {reader.line_num}: {fault}" for fault in wrong]
            if not wrong:
                lines[row["path"]] = reader.line_num
                images.append(_image(path.parent, row))
                if "\\" in row["path"] and not os.path.exists(path.parent / row["path"]):
                    backslashes.append(f"line {reader.line_num}: {row['path']}")
    if backslashes:
        faults.append(
            f"{len(backslashes)} paths with backslashes, which separate no folders here, such as {backslashes[0]}; "
            "write each from the folder of the table on, with / between folders"
        )
    if faults:
        raise ValueError("\n".join([f"{path} cannot be trained on:", *listed(faults)]))
    splits = tuple(split for split in SPLITS if any(image.split == split for image in images))
    names = tuple(sorted({image.class_name for image in images}))
    own_splits = splits if "split" in header else ()
    return Listing(str(path), path.stem, own_splits, names, tuple(images), problems=tuple(_problems(images)))


def _refuse_header(path: Path, header: list[str]) -> None:
    faults = [f"no column {name!r}" for name, need in _COLUMNS.items() if need == "required" and name not in header]
    faults += [f"column {name!r} twice" for name in _COLUMNS if header.count(name) > 1]
    faults += [f"an unknown column {name!r}" for name in dict.fromkeys(header) if name and name not in _COLUMNS]
    if faults:
        expected = ", ".join(f"{name} ({need})" for name, need in _COLUMNS.items())
        raise ValueError(
            f"The first line of {path} must name the columns {expected}. Received: {abridged(', '.join(header))!r}, "
            f"which has {few(faults)}.{abridged(_header_instead(header))}"
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


def _faults(row: dict[str, str], cells: int, columns: int, earlier: int | None) -> list[str]:
    if cells != columns:
        return [f"{cells} cells in place of {columns}; put a cell with a comma into quotes"]
    faults = [f"no {name}" for name in ("path", "label", "group") if name in row and not row[name]]
    if "\0" in row["path"]:
        faults.append("a path with a NUL character")
    if earlier:
        faults.append(f"{row['path']} again, as in line {earlier}; a weight makes an image count more")
    if "split" in row and row["split"].casefold() not in SPLIT_OF_NAME:
        faults.append(f"expected split to be train, validation or test. Received: {row['split']!r}")
    if _weight(row) is None:
        least, most = WEIGHTS
        faults.append(f"expected weight to be 0, or from {least:g} to {most:g}. Received: {row['weight']!r}")
    return faults


def _weight(row: dict[str, str]) -> float | None:
    try:
        weight = float(row.get("weight", 1))
    except ValueError:
        return None
    least, most = WEIGHTS
    return weight if weight == 0 or least <= weight <= most else None


def _image(folder: Path, row: dict[str, str]) -> ListedImage:
    split = SPLIT_OF_NAME[row.get("split", "train").casefold()]
    weight, group = _weight(row) or 0.0, row.get("group", "")
    return ListedImage(str(folder / row["path"]), row["path"], row["label"], split, weight, group)


def _problems(images: list[ListedImage]) -> list[str]:
    splits_of = defaultdict(set)
    for image in images:
        splits_of[image.class_name].add(image.split)
    if not images:
        return ["it names no image"]
    problems = [one_class(*splits_of)] if len(splits_of) == 1 else []
    untrained = sorted(name for name, splits in splits_of.items() if "train" not in splits)
    if untrained:
        problems.append(f"classes without an image to train on: {few(untrained)}")
    return problems
