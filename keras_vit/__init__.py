"""Vision Transformers for Keras: from a published checkpoint, or from one's own pictures, to a phone."""

import importlib as _importlib
import sys as _sys

__version__ = "0.1.0"

# The public parts beside the names; each is imported when it is first used.
_PARTS = ("analysis", "callbacks", "client", "data", "evaluation", "export", "layers", "pretraining", "training")

# Importing the public names registers the layers with Keras, so that a saved model loads. The console script alone
# leaves that to the commands: Keras and its backend take seconds, and `keras-vit --help` answers at once.
if "keras_vit_command" not in _sys.modules:
    from keras_vit.public import *  # noqa: F403
    from keras_vit.public import __all__  # noqa: F401


def _import_public():
    """Imports the public names, where `import keras_vit` left them out."""
    public = _importlib.import_module("keras_vit.public")
    globals().update({name: getattr(public, name) for name in ("__all__", *public.__all__)})


def __getattr__(name):
    if name in _PARTS:
        return _importlib.import_module(f"keras_vit.{name}")
    if "__all__" not in globals() and (name == "__all__" or not name.startswith("__")):
        _import_public()
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module 'keras_vit' has no attribute {name!r}", name=name, obj=_sys.modules[__name__])


def __dir__():
    return sorted([*_sys.modules[__name__].__all__, *_PARTS, "__version__"])
