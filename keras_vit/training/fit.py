"""The one fit path: a recipe and its data make a trained model."""

import dataclasses
import functools
import logging
import math
import pathlib

import keras
import numpy as np

from keras_vit.data.augmentation import Augmentation
from keras_vit.data.order import Order
from keras_vit.data.pipeline import training_batches, validation_batches
from keras_vit.models.interface import pixels_of
from keras_vit.training.checkpoints import TrainingCheckpoints
from keras_vit.training.devices import Devices
from keras_vit.training.early_stopping import EarlyStopping
from keras_vit.training.logs import Logs
from keras_vit.training.model import finish, new_model, precision, rebuilder, trained_model
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.run import Run
from keras_vit.training.schedules import plan_of
from keras_vit.training.signals import Signals

logger = logging.getLogger("keras_vit")

CHECKPOINTS = "checkpoints"


def train(recipe, source, folder, devices=None, begin=lambda contract: None):
    """Trains a recipe's model with `model.fit`.

    The same recipe and data give the same weights, bit for bit, on the same CPU, also where the run was cut off any
    number of times and goes on from its folder; and on any number of devices but for the order of sums, and for
    dropout and the patches that are hidden, of which each device draws its own.

    Args:
        recipe: the `Recipe`.
        source: the `Source` of the images.
        folder: the run's; checkpoints of the unfinished run and its logs go there.
        devices: the `Devices`; None is one.
        begin: called when all that can be refused has been, right before the first file is written, with the `Pixels`
            that the images are scaled by.

    Returns:
        The trained network, float32 and on one device whatever it was trained in, and the log, a dict an epoch. The
        network is the model itself, or the one that holds it as the recipe's objective makes it (`vit_of`).

    Raises:
        ValueError: if the loss stops being a number or explodes, the checkpoints are of another model, or settings do
            not go together.
        KeyboardInterrupt, SystemExit: after SIGINT and SIGTERM; the run can go on.
    """
    devices = devices or Devices()
    folder = pathlib.Path(folder)
    order = Order(len(source.train.labels), recipe.batch_size, recipe.seed, recipe.full_batches)
    plan = plan_of(recipe, order.steps_per_pass)
    _refuse(recipe, source, devices)
    keras.utils.set_random_seed(recipe.seed)
    with devices.scope(), precision(recipe):
        model = new_model(recipe, len(source.class_names))
        rebuilt = rebuilder(model)
        trained = trained_model(recipe, plan, model)
        size, contract = model.input_shape[1:3], pixels_of(model)
        batches = functools.partial(batches_of, recipe, source, size, contract, plan)
        validation, validation_steps = _validation(recipe, source, size, contract, devices)
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
            )
            begin(contract)
            run.restore(trained)
            if not run.finished:
                logger.info("compiles the training in its first step, which may take minutes")
            for epoch, epochs, steps in plan.segments(run.step):
                if run.finished:
                    break
                trained.fit(
                    devices.distribute(functools.partial(batches, run.step)),
                    initial_epoch=epoch,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    validation_data=validation,
                    validation_steps=validation_steps,
                    callbacks=[run],
                    shuffle=False,  # the stream is shuffled already
                    verbose=0,
                )
            run.take_best()
    finished = OBJECTIVES[recipe.objective].network(rebuilt(), recipe)
    finish(finished, trained, trained.optimizer)
    return finished, run.logs.rows() if devices.chief else []


def _refuse(recipe, source, devices):
    """Raises a ValueError for what cannot work, with all reasons."""
    faults = []
    if recipe.batch_size % (devices.replicas * recipe.accumulation):
        faults.append(
            f"batch_size={recipe.batch_size} cannot be cut evenly over {devices.words}, in "
            f"{recipe.accumulation} parts each; choose a multiple of {devices.replicas * recipe.accumulation}"
        )
    if (devices.strategy, recipe.momentum_dtype, keras.backend.backend()) == ("multiworker", "bfloat16", "tensorflow"):
        faults.append("momentum_dtype=bfloat16 cannot be sent to other workers by TensorFlow; choose float32")
    if not len(source.validation.labels):
        faults += [
            f"{setting} needs images to validate on; raise validation above 0"
            for setting, wanted in (("early_stopping", recipe.early_stopping), ("keep=best", recipe.keep == "best"))
            if wanted
        ]
    if faults:
        raise ValueError("The recipe cannot be run:\n" + "\n".join(f"  {fault}" for fault in faults))


def _early_stopping(recipe, source):
    if not recipe.early_stopping:
        return None
    return EarlyStopping(recipe.early_stopping, recipe.early_stopping_steps, len(source.validation.labels))


def batches_of(recipe, source, size, contract, plan, first_step, parts):
    """Returns a recipe's training batches from a step on, as `training_batches` does."""
    return training_batches(
        _weighted(recipe, source.train, len(source.class_names)),
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
        contract=contract,
        full_batches=recipe.full_batches,
        parts=parts,
    )


def _weighted(recipe, examples, num_classes):
    """Returns the examples with weights under which each class counts the same, if the recipe says so."""
    if recipe.class_weights == "equal":
        return examples
    of_class = len(examples.labels) / (num_classes * np.maximum(np.bincount(examples.labels, minlength=num_classes), 1))
    own = 1.0 if examples.weights is None else examples.weights
    return dataclasses.replace(examples, weights=(of_class[examples.labels] * own).astype(np.float32))


def _validation(recipe, source, size, contract, devices):
    """Returns what `fit` validates on, and in how many steps; (None, None) without images for it."""
    count = len(source.validation.labels)
    if not count:
        return None, None

    def batches(parts):
        return validation_batches(
            source.validation,
            size,
            len(source.class_names),
            batch_size=recipe.batch_size // recipe.accumulation,
            contract=contract,
            protocol=recipe.evaluation,
            parts=parts,
        )

    return devices.distribute(batches), math.ceil(count / (recipe.batch_size // recipe.accumulation))
