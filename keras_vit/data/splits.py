"""Decides which images are trained, validated and tested on."""

import hashlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, ListedImage, Listing

Span = tuple[str, int, int]  # a file or a split, the first of its examples, and the one after the last
_log = logging.getLogger("keras_vit")


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


def assign_splits(listing: Listing, *, validation: float, test: float, seed: int) -> tuple[ListedImage, ...]:
    """Returns the readable images, those of missing splits moved there from train."""
    good = [image for image in listing.images if not image.reason]
    pool = [image for image in good if image.split == "train"]
    wanted = {"test": test, "validation": validation}
    shares = {split: share for split, share in wanted.items() if split not in listing.given}
    drawn = iter(_draw([p.class_name for p in pool], [p.digest for p in pool], shares, seed))
    return tuple(replace(p, split=next(drawn)) if p.split == "train" else p for p in good)


def _draw(labels: Sequence, digests: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    """Draws a split for each example by content alone: file names, order and number of threads have no say.

    Within a class, examples are ordered by sha256 of seed and digest; the first go to the first of `shares`,
    the next to the next, the rest to train. Copies of one image go where the first of them goes. Train gets
    the last image of a class in any case, and images with two labels: these are not fit to be scored on.
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


def choose_splits(
    data: str,
    available: Sequence[str],
    wanted: dict[str, str | None],
    spans: Callable[[str], list[Span]],
    labelled: Callable[[str], bool],
) -> dict[str, list[Span]]:
    """Tells where the examples of train, validation and test lie in a data set that has splits of its own.

    A split that is wanted is what its expression says. The others are those of that name, if they have labels
    and share no example with the splits already chosen; where there is no test split, the validation split is
    tested on, as is usual for ImageNet. What is not in the result is left to be drawn from train.

    Args:
        data: the data set, for messages.
        available: its splits.
        wanted: {split: expression such as "train[:98%]+validation", or None}.
        spans: tells where the examples of an expression lie; a ValueError says that it is none.
        labelled: whether a split of the data set has labels.

    Raises:
        ValueError: if there is nothing to train on, or wanted splits share examples.
    """
    of_name = {SPLIT_OF_NAME[name.casefold()]: name for name in available if name.casefold() in SPLIT_OF_NAME}
    expressions = {split: expression for split, expression in wanted.items() if expression is not None}
    if "train" not in expressions and "train" not in of_name:
        raise ValueError(
            f"{data} has no split named train. Say what to train on in train_split. It has: {', '.join(available)}"
        )
    expressions.setdefault("train", of_name.get("train"))
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
