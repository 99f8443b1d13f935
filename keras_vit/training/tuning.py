"""What of a model is trained, how fast each part of it, and the finished model that it leaves."""

import difflib
import functools

import keras

from keras_vit.layers import Bottleneck, TransformerBlock


def freeze(model, name):
    """Freezes a model up to and with the layer of a name; "norm" leaves the head alone, a linear probe.

    Raises:
        ValueError: if there is no such layer, or nothing would be left to train.
    """
    names = [layer.name for layer in model.layers]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise ValueError(f"Expected freeze_to to name a layer. Received: {name!r}. Nearest: {', '.join(near)}")
    for layer in model.layers[: names.index(name) + 1]:
        layer.trainable = False
    if not model.trainable_weights:
        raise ValueError(f"Expected freeze_to to leave something to train. Received: {name!r}, which is the last.")


def add_lora(model, rank):
    """Freezes all but the head, and adds low-rank matrices to each block's query and value kernels.

    Raises:
        ValueError: if the model has no transformer blocks.

    Source: arXiv:2106.09685, section 4.2.
    """
    attention = _lora_layers(model)
    if not attention:
        raise ValueError("Expected a model with attention, for lora. Received one without; set lora=0.")
    for layer in model.layers:
        for weight in layer.weights if layer.name != "head" else ():
            weight.trainable = False  # not the layer: what a layer that stands still is given would stand still too
    for layer in attention:
        layer.enable_lora(rank)


def _lora_layers(model):
    blocks = [layer for layer in model.layers if isinstance(layer, TransformerBlock)]
    return [dense for block in blocks for dense in (block.attention.query, block.attention.value)]


def layer_scales(model, decay):
    """Returns {path: factor on the learning rate} of the trained weights: `decay` once more for each block below.

    The head and what is behind the last block have 1; what is before the first block counts as one more block.
    """
    kinds = [kind for kind in (TransformerBlock, Bottleneck) if any(isinstance(x, kind) for x in model.layers)]
    count = sum(isinstance(layer, kinds[0]) for layer in model.layers)
    scales, depth = {}, 0
    for layer in model.layers:
        depth += isinstance(layer, kinds[0])
        above = count + 1 - (depth if layer.name not in ("norm", "pooling", "pre_logits", "head") else count + 1)
        scales |= {weight.path: decay**above for weight in layer.trainable_weights}
    return scales


def rematerialize(model):
    """Lets each block compute its inner values again on the way back instead of keeping them: slower, in less memory.

    Keras' own RematScope hands `training` to a layer as a tensor, at which every dropout fails. Dropout has to be 0
    here, too: what is drawn the second time is not what was drawn the first.
    """
    for layer in model.layers:
        if isinstance(layer, (TransformerBlock, Bottleneck)):
            layer.call = _again(layer.call)


def _again(call):
    def rematerialized(x, **settings):
        return keras.remat(functools.partial(call, **settings))(x)

    return rematerialized


def finish(model, trained, optimizer):
    """Gives a model the weights of a trained one: their running means where there are any, low ranks merged.

    Args:
        model: of the same architecture, plain.
        trained: the model whose layers were trained.
        optimizer: what trained it.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if optimizer.ema:
        with_means(trained, optimizer)
    values = {weight.path: weight for weight in trained.weights}
    for layer in _lora_layers(trained):
        if layer.lora_enabled:
            values[layer._kernel.path] = layer.kernel  # the sum of both
    for weight in model.weights:
        weight.assign(keras.ops.convert_to_numpy(values[weight.path]))


def with_means(model, optimizer):
    """Sets a model's trained weights to their running means, and returns what they were."""
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    for weight, mean in zip(model.trainable_weights, optimizer.averages):
        weight.assign(keras.ops.convert_to_numpy(mean))
    return before
