"""Compares an exported file with the Keras model: runs the file as a client does, on the same images.

Shares no code with what writes the files. The model reads images as in training and evaluation; the file is run by
`keras_vit.runtime`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_vit._arguments import counted
from keras_vit._atomic import write_text
from keras_vit.data.decoding import decode, read_for_clients
from keras_vit.data.pipeline import read_all
from keras_vit.models.interface import image_size_of, named_numbers_of, numbers_of, pixels_of
from keras_vit.models.reject import Reject
from keras_vit.preprocessing import Pixels, preprocess_input
from keras_vit.runtime import measure
from keras_vit.runtime.files import open_exported

logger = logging.getLogger("keras_vit")

_MARGIN = "known"  # the output that is below 0 where the model rejects an image
_BATCH = 64  # images per batch of the Keras model
HALF_IMAGES = 64  # of the images, those that a file for GPUs is also compared on in half precision, ten times as slow
MAX_ENCODED = 1000  # of the images, those that also go through a client's decoder and resize
LEAST_PROBABILITY = 1e-30  # its logarithm stands for that of everything below
LEAST_SCORE = 1e-3  # of a label, and 1 minus the highest: beyond, the logit depends on the rounding of float32
# Grey levels by which two decoders may blend transparency and round 16 bits differently: the maximum and the mean of an
# image. The resize has bounds of its own, pixel by pixel, see `expected_levels`.
MAX_LEVEL_DIFFERENCE, MEAN_LEVEL_DIFFERENCE = 1, 0.5
_STEPS = 32  # positions between two neighbouring pixels in MediaPipe's resize (OpenCV's INTER_TAB_SIZE)

# Bounds of every file, whatever its target. A client that reads images in another way passes the same wrong pixels to
# file and model, so that comparing their outputs on its pixels does not show the fault.
BOUNDS = {"from_encoded.preprocessing_agreement": (0.99, 1.0)}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well an exported file agrees with the Keras model on the same images. proof.json has one for each file.

    Args:
        file: its name.
        target: name in `keras_vit.export.targets.TARGETS`.
        bytes: its size; of all files together for a folder.
        images: number of images that both classified.
        logits: {"max_difference", "mean_difference", "cosine"} between log-probabilities minus their mean, which are
            the logits but for a constant; of independent labels, between their logits, at most 6.9.
        probabilities: {"max_difference", "mean_difference", "percentile_95"}; the last is the largest difference
            of an image, in 95 of 100 images at most.
        extra_outputs: {name: largest difference, in parts of the largest number} of features and rollout.
        top1_agreement: share of the images for which file and model predict the same class; of independent labels,
            share of the same decisions, one for each image and label.
        top1_agreement_or_tie: the same, but a class that the model scores within the target's `tie` of its own counts,
            and a label that it scores within `tie` of the threshold.
        accuracy: top-1 accuracy of the file, or micro F1 of independent labels; None without labels.
        keras_accuracy: top-1 accuracy of the model on the same images.
        from_encoded: the comparison from encoded images, through a client's decoder and resize; empty without encoded
            images. "images"; "top1_agreement" and "max_difference" of a probability, of the file from the model in
            evaluation. Of that, the part of the client's resize, which compares the model on the client's pixels with
            the model in evaluation: "resize_top1_agreement", "resize_max_difference"; and the part of the file, which
            compares it with the model on the client's pixels: "file_top1_agreement_or_tie", "file_max_difference".
            "preprocessing_agreement": share of the images that the client's decoder and resize bring to the right
            pixels, see `expected_levels`. "accuracy": top-1 accuracy of the file this way; None without labels.
        operators: {operator: count}; empty where the file is not TFLite.
        lint: {delegate: what it does not support}, by `keras_vit.runtime.lint`; empty where the file is not TFLite.
        input_type: type of the file's input, one of `keras_vit.export.targets.INPUTS`.
        latency_ms: {threads: median milliseconds for one image}, by `keras_vit.runtime.measure` on this machine.
        peak_memory: of that process, bytes; None where the operating system does not report it.
        numbers: {"max_difference", "relative_difference"} of outputs that are numbers, in their own unit and in parts
            of the largest number of an output, counted from its mean where a layer `NamedNumbers` has one. Empty for
            classes; for numbers, the figures of classes are None.
        pixels: the pixel contract of the model, in words.
        bfloat16: figures of the same file where its runtime computes in bfloat16, as OpenVINO does by default on a CPU
            that has this type; all other figures are of float32. Those above of classes or of numbers, and
            "latency_ms". Empty for other files and other CPUs.
        labels: number of labels that are scored independently, each with its threshold; 0 for classes and numbers.
        reject: of a model that rejects images of none of its classes: {"max_difference" between margins, "rejected",
            the share of the images that the file rejects, "agreement_or_tie", the share that file and model both reject
            or both do not, or whose margin in the model is 0 to within the tie}. Empty for other models.
        float16: figures of a file for GPUs where every tensor is rounded to float16, as a GPU does by default: those
            above of classes or of numbers, on the first 64 "images". Empty for other files.
        channels: of the file's input: 1 for grey, 3 for RGB, 4 for RGBA, another number for bands.
    """

    file: str
    target: str
    bytes: int
    images: int
    logits: dict[str, float | None]
    probabilities: dict[str, float | None]
    extra_outputs: dict[str, float]
    top1_agreement: float | None
    top1_agreement_or_tie: float | None
    accuracy: float | None
    keras_accuracy: float | None
    from_encoded: dict[str, Any] = dataclasses.field(default_factory=dict)
    operators: dict[str, int] = dataclasses.field(default_factory=dict)
    lint: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    input_type: str = ""
    latency_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    peak_memory: int | None = None
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    pixels: str = ""
    bfloat16: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: int = 0
    reject: dict[str, float] = dataclasses.field(default_factory=dict)
    channels: int = 3
    float16: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def note(self) -> str:
        """A sentence on the client's resize where it changes more than one class or label in a hundred, or ""."""
        agreement = self.from_encoded.get("resize_top1_agreement")
        if agreement is None or agreement >= 0.99:
            return ""
        changed = f"the predicted class of {1 - agreement:.1%} of the images"
        if self.labels:
            changed = f"{1 - agreement:.1%} of the predicted labels"
        return (
            f"{self.file}: the client's resize alone changes {changed}. "
            "If all images of a client have one small size, export the file for it with --input-size HEIGHT WIDTH"
        )

    def figure(self, name: str) -> float | None:
        """Returns a figure by its name in `Target.bounds`, as "logits.max_difference"; None if not measured."""
        value: Any = self
        for part in name.split("."):
            value = value.get(part, {}) if isinstance(value, dict) else getattr(value, part)
        return None if value == {} else value


class Reference:
    """The Keras model's outputs on the proof images, which every exported file is compared with.

    Args:
        model: scaled images (batch, height, width, channels) -> (batch, classes).
        class_names: in the order of its outputs.
        images: encoded images, see `keras_vit.data.decoding.decode`; or their pixels, (images, height, width, channels)
            uint8 of the file's input size.
        labels: (images,) class numbers, or None.
        protocol: how evaluation brings images to the model's size.
        size: (height, width) of the file's input in pixels; the model's by default.
        contract: the `Pixels` that scale the model's images; the model's own by default.
        numbers: whether the outputs are numbers of any shape, without classes.
        thresholds: of labels that are scored independently; () where the classes exclude each other.
        reject: when an image is none of the classes; None where the model does not know it.
    """

    def __init__(
        self,
        model: keras.Model,
        class_names: Iterable[str],
        images: Sequence[Any] | np.ndarray,
        labels: np.ndarray | None = None,
        *,
        protocol: str = "official",
        size: tuple[int, int] | None = None,
        contract: Pixels | None = None,
        numbers: bool = False,
        thresholds: Sequence[float] = (),
        reject: Reject | None = None,
    ):
        self.reject = reject
        self.model, self.class_names, self.labels = model, tuple(class_names), labels
        self.thresholds = np.array(thresholds) if len(thresholds) else None
        self._lengths: list[int] = []  # numbers in each output, for one image
        self.output_names = tuple(numbers_of(model)) if numbers else ("probabilities",)
        self._run = keras.Model(model.inputs, list(numbers_of(model).values())) if numbers else model
        self.contract = contract or pixels_of(model)
        own, self.channels = image_size_of(model), model.inputs[0].shape[3]
        size = own if size is None else (size[0], size[1])
        pixels = images if isinstance(images, np.ndarray) else None
        encoded = pixels is None
        logger.info("runs the model on %s, to compare files with it", counted(len(images), "image"))
        if pixels is None:
            pixels = read_all(list(images), size, protocol, self.channels)
        self.pixels: np.ndarray = pixels
        self.expected = self.predict(self.pixels)
        ends = np.cumsum([0, *self._lengths])
        named = named_numbers_of(model) if numbers else None
        means = dict(zip(named.names, named.mean)) if named else {}
        centers = np.array([means.get(name, 0.0) for name in self.output_names]) if means else 0.0
        self._largest_numbers = [
            max(np.abs((self.expected - centers)[:, start:end]).max(initial=0), LEAST_PROBABILITY)
            for start, end in zip(ends, ends[1:])
        ]
        some = np.linspace(0, len(images) - 1, min(len(images), MAX_ENCODED) if encoded else 0).astype(int)
        self.encoded = [read_for_clients(images[i], self.channels) for i in some]
        self.encoded_labels = None if labels is None else np.asarray(labels)[some]
        # The model on the encoded images as evaluation reads them, which need not have the file's input size.
        if size == own or not encoded:
            self.evaluated = self.expected[some]
        else:
            self.evaluated = self.predict(read_all(self.encoded, own, protocol, self.channels))
        self._levels: dict[Any, tuple[np.ndarray, ...]] = {}

    def first(self, count: int) -> Reference:
        """Returns the reference of the first `count` images, without encoded ones."""
        some = copy.copy(self)
        some.pixels, some.expected, some.encoded = self.pixels[:count], self.expected[:count], []
        some.labels = None if self.labels is None else self.labels[:count]
        return some

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the model's probabilities for uint8 images, (images, classes); numbers of all outputs in a row."""
        batches = []
        for i in range(0, len(pixels), _BATCH):
            images = preprocess_input(self.at_model_size(pixels[i : i + _BATCH]), self.contract)
            outputs = [np.asarray(array) for array in keras.tree.flatten(self._run.predict_on_batch(images))]
            self._lengths = [array[0].size for array in outputs]
            batches.append(_in_a_row(outputs))
        return np.concatenate(batches) if batches else np.zeros((0, len(self.class_names)), np.float32)

    def head_outputs(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns a file's {output: array} in the form of `predict`, without its extra outputs."""
        return _in_a_row([outputs[name] for name in self.output_names])

    def relative_difference(self, actual: np.ndarray, expected: np.ndarray) -> float:
        """Returns the largest difference of numbers, in parts of the largest of the same output, see `Agreement`."""
        return _largest((actual - expected) / np.repeat(self._largest_numbers, self._lengths))

    def expected_client_levels(self, size: Sequence[int], from_center: bool) -> tuple[np.ndarray, ...]:
        """Returns the `expected_levels` of the encoded images, lowest and highest, uint8 arrays; computed once."""
        key = (tuple(size), from_center)
        if key not in self._levels:
            levels = [expected_levels(decode(image, self.channels), *key) for image in self.encoded]
            self._levels[key] = tuple(np.stack(some) for some in zip(*levels))
        return self._levels[key]

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns what a softmax would turn into probabilities, but for a constant; of labels, what a sigmoid would."""
        if self.thresholds is None:
            return _logits(probabilities)
        scores = np.clip(probabilities.astype(np.float64), LEAST_SCORE, 1 - LEAST_SCORE)
        return np.log(scores / (1 - scores))

    def agreement(self, actual: np.ndarray, expected: np.ndarray, tie: float = 0.0) -> float:
        """Returns the share of the images with the same predicted class, or of the same decisions on labels."""
        if self.thresholds is None:
            return _top1_agreement(actual, expected, tie)
        same = (actual >= self.thresholds) == (expected >= self.thresholds)
        return float((same | (np.abs(expected - self.thresholds) <= tie)).mean())

    def accuracy(self, probabilities: np.ndarray, labels: np.ndarray | None) -> float | None:
        """Returns the top-1 accuracy, or the micro F1 of labels; None without labels to compare with."""
        if self.thresholds is None or labels is None:
            return _accuracy(probabilities, labels)
        predicted, labels = probabilities >= self.thresholds, labels.astype(bool)
        return float(2 * (predicted & labels).sum() / max(predicted.sum() + labels.sum(), 1))

    def at_model_size(self, pixels: np.ndarray) -> np.ndarray:
        """Returns images of the file's input size at the model's; where they differ, the file resizes inside."""
        size = tuple(self.model.inputs[0].shape[1:3])
        return pixels if None in size or pixels.shape[1:3] == size else tf.image.resize(pixels, size).numpy()


def compare(
    file: Any,
    reference: Reference,
    *,
    name: str,
    target: str,
    tie: float = 0.0,
    client_resize: Literal["corner", "center"] = "center",
    extra_outputs: Mapping[str, np.ndarray] | None = None,
) -> Agreement:
    """Returns the `Agreement` of an opened file with the Keras model.

    Args:
        file: see `keras_vit.runtime.open_exported`.
        reference: the model's outputs.
        name, target: for the record.
        tie: see `Agreement.top1_agreement_or_tie`.
        client_resize: where a client of this file samples an image that it resizes, see `expected_levels`.
        extra_outputs: {output: the model's array for the first images} of features and rollout.

    Raises:
        ValueError: if the file names other classes than the model, or lacks an output.
    """
    if file.class_names != reference.class_names:
        first = next((pair for pair in zip(file.class_names, reference.class_names) if pair[0] != pair[1]), ("", ""))
        raise ValueError(
            f"Expected the {len(reference.class_names)} classes of the model. Received: {file.path}, which names "
            f"{len(file.class_names)} other classes; the first that differs: {first[0]!r}, expected {first[1]!r}"
        )
    expected = (*reference.output_names, *([_MARGIN] if reference.reject else []))
    if missing := [name for name in expected if name not in file.outputs]:
        raise ValueError(
            f"Expected the outputs {', '.join(missing)}. Received: {file.path}, of outputs {', '.join(file.outputs)}"
        )
    outputs = file.predict(reference.pixels)
    return Agreement(
        file=name,
        target=target,
        bytes=size_on_disk(file.path),
        images=len(reference.pixels),
        **_figures(outputs, reference, tie),
        extra_outputs={
            output: _largest(outputs[output][: len(values)] - values) / max(_largest(values), LEAST_PROBABILITY)
            for output, values in (extra_outputs or {}).items()
        },
        from_encoded=_compare_encoded(file, reference, tie, client_resize == "center") if reference.encoded else {},
    )


def figures_in_bfloat16(file: Any, reference: Reference, tie: float) -> dict[str, Any]:
    """Returns the `Agreement.bfloat16` of an opened file."""
    if "bfloat16" not in file.precisions:
        return {}
    outputs = open_exported(file.path, precision="bfloat16").predict(reference.pixels)
    latency = latency_and_memory(file.model_path, "bfloat16")["latency_ms"]
    return {**_figures(outputs, reference, tie), "latency_ms": latency}


def figures_in_float16(file: Any, reference: Reference, tie: float) -> dict[str, Any]:
    """Returns the `Agreement.float16` of an opened .tflite file or page."""
    some = reference.first(HALF_IMAGES)
    half = open_exported(file.path, precision="float16")
    return {"images": len(some.pixels), **_figures(half.predict(some.pixels), some, tie)}


def _figures(outputs: Mapping[str, np.ndarray], reference: Reference, tie: float) -> dict[str, Any]:
    actual = reference.head_outputs(outputs)
    if not reference.class_names:
        return _compare_numbers(actual, reference)
    figures = _compare_classes(actual, reference, tie)
    if reference.reject:
        figures["reject"] = _compare_rejects(outputs[_MARGIN], reference.expected, reference.reject, tie)
    return figures


def _compare_rejects(actual: np.ndarray, probabilities: np.ndarray, reject: Reject, tie: float) -> dict[str, float]:
    """Compares the margins of a file, (images, 1), with those of the model's probabilities."""
    expected = np.sort(probabilities, axis=1)[:, -1:] - reject.threshold
    same = ((actual >= 0) == (expected >= 0)) | (np.abs(expected) <= tie)  # NaN is not known
    return {
        "max_difference": _largest(actual - expected),
        "rejected": float((actual < 0).mean()),
        "agreement_or_tie": float(same.mean()),
    }


def _compare_classes(actual: np.ndarray, reference: Reference, tie: float) -> dict[str, Any]:
    expected, labels = reference.expected, reference.labels
    logits = [reference.logits(values) for values in (actual, expected)]
    differences = np.abs(logits[0] - logits[1])
    return {
        "logits": {
            "max_difference": _largest(differences),
            "mean_difference": float(differences.mean()),
            "cosine": _cosine(*logits),
        },
        "probabilities": {
            "max_difference": _largest(actual - expected),
            "mean_difference": float(np.abs(actual - expected).mean()),
            "percentile_95": float(np.percentile(np.abs(actual - expected).max(axis=1), 95)),
        },
        "top1_agreement": reference.agreement(actual, expected),
        "top1_agreement_or_tie": reference.agreement(actual, expected, tie),
        "accuracy": reference.accuracy(actual, labels),
        "keras_accuracy": reference.accuracy(expected, labels),
        **({} if reference.thresholds is None else {"labels": len(reference.thresholds)}),
    }


def _compare_numbers(actual: np.ndarray, reference: Reference) -> dict[str, Any]:
    """Compares numbers: there is no class, so that every figure of classes is None."""
    of_classes = ("top1_agreement", "top1_agreement_or_tie", "accuracy", "keras_accuracy")
    return {
        "logits": dict.fromkeys(("max_difference", "mean_difference", "cosine")),
        "probabilities": dict.fromkeys(("max_difference", "mean_difference", "percentile_95")),
        "numbers": {
            "max_difference": _largest(actual - reference.expected),
            "relative_difference": reference.relative_difference(actual, reference.expected),
        },
        **dict.fromkeys(of_classes),
    }


def _in_a_row(arrays: Iterable[Any]) -> np.ndarray:
    """Returns arrays of (images, ...) as one, (images, numbers)."""
    return np.concatenate([np.asarray(array).reshape(len(array), -1) for array in arrays], axis=1)


def _compare_encoded(file: Any, reference: Reference, tie: float, from_center: bool) -> dict[str, Any]:
    """Compares from encoded images: through the client's decoder, its resize and the file."""
    pixels = np.stack([file.read(image) for image in reference.encoded])
    actual = reference.head_outputs(file.predict_encoded(reference.encoded))
    evaluated, resized = reference.evaluated, reference.predict(pixels)
    figures: dict[str, Any] = {
        "images": len(actual),
        "preprocessing_agreement": _share_within(
            pixels, *reference.expected_client_levels(file.image_size, from_center)
        ),
    }
    difference: Callable[[np.ndarray, np.ndarray], float]
    difference = _max_difference if reference.class_names else reference.relative_difference
    figures |= {
        "max_difference": difference(actual, evaluated),
        "resize_max_difference": difference(resized, evaluated),
        "file_max_difference": difference(actual, resized),
    }
    if reference.class_names:
        figures |= {
            "accuracy": reference.accuracy(actual, reference.encoded_labels),
            "top1_agreement": reference.agreement(actual, evaluated),
            "resize_top1_agreement": reference.agreement(resized, evaluated),
            "file_top1_agreement_or_tie": reference.agreement(actual, resized, tie),
        }
    return figures


def expected_levels(pixels: np.ndarray, size: Sequence[int], from_center: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and the highest grey level that a correct client may compute for each resized pixel.

    The correct resize is bilinear interpolation, both sides on their own, without antialiasing. A client knows the
    position of a pixel in the image only to half a step. Its grey level is then an interpolated value at most that far
    from the exact position, rounded to a whole level. Interpolation is linear between pixels, so its extremes are at
    the ends of that interval, or at a pixel inside it.

    Args:
        pixels: (height, width, channels) uint8, as decoded.
        size: (height, width) in pixels.
        from_center: whether the resize starts at the center of the first pixel, or at the corner of the image.

    Returns:
        Two arrays, (height, width, channels) uint8.
    """
    vertical, horizontal = (_positions(*sides, from_center) for sides in zip(pixels.shape, size))
    stretched = [_interpolated(pixels, positions, 0) for positions in vertical]
    values = np.stack([_interpolated(part, positions, 1) for part in stretched for positions in horizontal])
    half = 0.5 + 1e-4  # of a level; the rest is for sums in float32
    return np.ceil(values.min(axis=0) - half).astype(np.uint8), np.floor(values.max(axis=0) + half).astype(np.uint8)


def _positions(old: int, new: int, from_center: bool) -> list[np.ndarray]:
    """Returns the positions along a side of the pixels of a resized image: the least, the middle and the largest."""
    start = 0.5 if from_center else 0.0
    exact = (np.arange(new) + start) * old / new - start
    if from_center:
        reach = np.full(new, old * 2.0**-22)  # positions in float32
    else:
        reach = np.where(exact * _STEPS % 1, 0.5 / _STEPS, 0.0)  # a multiple of the steps is met exactly
    least, largest = exact - reach, exact + reach
    return [positions.clip(0, old - 1) for positions in (least, np.rint(exact).clip(least, largest), largest)]


def _interpolated(pixels: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Returns an image linearly interpolated along an axis, float32."""
    below, above = (pixels.take(end(positions).astype(int), axis).astype(np.float32) for end in (np.floor, np.ceil))
    share = np.expand_dims(positions % 1, [other for other in range(3) if other != axis]).astype(np.float32)
    return below + share * (above - below)


def size_on_disk(path: pathlib.Path) -> int:
    """Returns the bytes of a file, of all files in a folder, or of the .xml file of an OpenVINO model and its .bin."""
    others = [path.with_suffix(".bin")] if path.suffix == ".xml" else path.rglob("*")
    return sum(part.stat().st_size for part in [path, *others] if part.is_file())


def latency_and_memory(path: str | os.PathLike[str], precision: str = "float32") -> dict[str, Any]:
    """Returns {"latency_ms", "peak_memory"} of a file, measured in a process of its own by `runtime.measure`.

    Raises:
        ValueError: if the file cannot be run.
    """
    # Without its folder on the path: openvino.py there would come before OpenVINO.
    command = [sys.executable, "-P", measure.__file__, str(path), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"Expected a file that runs in a process of its own. Received: {path}, which fails: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def violations(agreement: Agreement, bounds: Mapping[str, tuple[float, float]]) -> list[str]:
    """Returns the figures of an `Agreement` outside of {figure: (least, most)} and of `BOUNDS`, a sentence each."""
    bounds = {**BOUNDS, **bounds}
    values = {name: agreement.figure(name) for name in bounds}
    return [
        f"{name} is {value:.6g}, expected {least:g} to {most:g}"
        for (name, value), (least, most) in zip(values.items(), bounds.values())
        if value is not None and not least <= value <= most  # NaN is outside, too
    ]


def write_proof(
    folder: str | os.PathLike[str], agreements: Iterable[Agreement], refused: Mapping[str, str] | Iterable[Any] = ()
) -> None:
    """Writes proof.json; the figures of other files that are still in the folder stay.

    It holds {"files": {name: figures of an `Agreement`}} and, where files were refused, {"refused": {name: reason}}.

    Args:
        folder: where the files are.
        agreements: one for each file that is kept.
        refused: {file: reason} of those that are not.
    """
    folder, agreements = pathlib.Path(folder), list(agreements)
    files = {item["file"]: item for item in read_proof(folder) if (folder / item["file"]).exists()}
    files.update({item.file: dataclasses.asdict(item) for item in agreements})
    kept = [item.file for item in agreements]
    reasons = {file: reason for file, reason in read_refused(folder).items() if file not in kept} | dict(refused)
    content = {"files": files} | ({"refused": reasons} if reasons else {})
    write_text(folder / "proof.json", json.dumps(content, indent=1))


def read_proof(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the figures in a folder's proof.json, a dictionary for each file; an empty list without proof.json."""
    items = [figures | {"file": name} for name, figures in _read(folder)["files"].items()]
    for item in items:
        item.pop("gpu_unsupported", None)  # of older versions, by other rules
    return items


def read_refused(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Returns {file: reason} of the files in a folder's proof.json that were refused."""
    return _read(folder)["refused"]


def _read(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    path = pathlib.Path(folder) / "proof.json"
    try:
        content = json.loads(path.read_text("utf-8")) if path.exists() else {"files": {}}
        files = {name: dict(figures) for name, figures in content["files"].items()}
        return {"files": files, "refused": dict(content.get("refused", {}))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Remove it to export again") from error


def _logits(probabilities: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(probabilities, LEAST_PROBABILITY), dtype=np.float64)
    return logs - logs.mean(axis=1, keepdims=True)


def _largest(differences: np.ndarray) -> float:
    # NaN if there is one: NumPy's maximum keeps it, and it is outside of every bound.
    return float(np.abs(differences).max()) if np.size(differences) else 0.0


def _max_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    return _largest(actual - expected)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / np.maximum(norms, LEAST_PROBABILITY)))


def _share_within(pixels: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> float:
    """Returns the share of the images with all pixels between two grey levels, but for what decoders differ by."""
    outside = np.maximum(lowest.astype(np.int16) - pixels, pixels.astype(np.int16) - highest).clip(0)
    within = outside.max(axis=(1, 2, 3)) <= MAX_LEVEL_DIFFERENCE
    return float((within & (outside.mean(axis=(1, 2, 3)) <= MEAN_LEVEL_DIFFERENCE)).mean())


def _top1_agreement(actual: np.ndarray, expected: np.ndarray, tie: float = 0.0) -> float:
    chosen = np.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float((expected.max(axis=1) - chosen <= tie).mean())


def _accuracy(probabilities: np.ndarray, labels: np.ndarray | None) -> float | None:
    return None if labels is None else float((probabilities.argmax(axis=1) == labels).mean())
