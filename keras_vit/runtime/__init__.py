"""Runs exported files as a client does: with the metadata inside the file, and without the model that it came from.

    file = keras_vit.runtime.open_exported("model_int8.tflite")

Shares no code with the rest of the package, above all not with what writes the files, because it proves them.
"""

from keras_vit.runtime.files import is_exported, open_exported

__all__ = ["is_exported", "open_exported"]
