"""Training: `train` fits the model of a recipe, and resumes from the newest checkpoint."""

import dataclasses
import functools
import logging
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit.data.augmentation import Augmentation
from keras_vit.data.listing import SPLITS, weight_faults
from keras_vit.data.order import order_of
from keras_vit.data.pipeline import training_batches, validation_batches
from keras_vit.data.sources import Examples, Source
from keras_vit.models.interface import pixels_of
from keras_vit.models.reject import images_needed
from keras_vit.preprocessing import Pixels
from keras_vit.training.checkpoints import TrainingCheckpoints
from keras_vit.training.class_weights import class_weights_of
from keras_vit.training.devices import Devices
from keras_vit.training.distillation import require_same_teacher, teacher_columns, teacher_of, with_unlabelled
from keras_vit.training.early_stopping import EarlyStopping
from keras_vit.training.head import start_head
from keras_vit.training.logs import Logs
from keras_vit.training.model import Units, compiled_trainer, copy_trained_weights, dtype_policy, new_model, rebuilder
from keras_vit.training.objectives import network_around
from keras_vit.training.recipe import Recipe
from keras_vit.training.run import Run
from keras_vit.training.schedules import Plan, plan_of
from keras_vit.training.signals import Signals

logger = logging.getLogger("keras_vit")

CHECKPOINTS = "checkpoints"


def train(
    recipe: Recipe,
    source: Source,
    folder: str | os.PathLike[str],
    devices: Devices | None = None,
    begin: Callable[[keras.Model], None] = lambda model: None,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Trains the model of a recipe with `model.fit`; resumes from the folder's newest checkpoint if there is one.

    The same recipe and data result in the same weights, bit for bit, on the same CPU, however often the run was killed
    and resumed. On several devices they differ by the order of sums, and each device draws its own dropout and mask.

    Args:
        recipe: the recipe.
        source: source of the images, as `keras_vit.data.sources.open_source` returns it.
        folder: folder of the run, for its training checkpoints and logs.
        devices: the devices; one by default.
        begin: called with the model after all checks, right before the first file is written.

    Returns:
        The trained network, in float32 and for one device, and the rows of the log, one an epoch. The network is the
        model itself, or with a pre-training objective one around it (`vit_of` returns the model).

    Raises:
        ValueError: if the loss is NaN, infinite or above `max_loss`, the checkpoints belong to another model, or
            settings contradict each other or the data.
        KeyboardInterrupt: after SIGINT (Ctrl-C); the run can resume.
        SystemExit: after SIGTERM, likewise.

    Example:
        ```python
        from keras_vit.data.sources import open_source

        recipe = keras_vit.training.Recipe(
            data="synthetic:2x16", variant=keras_vit.Variant(8, 8, 1, 2, 16), image_size=8, steps=2, batch_size=4
        )
        model, log = keras_vit.training.train(recipe, open_source(recipe.data), "run")
        assert log[-1]["step"] == 2
        ```
    """
    devices = devices or Devices()
    folder = pathlib.Path(folder)
    labelled, source = source, with_unlabelled(recipe, source)
    order = order_of(source.train.labels, recipe.batch_size, recipe.seed, recipe.full_batches, recipe.sampling)
    plan = plan_of(recipe, order.steps_per_pass)
    _check(recipe, source, devices)
    if recipe.randaugment and recipe.channels != 3:
        logger.info("RandAugment has no colour saturation for images of %s", counted(recipe.channels, "channel"))
    teacher = teacher_of(recipe, labelled)
    keras.utils.set_random_seed(recipe.seed)
    source, units = prepared(source)
    with devices.scope(), dtype_policy(recipe):
        model = new_model(recipe, source.class_names, units)
        if teacher and hasattr(model, "license") and not model.license:
            model.license = getattr(teacher.model, "license", None)
        rebuilt = rebuilder(model)
        trainer = compiled_trainer(recipe, plan, model, source.train, teacher)
        size, pixels = model.input_shape[1:3], pixels_of(model)
        columns = teacher_columns(recipe, teacher, source.train, size, pixels) if teacher else None
        batches = functools.partial(batches_of, recipe, source, size, pixels, plan, more_targets=columns)
        validation, validation_steps = _validation(recipe, source, size, pixels, devices)
        with Signals() as signals:
            run = Run(
                recipe,
                plan,
                lambda step: [source.train.names[i] for i in np.asarray(order.indices(step))],
                TrainingCheckpoints(folder / CHECKPOINTS, recipe.keep_checkpoints),
                Logs(folder, tensorboard=recipe.tensorboard) if devices.chief else None,
                devices,
                signals,
                _early_stopping(recipe, source),
                source.train.weights is not None and not source.train.weights.all(),
            )
            begin(model)
            require_same_teacher(folder, teacher, recipe, source, devices.chief)
            run.restore(trainer)
            if not run.step:
                start_head(recipe, model, labelled if recipe.unlabelled else source)
            if not run.finished and keras.backend.backend() != "torch":
                logger.info("the first step compiles the training, which may take minutes")
            for epoch, epochs, steps in plan.segments(run.step):
                if run.finished:
                    break
                trainer.fit(
                    devices.distribute(functools.partial(batches, run.step)),
                    initial_epoch=epoch,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    validation_data=validation,
                    validation_steps=validation_steps,
                    callbacks=[run],
                    shuffle=False,  # `batches` are shuffled already
                    verbose=0,
                )
            run.restore_best()
    finished = network_around(trainer, rebuilt())
    copy_trained_weights(finished, trainer)
    return finished, run.logs.rows() if run.logs else []


def _check(recipe: Recipe, source: Source, devices: Devices) -> None:
    """Raises a ValueError with all settings that the devices or the data do not support."""
    faults = []
    if recipe.batch_size % (devices.replicas * recipe.accumulation):
        faults.append(
            f"batch_size={recipe.batch_size} is not divisible over {devices.description}, in "
            f"{recipe.accumulation} parts each; choose a multiple of {devices.replicas * recipe.accumulation}"
        )
    if (devices.strategy, recipe.momentum_dtype, keras.backend.backend()) == ("multiworker", "bfloat16", "tensorflow"):
        faults.append("momentum_dtype=bfloat16: TensorFlow cannot send it to other workers; choose float32")
    if recipe.jit_compile and keras.backend.backend() == "torch":
        faults.append("jit_compile=True: PyTorch takes many minutes to compile Keras' whole step; choose False")
    examples = _weighted(recipe, source)
    faults += weight_faults(examples.weights, examples.names)
    if recipe.reject and source.learns != "classes":
        faults.append(f"reject={recipe.reject:g} with {source.learns}; it is for one class an image")
    elif recipe.reject and len(source.validation.labels) < (least := images_needed(recipe.reject)):
        faults.append(
            f"reject={recipe.reject:g} with {len(source.validation.labels)} validation images; it needs {least} or "
            "more. Set a larger share, or a larger validation"
        )
    if not len(source.validation.labels):
        faults += [
            f"{setting} needs validation images; set validation above 0"
            for setting, used in (("early_stopping", recipe.early_stopping), ("keep=best", recipe.keep == "best"))
            if used
        ]
    if faults:
        raise ValueError(
            "Expected a recipe that fits the devices and the data. Received:\n"
            + "\n".join(f"  {fault}" for fault in faults)
        )


def _early_stopping(recipe: Recipe, source: Source) -> EarlyStopping | None:
    if not recipe.early_stopping:
        return None
    return EarlyStopping(recipe.early_stopping, recipe.early_stopping_steps, len(source.validation.labels))


def batches_of(
    recipe: Recipe,
    source: Source,
    size: tuple[int, int],
    pixels: Pixels,
    plan: Plan,
    first_step: int,
    parts: tuple[int, int, int],
    more_targets: Callable[[dict[str, Any], Any], Any] | None = None,
) -> Any:
    """Returns a recipe's training batches from a step on, as a tf.data.Dataset; see `training_batches`."""
    return training_batches(
        _weighted(recipe, source),
        size,
        len(source.class_names),
        batch_size=recipe.batch_size,
        steps=plan.steps,
        first_step=first_step,
        seed=recipe.seed,
        augmentation=Augmentation(
            rotate=recipe.rotate,
            shift=recipe.shift,
            zoom=recipe.zoom,
            shear=recipe.shear,
            flip=recipe.flip,
            crop=recipe.crop,
            crop_from=recipe.crop_from,
            randaugment=recipe.randaugment,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            keras_cv=recipe.keras_cv,
        ),
        contract=pixels,
        full_batches=recipe.full_batches,
        sampling=recipe.sampling,
        parts=parts,
        more_targets=more_targets,
    )


def prepared(source: Source) -> tuple[Source, Units | None]:
    """Returns a source as it is trained on, and the units of its numbers; None for classes and labels.

    Numbers get the mean 0 and the standard deviation 1 of the training images.
    """
    if source.learns != "numbers":
        return source, None
    mean, std = source.train.labels.mean(axis=0), source.train.labels.std(axis=0)
    splits = {split: getattr(source, split) for split in SPLITS}
    standardized = {
        split: dataclasses.replace(examples, labels=(examples.labels - mean) / std)
        for split, examples in splits.items()
    }
    units = dict(zip(source.class_names, zip(mean.tolist(), std.tolist()), strict=True))
    return dataclasses.replace(source, **standardized), units


def _weighted(recipe: Recipe, source: Source) -> Examples:
    """Returns the training images with the weights of their classes in the loss, times their own."""
    examples = source.train
    if source.learns != "classes":
        return examples
    class_weights = class_weights_of(recipe.class_weights, examples.labels, source.class_names)
    if class_weights is None:
        return examples
    own = 1.0 if examples.weights is None else examples.weights
    return dataclasses.replace(examples, weights=(class_weights[examples.labels] * own).astype(np.float32))


def _validation(
    recipe: Recipe, source: Source, size: tuple[int, int], pixels: Pixels, devices: Devices
) -> tuple[Any, int | None]:
    """Returns the validation data and its number of steps; (None, None) without validation images."""
    count = len(source.validation.labels)
    if not count:
        return None, None

    def batches(parts: tuple[int, int, int]) -> Any:
        return validation_batches(
            source.validation,
            size,
            len(source.class_names),
            batch_size=recipe.batch_size // recipe.accumulation,
            contract=pixels,
            protocol=recipe.evaluation,
            parts=parts,
        )

    return devices.distribute(batches), math.ceil(count / (recipe.batch_size // recipe.accumulation))
