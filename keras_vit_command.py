"""The console script `keras-vit`, a module outside the package.

`import keras_vit` imports Keras, which takes seconds, so that the layers of a saved model are registered. If this
module is imported first, `keras_vit` leaves that to the commands that need Keras, and `keras-vit --help` is instant.
"""

from keras_vit.commands.cli import main

__all__ = ["main"]
