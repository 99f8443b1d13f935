"""Finds problems of images and class names before training; `keras-vit check` and `keras-vit fit` both print them."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from keras_vit.data.groups import group_problems
from keras_vit.data.listing import ListedImage, Listing, read_listing, weight_faults
from keras_vit.data.messages import few
from keras_vit.data.near_duplicates import mark_near_duplicates
from keras_vit.data.splits import assign_splits
from keras_vit.data.targets import LEARNED
from keras_vit.models.class_names import name_faults


def find_problems(
    listing: Listing, *, validation: float, test: float, seed: int, require_test: bool, channels: int = 3
) -> tuple[Listing, tuple[ListedImage, ...]]:
    """Reads every image once, marks near duplicates, draws the missing splits, and finds all problems.

    Args:
        listing: the images, not read yet.
        validation: fraction of the images for validation, where the listing has no validation split.
        test: fraction of the images for testing, where the listing has no test split.
        seed: another seed draws other splits.
        require_test: whether an empty test split is a problem.
        channels: of the images, as in `keras_vit.data.decode`.

    Returns:
        The listing with images read and with all `problems` and `notes`, and the readable images in their splits.
    """
    listing = read_listing(listing, channels)
    marked, unclear = mark_near_duplicates(listing.images)
    listing = replace(listing, images=marked)
    images = assign_splits(listing, validation=validation, test=test, seed=seed)
    problems = [*listing.problems, *class_problems(listing.class_names), *group_problems(listing.images)]
    train = [image for image in images if image.split == "train"]
    problems += weight_faults([image.weight for image in train], [image.name for image in train])
    problems += LEARNED[listing.learns].problems(train, listing.class_names) if train else []
    if require_test and images and not any(image.split == "test" for image in images):
        problems.append(_no_test(listing, images, test))
    notes = [*listing.notes, *(class_notes(listing.class_names) if listing.learns == "classes" else [])]
    if unclear:
        notes.append(
            f"{unclear:,} images look like many others, so that near duplicates among them are not recognized and may "
            "lie in several splits; if some belong together, name the groups (groups=)"
        )
    return replace(listing, problems=tuple(problems), notes=tuple(notes)), images


def _no_test(listing: Listing, images: tuple[ListedImage, ...], test: float) -> str:
    if "test" in listing.own_splits:
        return "no image is left to test on: the test split is empty"
    if not test:
        return "no image is left to test on: test=0 draws no test split; raise test"
    if groups := {image.group for image in images if image.group}:
        return (
            f"no image is left to test on: none of the {len(groups):,} groups is small enough for test={test} and "
            "leaves images of each class to train on; add groups, name smaller ones, or raise test"
        )
    classes_of = defaultdict(set)
    for image in images:
        classes_of[image.digest].add(image.class_name)
    # Copies stay in one split, and an image in two classes stays in train.
    own = Counter(name for names in classes_of.values() if len(names) == 1 for name in names)
    return (
        f"no image is left to test on: test={test} of {max(own.values(), default=0)} different images, the most that a "
        "class has to itself, rounds to none; add images (of 3 in a class, 1 is tested on) or raise test"
    )


def class_problems(class_names: Sequence[str]) -> list[str]:
    """Returns the problems of class names, a sentence each: names that labels.txt and exports refuse."""
    problems = name_faults(class_names)
    for names in _alike(class_names, _composed):
        problems.append(
            f"names of classes that look the same: {', '.join(map(ascii, names))} (an accented letter is one character "
            "or two); make them one class, or rename one"
        )
    return problems


def class_notes(class_names: Sequence[str]) -> list[str]:
    """Returns notes on unusual class names that are not errors, a sentence each."""
    notes = [
        f"classes whose names differ in upper and lower case alone: {few(names)}"
        for names in _alike([*map(_composed, class_names)], str.casefold)
    ]
    if escaped := [name for name in class_names if re.search(r"\\x[89a-f][0-9a-f]", name)]:
        notes.append(f"names of classes with bytes that are not UTF-8, written as escapes: {few(escaped)}")
    known = {*class_names}
    if joint := [name for name in class_names if known & {*map(str.strip, re.split("[|;,+/&]", name))} - {name}]:
        notes.append(
            "names of classes that contain another's, each a class of its own, not several (set objective=labels for "
            f"several labels an image): {few(joint)}"
        )
    if class_names and all(map(_is_number, class_names)) and not all(map(str.isdecimal, class_names)):
        notes.append(
            f"names of classes that are numbers, each a class of its own, not a quantity: {few(class_names)}; set "
            "target=COLUMN of a .csv file for a quantity"
        )
    return notes


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _alike(names: Sequence[str], form: Callable[[str], str]) -> list[list[str]]:
    """Returns groups of different names of the same form."""
    groups = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[form(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]
