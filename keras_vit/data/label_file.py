"""Lists the images of a folder or a zip file whose labels are in its labels.json: {path: [label, ...]}."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_vit._arguments import counted
from keras_vit.data.folder import list_folder
from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, ListedImage, Listing
from keras_vit.data.messages import abridged, few, listed

LABEL_FILE = "labels.json"


def list_labelled_folder(folder: Path, class_depth: int | None = None) -> Listing:
    """Lists the images that the labels.json of a folder names; without one, each image has the label of its folder.

    A path in labels.json is relative to the folder, with / between folders; an image with an empty list has no label.
    Where all images are below train/, validation/ (val/, valid/, dev/) or test/, these are the splits.

    Args:
        folder: the folder.
        class_depth: as in `list_folder`, for a folder without labels.json.

    Raises:
        ValueError: if labels.json cannot be read or has another form; one error lists all faults.
    """
    path = folder / LABEL_FILE
    if not path.exists():
        return list_folder(folder, class_depth)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}. Correct it") from error
    return with_labels(list_folder(folder, 1), str(path), content, lambda name: str(folder / name))


def with_labels(listing: Listing, path: str, content: bytes, file_of: Callable[[str], Any]) -> Listing:
    """Returns the images that a labels.json names, with its labels, in place of those in class folders.

    Args:
        listing: all images of the folder or the zip file.
        path: of labels.json, for messages.
        content: of labels.json.
        file_of: function of a path in it that returns the `file` of a `ListedImage`.

    Raises:
        ValueError: as `list_labelled_folder`.
    """
    labels = _parse(path, content)
    splits = {name: SPLIT_OF_NAME.get(name.split("/")[0].casefold(), "") for name in labels}
    if "" in splits.values() or not all("/" in name for name in labels):
        splits = {}
    images = tuple(
        ListedImage(file_of(name), name, "|".join(chosen), splits.get(name, "train"), target=tuple(sorted(chosen)))
        for name, chosen in labels.items()
    )
    names = tuple(sorted({label for chosen in labels.values() for label in chosen}))
    unlisted = sorted({*listing.stray, *(image.name for image in listing.images)} - {*labels})
    count = counted(len(unlisted), "image")
    notes = [f"not used: {count} that {LABEL_FILE} does not name: {few(unlisted)}"] if unlisted else []
    if without := [name for name, chosen in labels.items() if not chosen]:
        notes.append(f"{counted(len(without), 'image')} without a label: {few(without)}")
    own_splits = tuple(split for split in SPLITS if split in splits.values())
    problems = () if images else (f"{LABEL_FILE} names no image",)
    facts = (listing.path, listing.name, own_splits, names, images)
    return Listing(*facts, problems=problems, notes=tuple(notes), learns="labels")


def _parse(path: str, text: bytes) -> dict[str, list[str]]:
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {abridged(str(error))}. Correct it") from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected {path} to have {{file: [labels]}}. Received: a {type(content).__name__}")
    faults = []
    for name, labels in content.items():
        if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
            faults.append(f"{name}: expected a list of labels, texts. Received: {labels!r}")
        elif len({*labels}) < len(labels):
            faults.append(f"{name}: a label twice. Received: {labels!r}")
        if not name or "\0" in name:
            faults.append(f"expected a path. Received: {name!r}")
    if faults:
        raise ValueError("\n".join([f"{path} cannot be trained on:", *listed(faults)]))
    return content
