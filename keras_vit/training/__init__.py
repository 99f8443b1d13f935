"""Training: recipes, and what they are made of: optimizers, schedules, LoRA, checkpoints, early stopping.

    recipe = keras_vit.training.Recipe(data="images/", variant="ViT-S/16", image_size=224, weights="imagenet21k")
    source = keras_vit.data.sources.open_source(recipe.data)
    model, log = keras_vit.training.train(recipe, source, "runs/images")

`keras-vit fit` does this and also evaluates, exports and reports. Each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_vit.training.checkpoints import TrainingCheckpoint, TrainingCheckpoints
    from keras_vit.training.devices import Devices, devices_of
    from keras_vit.training.early_stopping import EarlyStopping
    from keras_vit.training.fine_tuning import add_lora, freeze, layer_scales
    from keras_vit.training.fit import train
    from keras_vit.training.lr_finder import LearningRateSearch, search_learning_rate
    from keras_vit.training.optimizers import SGD, AdamW, Muon
    from keras_vit.training.presets import FINE_TUNING, augreg_recipe
    from keras_vit.training.quick import quick_recipe
    from keras_vit.training.recipe import Recipe, change
    from keras_vit.training.schedules import WarmupSchedule
    from keras_vit.training.trainer import make_trainer

__all__ = [
    "FINE_TUNING",
    "SGD",
    "AdamW",
    "Devices",
    "EarlyStopping",
    "LearningRateSearch",
    "Muon",
    "Recipe",
    "TrainingCheckpoint",
    "TrainingCheckpoints",
    "WarmupSchedule",
    "add_lora",
    "augreg_recipe",
    "change",
    "devices_of",
    "freeze",
    "layer_scales",
    "make_trainer",
    "quick_recipe",
    "search_learning_rate",
    "train",
]

_MODULES = {
    "FINE_TUNING": "presets",
    "SGD": "optimizers",
    "AdamW": "optimizers",
    "Devices": "devices",
    "EarlyStopping": "early_stopping",
    "LearningRateSearch": "lr_finder",
    "Muon": "optimizers",
    "Recipe": "recipe",
    "TrainingCheckpoint": "checkpoints",
    "TrainingCheckpoints": "checkpoints",
    "WarmupSchedule": "schedules",
    "add_lora": "fine_tuning",
    "augreg_recipe": "presets",
    "change": "recipe",
    "devices_of": "devices",
    "freeze": "fine_tuning",
    "layer_scales": "fine_tuning",
    "make_trainer": "trainer",
    "quick_recipe": "quick",
    "search_learning_rate": "lr_finder",
    "train": "fit",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"keras_vit.training.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'keras_vit.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
