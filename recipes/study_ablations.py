"""Ablations of a small ViT on Fashion-MNIST: position embeddings, heads and patch sizes.

    python recipes/study_ablations.py                                    # 63 runs
    python recipes/study_ablations.py --quick                            # a test of some seconds on synthetic images
    python recipes/study_ablations.py --draw docs/results/ablations.jsonl  # tables and plots alone, into docs/

Position embeddings are those of the paper's table 8: the kind, and where they are added. Heads are compared at several
learning rates, as the mean of the patch tokens needs another one than the class token (appendix D.3). Patches are as
small as the 2 x 2 of Cordonnier et al., all for the same number of steps.

Source: arXiv:2010.11929, table 8 and appendices D.3 and D.4; patches: arXiv:1911.03584.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from studies import command, mean_percent, millions, percent, row_figures, table, whole
from trials import Trial

from keras_vit.models.config import Variant
from keras_vit.training import Recipe

Results = dict[str, list[dict[str, Any]]]  # {row: records}

RATE = 3e-3
RATES = (1e-3, 3e-3, 1e-2)
SHARE = 0.1  # of the training images: 6,000 are decoded in two seconds a run, 60,000 in sixteen
STEPS, PATCH_STEPS = 800, 200  # the smallest patches take 18 times the compute
BASE = Variant(patch_size=7, hidden_size=64, num_layers=3, num_heads=4, mlp_dim=128)
RECIPE = Recipe(
    data="fashion_mnist",
    variant=BASE,
    image_size=28,
    validation=0.0,
    batch_size=64,
    learning_rate=RATE,
    checkpoint_seconds=1e6,
    tensorboard=False,
)
SMALL = {
    "data": "synthetic:3x16",
    "validation": 0.2,
    "batch_size": 8,
    "variant": Variant(patch_size=7, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=8),
}
WHERE = {"stem": "at the stem", "layers": "at every layer", "shared": "at every layer, shared"}
ADDED = {"learned": "learned 1-D", "learned-2d": "learned 2-D", "sincos-2d": "sincos 2-D"}
PAPER = {  # table 8: ViT-B/16, ImageNet, 5-shot linear
    "no positions": 0.61382,
    "learned 1-D, at the stem": 0.64206,
    "learned 1-D, at every layer": 0.63964,
    "learned 1-D, at every layer, shared": 0.64292,
    "learned 2-D, at the stem": 0.64001,
    "learned 2-D, at every layer": 0.64046,
    "learned 2-D, at every layer, shared": 0.64022,
    "relative": 0.64032,
}
POOLINGS = {"token": "class token", "gap": "mean of the patches (GAP)", "map": "attention pooling (MAP)"}
PATCHES = (14, 7, 4, 2)


def trial(
    steps: int = STEPS,
    learning_rate: float = RATE,
    base: Recipe = RECIPE,
    share: float = SHARE,
    shots: int = 5,
    **changes: Any,
) -> Trial:
    """Returns a row: the recipe with a changed architecture and number of steps."""
    variant = dataclasses.replace(base.variant, **changes)
    length = {"steps": steps, "steps_per_epoch": -(-steps // 4), "warmup_steps": steps // 10}
    return Trial(dataclasses.replace(base, variant=variant, learning_rate=learning_rate, **length), share, shots)


def positions(make: Callable[..., Trial]) -> dict[str, Trial]:
    """Returns the rows of table 8, and fixed 2-D sine-cosine embeddings."""
    rows = {"no positions": make(positions="none")}
    for kind, name in ADDED.items():
        rows |= {f"{name}, {words}": make(positions=kind, positions_at=at) for at, words in WHERE.items()}
    return rows | {"relative": make(positions="relative")}


def heads(make: Callable[..., Trial], rates: Sequence[float] = RATES) -> dict[str, Trial]:
    """Returns a row for each head and learning rate."""
    return {
        f"{words}, rate {rate:g}": make(pooling=pooling, learning_rate=rate)
        for pooling, words in POOLINGS.items()
        for rate in (rates if pooling != "map" else (RATE,))
    }


def patches(make: Callable[..., Trial], sides: Sequence[int] = PATCHES) -> dict[str, Trial]:
    """Returns a row for each patch size."""
    return {f"{side} x {side}": make(patch_size=side) for side in sides}


PLOTS = {  # part: {file name: (quantity, label of its axis)}
    "positions": {
        "study_ablations_positions.svg": ("accuracy", "test accuracy"),
        "study_ablations_few_shot.svg": ("5_shot", "5-shot linear accuracy"),
    },
    "heads": {"study_ablations_heads.svg": ("accuracy", "test accuracy")},
    "patches": {"study_ablations_patches.svg": ("accuracy", "test accuracy")},
}
COLUMNS = {
    "test accuracy, %": ("accuracy", percent),
    "5-shot linear, %": ("5_shot", percent),
    "training loss": ("train_loss", lambda spread: f"{spread.mean:.2f}"),
    "steps": ("steps", whole),
    "parameters": ("parameters", whole),
    "multiply-accumulates an image": ("multiply_accumulates", millions),
    "seconds": ("seconds", whole),
}


def parts_rows(small: bool = False) -> dict[str, dict[str, Trial]]:
    """Returns {part: rows}; with `small`, tiny models on synthetic images."""
    base = dataclasses.replace(RECIPE, **SMALL) if small else RECIPE
    make = functools.partial(trial, base=base, **({"steps": 4, "share": 1.0} if small else {}))
    return {
        "positions": positions(make),
        "heads": heads(make),
        "patches": patches(functools.partial(make, steps=4 if small else PATCH_STEPS)),
    }


def rows_of(small: bool = False) -> dict[str, Trial]:
    """Returns the rows of all parts."""
    return {name: row for rows in parts_rows(small).values() for name, row in rows.items()}


def with_paper(results: Results) -> Results:
    """Returns the records with the numbers of table 8 added."""
    return {
        name: [record | ({"paper": PAPER[name]} if name in PAPER else {}) for record in records]
        for name, records in results.items()
    }


def parts_of(results: Results) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns a table and the plots of each part."""
    texts, figures = {}, {}
    for part, rows in parts_rows().items():
        of_part = {name: results[name] for name in rows}
        columns = {**COLUMNS, "table 8, %": ("paper", mean_percent)} if part == "positions" else COLUMNS
        texts[part] = table(with_paper(of_part), columns)
        figures |= row_figures(of_part, PLOTS[part])
    return texts, figures


main = command(__doc__, "ablations", rows_of, parts_of)

if __name__ == "__main__":
    main()
