"""Distillation: a student learns the outputs of a teacher, of the same augmented images, beside the labels.

The columns of a batch's targets after those of the classes are the teacher's: the features of each image, from which
its logits are computed. They are in the batches and not in the student, so that neither the saved model nor the
training checkpoints contain the teacher, and a resumed run reads the same numbers.
"""

import functools
import hashlib
import json
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_vit import _arguments as checked
from keras_vit import _compat
from keras_vit._arguments import counted
from keras_vit._atomic import write_text
from keras_vit._progress import log_progress
from keras_vit.builders import load
from keras_vit.data.folder import named_format
from keras_vit.data.listing import ListedImage, Listing, read_listing
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Examples, Source, refuse_unreadable
from keras_vit.evaluation.feature_cache import cached_features, model_digest
from keras_vit.evaluation.probes import probe_head
from keras_vit.models.features import representation
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import image_size_of, pixels_of
from keras_vit.preprocessing import Pixels, preprocess_input
from keras_vit.training.head import MOST_PROBED
from keras_vit.training.losses import CrossEntropy
from keras_vit.training.recipe import Recipe

_log = logging.getLogger("keras_vit")

DISTILLATION_FILE = "distillation.json"
_SETTING = "KERAS_VIT_TEACHER_CACHE"
_MODEL_FILE = "model.keras"  # in the folder of a run
_BATCH = 64  # images


class Teacher:
    """A trained model whose outputs a student learns.

    Args:
        model: the teacher, which reads images of its own size, pixel contract and channels.
        kernel: (features, classes) that makes the logits of the data's classes from the features; None without logits.
        bias: (classes,), likewise.
    """

    def __init__(self, model: keras.Model, kernel: np.ndarray | None = None, bias: np.ndarray | None = None) -> None:
        self.model, self.kernel, self.bias = model, kernel, bias
        self.size, self.pixels, self._reader = image_size_of(model), pixels_of(model), representation(model)
        self._lock = threading.Lock()  # the threads of a pipeline share the model
        self.width = int(
            self.features(np.zeros((1, *self.size, self.pixels.channels), np.float32), self.pixels).shape[1]
        )

    def features(self, images: np.ndarray, pixels: Pixels) -> np.ndarray:
        """Returns the features of a student's images, (batch, features) float32.

        Args:
            images: (batch, height, width, channels), scaled as `pixels` says.
            pixels: the pixel contract of the student.
        """
        levels = tf.constant(images) * (255 * np.asarray(pixels.std, np.float32)) + 255 * np.asarray(
            pixels.mean, np.float32
        )
        if self.pixels.channels == 1 and pixels.channels > 1:
            levels = tf.reduce_mean(levels, axis=-1, keepdims=True)
        elif pixels.channels == 1 and self.pixels.channels > 1:
            levels = tf.repeat(levels, self.pixels.channels, axis=-1)
        if levels.shape[1:3] != self.size:
            levels = tf.image.resize(levels, self.size, self.pixels.interpolation, antialias=self.pixels.antialias)
        with self._lock:
            outputs = self._reader.predict_on_batch(preprocess_input(levels.numpy(), self.pixels))
        return np.asarray(keras.ops.convert_to_numpy(outputs), np.float32)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the logits of the data's classes, (..., classes), of features, (..., features)."""
        return features @ self.kernel + self.bias

    @functools.cached_property
    def digest(self) -> str | None:
        """SHA-256 of the architecture and the weights."""
        return model_digest(self.model)


def teacher_of(recipe: Recipe, source: Source) -> Teacher | None:
    """Returns the teacher of a recipe; None without one.

    If a head is needed and the teacher has none of the data's classes, a linear probe is fitted on its features of the
    training images.

    Args:
        recipe: the recipe.
        source: the images and their classes.

    Raises:
        ValueError: if the teacher cannot be read, or has some of the classes but not all.
    """
    if recipe.teacher is None:
        return None
    if source.learns != "classes":
        raise ValueError(f"Expected one class an image with a teacher. Received: data of {source.learns}")
    path = pathlib.Path(recipe.teacher)
    file = path / _MODEL_FILE if (path / _MODEL_FILE).is_file() else recipe.teacher
    teacher = Teacher(load(file))
    if recipe.channels != teacher.pixels.channels and 1 not in (recipe.channels, teacher.pixels.channels):
        raise ValueError(
            f"Expected a teacher of {counted(recipe.channels, 'channel')}, as the images, or of 1. Received: "
            f"teacher={recipe.teacher!r}, of {counted(teacher.pixels.channels, 'channel')}. Choose another teacher"
        )
    if recipe.distill != "features":
        teacher.kernel, teacher.bias = _head(recipe, teacher, source)
    return teacher


def _head(recipe: Recipe, teacher: Teacher, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and the bias of the data's classes: of the teacher's head, or of a probe."""
    head, own = head_of(teacher.model), tuple(getattr(teacher.model, "class_names", None) or ())
    missing = [name for name in source.class_names if name not in own]
    if head is not None and own and len(missing) < len(source.class_names):
        if missing or type(head) is not keras.layers.Dense:
            raise ValueError(
                "Expected a teacher with a dense head of all classes of the images. Received: "
                f"teacher={recipe.teacher!r} with {checked.first_few(own)}, without {checked.first_few(missing)}. Give "
                "the classes the same names, or set distill=features"
            )
        columns = [own.index(name) for name in source.class_names]
        kernel = keras.ops.convert_to_numpy(head.kernel)[:, columns]
        bias = keras.ops.convert_to_numpy(head.bias)[columns] if head.use_bias else np.zeros(len(columns))
        return np.asarray(kernel, np.float32), np.asarray(bias, np.float32)
    examples, count = source.train, len(source.train.labels)
    if count > MOST_PROBED:
        examples = examples.take(np.sort(np.random.default_rng(0).choice(count, MOST_PROBED, replace=False)))
    _log.info(
        "the teacher has no head of these classes: a linear probe is fitted on its features of %s",
        counted(len(examples.labels), "training image"),
    )
    features = teacher_features(teacher, examples, teacher.size, teacher.pixels)[:, 0]
    kernel, bias = probe_head(features, examples.labels, "classes", len(source.class_names), 0)
    return np.asarray(kernel, np.float32), np.asarray(bias, np.float32)


def require_same_teacher(
    folder: str | os.PathLike[str], teacher: Teacher | None, recipe: Recipe, source: Source, write: bool
) -> None:
    """Writes the digests of a run's teacher and training images, or checks that those of a begun run are the same.

    Args:
        folder: the folder of the run.
        teacher: its teacher; nothing is done without one.
        recipe: the recipe.
        source: the training images, with those without labels.
        write: whether this process writes the file.

    Raises:
        ValueError: if the run in the folder was begun with another teacher or other unlabelled images.
    """
    if teacher is None:
        return
    path = pathlib.Path(folder) / DISTILLATION_FILE
    images = hashlib.sha256(repr(source.train.digests or source.train.names).encode()).hexdigest()
    license = getattr(teacher.model, "license", None)
    ours = {"teacher_sha256": teacher.digest, "images_sha256": images, "license": license and license.text}
    ours |= {"teacher": recipe.teacher, "distill": recipe.distill}
    if path.exists():
        theirs = json.loads(path.read_text("utf-8"))
        if differ := [name for name in ours if name.endswith("sha256") and theirs.get(name) != ours[name]]:
            raise ValueError(
                f"Expected the teacher and the unlabelled images that the run in {folder} began with. Received: "
                f"teacher={recipe.teacher!r}, unlabelled={recipe.unlabelled!r}, another {' and '.join(differ)}. "
                "Restore them, or choose another folder"
            )
    elif write:
        write_text(path, json.dumps(ours, indent=1))


def with_unlabelled(recipe: Recipe, source: Source) -> Source:
    """Returns a source whose training images are followed by those of the recipe's `unlabelled`, of the class -1.

    Raises:
        ValueError: if there are no images in the folder, or one cannot be read and the recipe does not skip it.
    """
    if recipe.unlabelled is None:
        return source
    folder, train = pathlib.Path(recipe.unlabelled), source.train
    listed = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    files = [path for path in listed if named_format(path) is not None]
    if not files:
        raise ValueError(f"Expected a folder of images. Received: unlabelled={recipe.unlabelled!r}, without any")
    if others := len(listed) - len(files):
        _log.info("%s: left out: %s without an ending of an image", folder, counted(others, "file"))
    images = tuple(ListedImage(file, file, "", "train") for file in files)
    listing = read_listing(Listing(str(folder), folder.name, (), (), images), recipe.channels)
    bad = [(image.name, image.reason) for image in listing.images if image.reason]
    refuse_unreadable(replace(listing, problems=()), bad, recipe.on_bad_image == "skip")
    read = [image for image in listing.images if not image.reason]
    if bad:
        _log.warning("left out: %s that cannot be read", counted(len(bad), "image"))
    _log.info("%s without labels, whose classes are the teacher's", counted(len(read), "training image"))
    examples = Examples(
        (*train.images, *(image.file for image in read)),
        np.concatenate([train.labels, np.full(len(read), -1, train.labels.dtype)]),
        (*train.names, *(image.name for image in read)),
        None if train.weights is None else np.concatenate([train.weights, np.ones(len(read), np.float32)]),
        (*train.digests, *(image.digest for image in read)) if train.digests else (),
    )
    return replace(source, train=examples)


def teacher_columns(
    recipe: Recipe, teacher: Teacher, examples: Examples, size: tuple[int, int], pixels: Pixels
) -> Callable[[dict[str, Any], Any], Any]:
    """Returns a function of the rows and the images of a batch that returns the teacher's columns of the targets.

    The teacher's features are read from a table where the images of a recipe are always the same, or mirrored, and are
    computed of each batch otherwise.

    Args:
        recipe: the recipe.
        teacher: its teacher.
        examples: the training images.
        size: (height, width) of the student's images, pixels.
        pixels: their contract.
    """
    with_logits, with_features = recipe.distill != "features", "features" in recipe.distill

    def of_features(features: np.ndarray) -> np.ndarray:
        parts = [teacher.logits(features)] * with_logits + [features] * with_features
        return np.concatenate(parts, axis=-1).astype(np.float32)

    width = of_features(np.zeros((1, teacher.width), np.float32)).shape[1]
    if not _is_random(recipe):
        table = tf.constant(of_features(teacher_features(teacher, examples, size, pixels, recipe.flip)))

        def looked_up(row: dict[str, Any], images: Any) -> Any:
            flipped = tf.cast(row["flip"], tf.int64) if recipe.flip else tf.zeros_like(row["index"])
            return tf.gather_nd(table, tf.stack([row["index"], flipped], axis=-1))

        return _compat.as_written(looked_up)

    def computed(row: dict[str, Any], images: Any) -> Any:
        outputs = tf.numpy_function(lambda x: of_features(teacher.features(x, pixels)), [images], tf.float32)
        return tf.ensure_shape(outputs, (images.shape[0], width))

    return _compat.as_written(computed)


def _is_random(recipe: Recipe) -> bool:
    """Returns whether training images are changed at random, other than mirrored."""
    moved = recipe.rotate or recipe.shift or recipe.zoom or recipe.shear
    mixed = recipe.mixup or recipe.cutmix
    return bool(recipe.crop != "resize" or moved or recipe.randaugment or recipe.keras_cv or mixed)


def teacher_features(
    teacher: Teacher, examples: Examples, size: tuple[int, int], pixels: Pixels, flip: bool = False
) -> np.ndarray:
    """Returns the teacher's features of images, (images, 1 or 2, features): as they are and, with `flip`, mirrored.

    They are kept in a file of the user's cache folder, whose name is a digest of all that they depend on.
    KERAS_VIT_TEACHER_CACHE names another folder; 0 keeps none.
    """

    def compute() -> tuple[np.ndarray, np.ndarray]:
        batches: Iterable[Any] = (
            (images.numpy(), labels.numpy()) for images, labels in evaluation_batches(examples, size, _BATCH, pixels)
        )
        views = []
        for images, _ in log_progress(batches, "read by the teacher", len(examples.labels)):
            # A last batch of another size would compile the teacher again.
            whole = np.concatenate([images, np.zeros((_BATCH - len(images), *images.shape[1:]), images.dtype)])
            of_views = [teacher.features(view, pixels) for view in ((whole, whole[:, :, ::-1]) if flip else (whole,))]
            views.append(np.stack(of_views, axis=1)[: len(images)])
        return np.concatenate(views), examples.labels

    folder = _cache_folder()
    if folder is None or len(examples.digests) != len(examples.labels):
        return compute()[0]
    return cached_features(folder, (teacher.digest, size, pixels, flip, examples.digests), compute)[0]


def _cache_folder() -> pathlib.Path | None:
    """Returns the folder of the teachers' features; None where none are to be kept."""
    setting = os.environ.get(_SETTING)
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path("~", ".cache"), "keras_vit", "teachers")
    try:
        return None if setting == "0" else pathlib.Path(setting or default).expanduser().resolve()
    except RuntimeError:  # a user without a home
        return None


class DistillationLoss:
    """The loss of the labels and that of the teacher's outputs, weighted.

    Targets are [one-hot classes, teacher's logits, teacher's features], as far as `distill` has them; without the
    teacher's columns, as in validation, the loss is that of the labels alone. Outputs are [logits, projected features].
    An image without a label, whose targets of all classes are 0, has the loss of the teacher alone, and counts as
    correct where it agrees with the teacher's logits.

    Args:
        labels: the loss of the labels.
        classes: number of classes.
        distill: "logits", the Kullback-Leibler divergence from the teacher's probabilities at a temperature, times its
            square; "hard", the cross-entropy with the teacher's class; "features", the squared error of the
            teacher's features, normalized over each image; or "logits+features", the sum of both.
        temperature: of the softmax of both.
        weight: of the loss of the teacher; that of the labels has 1 minus this weight.

    Source: arXiv:1503.02531 (logits); arXiv:2012.12877 (hard); arXiv:1412.6550 (features by a learned projection);
    arXiv:2205.14141 (their normalization).
    """

    def __init__(self, labels: CrossEntropy, classes: int, distill: str, temperature: float, weight: float) -> None:
        self.labels, self.classes, self.distill = labels, classes, distill
        self.temperature, self.weight = temperature, weight

    def loss_and_accuracy(self, targets: Any, outputs: Any) -> tuple[Any, Any]:
        """Returns the loss and the top-1 accuracy (1 or 0) of each image, (batch,) each."""
        classes, logits = self.classes, ops.cast(outputs[:, : self.classes], "float32")
        truth = ops.cast(targets[:, :classes], "float32")
        if targets.shape[1] == classes:
            return self.labels.loss_and_accuracy(truth, logits)
        known = ops.max(truth, axis=-1) > 0
        of_labels, correct = self.labels.loss_and_accuracy(truth, logits)
        teacher, place = 0.0, classes
        if self.distill != "features":
            theirs = ops.cast(targets[:, classes : 2 * classes], "float32")
            place += classes
            agrees = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.argmax(theirs, axis=-1)), "float32")
            correct = ops.where(known, correct, agrees)
            if self.distill == "hard":
                hard = ops.one_hot(ops.argmax(theirs, axis=-1), classes)
                teacher += ops.categorical_crossentropy(hard, logits, from_logits=True)
            else:
                ours = ops.log_softmax(logits / self.temperature, axis=-1)
                theirs = ops.log_softmax(theirs / self.temperature, axis=-1)
                teacher += self.temperature**2 * ops.sum(ops.exp(theirs) * (theirs - ours), axis=-1)
        if "features" in self.distill:
            features = ops.cast(targets[:, place:], "float32")
            features = features - ops.mean(features, axis=-1, keepdims=True)
            features = features / ops.sqrt(ops.mean(ops.square(features), axis=-1, keepdims=True) + 1e-6)
            teacher += ops.mean(ops.square(ops.cast(outputs[:, classes:], "float32") - features), axis=-1)
        return (1 - self.weight) * ops.where(known, of_labels, 0.0) + self.weight * teacher, correct


def distilled_outputs(model: keras.Model, distill: str, width: int) -> keras.KerasTensor:
    """Returns the outputs that a student is trained by: its logits and, of "features", a projection of its features.

    The projection is trained with the student, and is no part of the model that is saved.

    Args:
        model: the student.
        distill: as of `DistillationLoss`.
        width: number of the teacher's features.
    """
    head = model.get_layer("head")
    if "features" not in distill:
        return head.output
    projected = keras.layers.Dense(width, name="distillation")(head.input)
    return keras.layers.Concatenate(dtype="float32", name="distilled")([head.output, projected])
