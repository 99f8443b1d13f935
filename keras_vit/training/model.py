"""The model of a recipe: built, compiled for training, and its trained weights copied back."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_vit.builders import build
from keras_vit.data.sources import Examples
from keras_vit.layers import NamedNumbers
from keras_vit.layers.initializers import weights_to_come
from keras_vit.models.config import Pooling, Variant, get_variant
from keras_vit.models.vision_model import VisionModel
from keras_vit.training.distillation import DistillationLoss, Teacher, distilled_outputs
from keras_vit.training.fine_tuning import add_lora, freeze, layer_scales, lora_layers, rematerialize
from keras_vit.training.head import with_head_of
from keras_vit.training.losses import CrossEntropy
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.optimizers import optimizer_of
from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import Plan
from keras_vit.training.trainer import make_trainer

# {name of a number: (mean, standard deviation)}, in its own unit
Units = Mapping[str, tuple[float, float]]


def new_model(recipe: Recipe, class_names: Sequence[str], units: Units | None = None) -> keras.Model:
    """Builds the model of a recipe, with random weights or those of its checkpoint.

    Args:
        recipe: the recipe.
        class_names: of the outputs of the head; a pre-training objective has no head.
        units: of numbers; the model then returns numbers in these.

    Returns:
        The model.

    Raises:
        ValueError: if the architecture does not fit the image size, the checkpoint does not fit the architecture, or
            a head that is to be kept lacks a class.
    """
    objective, row = OBJECTIVES[recipe.objective], get_variant(recipe.variant)
    is_kept = recipe.head == "kept"
    if isinstance(row, Variant) and not is_kept:
        row = dataclasses.replace(row, unit_embedding=False)  # which only a head of words reads
    has_head = objective.learns is not None
    pooling = recipe.pooling or (None if has_head else getattr(row, "pooling", "gap"))
    model = build(
        row,
        include_top=has_head,
        weights=recipe.weights,
        new_head=recipe.weights is not None and not is_kept,
        input_shape=(*recipe.size, recipe.channels),
        pooling=cast("Pooling | None", pooling),
        classes=len(class_names) if has_head and not is_kept else None,
        classifier_activation=objective.activation,
        representation_size=recipe.representation_size,
        dropout=recipe.dropout,
        stochastic_depth=recipe.stochastic_depth,
        gelu=recipe.gelu,
        # The colours of RGBA keep their kernels. One channel gets their sum, so that grey images have the response of
        # grey in RGB, and each of some bands an equal share of it.
        channels="slice" if recipe.channels == 4 else "average",
    )
    if is_kept:
        return with_head_of(model, class_names, objective.activation)
    if recipe.head_bias:
        for bias in (weight for weight in model.get_layer("head").weights if weight.name == "bias"):
            bias.assign(np.full(len(class_names), recipe.head_bias, np.float32))
    if units is None:
        return model
    mean, std = zip(*units.values())
    numbers = NamedNumbers(tuple(units), mean, std, dtype="float32", name="numbers")
    return VisionModel(model.input, numbers(model.output), name=model.name, license=model.license)


def compiled_trainer(
    recipe: Recipe,
    plan: Plan,
    model: keras.Model,
    examples: Examples | None = None,
    teacher: Teacher | None = None,
) -> keras.Model:
    """Prepares a recipe's model for training and compiles it; call it within `dtype_policy`.

    Args:
        recipe: the recipe.
        plan: length of the run.
        model: model of `new_model`; its layers are trained.
        examples: to train on, for the weights of labels in the loss; None for equal weights.
        teacher: of the recipe, if it has one.

    Returns:
        The trainer of `make_trainer`, compiled and with a built optimizer.

    Raises:
        ValueError: if the model does not suit the recipe's objective, or lacks a layer that the recipe names.
    """
    if recipe.remat:
        rematerialize(model)
    if recipe.freeze_to:
        freeze(model, recipe.freeze_to)
    if recipe.lora:
        add_lora(model, recipe.lora)
    objective = OBJECTIVES[recipe.objective]
    loss, outputs = objective.loss(recipe, examples), None
    if teacher is not None and isinstance(loss, CrossEntropy):
        classes = model.get_layer("head").units
        loss = DistillationLoss(loss, classes, recipe.distill, recipe.temperature, recipe.distill_weight)
        outputs = distilled_outputs(model, recipe.distill, teacher.width)
    trainer = make_trainer(
        objective.network(model, recipe),
        loss=loss,
        outputs=outputs,
        clip_norm=recipe.clip_norm,
        accumulation=recipe.accumulation,
        patch_sizes=recipe.patch_sizes,
    )
    scales = layer_scales(model, recipe.layer_decay) if recipe.layer_decay < 1 else {}
    on_jax = keras.backend.backend() == "jax"
    trainer.compile(
        optimizer_of(recipe, plan.steps, plan.warmup_steps, scales), jit_compile=on_jax or recipe.jit_compile
    )
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def rebuilder(model: keras.Model) -> Callable[[], keras.Model]:
    """Returns a function that builds the same architecture again, in float32 and with all weights 0.

    It keeps the model's configuration as it is now: the layers may be changed later, and no checkpoint is read again.
    """
    config = _in_float32(model.get_config())

    def rebuilt() -> keras.Model:
        with weights_to_come():
            return type(model).from_config(config)

    return rebuilt


def _in_float32(config: Any) -> Any:
    if isinstance(config, dict):
        return {name: "float32" if name == "dtype" else _in_float32(value) for name, value in config.items()}
    return [_in_float32(value) for value in config] if isinstance(config, list | tuple) else config


def copy_trained_weights(model: keras.Model, trainer: keras.Model) -> None:
    """Copies the result of training to a plain model: the EMA weights if there are any, LoRA merged into the kernels.

    Args:
        model: model of the same architecture, as `rebuilder` builds it.
        trainer: the trained model, with its optimizer.
    """
    if _inner_optimizer(trainer).ema:
        assign_ema(trainer)
    values = {weight.path: weight for weight in trainer.weights}
    for layer in lora_layers(trainer):
        if layer.lora_enabled:
            (kernel,) = (weight for weight in layer.weights if weight.name == "kernel")
            values[kernel.path] = layer.kernel  # the sum of both
    for weight in model.weights:
        weight.assign(keras.ops.convert_to_numpy(values[weight.path]))


def assign_ema(trainer: keras.Model) -> list[np.ndarray]:
    """Sets the trainable weights to their exponential moving average (EMA); returns their values before."""
    before = [keras.ops.convert_to_numpy(weight) for weight in trainer.trainable_weights]
    for weight, average in zip(trainer.trainable_weights, _inner_optimizer(trainer).averages):
        weight.assign(keras.ops.convert_to_numpy(average))
    return before


def _inner_optimizer(trainer: keras.Model) -> keras.optimizers.Optimizer:
    """Returns the optimizer, without the LossScaleOptimizer around it."""
    return getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer)


@contextlib.contextmanager
def dtype_policy(recipe: Recipe) -> Iterator[None]:
    """Sets Keras' dtype policy to the recipe's precision within a `with` block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
