"""The base class of layers that contain layers."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_vit import _compat
from keras_vit.layers.hooks import through_hooks

Shape = tuple[Any, ...]  # integers; None for an unknown size


class Composite(keras.layers.Layer):
    """A layer that contains layers, and saves how each of them is quantized.

    `model.quantize("int8")` quantizes the inner layers. Keras saves the quantization of a layer with its constructor
    arguments, but inner layers are made by the outer one's constructor and have no saved arguments of their own.

    Its output is a point that `keras_vit.layers.hooks` reaches, "output".
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return through_hooks(self, "output", super().__call__(*args, **kwargs))

    def get_build_config(self) -> dict[str, Any] | None:
        quantized = {
            name: [layer.quantization_mode, keras.saving.serialize_keras_object(layer.quantization_config)]
            for name, layer in self._inner_layers()
            if layer.quantization_mode
        }
        config = super().get_build_config()
        return {**config, "quantized": quantized} if quantized else config

    def build_from_config(self, config: dict[str, Any]) -> None:
        super().build_from_config(config)
        quantized = config.get("quantized", {})
        for name, layer in self._inner_layers():
            if name in quantized:
                mode, arguments = quantized[name]
                layer.quantize(mode, config=keras.saving.deserialize_keras_object(arguments))

    def _inner_layers(self) -> Iterator[tuple[str, keras.layers.Layer]]:
        """Yields the built inner layers with their paths from this layer on, such as "attention/query"."""
        for layer in _compat.layers_inside(self):
            if layer.path:
                yield layer.path.removeprefix(f"{self.path}/"), layer
