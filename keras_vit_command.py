"""The console script `keras-vit`, a module beside the package.

`import keras_vit` imports Keras, which takes seconds, so that the layers of a saved model are registered. `keras-vit
--help` answers at once: where this module is imported first, `keras_vit` leaves Keras to the command that needs it.
"""

from keras_vit.commands.cli import main

__all__ = ["main"]
