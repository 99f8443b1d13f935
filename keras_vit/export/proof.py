"""Proves an exported file: runs it as a client does, and compares what it says with what the model says.

Shares no code with what writes the files. The model's side reads images as training and evaluation do; the file's
side is `keras_vit.runtime`.
"""

import dataclasses
import json
import logging
import pathlib
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_vit._atomic import write_text
from keras_vit.data.decoding import decode, read_file
from keras_vit.data.pipeline import read_all
from keras_vit.models.interface import image_size_of, numbers_of, pixels_of
from keras_vit.preprocessing import preprocess_input
from keras_vit.runtime import measure

logger = logging.getLogger("keras_vit")

_BATCH = 64  # images that the model answers at once
ENCODED = 1000  # of the images, those that go through a client's decoder and resize as well
LEAST = 1e-30  # a probability; its logarithm stands for that of everything below
# Grey levels by which two decoders may blend transparency and round 16 bits differently, at most and in the mean of an
# image; the resize has bounds of its own, pixel by pixel, see `expected_levels`.
LEVELS, MEAN_LEVEL = 1, 0.5
_STEPS = 32  # places between two neighbouring pixels that MediaPipe's resize knows (OpenCV's INTER_TAB_SIZE)

# What every file must keep, whatever its target. A client that reads images otherwise misleads file and model alike,
# so that comparing their answers on its pixels does not show it.
BOUNDS = {"from_bytes.read_alike": (0.99, 1.0)}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Holds how an exported file answers next to the Keras model, on the same images.

    Args:
        file: its name.
        target: out of `TARGETS`.
        bytes: its size; of all files together for a folder.
        images: how many both answered.
        logits: {"largest", "mean", "cosine"} of the differences between log-probabilities less their mean, which are
            logits but for a constant.
        probabilities: {"largest", "mean"} of the differences.
        outputs: {name: largest difference, in parts of the largest number} of the outputs beside the probabilities.
        numbers: {"largest", "relative"} difference of outputs that are numbers, in their own unit and in parts of the
            largest of an output; empty for classes, and then logits, probabilities and top-1 figures are None.
        top1_agreement: part of the images whose first class is the same.
        top1_or_tie: the same, but a class that the model gives as much as its first, up to the target's `tie`, counts.
        accuracy: of the file; None where the classes are not known.
        keras_accuracy: of the model, on the same images.
        from_bytes: the same from encoded images, through a client's decoder and resize; empty where there are none.
            "images"; "top1_agreement" and "largest" difference in a probability, of the file from the model in
            evaluation; of that what is due to the client's resize, of the model on the client's pixels from the model
            in evaluation: "resize_top1_agreement", "resize_largest"; and what is due to the file, of the file from the
            model on the same client's pixels: "file_top1_or_tie", "file_largest". "read_alike": part of the images
            that the client's decoder and resize bring to the pixels that they should, see `expected_levels`.
            "accuracy": of the file this way; None where the classes are not known.
        operators: {kind: number}; empty where the file is not TFLite.
        gpu_refused: what a GPU delegate would refuse, in words.
        input_type: what the file takes, out of `INPUTS`.
        milliseconds: {threads: median of an image's}, by `keras_vit.runtime.measure` on this machine.
        peak_memory: of that process, bytes; None where the system does not tell.
        pixels: the pixel contract that the model was run and exported with, in words.
    """

    file: str
    target: str
    bytes: int
    images: int
    logits: dict
    probabilities: dict
    outputs: dict
    top1_agreement: float | None
    top1_or_tie: float | None
    accuracy: float | None
    keras_accuracy: float | None
    from_bytes: dict = dataclasses.field(default_factory=dict)
    operators: dict = dataclasses.field(default_factory=dict)
    gpu_refused: list = dataclasses.field(default_factory=list)
    input_type: str = ""
    milliseconds: dict = dataclasses.field(default_factory=dict)
    peak_memory: int | None = None
    numbers: dict = dataclasses.field(default_factory=dict)
    pixels: str = ""

    @property
    def note(self):
        """What to know of a client's resize where it changes the class of more than one image in a hundred, or ""."""
        same = self.from_bytes.get("resize_top1_agreement")
        if same is None or same >= 0.99:
            return ""
        return (
            f"{self.file}: a client's resize by itself changes the class of {1 - same:.1%} of the images; clients "
            "that hand over images of one small size do without with --input-size ROWS COLUMNS"
        )

    def figure(self, name):
        """Returns a figure by its name in `Target.bounds`, as "logits.largest"; None where it was not measured."""
        value = self
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else getattr(value, part)
        return value


class Reference:
    """Says what the model answers, once for all the files that are compared with it.

    Args:
        model: scaled images (batch, rows, columns, 3) -> (batch, classes).
        class_names: in the order of its outputs.
        images: encoded ones, as `keras_vit.data.decoding.decode` takes; or their pixels, (images, rows, columns, 3)
            uint8 of the file's size.
        labels: (images,) their classes, or None.
        protocol: how evaluation brings images to the model's size.
        size: (rows, columns) of the images that the file takes; the model's by default.
        contract: the `Pixels` that the model's images are scaled by; its own by default.
        numbers: whether the outputs are numbers of any shape, without classes.
    """

    def __init__(
        self, model, class_names, images, labels=None, *, protocol="official", size=None, contract=None, numbers=False
    ):
        self.model, self.class_names, self.labels = model, tuple(class_names), labels
        self._widths = []  # numbers in each output, for one image
        self.names = tuple(numbers_of(model)) if numbers else ("probabilities",)
        self._run = keras.Model(model.inputs, list(numbers_of(model).values())) if numbers else model
        self.contract = contract or pixels_of(model)
        own = image_size_of(model)
        size = tuple(size or own)
        encoded = not isinstance(images, np.ndarray)
        logger.info("answers %d images with the model, to compare files with", len(images))
        self.pixels = read_all(images, size, protocol) if encoded else images
        self.expected = self.answers(self.pixels)
        ends = np.cumsum([0, *self._widths])
        self._largest_numbers = [
            max(np.abs(self.expected[:, start:end]).max(initial=0), LEAST) for start, end in zip(ends, ends[1:])
        ]
        some = np.linspace(0, len(images) - 1, min(len(images), ENCODED) if encoded else 0).astype(int)
        self.encoded = [read_file(images[i]) for i in some]
        self.encoded_labels = None if labels is None else np.asarray(labels)[some]
        # What evaluation makes of the encoded ones, which need not be of the file's size.
        if size == own or not encoded:
            self.evaluated = self.expected[some]
        else:
            self.evaluated = self.answers(read_all(self.encoded, own, protocol))
        self._seen = {}

    def answers(self, pixels):
        """Returns the model's probabilities for uint8 images, (images, classes); of numbers all, output by output."""
        answers = []
        for i in range(0, len(pixels), _BATCH):
            images = preprocess_input(self.at_model_size(pixels[i : i + _BATCH]), self.contract)
            found = [np.asarray(array) for array in keras.tree.flatten(self._run.predict_on_batch(images))]
            self._widths = [array[0].size for array in found]
            answers.append(_side_by_side(found))
        return np.concatenate(answers) if answers else np.zeros((0, len(self.class_names)), np.float32)

    def answers_of(self, outputs):
        """Returns the same of what a file returned, {output: array}."""
        return _side_by_side([outputs[name] for name in self.names])

    def relative(self, given, expected):
        """Returns the largest difference of numbers, in parts of the largest number of the same output."""
        return _largest((given - expected) / np.repeat(self._largest_numbers, self._widths))

    def seen(self, size, from_middle):
        """Returns the `expected_levels` of the encoded images, lowest and highest, uint8 arrays; each made once."""
        kind = (tuple(size), from_middle)
        if kind not in self._seen:
            levels = [expected_levels(decode(image), *kind) for image in self.encoded]
            self._seen[kind] = tuple(np.stack(some) for some in zip(*levels))
        return self._seen[kind]

    def at_model_size(self, pixels):
        """Returns images of the file's size at the model's: where they differ, the file resizes inside."""
        size = tuple(self.model.inputs[0].shape[1:3])
        return pixels if None in size or pixels.shape[1:3] == size else tf.image.resize(pixels, size).numpy()


def compare(file, witness, *, name, target, tie=0.0, references=None):
    """Returns the `Agreement` of a file that a client has opened.

    Args:
        file: as `keras_vit.runtime.files.open_exported` returns it.
        witness: the `Witness`.
        name, target: for the record.
        tie: see `Agreement.top1_or_tie`.
        references: {output: array for the first images} of the outputs beside the probabilities.

    Raises:
        ValueError: if the file names other classes than the model has, or takes other images.
    """
    if file.class_names != witness.class_names:
        first = next((pair for pair in zip(file.class_names, witness.class_names) if pair[0] != pair[1]), ("", ""))
        raise ValueError(
            f"{file.path} names other classes than the model, {len(file.class_names)} and {len(witness.class_names)}; "
            f"the first that differs: {first[0]!r}, expected {first[1]!r}"
        )
    if unlike := [name for name in witness.names if name not in file.outputs]:
        raise ValueError(
            f"{file.path} lacks outputs of the model: {', '.join(unlike)}. It has {', '.join(file.outputs)}"
        )
    outputs = file.predict(witness.pixels)
    given = witness.answers_of(outputs)
    return Agreement(
        file=name,
        target=target,
        bytes=size_of(file.path),
        images=len(given),
        **(_classes_alike(given, witness, tie) if witness.class_names else _numbers_alike(given, witness)),
        outputs={
            name: _largest(outputs[name][: len(values)] - values) / max(_largest(values), LEAST)
            for name, values in (references or {}).items()
        },
        from_bytes=_from_bytes(file, witness, tie) if witness.encoded else {},
    )


def _classes_alike(given, witness, tie):
    expected, labels = witness.expected, witness.labels
    logits = [_logits(values) for values in (given, expected)]
    apart = np.abs(logits[0] - logits[1])
    return {
        "logits": {"largest": _largest(apart), "mean": float(apart.mean()), "cosine": _cosine(*logits)},
        "probabilities": {"largest": _largest(given - expected), "mean": float(np.abs(given - expected).mean())},
        "top1_agreement": _same_first(given, expected),
        "top1_or_tie": _same_first(given, expected, tie),
        "accuracy": _accuracy(given, labels),
        "keras_accuracy": _accuracy(expected, labels),
    }


def _numbers_alike(given, witness):
    """Returns the same for numbers: there is no class, so that every figure of classes is None."""
    classes = ("top1_agreement", "top1_or_tie", "accuracy", "keras_accuracy")
    return {
        "logits": dict.fromkeys(("largest", "mean", "cosine")),
        "probabilities": dict.fromkeys(("largest", "mean")),
        "numbers": {
            "largest": _largest(given - witness.expected),
            "relative": witness.relative(given, witness.expected),
        },
        **dict.fromkeys(classes),
    }


def _side_by_side(arrays):
    """Returns arrays of (images, ...) as one, (images, numbers)."""
    return np.concatenate([np.asarray(array).reshape(len(array), -1) for array in arrays], axis=1)


def _from_bytes(file, witness, tie):
    """Compares along the way that a client goes: encoded image, its decoder, its resize, the file."""
    pixels = np.stack([file.read(image) for image in witness.encoded])
    # MediaPipe, which runs .tflite files, begins a resize at the corner of the image; all others do not.
    from_middle = file.path.suffix != ".tflite"
    given = witness.answers_of(file.predict_encoded(witness.encoded))
    evaluated, resized = witness.evaluated, witness.answers(pixels)
    if not witness.class_names:
        return {
            "images": len(given),
            "read_alike": _within(pixels, *witness.seen(file.image_size, from_middle)),
            "largest": witness.relative(given, evaluated),
            "resize_largest": witness.relative(resized, evaluated),
            "file_largest": witness.relative(given, resized),
        }
    return {
        "images": len(given),
        "read_alike": _within(pixels, *witness.seen(file.image_size, from_middle)),
        "accuracy": _accuracy(given, witness.encoded_labels),
        "top1_agreement": _same_first(given, evaluated),
        "largest": _largest(given - evaluated),
        "resize_top1_agreement": _same_first(resized, evaluated),
        "resize_largest": _largest(resized - evaluated),
        "file_top1_or_tie": _same_first(given, resized, tie),
        "file_largest": _largest(given - resized),
    }


def expected_levels(pixels, size, from_middle):
    """Returns the lowest and the highest grey level that a right client may give each pixel of a resized image.

    The right resize is bilinear interpolation, both sides on their own, without smoothing. A client knows the place of
    a pixel in the image only to half a step. Its grey level is then one that the interpolation takes that close to the
    place, rounded to a whole level. Interpolation is bilinear between pixels, so its extremes are at the ends of that
    stretch, or at a pixel inside it.

    Args:
        pixels: (rows, columns, 3) uint8, as decoded.
        size: (rows, columns), pixels.
        from_middle: whether the resize begins in the middle of a pixel or at the corner of the image.

    Returns:
        Two arrays, (rows, columns, 3) uint8.
    """
    rows, columns = (_places(*sides, from_middle) for sides in zip(pixels.shape, size))
    across = [_between(pixels, places, 0) for places in rows]
    values = np.stack([_between(part, places, 1) for part in across for places in columns])
    half = 0.5 + 1e-4  # of a level; the rest is for sums in float32
    return np.ceil(values.min(axis=0) - half).astype(np.uint8), np.floor(values.max(axis=0) + half).astype(np.uint8)


def _places(given, wanted, from_middle):
    """Returns where along a side the pixels of a resized image lie: the least, the middle and the largest place."""
    start = 0.5 if from_middle else 0.0
    exact = (np.arange(wanted) + start) * given / wanted - start
    if from_middle:
        reach = np.full(wanted, given * 2.0**-22)  # places in float32
    else:
        reach = np.where(exact * _STEPS % 1, 0.5 / _STEPS, 0.0)  # one of the steps is met exactly
    least, largest = exact - reach, exact + reach
    return [places.clip(0, given - 1) for places in (least, np.rint(exact).clip(least, largest), largest)]


def _between(pixels, places, axis):
    """Returns an image linearly interpolated along an axis, float32."""
    below, above = (pixels.take(end(places).astype(int), axis).astype(np.float32) for end in (np.floor, np.ceil))
    share = np.float32(np.expand_dims(places % 1, [other for other in range(3) if other != axis]))
    return below + share * (above - below)


def size_of(path):
    """Returns the bytes of a file, or of all files in a folder."""
    return sum(part.stat().st_size for part in [path, *path.rglob("*")] if part.is_file())


def measured(path):
    """Returns {"milliseconds", "peak_memory"} of what a file runs by, measured in a process of its own."""
    found = subprocess.run([sys.executable, measure.__file__, str(path)], capture_output=True, text=True, check=False)
    if found.returncode:
        raise ValueError(f"{path} could not be run alone: {(found.stderr.strip().splitlines() or ['no word'])[-1]}")
    return json.loads(found.stdout.splitlines()[-1])


def faults(agreement, bounds):
    """Returns what of an `Agreement` lies outside of {figure: (least, most)} and of `BOUNDS`, in words."""
    bounds = {**BOUNDS, **bounds}
    values = {name: agreement.figure(name) for name in bounds}
    return [
        f"{name} is {value:.6g}, expected {least:g} to {most:g}"
        for (name, value), (least, most) in zip(values.items(), bounds.values())
        if value is not None and not least <= value <= most  # a NaN is refused too
    ]


def write_proof(folder, agreements, refused=()):
    """Writes proof.json; what an older one says of other files there stays.

    It holds {"files": {name: its figures}} and, where files were refused, {"refused": {name: reason}}.

    Args:
        folder: where the files are.
        agreements: an `Agreement` a file that is kept.
        refused: {file: reason} of those that are not.
    """
    folder = pathlib.Path(folder)
    found = {item["file"]: item for item in read_proof(folder) if (folder / item["file"]).exists()}
    found.update({item.file: dataclasses.asdict(item) for item in agreements})
    kept = [item.file for item in agreements]
    others = {file: reason for file, reason in read_refused(folder).items() if file not in kept} | dict(refused)
    content = {"files": found} | ({"refused": others} if others else {})
    write_text(folder / "proof.json", json.dumps(content, indent=1))


def read_proof(folder):
    """Returns the figures that a folder's proof.json holds, a dictionary a file; none where there is no such file."""
    return [item | {"file": name} for name, item in _read(folder)["files"].items()]


def read_refused(folder):
    """Returns {file: reason} of the files that were refused there, as a folder's proof.json holds it."""
    return _read(folder)["refused"]


def _read(folder):
    path = pathlib.Path(folder) / "proof.json"
    try:
        found = json.loads(path.read_text("utf-8")) if path.exists() else {"files": {}}
        files = {name: dict(figures) for name, figures in found["files"].items()}
        return {"files": files, "refused": dict(found.get("refused", {}))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Remove it to export anew") from error


def _logits(probabilities):
    logs = np.log(np.maximum(probabilities, LEAST), dtype=np.float64)
    return logs - logs.mean(axis=1, keepdims=True)


def _largest(differences):
    # NaN if there is one: NumPy's maximum keeps it, and it lies outside of every bound.
    return float(np.abs(differences).max()) if np.size(differences) else 0.0


def _cosine(a, b):
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / np.maximum(norms, LEAST)))


def _within(given, lowest, highest):
    """Returns the part of the images whose pixels lie between two grey levels each, but for what decoders differ by."""
    outside = np.maximum(np.int16(lowest) - given, np.int16(given) - highest).clip(0)
    alike = (outside.max(axis=(1, 2, 3)) <= LEVELS) & (outside.mean(axis=(1, 2, 3)) <= MEAN_LEVEL)
    return float(alike.mean())


def _same_first(given, expected, tie=0.0):
    chosen = np.take_along_axis(expected, given.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float((expected.max(axis=1) - chosen <= tie).mean())


def _accuracy(probabilities, labels):
    return None if labels is None else float((probabilities.argmax(axis=1) == labels).mean())
