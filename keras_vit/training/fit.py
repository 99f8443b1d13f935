"""The one fit path: a recipe and its data make a trained model."""

import math

import keras
import tensorflow as tf

from keras_vit.builders import build
from keras_vit.data.augmentation import Augmentation
from keras_vit.data.pipeline import evaluation_batches, training_batches
from keras_vit.preprocessing import pixels_of
from keras_vit.training.progress import Progress

# Kernels alone decay, as in the official code.
NO_DECAY = ["bias", "gamma", "beta", "class_token", "position_embedding", "probe"]


def new_model(recipe, num_classes):
    """Builds the model of a recipe, with its first weights drawn from the recipe's seed or read from its checkpoint.

    Raises:
        ValueError: if the architecture does not fit the image size, or the checkpoint does not fit the architecture.
    """
    keras.utils.set_random_seed(recipe.seed)
    return build(
        recipe.variant,
        weights=recipe.weights,
        new_head=recipe.weights is not None,
        input_shape=(recipe.image_size, recipe.image_size, 3),
        pooling=recipe.pooling,
        classes=num_classes,
        dropout=recipe.dropout,
        stochastic_depth=recipe.stochastic_depth,
        gelu=recipe.gelu,
    )


def fit(model, recipe, source, checkpoint):
    """Trains a model with `model.fit` and returns the history, a dict an epoch.

    The same recipe and data give the same weights, bit for bit, on the same CPU; also where the run was cut off and
    goes on from its checkpoint.

    Args:
        model: the recipe's, from `new_model`.
        recipe: the `Recipe`.
        source: the `Source` of the pictures.
        checkpoint: path of the file that an unfinished run goes on from, written from time to time.

    Raises:
        ValueError: if the loss stops being a number, or the checkpoint is of another model.
    """
    size, num_classes = model.input_shape[1:3], len(source.class_names)
    # Trained on logits, where the cross-entropy is exact; the same layers, without the softmax on top.
    trained = keras.Model(model.inputs, model.get_layer("head").output)
    steps_per_epoch = math.ceil(len(source.train.labels) / recipe.batch_size)
    steps = steps_per_epoch * recipe.epochs
    trained.compile(
        _optimizer(recipe, steps, steps_per_epoch),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    trained.optimizer.build(trained.trainable_variables)
    progress = Progress(checkpoint, recipe.epochs, pictures=steps_per_epoch * recipe.batch_size)
    first_epoch = progress.restore(trained)
    batches = training_batches(
        source.train,
        size,
        num_classes,
        batch_size=recipe.batch_size,
        steps=steps,
        first_step=first_epoch * steps_per_epoch,
        seed=recipe.seed,
        augmentation=Augmentation(recipe.rotate, recipe.shift, recipe.zoom, recipe.shear, recipe.flip),
        contract=pixels_of(model),
    )
    validation = None
    if len(source.validation.labels):
        validation = evaluation_batches(source.validation, size, contract=pixels_of(model))
        validation = validation.map(lambda images, labels: (images, tf.one_hot(labels, num_classes)))
    trained.fit(
        batches,
        epochs=recipe.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        callbacks=[progress],
        shuffle=False,  # the stream is shuffled already
        verbose=0,
    )
    return progress.history


def _optimizer(recipe, steps, steps_per_epoch):
    warmup_steps = min(recipe.warmup_epochs * steps_per_epoch, steps - 1)
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup_steps else recipe.learning_rate,
            decay_steps=steps - warmup_steps,
            warmup_target=recipe.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        ),
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm or None,
    )
    optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    return optimizer
