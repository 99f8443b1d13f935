"""Images for training and evaluation: data sources, decoding, crops, augmentation, batches.

    data = keras_vit.data.open_source("photos")
    batches = keras_vit.data.training_batches(data.train, (224, 224), len(data.class_names), batch_size=32, steps=1000)

Each name is imported when it is first used, as most of them need TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_vit.data.augmentation import Augmentation, keras_cv_layers
    from keras_vit.data.check import FolderReport, check_folder
    from keras_vit.data.decoding import FileRange, ImageError, decode
    from keras_vit.data.order import BalancedOrder, Order
    from keras_vit.data.pipeline import evaluation_batches, read_pixels, training_batches, validation_batches
    from keras_vit.data.sources import Examples, Source, open_source

__all__ = [
    "Augmentation",
    "BalancedOrder",
    "Examples",
    "FileRange",
    "FolderReport",
    "ImageError",
    "Order",
    "Source",
    "check_folder",
    "decode",
    "evaluation_batches",
    "keras_cv_layers",
    "open_source",
    "read_pixels",
    "training_batches",
    "validation_batches",
]

_MODULE_OF = {
    **dict.fromkeys(("Augmentation", "keras_cv_layers"), "augmentation"),
    **dict.fromkeys(("FolderReport", "check_folder"), "check"),
    **dict.fromkeys(("FileRange", "ImageError", "decode"), "decoding"),
    **dict.fromkeys(("BalancedOrder", "Order"), "order"),
    **dict.fromkeys(("evaluation_batches", "read_pixels", "training_batches", "validation_batches"), "pipeline"),
    **dict.fromkeys(("Examples", "Source", "open_source"), "sources"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
