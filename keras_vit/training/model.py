"""The model of a recipe, plain and as it is trained."""

import contextlib
import difflib

import keras
import numpy as np

from keras_vit.builders import build
from keras_vit.layers import Bottleneck, TransformerBlock
from keras_vit.layers.initializers import weights_to_come
from keras_vit.models.config import get_variant
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.optimizers import optimizer_of
from keras_vit.training.trainer import trainer


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
            layer.rematerialized = True


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
            (kernel,) = (weight for weight in layer.weights if weight.name == "kernel")
            values[kernel.path] = layer.kernel  # the sum of both
    for weight in model.weights:
        weight.assign(keras.ops.convert_to_numpy(values[weight.path]))


def with_means(model, optimizer):
    """Sets a model's trained weights to their running means, and returns what they were."""
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    for weight, mean in zip(model.trainable_weights, optimizer.averages):
        weight.assign(keras.ops.convert_to_numpy(mean))
    return before


def new_model(recipe, num_classes):
    """Builds the model of a recipe, with its first weights drawn at random or read from its checkpoint.

    It has no head where nothing is learned of classes.

    Raises:
        ValueError: if the architecture does not fit the image size, or the checkpoint does not fit the architecture.
    """
    has_classes, row = OBJECTIVES[recipe.objective].has_classes, get_variant(recipe.variant)
    model = build(
        row,
        include_top=has_classes,
        weights=recipe.weights,
        new_head=recipe.weights is not None,
        input_shape=(recipe.image_size, recipe.image_size, 3),
        pooling=recipe.pooling if has_classes else recipe.pooling or getattr(row, "pooling", "gap"),
        classes=num_classes if has_classes else None,
        representation_size=recipe.representation_size,
        dropout=recipe.dropout,
        stochastic_depth=recipe.stochastic_depth,
        gelu=recipe.gelu,
    )
    if recipe.head_bias:
        for bias in (weight for weight in model.get_layer("head").weights if weight.name == "bias"):
            bias.assign(np.full(num_classes, recipe.head_bias, np.float32))
    return model


def rebuilder(model):
    """Returns a function that builds a model anew, in float32 and with weights of 0.

    It needs no checkpoint: the model is described by what it is now, and its layers may be changed meanwhile.
    """
    config = _in_float32(model.get_config())

    def rebuilt():
        with weights_to_come():
            return type(model).from_config(config)

    return rebuilt


def _in_float32(config):
    if isinstance(config, dict):
        return {name: "float32" if name == "dtype" else _in_float32(value) for name, value in config.items()}
    return [_in_float32(value) for value in config] if isinstance(config, list | tuple) else config


def trained_model(recipe, plan, model):
    """Returns the layers of a recipe's model as they are trained; for use within `precision`.

    Raises:
        ValueError: if the model is not for the recipe's objective, or has not the layers that the recipe speaks of.
    """
    if recipe.remat:
        rematerialize(model)
    if recipe.freeze_to:
        freeze(model, recipe.freeze_to)
    if recipe.lora:
        add_lora(model, recipe.lora)
    objective = OBJECTIVES[recipe.objective]
    trained = trainer(
        objective.network(model, recipe),
        kind=recipe.loss if objective.has_classes else "own",
        smoothing=recipe.label_smoothing,
        clip_norm=recipe.clip_norm,
        accumulation=recipe.accumulation,
    )
    scales = layer_scales(model, recipe.layer_decay) if recipe.layer_decay < 1 else {}
    on_jax = keras.backend.backend() == "jax"
    trained.compile(
        optimizer_of(recipe, plan.steps, plan.warmup_steps, scales), jit_compile=on_jax or recipe.jit_compile
    )
    trained.optimizer.build(trained.trainable_variables)
    return trained


@contextlib.contextmanager
def precision(recipe):
    """Sets Keras' precision for the time of the training."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
