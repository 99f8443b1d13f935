"""Exports a trained model to a file for a phone, server or browser, and proves that the file agrees with the model.

    keras_vit.export.tflite(model, "phone/model.tflite", class_names=names, images=paths)

Each of the functions `tflite`, `savedmodel`, `onnx`, `openvino` and `web` writes one file (or folder), runs it as a
client does, and keeps it only if it agrees with the model.
"""

# The folders tflite/ and web/ have the names of two functions. Importing a folder sets its name on this package, once:
# they are imported first, so that the functions below take the names and keep them.
import keras_vit.export.tflite  # noqa: F401
import keras_vit.export.web  # noqa: F401
from keras_vit.export.api import export_model, onnx, openvino, savedmodel, sensitivity, tflite, web

__all__ = ["export_model", "onnx", "openvino", "savedmodel", "sensitivity", "tflite", "web"]
