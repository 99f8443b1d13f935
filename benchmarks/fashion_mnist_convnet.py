"""Trains a small convolutional network on the images of recipes/fashion_mnist.py.

python benchmarks/fashion_mnist_convnet.py --epochs 8 --log convnet.csv
python benchmarks/fashion_mnist_convnet.py --epochs 8 --compare runs/fashion_mnist/history.csv  # plot

Plain Keras, but with the split, augmentation, order, label smoothing and schedule of the recipe, on images of 28 x 28
pixels. The model is evaluated on the test images once, after the last step. If the log exists, nothing is trained.
"""

import argparse
import csv
import itertools
import pathlib
import runpy
import time

import keras
from keras import layers

from keras_vit._atomic import write_text
from keras_vit.analysis.plots import curves, svg_file
from keras_vit.commands.examples import open_recipe_data
from keras_vit.data.pipeline import evaluation_batches, validation_batches
from keras_vit.evaluation.cost import cost
from keras_vit.preprocessing import OFFICIAL_PIXELS
from keras_vit.training.fit import batches_of
from keras_vit.training.schedules import Plan, WarmupSchedule

ROOT = pathlib.Path(__file__).parents[1]
RECIPE = runpy.run_path(str(ROOT / "recipes" / "fashion_mnist.py"))["RECIPE"]
FIGURE = ROOT / "docs" / "images" / "fashion_mnist.svg"
LEARNING_RATE, WARMUP = 3e-3, 0.1  # warm-up as a fraction of the steps
SIZE = 28


class Seconds(keras.callbacks.Callback):
    """Adds the seconds of each epoch with its validation to the log."""

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self.began


def convnet(classes, widths=(32, 64, 128)):
    """Returns a model of two convolutions and a pooling per width, global average pooling and a dense layer."""
    inputs = x = keras.Input((SIZE, SIZE, 3))
    for width in widths:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x) if width != widths[-1] else layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def train(epochs, log):
    """Trains, and prints parameters, multiply-accumulates, seconds and accuracies."""
    keras.utils.set_random_seed(RECIPE.seed)
    source, size = open_recipe_data(RECIPE), (SIZE, SIZE)
    classes, batch = len(source.class_names), RECIPE.batch_size
    per_epoch = len(source.train.labels) // batch
    plan = Plan(epochs * per_epoch, per_epoch, round(WARMUP * epochs * per_epoch))
    model = convnet(classes)
    print(f"{model.count_params():,} parameters, {cost(model).total.multiply_accumulates:,} multiply-accumulates")
    model.compile(
        keras.optimizers.AdamW(
            WarmupSchedule(LEARNING_RATE, plan.steps, warmup_steps=plan.warmup_steps), weight_decay=RECIPE.weight_decay
        ),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=RECIPE.label_smoothing),
        weighted_metrics=["accuracy"],  # images that fill up the last batch have weight 0
    )
    start, used = time.perf_counter(), time.process_time()
    model.fit(
        batches_of(RECIPE, source, size, OFFICIAL_PIXELS, plan, 0, (0, 1, 1)),
        steps_per_epoch=per_epoch,
        epochs=epochs,
        validation_data=validation_batches(source.validation, size, classes, batch_size=batch),
        callbacks=[Seconds(), keras.callbacks.CSVLogger(log)],
        verbose=2,
        shuffle=False,  # the dataset is shuffled already
    )
    seconds, used = time.perf_counter() - start, time.process_time() - used
    test = evaluation_batches(source.test, size, batch_size=200)
    correct = sum(int((model(x, training=False).numpy().argmax(axis=1) == y.numpy()).sum()) for x, y in test)
    print(
        f"{seconds:.0f} s of training, {used:.0f} s of CPU time; test accuracy {correct / len(source.test.labels):.2%}"
    )


def over_minutes(log):
    """Returns the minutes after each epoch and the validation accuracies of a log."""
    rows = list(csv.DictReader(pathlib.Path(log).read_text("utf-8").splitlines()))
    minutes = itertools.accumulate(float(row["seconds"]) / 60 for row in rows)
    return list(minutes), [float(row["val_accuracy"]) for row in rows]


def main():
    """Trains the network, or draws the plot, or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--log", default="convnet.csv")
    parser.add_argument("--compare", help="history.csv of a run of the recipe, to plot both")
    arguments = parser.parse_args()
    if not pathlib.Path(arguments.log).exists():
        train(arguments.epochs, arguments.log)
    if arguments.compare:
        lines = {"hybrid ViT": {"": over_minutes(arguments.compare)}, "convolutions": {"": over_minutes(arguments.log)}}
        figure = curves(lines, "minutes of training", "validation accuracy")
        figure.axes[0].set_ylim(bottom=75)
        write_text(FIGURE, svg_file(figure))


if __name__ == "__main__":
    main()
