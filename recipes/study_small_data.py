"""Compares a ViT, a hybrid and a ResNet on fractions of Fashion-MNIST, at equal compute.

    python recipes/study_small_data.py                                    # 45 runs
    python recipes/study_small_data.py --quick                            # a test of some seconds on synthetic images
    python recipes/study_small_data.py --draw docs/results/small_data.jsonl  # table and plot alone, into docs/

All runs have the same number of multiply-accumulates, so a cheaper model sees more images, whatever the fraction of the
training images. The hypothesis: the inductive bias of convolutions is better with little data or compute.

Source: arXiv:2010.11929, sections 4.3 and 4.4, figures 3 to 5.
"""

import dataclasses
from typing import Any

from studies import command, millions, percent, spreads, table, whole
from trials import Trial, cost_of

from keras_vit.analysis.plots import repeated_curves
from keras_vit.models.config import ResNet, Variant
from keras_vit.training import Recipe

COMPUTE = 160e9  # multiply-accumulates of a run's forward passes; the backward passes take twice as many
SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
BATCH_SIZE = 64
MODELS = {  # name: (architecture, learning rate); all have a 4 x 4 grid of tokens for 28 x 28 pixels
    "ViT": (Variant(patch_size=7, hidden_size=64, num_layers=4, num_heads=4, mlp_dim=128), 3e-3),
    "hybrid": (
        Variant(
            patch_size=1,
            hidden_size=64,
            num_layers=2,
            num_heads=4,
            mlp_dim=128,
            stem=ResNet((1, 1), (128, 256), root_width=32),
        ),
        3e-3,
    ),
    "ResNet": (ResNet((1, 1), (128, 256), root_width=32), 3e-2),
}
SMALL = {
    "ViT": (Variant(patch_size=7, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=8), 3e-3),
    "hybrid": (
        Variant(patch_size=7, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=8, stem=ResNet((), (), root_width=32)),
        1e-2,
    ),
    "ResNet": (ResNet((1,), (128,), root_width=32), 1e-2),
}
QUICK = {"compute": 2e7, "data": "synthetic:3x16", "batch_size": 8, "validation": 0.2}


def recipe_of(variant: Variant | ResNet, learning_rate: float, compute: float = COMPUTE, **changes: Any) -> Recipe:
    """Returns the recipe of a run with a number of multiply-accumulates."""
    recipe = Recipe(
        data="fashion_mnist",
        variant=variant,
        image_size=28,
        validation=0.0,
        batch_size=BATCH_SIZE,
        learning_rate=learning_rate,
        checkpoint_seconds=1e6,
        tensorboard=False,
    )
    recipe = dataclasses.replace(recipe, **changes)
    steps = max(1, round(compute / cost_of(recipe) / recipe.batch_size))
    return dataclasses.replace(recipe, steps=steps, steps_per_epoch=-(-steps // 4), warmup_steps=steps // 10)


def rows_of(small: bool = False) -> dict[str, Trial]:
    """Returns the rows of the study; with `small`, tiny models on synthetic images."""
    models, changes = (SMALL, QUICK) if small else (MODELS, {})
    recipes = {name: recipe_of(*model, **changes) for name, model in models.items()}
    return {f"{name}, {share:.0%}": Trial(recipe, share) for share in SHARES for name, recipe in recipes.items()}


COLUMNS = {
    "test accuracy, %": ("accuracy", percent),
    "training loss": ("train_loss", lambda spread: f"{spread.mean:.2f}"),
    "images": ("images", whole),
    "steps": ("steps", whole),
    "parameters": ("parameters", whole),
    "multiply-accumulates an image": ("multiply_accumulates", millions),
    "seconds": ("seconds", whole),
}


def parts_of(results: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the table and the plot."""
    accuracies, lines = spreads(results, "accuracy"), {}
    for model in MODELS:
        own = {share: accuracies.get(f"{model}, {share:.0%}") for share in SHARES}
        own = {100 * share: spread.values for share, spread in own.items() if spread}
        if own:
            lines[model] = (list(own), list(own.values()))
    labels = "part of the training images, %", "test accuracy"
    figures = {"study_small_data.svg": repeated_curves(lines, *labels)} if lines else {}
    return {"small_data": table(results, COLUMNS)}, figures


main = command(__doc__, "small_data", rows_of, parts_of)

if __name__ == "__main__":
    main()
