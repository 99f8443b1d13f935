"""Corrects labels by a table, as `keras-vit check --labels` writes it; the images and their folders stay unchanged."""

import csv
import dataclasses
import difflib
import logging
import os
from collections import Counter
from collections.abc import Iterable

from keras_vit._arguments import counted
from keras_vit.data.csv_table import BETWEEN_LABELS, labels_in
from keras_vit.data.listing import ListedImage, Listing
from keras_vit.data.messages import abridged, few, listed

_KEEP = {"yes": True, "no": False}
_log = logging.getLogger("keras_vit")


def correct_labels(listing: Listing, table: str | os.PathLike[str] | None) -> Listing:
    """Returns images with the labels of a table in place of their own.

    The table is a .csv file with the columns path, the name of an image in the source, and label, its class, or its
    labels with | between them. An image with "no" in the column keep is left out. Other columns are not used, and
    images that are not in the table stay as they are.

    Args:
        listing: the images.
        table: the path of the table; None for no corrections.

    Raises:
        ValueError: if the table has another form, or names images or classes that the source does not have; one error
            lists all lines. If the images have numbers.
    """
    if table is None:
        return listing
    if listing.learns == "numbers":
        raise ValueError(
            f"Expected images with classes or labels for corrections. Received: corrections={os.fspath(table)!r} for "
            f"{listing.path}, whose images have numbers. Correct these in a copy of its table"
        )
    count, images = Counter(image.name for image in listing.images), {image.name: image for image in listing.images}
    corrected: dict[str, ListedImage | None] = {}  # None for an image that is left out
    faults = []
    for line, name, label, keep in corrections_in(table):
        classes = labels_in(label) if listing.learns == "labels" else [label]
        unknown = [each for each in classes if each not in listing.class_names]
        if name in corrected:
            faults.append(f"line {line}: {name!r} again")
        elif count[name] != 1:
            wrong = f"names {count[name]:,} images" if name in count else f"is no image{_nearest(name, count)}"
            faults.append(f"line {line}: {name!r} {wrong}")
        elif keep not in _KEEP:
            faults.append(f"line {line}: expected keep to be yes or no. Received: {keep!r}")
        elif _KEEP[keep] and unknown:
            faults.append(f"line {line}: {unknown[0]!r} is no class{_nearest(unknown[0], listing.class_names)}")
        else:
            corrected[name] = _labelled(images[name], classes) if _KEEP[keep] else None
    if faults:
        raise ValueError("\n".join([f"{table} cannot correct the labels of {listing.path}:", *listed(faults)]))
    kept = [image for old in listing.images if (image := corrected.get(old.name, old)) is not None]
    changed = sum(image is not None and image.classes != images[name].classes for name, image in corrected.items())
    left_out = counted(len(listing.images) - len(kept), "image")
    _log.info("%s: %s corrected, %s left out", table, counted(changed, "label"), left_out)
    has_images = {name for image in kept for name in image.classes}
    lost = [name for name in listing.class_names if name not in has_images]
    problems = (f"classes without an image after the corrections: {few(lost)}",) if lost else ()
    return dataclasses.replace(listing, images=tuple(kept), problems=listing.problems + problems)


def _labelled(image: ListedImage, classes: list[str]) -> ListedImage:
    classes = sorted({*classes})
    target = None if image.target is None else tuple(classes)
    return dataclasses.replace(image, class_name=BETWEEN_LABELS.join(classes), target=target)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" (nearest: {near[0]!r})" if near else ""


def corrections_in(table: str | os.PathLike[str]) -> list[tuple[int, str, str, str]]:
    """Returns (line, path, label, keep) of each row of a table; keep is "yes" where there is no such column.

    Raises:
        ValueError: if the table has another form.
    """
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if missing := [name for name in ("path", "label") if name not in columns]:
                raise ValueError(
                    f"Expected a .csv file with the columns path, label and optionally keep. Received: {table}, with "
                    f"{abridged(', '.join(columns)) or 'nothing'} in its first line, without {' and '.join(missing)}. "
                    "Save it with commas"
                )
            return [(reader.line_num, _cell(row, "path"), _cell(row, "label"), _keep(row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"Expected a .csv file of corrections in UTF-8. Received: {table}: {error}") from error


def _keep(row: dict[str, str | None]) -> str:
    return _cell(row, "keep").casefold() or "yes"


def _cell(row: dict[str, str | None], name: str) -> str:
    return (row.get(name) or "").strip()
