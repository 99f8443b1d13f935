"""The model of a recipe, plain and as it is trained."""

import contextlib

import keras
import numpy as np

from keras_vit.builders import build
from keras_vit.layers.initial import weights_to_come
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.optimizers import optimizer_of
from keras_vit.training.trainer import trainer
from keras_vit.training.tuning import add_lora, freeze, layer_scales, rematerialize
from keras_vit.variants import get_variant


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
