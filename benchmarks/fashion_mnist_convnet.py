"""Trains a small convolutional network on the pictures of recipes/fashion_mnist.py, for a time of one's choice.

python benchmarks/fashion_mnist_convnet.py --epochs 8 --log convnet.csv

Plain Keras but for the pictures: the recipe's own split, augmentation, order, label smoothing and schedule. The test
pictures are scored once, after the last step.
"""

import argparse
import pathlib
import runpy
import time

import keras
from keras import layers

from keras_vit.data.pipeline import evaluation_batches, validation_batches
from keras_vit.evaluation.cost import cost
from keras_vit.preprocessing import OFFICIAL
from keras_vit.run_data import open_data
from keras_vit.training.fit import batches_of
from keras_vit.training.plan import Plan
from keras_vit.training.schedules import WarmupSchedule

RECIPE = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "recipes" / "fashion_mnist.py"))["RECIPE"]
LEARNING_RATE, WARMUP = 3e-3, 0.1  # the second a part of the run


def convnet(classes, widths=(32, 64, 128)):
    """Returns two convolutions and a pooling a width, then the mean over the map and a dense layer for the logits."""
    inputs = x = keras.Input((RECIPE.image_size, RECIPE.image_size, 3))
    for width in widths:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x) if width != widths[-1] else layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def main():
    """Trains, and prints parameters, multiply-accumulates, seconds and accuracies."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--epochs", type=int, default=8)
    arguments.add_argument("--log", default="convnet.csv")
    given = arguments.parse_args()
    keras.utils.set_random_seed(RECIPE.seed)
    source, size = open_data(RECIPE), (RECIPE.image_size,) * 2
    classes, batch = len(source.class_names), RECIPE.batch_size
    per_epoch = len(source.train.labels) // batch
    plan = Plan(given.epochs * per_epoch, per_epoch, round(WARMUP * given.epochs * per_epoch))
    model = convnet(classes)
    print(f"{model.count_params():,} parameters, {cost(model).total.multiply_accumulates:,} multiply-accumulates")
    model.compile(
        keras.optimizers.AdamW(
            WarmupSchedule(LEARNING_RATE, plan.steps, warmup_steps=plan.warmup_steps), weight_decay=RECIPE.weight_decay
        ),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=RECIPE.label_smoothing),
        weighted_metrics=["accuracy"],  # rows that fill up the last batch weigh 0
    )
    start, used = time.perf_counter(), time.process_time()
    model.fit(
        batches_of(RECIPE, source, size, OFFICIAL, plan, 0, (0, 1, 1)),
        steps_per_epoch=per_epoch,
        epochs=given.epochs,
        validation_data=validation_batches(source.validation, size, classes, batch_size=batch),
        callbacks=[keras.callbacks.CSVLogger(given.log)],
        verbose=2,
        shuffle=False,  # the stream is shuffled already
    )
    seconds, used = time.perf_counter() - start, time.process_time() - used
    test = evaluation_batches(source.test, size, batch_size=200)
    right = sum(int((model(x, training=False).numpy().argmax(axis=1) == y.numpy()).sum()) for x, y in test)
    print(
        f"{seconds:.0f} s of training, {used:.0f} s on the cores; test accuracy {right / len(source.test.labels):.2%}"
    )


if __name__ == "__main__":
    main()
