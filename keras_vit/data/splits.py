"""Training, validation and test splits: drawn by content, or those of a data set."""

import hashlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, ListedImage, Listing

Span = tuple[str, int, int]  # a file or a split, the first of its examples, and the one after the last
_log = logging.getLogger("keras_vit")


def check_shares(validation: float, test: float) -> None:
    """Raises a ValueError unless `validation` and `test` are fractions that leave images to train on."""
    shares = {"validation": validation, "test": test}
    for name, share in shares.items():
        number = isinstance(share, int | float | np.number) and not isinstance(share, bool)
        if not number or not 0 <= share < 1:
            raise ValueError(
                f"Expected {name} to be a fraction, 0 or more and less than 1, such as 0.1. Received: {name}={share!r}"
            )
    if validation + test >= 1:
        raise ValueError(
            "Expected validation + test to be less than 1, so that images are left to train on. "
            f"Received: validation={validation!r}, test={test!r}"
        )


def assign_splits(listing: Listing, *, validation: float, test: float, seed: int) -> tuple[ListedImage, ...]:
    """Returns the readable images, with the missing splits drawn from the training images."""
    good = [image for image in listing.images if not image.reason]
    pool = [image for image in good if image.split == "train"]
    wanted = {"test": test, "validation": validation}
    shares = {split: share for split, share in wanted.items() if split not in listing.own_splits}
    drawn = iter(_draw([p.class_name for p in pool], [p.digest for p in pool], shares, seed))
    return tuple(replace(p, split=next(drawn)) if p.split == "train" else p for p in good)


def _draw(labels: Sequence[Any], digests: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    """Draws a split for each example by its content alone, whatever the file names, the order and the threads.

    Within a class, examples are ordered by the SHA-256 of seed and digest. The first go to the first of `shares`, the
    next to the next, the rest to train. Copies of one image go to one split. The last image of a class always goes to
    train, and so do images with two labels, as scores on them mean nothing.
    """
    labels_of, members = defaultdict(set), defaultdict(list)
    for index, (label, digest) in enumerate(zip(labels, digests, strict=True)):
        labels_of[digest].add(label)
        members[label].append((hashlib.sha256(f"{seed}:{digest}".encode()).digest(), digest, index))
    splits = ["train"] * len(digests)
    for drawn in map(sorted, members.values()):
        ends = [int(share * len(drawn) + 0.5) for share in itertools.accumulate(shares.values())]
        split, previous, last = "train", "", drawn[-1][1]
        for position, (_, digest, index) in enumerate(drawn):
            if digest != previous:
                split = next((name for name, end in zip(shares, ends, strict=True) if position < end), "train")
                if digest == last or len(labels_of[digest]) > 1:
                    split = "train"
            splits[index], previous = split, digest
    return splits


def choose_splits(
    data: str,
    available: Sequence[str],
    wanted: dict[str, str | None],
    spans: Callable[[str], list[Span]],
    labelled: Callable[[str], bool],
) -> dict[str, list[Span]]:
    """Returns the positions of the training, validation and test examples in a data set that has splits.

    An expression in `wanted` chooses its split. Every other split is the data set's split of that name, if it has
    labels and shares no example with the chosen splits. Without a test split, the validation split is the test split,
    as is usual for ImageNet. A split that is absent from the result is to be drawn from train.

    Args:
        data: name of the data set, for messages.
        available: its splits.
        wanted: {split: expression such as "train[:98%]+validation", or None}.
        spans: returns the positions of an expression's examples, or raises a ValueError.
        labelled: returns whether a split of the data set has labels.

    Returns:
        {split: [(file or split of the data set, index of the first example, index after the last)]}

    Raises:
        ValueError: if there is no example to train on, or wanted splits share examples.
    """
    of_name = {SPLIT_OF_NAME[name.casefold()]: name for name in available if name.casefold() in SPLIT_OF_NAME}
    expressions = {split: expression for split, expression in wanted.items() if expression is not None}
    if "train" not in expressions and "train" not in of_name:
        raise ValueError(
            f"{data} has no split named train. Set train_split to a split to train on. It has: {', '.join(available)}"
        )
    expressions.setdefault("train", of_name.get("train", ""))
    chosen = {split: spans(expression) for split, expression in expressions.items()}
    if not any(start < stop for _, start, stop in chosen["train"]):
        raise ValueError(f"No example of {data} to train on. Received: train_split={expressions['train']!r}")
    _refuse_shared(expressions, chosen)
    for split, candidates in {"test": ("test", "validation"), "validation": ("validation",)}.items():
        for name in (of_name[c] for c in candidates if c in of_name and split not in chosen):
            if not labelled(name):
                _log.info("%s: the %s split has no labels and is not used", data, name)
            elif not any(_shared(spans(name), other) for other in chosen.values()):
                chosen[split] = spans(name)
                if SPLIT_OF_NAME[name.casefold()] != split:
                    _log.info("%s has no test split to use: the %s split is tested on", data, name)
                break
    return {split: chosen[split] for split in SPLITS if split in chosen}


def _refuse_shared(expressions: dict[str, str], chosen: dict[str, list[Span]]) -> None:
    faults = [
        f"{one}_split={expressions[one]!r} and {two}_split={expressions[two]!r} share {count:,} examples"
        for one, two in itertools.combinations(chosen, 2)
        if (count := _shared(chosen[one], chosen[two]))
    ]
    if faults:
        raise ValueError(f"Expected splits without an example in common. Received: {'; '.join(faults)}")


def _shared(spans: list[Span], others: list[Span]) -> int:
    by_place = defaultdict(list)
    for place, start, stop in others:
        by_place[place].append((start, stop))
    return sum(
        max(0, min(stop, end) - max(start, begin)) for place, start, stop in spans for begin, end in by_place[place]
    )
