"""A layer with layers inside, each of which may be quantized."""

import keras

from keras_vit import _compat
from keras_vit.layers.hooks import through_hooks


class Composite(keras.layers.Layer):
    """A layer with layers inside, which is saved with how each of them is quantized.

    `model.quantize("int8")` quantizes the layers inside. Keras saves that with a layer's own arguments, which those
    inside have none of: the outer one makes them.

    Its output is a point that `keras_vit.layers.hooks` reaches, "output".
    """

    def __call__(self, *args, **kwargs):
        return through_hooks(self, "output", super().__call__(*args, **kwargs))

    def get_build_config(self):
        quantized = {
            name: [layer.quantization_mode, keras.saving.serialize_keras_object(layer.quantization_config)]
            for name, layer in self._inside()
            if layer.quantization_mode
        }
        config = super().get_build_config()
        return {**config, "quantized": quantized} if quantized else config

    def build_from_config(self, config):
        super().build_from_config(config)
        quantized = config.get("quantized", {})
        for name, layer in self._inside():
            if name in quantized:
                mode, arguments = quantized[name]
                layer.quantize(mode, config=keras.saving.deserialize_keras_object(arguments))

    def _inside(self):
        """Yields the built layers inside with their names from here on, such as "attention/query"."""
        for layer in _compat.layers_inside(self):
            if layer.path:
                yield layer.path.removeprefix(f"{self.path}/"), layer
