"""What is done to the images of a model whose robustness is looked at: families of changes, each in levels."""

import dataclasses
import difflib
from collections.abc import Callable

import numpy as np

from keras_vit.evaluation.corruptions import CORRUPTIONS, WINDOWS, corrupted, without_texture
from keras_vit.evaluation.occlusion import greyed, random_order, salient_order, shifted, shuffled

PARTS = tuple(tenth / 10 for tenth in range(1, 10))  # of the patches that are dropped
SQUARES = range(2, 15)  # a side


@dataclasses.dataclass(frozen=True, eq=False)
class PerturbationPlan:
    """Holds what the levels depend on.

    Args:
        count: number of images.
        grid: (rows, columns) of the patches that are dropped.
        salience: (images, rows, columns) how much each patch counts, or None.
        seed: of the patches that are dropped at random.
        sizes: (rows, columns) in pixels of each model's images, the first model's first.
    """

    count: int
    grid: tuple[int, int]
    salience: np.ndarray | None
    seed: int
    sizes: list


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """Holds one way to change images.

    Args:
        family, condition, level: see `keras_vit.evaluation.robustness.RobustnessRow`.
        make: function of (image, generator, number of the image); gives the changed one.
        kept: (images, kept) the patches that are not dropped; None for all.
    """

    family: str
    condition: str
    level: float
    make: Callable = lambda image, generator, i: image
    kept: np.ndarray | None = None


def _drops(plan):
    patches = plan.grid[0] * plan.grid[1]
    orders = {"random": random_order(plan.count, patches, plan.seed)}
    if plan.salience is not None:
        order = salient_order(plan.salience)
        orders |= {"salient": order, "non-salient": order[:, ::-1]}
    for part in PARTS:
        gone = min(round(part * patches), patches - 1)
        for condition, order in orders.items():

            def make(image, generator, i, dropped=order[:, :gone]):
                return greyed(image, dropped[i], plan.grid)

            yield Change("drop", condition, part, make, order[:, gone:])


def _shuffles(plan):
    for squares in SQUARES:
        if squares <= min(map(min, plan.sizes)):
            yield Change("shuffle", "squares", squares, lambda x, generator, i, n=squares: shuffled(x, n, generator))


def _textures(plan):
    for level in range(1, len(WINDOWS) + 1):
        yield Change("texture", "median", level, lambda x, generator, i, level=level: without_texture(x, level))


def _shifts(plan):
    patch = max(1, plan.sizes[0][0] // plan.grid[0])
    for pixels in sorted({patch, *(2**i for i in range(patch.bit_length()))}):
        yield Change("shift", "pixels", pixels, lambda x, generator, i, n=pixels: shifted(x, n, generator))


def _corruptions(plan):
    for name, (_, settings) in CORRUPTIONS.items():
        for level in range(1, len(settings) + 1):

            def make(image, generator, i, name=name, level=level):
                return corrupted(image, name, level, generator)

            yield Change("corruptions", name, level, make)


# Name: function of a plan that gives the changes of the family.
FAMILIES = {
    "drop": _drops,
    "shuffle": _shuffles,
    "texture": _textures,
    "shift": _shifts,
    "corruptions": _corruptions,
}


def families_named(names=None):
    """Returns names out of `FAMILIES`; all of them for None.

    Raises:
        ValueError: if one is unknown.
    """
    names = tuple(FAMILIES) if names is None else (names,) if isinstance(names, str) else tuple(names)
    if unknown := [name for name in names if name not in FAMILIES]:
        near = difflib.get_close_matches(str(unknown[0]), FAMILIES)
        raise ValueError(
            f"Expected families out of {', '.join(FAMILIES)}. Received: {unknown}"
            + (f". Nearest: {', '.join(near)}" if near else "")
        )
    return names
