"""Near duplicates: images that are the same but for their encoding, size, brightness or a narrow margin."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from keras_vit.data.listing import ListedImage

DISTANCE = 10  # bits in which near duplicates differ at most, in each of the two hashes
# A larger set is none of near duplicates: all images of the data look alike, and the hash does not tell them apart.
_LARGEST_SET, _LARGEST_SHARE = 50, 0.01
_PARTS = DISTANCE // 2 + 1
_SAMPLE, _ROWS = 2048, 128  # hashes that are compared with all others, and with each other at once


def connected(count: int, pairs: Iterable[Sequence[int]]) -> list[int]:
    """Returns for each of `count` items one that stands for all that it is connected with (union-find)."""
    parents = list(range(count))

    def root(item: int) -> int:
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    for one, other in pairs:
        parents[root(one)] = root(other)
    return [root(item) for item in range(count)]


def mark_near_duplicates(images: Sequence[ListedImage]) -> tuple[tuple[ListedImage, ...], int]:
    """Marks near duplicates by their hashes, whatever their classes and splits.

    A set of more than 50 images and more than a hundredth of all is not marked: where that many images look alike, as
    scanned digits do, the hash does not tell different ones apart. None is marked where most would be in such sets.

    Args:
        images: read, with hashes.

    Returns:
        The images, where `content` is the same for near duplicates; and the number of images in sets that are too large
        to be marked.
    """
    look_of = {image.digest: image.look for image in images if image.look is not None}
    bits = np.frombuffer(b"".join(look.to_bytes(16, "big") for look in look_of.values()), ">u8")
    hashes, place, counts = np.unique(
        bits.reshape(-1, 2).astype(np.uint64), axis=0, return_inverse=True, return_counts=True
    )
    most = max(_LARGEST_SET, int(_LARGEST_SHARE * len(images)))
    alone = np.flatnonzero(~_crowded(hashes, counts, most))
    sets = np.full(len(hashes), len(alone))  # the last set has all crowded hashes
    sets[alone] = connected(len(alone), near_pairs(hashes[alone]).tolist())
    sets = sets[place]
    sizes = np.bincount(sets, minlength=len(alone) + 1)
    small = sizes <= most
    small[-1] = False
    members, digests = defaultdict(list), list(look_of)
    for index in np.flatnonzero((small & (sizes > 1))[sets]).tolist():
        members[sets[index]].append(digests[index])
    near = {digest: min(one) for one in members.values() for digest in one}
    unclear = int(sizes[~small].sum())
    if unclear > len(near):
        return tuple(images), unclear + len(near)
    return tuple(replace(i, near=near[i.digest]) if i.digest in near else i for i in images), unclear


def near_pairs(hashes: np.ndarray) -> np.ndarray:
    """Returns the pairs of images whose hashes differ in at most `DISTANCE` bits each: (pairs, 2) indices.

    Of `_PARTS` parts of such pHashes, one differs in at most one bit: only images with such a part are compared.

    Args:
        hashes: (images, 2) uint64, pHash and dHash.
    """
    found = [np.zeros((0, 2), np.int64)]
    edges = np.linspace(1, 64, _PARTS + 1).astype(int).tolist()  # the last bit is 0
    for low, high in itertools.pairwise(edges):
        part = (hashes[:, 0] >> np.uint64(low) & np.uint64(2 ** (high - low) - 1)).astype(np.int64)
        order = np.argsort(part, kind="stable")
        values, starts = np.unique(part[order], return_index=True)
        members = dict(zip(values.tolist(), np.split(order, starts[1:]), strict=False))  # of none, one empty part
        for value, same in members.items():
            more = {value | 1 << bit for bit in range(high - low)} - {value}  # each pair of values once
            others = np.concatenate([same, *(members[other] for other in more & members.keys())])
            for start in range(0, len(same), _ROWS):
                rows = same[start : start + _ROWS]
                one, other = _near(hashes[rows], hashes[others[start:]])
                pairs = np.stack([rows[one], others[start:][other]], 1)
                found.append(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _crowded(hashes: np.ndarray, counts: np.ndarray, most: int) -> np.ndarray:
    """Returns which of some hashes are near to those of more than about `most` images, by a sample: (hashes,) bool.

    Args:
        hashes: (hashes, 2) uint64.
        counts: (hashes,), the number of images of each.
        most: number of images.
    """
    step = -(-len(hashes) // _SAMPLE) or 1
    sample, weights = hashes[::step], counts[::step] * step
    crowded = np.zeros(len(hashes), bool)
    for start in range(0, len(hashes) if counts.sum() > most else 0, _ROWS):
        rows = hashes[start : start + _ROWS]
        one, other = _near(rows, sample)
        crowded[start : start + _ROWS] = np.bincount(one, weights[other], len(rows)) > most
    return crowded


def _near(ones: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (indices in `ones`, indices in `others`) of near hashes, (hashes, 2) uint64 each."""
    one, other = np.nonzero(np.bitwise_count(ones[:, :1] ^ others[:, 0]) <= DISTANCE)
    near = np.bitwise_count(ones[one, 1] ^ others[other, 1]) <= DISTANCE
    return one[near], other[near]


def sets_of(images: Sequence[ListedImage], key: Callable[[ListedImage], str]) -> list[list[ListedImage]]:
    """Returns the images with the same key, where there are several."""
    sets = defaultdict(list)
    for image in images:
        sets[key(image)].append(image)
    return [members for members in sets.values() if len(members) > 1]


def near_sets(images: Sequence[ListedImage]) -> list[list[ListedImage]]:
    """Returns the sets of near duplicates, which contain more than copies of one image."""
    marked = [image for image in images if image.near]
    return [members for members in sets_of(marked, lambda image: image.near) if len({i.digest for i in members}) > 1]


def joined(names: Sequence[str]) -> str:
    """Returns the names of near duplicates in a line of text, the first five and the number of the others."""
    more = [f"{len(names) - 5:,} more"] if len(names) > 5 else []
    return " ~ ".join([*names[:5], *more])
