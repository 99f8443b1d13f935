"""Takes a small ViT apart on Fashion-MNIST: its positions, its head and its patches, each in turn.

    python recipes/study_ablations.py                                    # 63 runs
    python recipes/study_ablations.py --quick                            # all of it in seconds, on synthetic images
    python recipes/study_ablations.py --draw docs/results/ablations.jsonl  # tables and plots alone, into docs/

Positions are those of the paper's table 8: which, and where they are added. Heads are compared at several learning
rates, for appendix D.3 says that the mean of the patch tokens wants another one than the class token. Patches go down
to the 2 x 2 of Cordonnier et al., all at the same number of steps.

Source: arXiv:2010.11929, table 8 and appendices D.3 and D.4; patches: arXiv:1911.03584.
"""

import dataclasses
import functools

from studies import command, mean_percent, millions, percent, row_figures, table, whole
from trials import Trial

from keras_vit.models.config import Variant
from keras_vit.training.recipe import Recipe

RATE = 3e-3
RATES = (1e-3, 3e-3, 1e-2)
SHARE = 0.1  # of the training images: 6,000 are read in two seconds a run, 60,000 in sixteen
STEPS, PATCH_STEPS = 800, 200  # the smallest patches make 18 times the work
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


def trial(steps=STEPS, learning_rate=RATE, base=RECIPE, share=SHARE, shots=5, **changes):
    """Returns a row: the recipe with a changed architecture, of so many steps."""
    variant = dataclasses.replace(base.variant, **changes)
    length = {"steps": steps, "steps_per_epoch": -(-steps // 4), "warmup_steps": steps // 10}
    return Trial(dataclasses.replace(base, variant=variant, learning_rate=learning_rate, **length), share, shots)


def positions(make):
    """Returns the rows of table 8, and the fixed sines of two dimensions."""
    rows = {"no positions": make(positions="none")}
    for kind, name in ADDED.items():
        rows |= {f"{name}, {words}": make(positions=kind, positions_at=at) for at, words in WHERE.items()}
    return rows | {"relative": make(positions="relative")}


def heads(make, rates=RATES):
    """Returns a row for each head and learning rate."""
    return {
        f"{words}, rate {rate:g}": make(pooling=pooling, learning_rate=rate)
        for pooling, words in POOLINGS.items()
        for rate in (rates if pooling != "map" else (RATE,))
    }


def patches(make, sides=PATCHES):
    """Returns a row for each side of a patch."""
    return {f"{side} x {side}": make(patch_size=side) for side in sides}


PLOTS = {  # part: {name of the file: (what, its words)}
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


def parts_rows(small=False):
    """Returns {part: its rows}; the small ones on synthetic images."""
    base = dataclasses.replace(RECIPE, **SMALL) if small else RECIPE
    make = functools.partial(trial, base=base, **({"steps": 4, "share": 1.0} if small else {}))
    return {
        "positions": positions(make),
        "heads": heads(make),
        "patches": patches(functools.partial(make, steps=4 if small else PATCH_STEPS)),
    }


def rows_of(small=False):
    """Returns the rows of all parts."""
    return {name: row for rows in parts_rows(small).values() for name, row in rows.items()}


def with_paper(found):
    """Returns the records with the numbers of table 8 beside."""
    return {
        name: [record | ({"paper": PAPER[name]} if name in PAPER else {}) for record in records]
        for name, records in found.items()
    }


def parts_of(found):
    """Returns a table and a plot a part."""
    texts, figures = {}, {}
    for part, rows in parts_rows().items():
        some = {name: found[name] for name in rows}
        columns = {**COLUMNS, "table 8, %": ("paper", mean_percent)} if part == "positions" else COLUMNS
        texts[part] = table(with_paper(some), columns)
        figures |= row_figures(some, PLOTS[part])
    return texts, figures


main = command(__doc__, "ablations", rows_of, parts_of)

if __name__ == "__main__":
    main()
