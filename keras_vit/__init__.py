"""Vision Transformers for Keras: from a published checkpoint, or from one's own images, to a phone."""

import importlib as _importlib
import sys as _sys

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
]

# The public parts beside the names; each is imported when it is first used.
_PARTS = ("analysis", "data", "evaluation", "export", "layers", "pretraining", "runtime", "training")

# Importing the public names registers the layers with Keras, so that a saved model loads. The console script alone
# leaves that to the commands: Keras and its backend take seconds, and `keras-vit --help` answers at once.
if "keras_vit_command" not in _sys.modules:
    from keras_vit._public import *


def _import_public():
    """Imports the public names, where `import keras_vit` left them out."""
    public = _importlib.import_module("keras_vit._public")
    globals().update({name: getattr(public, name) for name in __all__})


def __getattr__(name):
    if name in __all__:
        _import_public()
        return globals()[name]
    if name in _PARTS:
        return _importlib.import_module(f"keras_vit.{name}")
    raise AttributeError(f"module 'keras_vit' has no attribute {name!r}", name=name, obj=_sys.modules[__name__])


def __dir__():
    return sorted([*__all__, *_PARTS, "__version__"])
