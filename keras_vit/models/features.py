"""Feature extraction: feature maps for segmentation and detection, and feature vectors for retrieval."""

import difflib
from collections.abc import Iterable
from typing import Any

import keras

from keras_vit.layers import Bottleneck, TokenMap, TransformerBlock
from keras_vit.models.description import describe_model, our_model
from keras_vit.models.hooks import Watch, head_of


def features(model: keras.Model, names: str | Iterable[str]) -> keras.Model:
    """Returns a model that outputs feature maps from inside another, (batch, height, width, channels) each.

    Args:
        model: a functional model with layers of keras_vit.
        names: the feature maps to return, in this order: "stem" (the first convolution of a hybrid or a BiT, stride 2),
            "stage1" to "stage4" (stride 4, 8, 16, 32), "block_00" and so on (the patch tokens after a transformer
            block, as a map of the grid of patches), "norm" (the patch tokens after the last norm).

    Returns:
        A functional `keras.Model` with the same weights. Its output is a list of feature maps, or one where `names` is
        one string.

    Raises:
        ValueError: if the model has no layers of keras_vit, or names are unknown; all such names in one message.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=2, num_heads=2, mlp_dim=64)
        model = keras_vit.build(tiny, input_shape=(32, 48, 3), classes=3)
        first, last = keras_vit.features(model, ["block_00", "norm"])(np.zeros((1, 32, 48, 3)))
        assert first.shape == last.shape == (1, 4, 6, 32)
        ```
    """
    inner, grid = our_model(model), describe_model(model).grid
    known = _map_layers(inner)
    wanted = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else []
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        near = difflib.get_close_matches(str(unknown[0]), known, n=3) if unknown else []
        raise ValueError(
            f"Expected names of feature maps of {model.name!r}: {', '.join(known)}. Received: {unknown or names!r}"
            + (f". Nearest names: {', '.join(near)}" if near else "")
        )
    maps = []
    for name in wanted:
        x = known[name].output
        if len(x.shape) == 3:
            x = TokenMap(grid or (), name=f"{name}_map")(x)
        maps.append(x)
    return keras.Model(inner.input, maps[0] if isinstance(names, str) else maps, name=f"{inner.name}_features")


def _map_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns {name: layer} of the feature maps of a model; the map of a stage is that of its last unit."""
    known = {}
    for layer in model.layers:
        if isinstance(layer, Bottleneck):
            known[layer.name.partition("_")[0]] = layer
        elif isinstance(layer, TransformerBlock) or layer.name in ("stem", "norm"):
            known[layer.name] = layer
    return known


def representation(model: keras.Model) -> keras.Model:
    """Returns a model that outputs the feature vector of an image, (batch, features): the input of the head.

    Args:
        model: any Keras model. Its head is the last `Dense` layer that is neither inside a layer of keras_vit nor
            called "pre_logits" or "projection"; of a model without one, the features are its output.

    Returns:
        A `keras.Model` with the same weights. It raises a ValueError when it runs if the features are not
        (batch, features).

    Raises:
        ValueError: if `model` is not a Keras model.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        model = keras_vit.build(tiny, input_shape=(32, 32, 3), classes=3)
        assert keras_vit.representation(model).predict(np.zeros((2, 32, 32, 3)), verbose=0).shape == (2, 32)
        ```
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: a {type(model).__name__}")
    return Representation(model)


class Representation(Watch):
    """Outputs the input of the head, or the output of a model without a head."""

    def __init__(self, model: keras.Model) -> None:
        head = head_of(model)

        def read(layer: keras.layers.Layer, x: Any) -> Any:
            if len(x.shape) != 2:
                raise ValueError(
                    f"Expected features of shape (batch, features). Received: {model.name!r}, which returns "
                    f"{tuple(x.shape)}. Build it with pooling='token', 'gap' or 'map'."
                )
            return x

        super().__init__(model, [head or model], "input" if head else "output", read)

    def call(self, images: Any) -> Any:
        return super().call(images)[0]


class PredictionAndRepresentation(Representation):
    """Outputs what a model does, and the features of `Representation`, in one pass: (outputs, features)."""

    def call(self, images: Any) -> Any:
        with self.keeping() as kept:
            outputs = self.model(images, training=False)
        return outputs, kept[0]
