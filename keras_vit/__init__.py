"""Vision Transformers for Keras: from a published checkpoint, or from one's own images, to a phone."""

import importlib as _importlib
import sys as _sys
from typing import TYPE_CHECKING
from typing import Any as _Any

__version__ = "0.1.0"

__all__ = [
    "BiT_R101x1",
    "BiT_R101x3",
    "BiT_R152x1",
    "BiT_R152x2",
    "BiT_R152x4",
    "BiT_R200x3",
    "BiT_R50x1",
    "BiT_R50x2",
    "BiT_R50x3",
    "Checkpoint",
    "Pixels",
    "R26_ViT_B32",
    "R26_ViT_S32",
    "R50_ViT_B16",
    "R50_ViT_B32",
    "R50_ViT_L16",
    "R50_ViT_L32",
    "R_ViT_Ti16",
    "ResNet",
    "Rotary",
    "Variant",
    "ViT_B16",
    "ViT_B32",
    "ViT_B8",
    "ViT_G14",
    "ViT_H14",
    "ViT_L14",
    "ViT_L16",
    "ViT_L32",
    "ViT_S14",
    "ViT_S16",
    "ViT_S32",
    "ViT_S8",
    "ViT_Ti16",
    "ViT_g14",
    "VisionModel",
    "augreg",
    "build",
    "checkpoints",
    "convert",
    "decode_predictions",
    "features",
    "load",
    "load_weights",
    "outputs_of",
    "pixels_of",
    "preprocess_input",
    "representation",
    "resize",
    "save_checkpoint",
    "text_encoder",
    "tokenizer",
    "zero_shot",
]

# The public modules; each is imported when it is first used.
_PARTS = ("analysis", "data", "evaluation", "export", "layers", "pretraining", "runtime", "training")

# Importing the public names registers the layers with Keras, so that a saved model loads. Only the command line leaves
# that to its commands: Keras and its backend take seconds to import, and `keras-vit --help` needs neither.
_is_command = "keras_vit_command" in _sys.modules or (
    # Python sets argv[0] to "-m" while it locates the module that it is to run.
    _sys.argv[:1] == ["-m"] and ("-m", "keras_vit") in zip(_sys.orig_argv, _sys.orig_argv[1:])
)
if not _is_command:
    from keras_vit.builders import (
        BiT_R50x1,
        BiT_R50x2,
        BiT_R50x3,
        BiT_R101x1,
        BiT_R101x3,
        BiT_R152x1,
        BiT_R152x2,
        BiT_R152x4,
        BiT_R200x3,
        R26_ViT_B32,
        R26_ViT_S32,
        R50_ViT_B16,
        R50_ViT_B32,
        R50_ViT_L16,
        R50_ViT_L32,
        R_ViT_Ti16,
        ViT_B8,
        ViT_B16,
        ViT_B32,
        ViT_G14,
        ViT_g14,
        ViT_H14,
        ViT_L14,
        ViT_L16,
        ViT_L32,
        ViT_S8,
        ViT_S14,
        ViT_S16,
        ViT_S32,
        ViT_Ti16,
        build,
        load,
        load_weights,
    )
    from keras_vit.conversion import convert, save_checkpoint
    from keras_vit.imagenet import decode_predictions
    from keras_vit.models.config import ResNet, Rotary, Variant
    from keras_vit.models.features import features, representation
    from keras_vit.models.interface import outputs_of, pixels_of
    from keras_vit.models.resize import resize
    from keras_vit.models.vision_model import VisionModel
    from keras_vit.preprocessing import Pixels, preprocess_input
    from keras_vit.weights.checkpoints import Checkpoint, augreg, checkpoints
    from keras_vit.words.encoder import text_encoder
    from keras_vit.words.tokenizer import tokenizer
    from keras_vit.words.zero_shot import zero_shot

if TYPE_CHECKING:  # for editors and type checkers; a program imports them by `__getattr__`
    from keras_vit import analysis, data, evaluation, export, layers, pretraining, runtime, training  # noqa: F401
else:

    def __getattr__(name: str) -> _Any:
        if name in __all__:
            _import_names()
            return globals()[name]
        if name in _PARTS:
            return _importlib.import_module(f"keras_vit.{name}")
        raise AttributeError(f"module 'keras_vit' has no attribute {name!r}", name=name, obj=_sys.modules[__name__])


# The modules that define the public names.
_MODULES = (
    "builders",
    "conversion",
    "imagenet",
    "models.config",
    "models.features",
    "models.interface",
    "models.resize",
    "models.vision_model",
    "preprocessing",
    "weights.checkpoints",
    "words.encoder",
    "words.tokenizer",
    "words.zero_shot",
)


def _import_names() -> None:
    """Imports the public names, where `import keras_vit` has not done so."""
    modules = [_importlib.import_module(f"keras_vit.{name}") for name in _MODULES]
    for name in __all__:
        globals()[name] = next(vars(module)[name] for module in modules if name in vars(module))


def __dir__() -> list[str]:
    return sorted([*__all__, *_PARTS, "__version__"])
