"""Fine-tuning: frozen layers, low-rank adaptation (LoRA), layer-wise decay of the learning rate."""

import difflib

import keras

from keras_vit import _arguments as checked
from keras_vit.layers import Bottleneck, TransformerBlock


def freeze(model: keras.Model, last: str) -> None:
    """Freezes the layers of a model up to and including a layer; `last="norm"` is a linear probe.

    Args:
        model: a functional model.
        last: name of the last layer to freeze, such as "block_05". "norm" is the last norm, also where it is called
            "pooled_norm", and the pooling in a model without one.

    Raises:
        ValueError: if the layer does not exist, or no trainable weight would remain.

    Example:
        ```python
        variant = keras_vit.Variant(8, 32, 1, 2, 64)
        model = keras_vit.build(variant, input_shape=(32, 32, 3), classes=3, weights=None)
        keras_vit.training.freeze(model, "norm")
        assert [weight.path for weight in model.trainable_weights] == ["head/kernel", "head/bias"]
        ```
    """
    names = [layer.name for layer in model.layers]
    if last == "norm" and last not in names:  # the last norm follows the pooling, or there is none
        last = next((name for name in ("pooled_norm", "pooling") if name in names), last)
    if last not in names:
        near = difflib.get_close_matches(last, names, n=3, cutoff=0.4) or names
        raise ValueError(f"Expected freeze_to to name a layer. Received: {last!r}. Nearest: {', '.join(near)}")
    for layer in model.layers[: names.index(last) + 1]:
        layer.trainable = False
    if not model.trainable_weights:
        raise ValueError(f"Expected freeze_to to leave trainable weights. Received: {last!r}, the last layer with any.")


def add_lora(model: keras.Model, rank: int) -> None:
    """Adds LoRA (low-rank adaptation) to the query and value kernels of each block, and freezes all but the head.

    Args:
        model: a functional model with transformer blocks.
        rank: rank of the added matrices.

    Raises:
        ValueError: if the rank is not a positive integer, or the model has no transformer blocks.

    Example:
        ```python
        variant = keras_vit.Variant(8, 32, 1, 2, 64)
        model = keras_vit.build(variant, input_shape=(32, 32, 3), classes=3, weights=None)
        keras_vit.training.add_lora(model, rank=4)
        assert len(model.trainable_weights) == 4 + 2  # two matrices for each kernel; the head's kernel and bias
        ```

    Source: arXiv:2106.09685, section 4.2.
    """
    rank = checked.integer("rank", rank)
    attention = lora_layers(model)
    if not attention:
        raise ValueError("Expected a model with attention for lora. Received: a model without attention; set lora=0.")
    for layer in model.layers:
        for weight in layer.weights if layer.name != "head" else ():
            weight.trainable = False  # not the layer: a frozen layer would freeze the weights that LoRA adds, too
    for layer in attention:
        layer.enable_lora(rank)


def lora_layers(model: keras.Model) -> list[keras.layers.Layer]:
    blocks = [layer for layer in model.layers if isinstance(layer, TransformerBlock)]
    return [dense for block in blocks for dense in (block.attention.query, block.attention.value)]


def layer_scales(model: keras.Model, decay: float) -> dict[str, float]:
    """Returns the factors on the learning rate of layer-wise learning rate decay.

    Args:
        model: a functional model.
        decay: factor from each block to the one below it. The head and the layers after the last block have a factor of
            1; the layers before the first block count as one more block.

    Returns:
        {path of a trainable weight: factor}, the `scales` of an optimizer.

    Example:
        ```python
        variant = keras_vit.Variant(8, 32, 2, 2, 64)
        model = keras_vit.build(variant, input_shape=(32, 32, 3), classes=3, weights=None)
        scales = keras_vit.training.layer_scales(model, decay=0.5)
        assert scales["head/kernel"] == 1 and scales["block_00/attention/query/kernel"] == 0.25
        ```

    Source: arXiv:2111.06377, appendix A.
    """
    kinds = [kind for kind in (TransformerBlock, Bottleneck) if any(isinstance(x, kind) for x in model.layers)]
    count = sum(isinstance(layer, kinds[0]) for layer in model.layers)
    scales: dict[str, float] = {}
    depth = 0
    for layer in model.layers:
        depth += isinstance(layer, kinds[0])
        above = 0 if depth == count and not isinstance(layer, kinds[0]) else count + 1 - depth
        scales |= {weight.path: decay**above for weight in layer.trainable_weights}
    return scales


def rematerialize(model: keras.Model) -> None:
    """Turns on gradient checkpointing: blocks recompute their activations in the backward pass, to save memory.

    Keras' own RematScope passes `training` to a layer as a tensor, at which every dropout fails. Dropout must be 0 here
    too: the second computation would draw other values than the first.
    """
    for layer in model.layers:
        if isinstance(layer, (TransformerBlock, Bottleneck)):
            layer.rematerialized = True
