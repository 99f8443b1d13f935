"""Training, validation and test splits: drawn by content, or those of a data set."""

import functools
import hashlib
import itertools
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_vit._arguments import counted
from keras_vit.data.listing import SPLIT_OF_NAME, SPLITS, ListedImage, Listing
from keras_vit.data.near_duplicates import connected
from keras_vit.data.targets import LEARNED

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
    """Returns the readable images, with the missing splits drawn from the training images, stratum by stratum."""
    good = [image for image in listing.images if not image.reason]
    pool = [image for image in good if image.split == "train"]
    wanted = {"test": test, "validation": validation}
    shares = {split: share for split, share in wanted.items() if split not in listing.own_splits}
    drawn = iter(_draw(pool, LEARNED[listing.learns].strata(pool), shares, seed))
    splits = (next(drawn) if image.split == "train" else image.split for image in good)
    return tuple(
        image if image.split == split else replace(image, split=split)
        for image, split in zip(good, splits, strict=True)
    )


@dataclass(slots=True)
class _Unit:
    """Images that lie in one split: copies and near duplicates of one image, or a group.

    Args:
        members: indices of the images.
        counts: {stratum: images}; units with the same counts share them.
        split: where it lies.
        free: whether it may lie elsewhere than in train.
    """

    members: list[int]
    counts: Counter[Any]
    split: str = "train"
    free: bool = True


def _draw(images: Sequence[ListedImage], strata: Sequence[Any], shares: dict[str, float], seed: int) -> list[str]:
    """Draws a split for each image by its content alone, whatever the file names, the order and the threads.

    Copies, near duplicates and the images of a group form a unit. The units are ordered by the SHA-256 of seed and
    digest. Within a stratum, such as a class, the first go to the first of `shares`, the next to the next, the rest to
    train. The last unit of a stratum always goes to train, and so does one with the same image in two strata, as scores
    on it mean nothing.
    """
    units, sizes = _units(images, strata, seed), Counter(strata)
    ends = {
        split: {name: int(share * size + 0.5) for name, size in sizes.items()}
        for split, share in zip(shares, itertools.accumulate(shares.values()), strict=True)
    }
    (_draw_groups if any(image.group for image in images) else _draw_images)(units, sizes, ends)
    splits = {index: unit.split for unit in units for index in unit.members}
    return [splits[index] for index in range(len(images))]


def _draw_images(units: Sequence[_Unit], sizes: Counter[Any], ends: dict[str, dict[Any, int]]) -> None:
    """Sets the splits of units by the place of their middle in their class: one image more moves few others."""
    passed = Counter[Any]()
    for unit in units:
        for split in ends if unit.free else ():
            places = ((passed[name] + n / 2 - ends[split][name]) / sizes[name] for name, n in unit.counts.items())
            if math.fsum(places) < 0:
                unit.split = split
                break
        passed.update(unit.counts)


def together(images: Sequence[ListedImage]) -> list[int]:
    """Returns a number for each image, the same for all that lie in one split: copies, near duplicates, a group."""
    first: dict[tuple[str, str], int] = {}  # {("content" or "group", its name): the first image}
    pairs = []
    for index, image in enumerate(images):
        for key in (("content", image.content), ("group", image.group)):
            if key[1] and (earlier := first.setdefault(key, index)) != index:
                pairs.append((index, earlier))
    return connected(len(images), pairs)


def _units(images: Sequence[ListedImage], strata: Sequence[Any], seed: int) -> list[_Unit]:
    """Returns the images that lie in one split each, in the order of the draw."""
    stratum_of: dict[str, Any] = {}
    torn, members = set(), defaultdict(list)
    for index, (image, stratum, number) in enumerate(zip(images, strata, together(images), strict=True)):
        if stratum_of.setdefault(image.digest, stratum) != stratum:
            torn.add(image.digest)
        members[number].append(index)

    def place(unit: list[int]) -> bytes:
        return hashlib.sha256(f"{seed}:{min(images[index].digest for index in unit)}".encode()).digest()

    @functools.cache
    def counts_of(strata: tuple[Any, ...]) -> Counter[Any]:
        return Counter(strata)

    units = [_Unit(unit, counts_of(tuple(strata[i] for i in unit))) for unit in sorted(members.values(), key=place)]
    last = {name: unit for unit in units for name in unit.counts}
    for unit in units:
        unit.free = torn.isdisjoint(images[index].digest for index in unit.members)
    for unit in last.values():
        unit.free = False
    return units


def _draw_groups(units: Sequence[_Unit], sizes: Counter[Any], ends: dict[str, dict[Any, int]]) -> None:
    """Sets the splits of units of any size and classes, so that the shares of the classes come near the wanted ones.

    Each unit in turn goes to the first split that it brings nearer to its share. Then units are moved as long as that
    lowers the sum of the squared differences, each in proportion to its class.
    """
    excess = {split: Counter[Any]() for split in (*ends, "train")}  # images of a class above the wanted number
    start = dict.fromkeys(sizes, 0)
    for split, end in (*ends.items(), ("train", sizes)):
        excess[split].update({name: start[name] - end[name] for name in sizes})
        start = end

    def nearer(unit: _Unit, split: str) -> float:
        changes = ((name, abs(excess[split][name] + n) - abs(excess[split][name])) for name, n in unit.counts.items())
        return math.fsum(change / sizes[name] for name, change in changes)

    def gain(unit: _Unit, split: str) -> float:
        here, there = excess[unit.split], excess[split]
        return math.fsum(n * (here[name] - there[name] - n) / sizes[name] for name, n in unit.counts.items())

    for unit in units:
        unit.split = next((split for split in ends if unit.free and nearer(unit, split) < 0), "train")
        excess[unit.split].update(unit.counts)
    moved = True
    while moved:
        moved = False
        for unit in units if ends else ():
            best, split = max((gain(unit, split), split) for split in excess if split != unit.split)
            if unit.free and best > 1e-9:
                excess[unit.split].subtract(unit.counts)
                excess[split].update(unit.counts)
                unit.split, moved = split, True


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
        f"{one}_split={expressions[one]!r} and {two}_split={expressions[two]!r} share {counted(count, 'example')}"
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
