"""The perturbations of a robustness evaluation: families of image changes, each in levels."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from keras_vit.evaluation.corruptions import CORRUPTIONS, MEDIAN_WINDOWS, corrupt, remove_texture
from keras_vit.evaluation.occlusion import grey_out_patches, random_order, salient_order, shift_image, shuffle_squares

DROPPED_SHARES = tuple(tenth / 10 for tenth in range(1, 10))  # of the patches
SQUARES = range(2, 15)  # squares a side, of a shuffle

Change = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]  # (image, generator, index of the image)


@dataclasses.dataclass(frozen=True, eq=False)
class PerturbationPlan:
    """What the levels of a family depend on: the images' number and sizes, the grid of patches and their salience.

    Args:
        count: Number of images.
        grid: (rows, columns) of the patches that are dropped.
        salience: (images, rows, columns) attention to each patch, or None.
        seed: Seed of the patches that are dropped at random.
        sizes: (height, width) in pixels of each model's images, the first model's first.
    """

    count: int
    grid: tuple[int, int]
    salience: np.ndarray | None
    seed: int
    sizes: Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True, eq=False)
class Perturbation:
    """One way to change images: a family, a condition and a level, as of `RobustnessRow`.

    Args:
        family: Name out of `FAMILIES`, or "clean".
        condition: Name of the curve.
        level: Strength.
        apply: Function of (image, generator, index of the image) that returns the changed image.
        kept: (images, kept) the patches that are not dropped; None for all.
    """

    family: str
    condition: str
    level: float
    apply: Change = lambda image, generator, i: image
    kept: np.ndarray | None = None


def _drop(dropped: np.ndarray, grid: tuple[int, int]) -> Change:
    return lambda image, generator, i: grey_out_patches(image, dropped[i], grid)


def _drops(plan: PerturbationPlan) -> Iterator[Perturbation]:
    patches = plan.grid[0] * plan.grid[1]
    orders = {"random": random_order(plan.count, patches, plan.seed)}
    if plan.salience is not None:
        order = salient_order(plan.salience)
        orders |= {"salient": order, "non-salient": order[:, ::-1]}
    for share in DROPPED_SHARES:
        count = min(round(share * patches), patches - 1)
        for condition, order in orders.items():
            yield Perturbation("drop", condition, share, _drop(order[:, :count], plan.grid), order[:, count:])


def _shuffle(squares: int) -> Change:
    return lambda image, generator, i: shuffle_squares(image, squares, generator)


def _shuffles(plan: PerturbationPlan) -> Iterator[Perturbation]:
    for squares in SQUARES:
        if squares <= min(map(min, plan.sizes)):
            yield Perturbation("shuffle", "squares", squares, _shuffle(squares))


def _texture(severity: int) -> Change:
    return lambda image, generator, i: remove_texture(image, severity)


def _textures(plan: PerturbationPlan) -> Iterator[Perturbation]:
    for level in range(1, len(MEDIAN_WINDOWS) + 1):
        yield Perturbation("texture", "median", level, _texture(level))


def _shift(pixels: int) -> Change:
    return lambda image, generator, i: shift_image(image, pixels, generator)


def _shifts(plan: PerturbationPlan) -> Iterator[Perturbation]:
    patch = max(1, plan.sizes[0][0] // plan.grid[0])
    for pixels in sorted({patch, *(2**i for i in range(patch.bit_length()))}):
        yield Perturbation("shift", "pixels", pixels, _shift(pixels))


def _corruption(name: str, severity: int) -> Change:
    return lambda image, generator, i: corrupt(image, name, severity, generator)


def _corruptions(plan: PerturbationPlan) -> Iterator[Perturbation]:
    for name, (_, settings) in CORRUPTIONS.items():
        for level in range(1, len(settings) + 1):
            yield Perturbation("corruptions", name, level, _corruption(name, level))


# Name: function of a plan that returns the perturbations of the family.
FAMILIES: dict[str, Callable[[PerturbationPlan], Iterator[Perturbation]]] = {
    "drop": _drops,
    "shuffle": _shuffles,
    "texture": _textures,
    "shift": _shifts,
    "corruptions": _corruptions,
}


def check_families(names: str | Iterable[str] | None = None) -> tuple[str, ...]:
    """Returns names of perturbation families as a tuple; all of them for None.

    Args:
        names: One or several keys of `FAMILIES`.

    Raises:
        ValueError: If a name is unknown.
    """
    names = tuple(FAMILIES) if names is None else (names,) if isinstance(names, str) else tuple(names)
    if unknown := [name for name in names if name not in FAMILIES]:
        nearest = difflib.get_close_matches(str(unknown[0]), FAMILIES)
        raise ValueError(
            f"Expected families out of {', '.join(FAMILIES)}. Received: families={unknown}"
            + (f". Nearest: {', '.join(nearest)}" if nearest else "")
        )
    return names
