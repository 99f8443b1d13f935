"""What a small ViT learns of Fashion-MNIST without classes: two pretext tasks, then a few labels.

python recipes/study_self_supervision.py --output runs/self_supervision [--seeds 3] [--rows NAME] [--quick]
python recipes/study_self_supervision.py --draw docs/results/self_supervision.jsonl
"""

import dataclasses
import pathlib
import runpy
import tempfile
import time

import keras
import studies
from trials import BATCH, DATA, Trial, opened, share_of

from keras_vit.builders import build
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.evaluation.feature_cache import extract_features
from keras_vit.evaluation.probes import linear_probe
from keras_vit.models.features import representation
from keras_vit.models.interface import pixels_of
from keras_vit.training.fit import train
from keras_vit.training.objectives import vit_of
from keras_vit.training.quick import quick
from keras_vit.training.recipe import Recipe

FEW, SOME = 0.01, 0.1  # parts of the training images whose labels are used
WATCHED = 0.1  # of the validation images, which a pretext task is watched on


@dataclasses.dataclass(frozen=True)
class Path:
    """Describes a way to a classifier that knows few labels: pre-training or none, then a probe and fine-tuning.

    Args:
        tuning: the `Recipe` of the fine-tuning; its `weights` are what the pre-training leaves.
        pretext: the `Recipe` of the pre-training, on all training images; None for random weights.
        few, some: parts of the training images whose labels are used.
    """

    tuning: Recipe
    pretext: Recipe | None = None
    few: float = FEW
    some: float = SOME

    def __call__(self, seed):
        """Returns the numbers of one run: accuracies on the test images, and the processor's seconds."""
        started = time.process_time()
        source = opened(*(getattr(self.tuning, name) for name in DATA))
        with tempfile.TemporaryDirectory() as folder:
            vit, found = self._pretrained(source, folder, seed)
            found["pretraining_seconds"] = time.process_time() - started
            found |= _probed(vit, source, {"linear_few": self.few, "linear_some": self.some}, seed)
            weights = None
            if self.pretext:
                weights = str(pathlib.Path(folder) / "model.keras")
                vit.save(weights)
            tuned = Trial(dataclasses.replace(self.tuning, weights=weights), self.few)(seed)
        return found | {"fine_tuned": tuned["accuracy"], "seconds": time.process_time() - started}

    def _pretrained(self, source, folder, seed):
        if self.pretext is None:
            keras.utils.set_random_seed(seed)
            shape = (self.tuning.image_size, self.tuning.image_size, 3)
            return build(self.tuning.variant, include_top=False, pooling="gap", input_shape=shape), {}
        source = dataclasses.replace(source, validation=share_of(source.validation, WATCHED, seed=0))
        network, log = train(dataclasses.replace(self.pretext, seed=seed), source, folder)
        steps, images = log[-1]["step"], log[-1]["step"] * self.pretext.batch_size
        return vit_of(network), {"steps": steps, "images": images, "share": log[-1]["val_accuracy"]}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Describes the way without a network: linear classifiers of grey pixels, on the same labels.

    Args:
        tuning, few, some: as of `Path`.
    """

    tuning: Recipe
    few: float = FEW
    some: float = SOME

    def __call__(self, seed):
        """Returns the same numbers as a `Path`, without those of fine-tuning."""
        started = time.process_time()
        source = opened(*(getattr(self.tuning, name) for name in DATA))
        size = self.tuning.image_size
        grey = keras.Sequential([keras.Input((size, size, 3)), _Grey()])
        found = _probed(grey, source, {"linear_few": self.few, "linear_some": self.some}, seed)
        return found | {"seconds": time.process_time() - started}


class _Grey(keras.layers.Layer):
    def call(self, images):
        return keras.ops.reshape(keras.ops.mean(images, axis=-1), (-1, images.shape[1] * images.shape[2]))


def _probed(model, source, shares, seed):
    """Returns {name: test accuracy} of logistic regressions on a model's features of parts of the training images."""
    test = _features(model, source.test)
    return {
        name: linear_probe(*_features(model, share_of(source.train, share, seed)), *test).accuracy
        for name, share in shares.items()
    }


def _features(model, examples):
    batches = evaluation_batches(examples, model.input_shape[1:3], batch_size=BATCH, contract=pixels_of(model))
    return extract_features(representation(model), batches)


def _recipe(name):
    return runpy.run_path(str(pathlib.Path(__file__).with_name(f"{name}.py")))["RECIPE"]


MAE = dataclasses.replace(_recipe("mae"), steps=900, steps_per_epoch=900, batch_size=64, tensorboard=False)
MASKED = dataclasses.replace(
    _recipe("masked_patches"), steps=350, steps_per_epoch=350, batch_size=64, tensorboard=False
)
# Fashion-MNIST in 17 steps a pass, where one image of a hundred is labelled.
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
# As many more steps as take the time of a pre-training.
LONGER = dataclasses.replace(TUNING, steps=1500, steps_per_epoch=1500, warmup_steps=150)
ROWS = {
    "no network": Pixels(TUNING),
    "random weights": Path(TUNING),
    "random weights, tuned longer": Path(LONGER),
    "masked patches": Path(TUNING, MASKED),
    "MAE": Path(TUNING, MAE),
}


def _small(recipe):
    return dataclasses.replace(quick(recipe), data="synthetic:5x40", validation=0.2, test=0.2)


def _made_small(row):
    recipes = {what: _small(recipe) for what in ("tuning", "pretext") if (recipe := getattr(row, what, None))}
    return dataclasses.replace(row, **recipes, few=0.3, some=0.6)


def rows_of(small):
    """Returns the rows of the study, or the same in a size that is over in seconds."""
    if not small:
        return ROWS
    return {name: _made_small(row) for name, row in ROWS.items()}


SCORES = {
    f"linear, {FEW:.0%} of labels": "linear_few",
    f"linear, {SOME:.0%} of labels": "linear_some",
    f"fine-tuned, {FEW:.0%} of labels": "fine_tuned",
}


def parts_of(found):
    """Returns the table of the study, and a plot a score, from {row: records}."""
    columns = {heading: (what, studies.percent) for heading, what in SCORES.items()}
    columns |= {"images seen before": ("images", studies.whole), "seconds": ("seconds", studies.whole)}
    plots = {f"self_supervision_{what}.svg": (what, heading) for heading, what in SCORES.items()}
    return {"self_supervision": studies.table(found, columns)}, studies.row_figures(found, plots)


main = studies.command(__doc__.partition("\n")[0], "self_supervision", rows_of, parts_of, "self_supervision.md")

if __name__ == "__main__":
    main()
