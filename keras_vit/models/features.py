"""Maps from inside a model, for what is built on top: segmentation, detection, retrieval."""

import difflib
from collections.abc import Iterable

import keras

from keras_vit.layers import Bottleneck, TokenMap, TransformerBlock
from keras_vit.models.description import describe_model, our_model
from keras_vit.models.hooks import Watch, head_of


def features(model, names):
    """Returns a model that gives maps from inside another, (batch, rows, columns, channels) each.

    Args:
        model: a functional model with our layers.
        names: what to give, in this order: "stem" (the first convolution of a hybrid or a BiT, stride 2), "stage1" to
            "stage4" (stride 4, 8, 16, 32), "block_00" and on (a transformer block's tokens, those of patches alone,
            laid out as their grid), "norm" (the same after the last norm).

    Returns:
        A functional `keras.Model` on the same weights, with a list of maps, or one map where `names` is one text.

    Raises:
        ValueError: if the model holds no layers of ours, or a name is unknown; all such names in one message.
    """
    inner, told = our_model(model), describe_model(model)
    found = _maps(inner)
    wanted = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else []
    unknown = [name for name in wanted if name not in found]
    if unknown or not wanted:
        near = difflib.get_close_matches(str(unknown[0]), found, n=3) if unknown else []
        raise ValueError(
            f"Expected names of maps of {model.name!r}: {', '.join(found)}. Received: {unknown or names!r}"
            + (f". Nearest: {', '.join(near)}" if near else "")
        )
    maps = []
    for name in wanted:
        layer = found[name]
        x = layer.output
        if len(x.shape) == 3:
            x = TokenMap(told.grid, name=f"{name}_map")(x)
        maps.append(x)
    return keras.Model(inner.input, maps[0] if isinstance(names, str) else maps, name=f"{inner.name}_features")


def _maps(model):
    """Returns {name: layer} of what can be asked for; a stage is its last unit."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, Bottleneck):
            found[layer.name.partition("_")[0]] = layer
        elif isinstance(layer, TransformerBlock) or layer.name in ("stem", "norm"):
            found[layer.name] = layer
    return found


def representation(model):
    """Returns a model that gives what another's head reads, (batch, width): the features of an image.

    Args:
        model: any Keras model. Its head is the last `Dense` layer that is neither inside a layer of ours nor
            "pre_logits"; of a model without one, its own output is given.

    Returns:
        A `keras.Model` on the same weights. Running it raises a ValueError where the features are not (batch, width).
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: a {type(model).__name__}")
    return _Representation(model)


class _Representation(Watch):
    """Gives what the head reads, or the output of the model where there is none."""

    def __init__(self, model):
        head = head_of(model)
        super().__init__(model, [head] if head else [], "input")
        self.has_head = head is not None

    def call(self, images):
        x = super().call(images)[0] if self.has_head else self.model(images, training=False)
        if len(x.shape) != 2:
            raise ValueError(
                f"Expected features of shape (batch, width). Received: {self.model.name!r}, which gives "
                f"{tuple(x.shape)}. Build it with pooling='token', 'gap' or 'map'."
            )
        return x
