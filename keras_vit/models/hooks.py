"""Looks into a model from outside, while it runs: reads or replaces what its layers compute.

The model needs no second output and no flag for it, and may hold our layers however deep.
"""

import contextlib

import keras

from keras_vit import _compat
from keras_vit.layers import AttentionPooling, DistilledHead, PatchEncoder, TransformerBlock

WHOLE = (TransformerBlock, AttentionPooling, PatchEncoder, DistilledHead)  # layers of ours with ordinary layers inside


def layers_of(model, kind):
    """Returns the layers of a class or of classes, those inside other models and layers too, in order."""
    return [layer for layer in _compat.layers_inside(model) if isinstance(layer, kind)]


def outer_layers_of(model, kind):
    """Returns the same without those that are parts of a layer of ours."""
    parts = {id(part) for layer in layers_of(model, WHOLE) for part in layers_of(layer, keras.layers.Layer)}
    return [layer for layer in layers_of(model, kind) if id(layer) not in parts]


def head_of(model):
    """Returns the last `Dense` layer that is neither inside a layer of ours nor "pre_logits"; None without one."""
    heads = [layer for layer in outer_layers_of(model, keras.layers.Dense) if layer.name != "pre_logits"]
    return heads[-1] if heads else None


@contextlib.contextmanager
def replaced(layers, method, make):
    """Lets layers compute something else for a while.

    Args:
        layers: whose method is replaced, as long as the context lasts.
        method: its name, as "call".
        make: function of (layer, its own method); returns the one to call instead.
    """
    before = [vars(layer).get(method) for layer in layers]
    try:
        for layer in layers:
            vars(layer)[method] = make(layer, getattr(layer, method))
        yield
    finally:
        for layer, own in zip(layers, before):
            # Where the class has it, the instance has none; it may have one, as a block under remat does.
            vars(layer).pop(method, None)
            if own is not None:
                vars(layer)[method] = own


class Watch(keras.Model):
    """Runs a model and gives what its layers compute on the way: a list, in the order in which they are called.

    Use `predict` or `predict_on_batch`, as of any Keras model.

    Args:
        model: any Keras model.
        layers: those to watch.
        method: the one whose results are kept.
        read: function of (layer, result, *what the layer was called with); gives what is kept in place of the result.
    """

    def __init__(self, model, layers, method="call", read=lambda layer, result, *inputs: result):
        super().__init__(name=f"{model.name}_watch")
        self.model = model

        def run(images):
            kept = []

            def make(layer, own):
                def call(*args, **kwargs):
                    result = own(*args, **kwargs)
                    kept.append(read(layer, result, *args))
                    return result

                return call

            with replaced(layers, method, make):
                model(images, training=False)
            return kept

        self._run = run

    def call(self, images):
        return self._run(images)
