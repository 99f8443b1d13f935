"""Groups of images that belong together, such as those of one patient, object or video, and lie in one split."""

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from keras_vit._arguments import counted
from keras_vit.data.messages import few

if TYPE_CHECKING:  # a recipe checks its pattern without what reads images
    from keras_vit.data.listing import ListedImage, Listing

GROUPS_EXPECTED = "a regular expression with the group in parentheses, such as (.+)_[0-9]+"


def group_pattern(text: str) -> re.Pattern[str]:
    """Compiles the pattern of the names of images.

    Raises:
        ValueError: if it is not a regular expression, or has no parentheses.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of sets that may change their meaning
            pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"Expected groups to be {GROUPS_EXPECTED}. Received: groups={text!r:.80}, {error}") from error
    if not pattern.groups:
        raise ValueError(f"Expected groups to be {GROUPS_EXPECTED}. Received: groups={text!r:.80}, without parentheses")
    return pattern


def is_group_pattern(text: str) -> bool:
    """Returns whether a text can be the pattern of the names of images."""
    try:
        return bool(group_pattern(text))
    except ValueError:
        return False


def group_images(listing: "Listing", pattern: str, class_depth: int | None = None) -> "Listing":
    """Returns the images of a folder or a .zip with their groups.

    The pattern is matched with the whole path of an image inside its class folder, without the ending: "anna/03" of
    train/cat/anna/03.jpg. With a labels.json, that is the path inside the folder, or inside train/. What its first
    parentheses match is the group. Images of one group may be in several classes.

    Args:
        listing: the images.
        pattern: a regular expression.
        class_depth: as in `keras_vit.data.folder.list_tree`.
    """
    depth = 0 if listing.learns == "labels" else class_depth or 1
    compiled, above = group_pattern(pattern), bool(listing.own_splits) + depth
    images, unmatched = [], []
    for image in listing.images:
        inside = os.path.splitext(image.name.split("/", above)[-1])[0]
        match = compiled.fullmatch(inside)
        if not (match and match[1]):
            unmatched.append(inside)
        images.append(replace(image, group=match[1] or "" if match else ""))
    problems = listing.problems
    if unmatched:
        problems += (
            f"groups={pattern} matches {len(images) - len(unmatched):,} of {len(images):,} names, and not "
            f"{few(unmatched)}; it has to match the whole path inside the {'class ' * bool(depth)}folder, without the "
            "ending",
        )
    return replace(listing, images=tuple(images), problems=problems)


def group_problems(images: Sequence["ListedImage"]) -> list[str]:
    """Returns the problems of the groups of images in the source's own splits, a sentence each."""
    splits_of = defaultdict(set)
    for image in images:
        if image.group:
            splits_of[image.group].add(image.split)
    problems = []
    if len(splits_of) == 1 and all(image.group for image in images):
        problems.append(f"all images are in one group, {few(splits_of)}: no split can be drawn; name smaller groups")
    if torn := sorted(group for group, splits in splits_of.items() if len(splits) > 1):
        problems.append(
            f"{counted(len(torn), 'group')} with images in several splits of the data: {few(torn)}; move each into "
            "one, or give the images without splits, to draw them anew"
        )
    return problems
