"""Self-supervised pre-training of a small ViT on Fashion-MNIST: two pretext tasks, evaluated with few labels.

python recipes/study_self_supervision.py --output runs/self_supervision [--seeds 3] [--rows NAME] [--quick]
python recipes/study_self_supervision.py --draw docs/results/self_supervision.jsonl
"""

import dataclasses
import pathlib
import runpy
import tempfile
import time
from typing import Any

import keras
import studies
from trials import BATCH, DATA, Trial, fraction_of, opened

from keras_vit.builders import build
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.probes import linear_probe
from keras_vit.models.features import representation
from keras_vit.models.interface import pixels_of
from keras_vit.training import Recipe
from keras_vit.training.fit import train
from keras_vit.training.objectives import vit_of
from keras_vit.training.quick import quick_recipe

FEW, SOME = 0.01, 0.1  # fractions of the training images whose labels are used
WATCHED = 0.1  # fraction of the validation images that validate a pretext task


@dataclasses.dataclass(frozen=True)
class Path:
    """A row: pre-training or none, then linear probes and fine-tuning with few labels.

    Args:
        tuning: recipe of the fine-tuning; its `weights` are those of the pre-training.
        pretext: recipe of the pre-training, on all training images; None for random weights.
        few: smaller fraction of the training images whose labels are used.
        some: larger fraction.
    """

    tuning: Recipe
    pretext: Recipe | None = None
    few: float = FEW
    some: float = SOME

    def __call__(self, seed: int) -> dict[str, float]:
        """Returns the numbers of one run: accuracies on the test images, and the seconds of processor time."""
        started = time.process_time()
        source = opened(*(getattr(self.tuning, name) for name in DATA))
        with tempfile.TemporaryDirectory() as folder:
            vit, numbers = self._pretrained(source, folder, seed)
            numbers["pretraining_seconds"] = time.process_time() - started
            numbers |= _probe_accuracies(vit, source, {"linear_few": self.few, "linear_some": self.some}, seed)
            weights = None
            if self.pretext:
                weights = str(pathlib.Path(folder) / "model.keras")
                vit.save(weights)
            tuned = Trial(dataclasses.replace(self.tuning, weights=weights), self.few)(seed)
        return numbers | {"fine_tuned": tuned["accuracy"], "seconds": time.process_time() - started}

    def _pretrained(self, source: Source, folder: str, seed: int) -> tuple[keras.Model, dict[str, float]]:
        if self.pretext is None:
            keras.utils.set_random_seed(seed)
            shape = (*self.tuning.size, 3)
            return build(self.tuning.variant, include_top=False, pooling="gap", input_shape=shape), {}
        source = dataclasses.replace(source, validation=fraction_of(source.validation, WATCHED, seed=0))
        network, log = train(dataclasses.replace(self.pretext, seed=seed), source, folder)
        steps, images = log[-1]["step"], log[-1]["step"] * self.pretext.batch_size
        return vit_of(network), {"steps": steps, "images": images, "metric": log[-1]["val_accuracy"]}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A row without a network: linear probes of grey pixels, with the same labels.

    Args:
        tuning: recipe with the data.
        few: smaller fraction of the training images whose labels are used.
        some: larger fraction.
    """

    tuning: Recipe
    few: float = FEW
    some: float = SOME

    def __call__(self, seed: int) -> dict[str, float]:
        """Returns the numbers of a `Path` but for those of fine-tuning."""
        started = time.process_time()
        source = opened(*(getattr(self.tuning, name) for name in DATA))
        size = self.tuning.image_size
        grey = keras.Sequential([keras.Input((size, size, 3)), _Grey()])
        numbers = _probe_accuracies(grey, source, {"linear_few": self.few, "linear_some": self.some}, seed)
        return numbers | {"seconds": time.process_time() - started}


class _Grey(keras.layers.Layer):
    def call(self, images: Any) -> Any:
        return keras.ops.reshape(keras.ops.mean(images, axis=-1), (-1, images.shape[1] * images.shape[2]))


def _probe_accuracies(model: keras.Model, source: Source, fractions: dict[str, float], seed: int) -> dict[str, float]:
    """Returns {name: test accuracy} of linear probes on a model's features of fractions of the training images."""
    test = _features(model, source.test)
    return {
        name: linear_probe(*_features(model, fraction_of(source.train, fraction, seed)), *test).accuracy
        for name, fraction in fractions.items()
    }


def _features(model: keras.Model, examples: Examples) -> Any:
    batches = evaluation_batches(examples, model.input_shape[1:3], batch_size=BATCH, contract=pixels_of(model))
    return extract_features(representation(model), batches)


def _recipe(name: str) -> Recipe:
    return runpy.run_path(str(pathlib.Path(__file__).with_name(f"{name}.py")))["RECIPE"]


MAE = dataclasses.replace(_recipe("mae"), steps=900, steps_per_epoch=900, batch_size=64, tensorboard=False)
MASKED = dataclasses.replace(
    _recipe("masked_patches"), steps=350, steps_per_epoch=350, batch_size=64, tensorboard=False
)
# 17 steps a pass over the labelled images, one in a hundred of Fashion-MNIST.
TUNING = Recipe(
    data="fashion_mnist",
    variant=MAE.variant,
    image_size=28,
    steps=340,
    steps_per_epoch=340,
    batch_size=32,
    learning_rate=1e-3,
    warmup_steps=34,
    flip=True,
    shift=0.07,
    tensorboard=False,
    exports=(),
)
# The additional steps take as long as a pre-training.
LONGER = dataclasses.replace(TUNING, steps=1500, steps_per_epoch=1500, warmup_steps=150)
ROWS = {
    "no network": Pixels(TUNING),
    "random weights": Path(TUNING),
    "random weights, tuned longer": Path(LONGER),
    "masked patches": Path(TUNING, MASKED),
    "MAE": Path(TUNING, MAE),
}


def _small(recipe: Recipe) -> Recipe:
    return dataclasses.replace(quick_recipe(recipe), data="synthetic:5x40", validation=0.2, test=0.2)


def _small_row(row: Path | Pixels) -> Path | Pixels:
    recipes = {field: _small(recipe) for field in ("tuning", "pretext") if (recipe := getattr(row, field, None))}
    return dataclasses.replace(row, **recipes, few=0.3, some=0.6)


def rows_of(small: bool = False) -> dict[str, Path | Pixels]:
    """Returns the rows of the study; with `small`, runs of some seconds on synthetic images."""
    if not small:
        return ROWS
    return {name: _small_row(row) for name, row in ROWS.items()}


SCORES = {
    f"linear, {FEW:.0%} of labels": "linear_few",
    f"linear, {SOME:.0%} of labels": "linear_some",
    f"fine-tuned, {FEW:.0%} of labels": "fine_tuned",
}


def parts_of(results: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the table and a plot of each accuracy, from {row: records}."""
    columns = {heading: (quantity, studies.percent) for heading, quantity in SCORES.items()}
    columns |= {"images seen before": ("images", studies.whole), "seconds": ("seconds", studies.whole)}
    plots = {f"self_supervision_{quantity}.svg": (quantity, heading) for heading, quantity in SCORES.items()}
    return {"self_supervision": studies.table(results, columns)}, studies.row_figures(results, plots)


main = studies.command(__doc__.partition("\n")[0], "self_supervision", rows_of, parts_of, "self_supervision.md")

if __name__ == "__main__":
    main()
