"""Measures exported files of fewer bits on a checkpoint with a linear head: python benchmarks/bits.py CHECKPOINT IMAGES

A linear classifier is fitted on the features of `--train` images; the files are compared with the Keras model on 500
others, and calibrated on training images. A row has the size in parts of the float32 file, the share of images with the
same predicted class (and with ties of 0.05 in probability), the 95th percentile and the maximum of the largest change
of a probability of an image, and the operators whose outputs are float32.
"""

import argparse
import collections
import pathlib
import tempfile

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

import keras_vit
from keras_vit import _compat
from keras_vit.data.pipeline import read_all
from keras_vit.data.sources import open_source

EVALUATED = 500
MODES = ("float32", "float16", "int8", "rounded-int8", "static-int8", "int4", "npu")
ANY = {"top1_agreement_or_tie": (0.0, 1.0), "probabilities.percentile_95": (0.0, 1.0)}  # the table shows what is lost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint as for keras_vit.load")
    parser.add_argument("images", help="a folder of class folders, or a .zip of one")
    parser.add_argument("--size", type=int, default=112, help="side of an image, pixels (default: 112)")
    parser.add_argument("--train", type=int, default=1500, help="images that the head is fitted on (default: 1500)")
    parser.add_argument("--gelu", help="GELU of the checkpoint, if its file does not store it: tanh or erf")
    parser.add_argument(
        "--pixels", help="pixel contract of the checkpoint, if its file does not store it: imagenet ..."
    )
    parser.add_argument("--mode", action="append", choices=MODES, help="a mode to measure; all by default")
    arguments = parser.parse_args()

    model, images, labels = classifier(arguments)
    print(f"accuracy on {EVALUATED} images: {accuracy(model, images, labels):.1%}", flush=True)
    print("| mode | size | same class | or tie | 95th percentile | maximum | accuracy | float32 operators |")
    print("|---|--:|--:|--:|--:|--:|--:|---|", flush=True)
    whole = None
    with tempfile.TemporaryDirectory() as folder:
        for mode in dict.fromkeys(("float32", *(arguments.mode or MODES))):
            path = pathlib.Path(folder) / f"{mode}.tflite"
            result = keras_vit.export.tflite(
                model,
                path,
                mode,
                images=images[-EVALUATED:],
                labels=labels[-EVALUATED:],
                calibration=images[: min(256, arguments.train)],
                bounds=ANY,
            )
            whole = whole or result.bytes
            change = result.probabilities
            print(
                f"| {mode} | {result.bytes / whole:.3f} | {result.top1_agreement:.1%} "
                f"| {result.top1_agreement_or_tie:.1%} | {change['percentile_95']:.4f} "
                f"| {change['max_difference']:.4f} "
                f"| {result.accuracy:.1%} | {in_float(path)} |",
                flush=True,
            )


def classifier(arguments):
    """Returns the checkpoint with a fitted head, the images and the labels; the last images are not in the fit."""
    model = keras_vit.load(arguments.checkpoint, input_shape=(arguments.size, arguments.size, 3), gelu=arguments.gelu)
    if any(layer.name == "head" for layer in model.layers):
        model = keras_vit.VisionModel(model.input, model.get_layer("head").input, pixels=model.pixels)
    if arguments.pixels:
        model.pixels = arguments.pixels
    source = open_source(arguments.images)
    chosen = np.random.default_rng(0).permutation(len(source.train.labels))[: arguments.train + EVALUATED]
    images = read_all([source.train.images[i] for i in chosen], model.input_shape[1:3], "official", 3)
    labels = source.train.labels[chosen]
    features = model.predict(model.preprocess_input(images), batch_size=32, verbose=0)
    mean, std = features[: arguments.train].mean(0), features[: arguments.train].std(0)
    fitted = LogisticRegression(C=0.01, max_iter=2000)
    fitted.fit((features[: arguments.train] - mean) / std, labels[: arguments.train])
    head = keras.layers.Dense(len(source.class_names), activation="softmax", name="head")
    outputs = head(model.output)
    head.set_weights([(fitted.coef_ / std).T, fitted.intercept_ - fitted.coef_ @ (mean / std)])
    classes = source.class_names
    return keras_vit.VisionModel(model.input, outputs, pixels=model.pixels, class_names=classes), images, labels


def accuracy(model, images, labels):
    scores = model.predict(model.preprocess_input(images[-EVALUATED:]), batch_size=32, verbose=0)
    return (scores.argmax(1) == labels[-EVALUATED:]).mean()


def in_float(path):
    """Returns the operators of a file whose output is float32, with their numbers, or "none"."""
    schema, file = _compat.tflite_schema(), _compat.read_flatbuffer(path.read_bytes())
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    (graph,) = file.subgraphs
    found = collections.Counter(
        names[file.operatorCodes[operator.opcodeIndex].builtinCode]
        for operator in graph.operators
        if graph.tensors[operator.outputs[0]].type == schema.TensorType.FLOAT32
    )
    found["DEQUANTIZE"] -= 1  # of the probabilities
    if sum(found.values()) > 50:
        return "most"
    return ", ".join(f"{count} {name}" for name, count in found.items() if count > 0) or "none"


if __name__ == "__main__":
    main()
