"""Opens what a command calls a model."""

import contextlib
import dataclasses
import functools
import logging
import pathlib

import keras
import numpy as np

import keras_vit.builders  # registers the layers, without which no model of ours loads
from keras_vit.commands.run_folder import MODEL, recipe_of
from keras_vit.data.pipeline import read_pixels
from keras_vit.imagenet import class_names as imagenet_names
from keras_vit.models.class_names import names_for
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import image_size_of, numbers_of, outputs_of, pixels_of, served
from keras_vit.preprocessing import OFFICIAL_PIXELS, Pixels, preprocess_input
from keras_vit.weights.open import is_whole_model

logger = logging.getLogger("keras_vit")

_BATCH = 64  # images at once


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A model with what its command has to know of it.

    Args:
        path: its file.
        model: the Keras model, preprocessed RGB images -> whatever it returns.
        class_names: in the order of its probabilities; () where it returns features or numbers.
        protocol: how images are brought to its size; that of the run it came from.
        pixels: how its images are scaled.
        kind: of its outputs, out of `keras_vit.models.config.OUTPUT_KINDS`;
            None for features, of a model without a head.
        served: the model with probabilities in place of logits, and of two classes for a binary head.
    """

    path: pathlib.Path
    model: keras.Model
    class_names: tuple[str, ...]
    protocol: str = "official"
    pixels: Pixels = OFFICIAL_PIXELS
    kind: str | None = "probabilities"
    served: keras.Model | None = None

    @property
    def returns(self):
        """What `predict` returns: "probabilities", "scores" of each class by itself, or "numbers"."""
        if self.kind == "scores" and self.served is not self.model:
            return "probabilities"  # of a binary head's two classes
        return "probabilities" if self.kind == "logits" else self.kind

    @property
    def image_size(self):
        """(height, width) of the images that it takes, pixels."""
        return image_size_of(self.model)

    @property
    def outputs(self):
        """Names of what `predict` returns."""
        return tuple(numbers_of(self.model)) if self.kind == "numbers" else ("probabilities",)

    def read(self, image):
        """Returns an image at that size, (height, width, 3) uint8, as evaluation has it."""
        return read_pixels(image, self.image_size, self.protocol)

    def prepared(self, pixels):
        """Returns uint8 images of its size as the model takes them."""
        return preprocess_input(pixels, self.pixels)

    def predict(self, pixels):
        """Returns {output: (images, ...)} of uint8 images of its size: "probabilities", or the numbers by name."""
        found = keras.tree.flatten(self._run.predict(self.prepared(pixels), verbose=0))
        return dict(zip(self.outputs, map(np.asarray, found)))

    @functools.cached_property
    def _run(self):
        if self.kind == "numbers":
            return keras.Model(self.model.inputs, list(numbers_of(self.model).values()))
        return self.served or self.model


def load_model(target, image_size=None):
    """Loads what a command calls a model.

    Args:
        target: a .keras or .h5 file of a whole model, or a run's folder; or a checkpoint that `keras_vit.load` takes.
        image_size: (rows, columns) in pixels, for one that is made for another size; None for the model's own.

    Returns:
        Its path, and the Keras model.

    Raises:
        ValueError: if it is none that can be loaded.
    """
    path = pathlib.Path(target)
    if is_checkpoint(target):
        return path, keras_vit.builders.load(str(target), input_shape=(*image_size, 3) if image_size else None)
    path = path / MODEL if path.is_dir() else path
    model = _load_keras(path)
    return path, keras_vit.resize(model, image_size) if image_size else model


def open_model(target, image_size=None, *, pixels=None, outputs=None):
    """Returns a model of RGB images as a `Classifier`: without names of classes where it has no head.

    Args:
        target, image_size: as of `load_model`. The model names its classes, or a labels.txt in its own folder does.
        pixels: the pixel contract, as `keras_vit.models.interface.pixels_of` takes it; traced by default.
        outputs: the kind of its outputs, as `keras_vit.models.interface.outputs_of` takes it; traced by default.

    Raises:
        ValueError: as `load_model`, or if it takes no RGB images, does not tell its pixels or outputs, or does not fit
            its labels.
    """
    return classifier_of(*load_model(target, image_size), pixels=pixels, outputs=outputs)


def classifier_of(path, model, *, pixels=None, outputs=None):
    """Returns a loaded model as a `Classifier`; for arguments and errors see `open_model`."""
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3:
        raise ValueError(f"Expected a model of RGB images. Received: {path}, which takes {shapes}")
    image_size_of(model)
    contract = pixels_of(model, pixels)
    recipe = recipe_of(path / MODEL if path.is_dir() else path)
    protocol = recipe.evaluation if recipe else "official"
    logger.info("%s reads pixels as %s%s", path, contract.description, " (as said)" if pixels is not None else "")
    if outputs is None and head_of(model) is None:
        return Classifier(path, model, (), protocol, contract, None)
    names = names_for(path, getattr(model, "class_names", None))
    kind = outputs_of(model, outputs, names)
    if outputs is not None:
        with contextlib.suppress(ValueError):  # a model that does not tell contradicts nothing
            if (traced := outputs_of(model, None, names)) != kind and kind != "numbers":
                logger.warning(
                    "%s returns %s by its last layers, and is taken to return %s, as said", path, traced, kind
                )
    if kind == "numbers":
        logger.info("%s returns numbers: %s", path, ", ".join(numbers_of(model)))
        return Classifier(path, model, (), protocol, contract, kind)
    run = served(model, kind, names)
    count = run.output_shape[-1]
    if names is None and count == len(imagenet_names()):
        names = tuple(name for _, name in imagenet_names())
    if names is not None and len(names) != count:
        raise ValueError(f"{path} returns {kind} of {count} classes, but {len(names)} names of classes are with it.")
    names = names or tuple(f"class {i}" for i in range(count))
    found = Classifier(path, model, names, protocol, contract, kind, run)
    logger.info("%s returns %s of %d classes", path, found.returns, count)
    return found


def is_checkpoint(target):
    """Returns whether a text names a checkpoint in another layout than a whole model's, or a published one."""
    name = str(target)
    known = name in {row.name for row in keras_vit.checkpoints()}
    folder = (pathlib.Path(name) / "model.safetensors").exists()
    if is_whole_model(name):
        return False
    return name.endswith((".npz", ".safetensors", ".h5")) or "://" in name or folder or known


def load_classifier(target, **said):
    """Opens a model as `open_model` does.

    Raises:
        ValueError: as that does, or if it is no classifier.
    """
    found = open_model(target, **said)
    if found.kind == "numbers":
        raise ValueError(
            f"Expected a classifier, (batch, classes). Received: {found.path}, which returns numbers, "
            f"{', '.join(found.outputs)}. Where they are of classes, say outputs= (--outputs)"
        )
    return predictor(found)


def predictor(subject):
    """Returns a `Classifier` that returns classes or numbers; raises a ValueError for one that returns features."""
    if subject.kind is None:
        raise ValueError(
            f"Expected a model with a head. Received: {subject.path}, which returns features "
            f"{subject.model.output_shape}. To have them as numbers, say outputs='numbers' (--outputs numbers)"
        )
    return subject


def read_batches(subject, images, size=_BATCH):
    """Yields images as a model reads them, batch by batch: (number of the first, (images, height, width, 3) uint8).

    Args:
        subject: a `Classifier` or an exported file.
        images: paths.
        size: of a batch.

    Raises:
        ValueError: at the end, if some cannot be read; all of them in one message. Their batches lack them.
    """
    faults = []
    for start in range(0, len(images), size):
        numbers, pixels = [], []
        for i, image in enumerate(images[start : start + size], start):
            try:
                pixels.append(subject.read(image))
                numbers.append(i)
            except ValueError as error:
                faults.append(f"  {error}")
        if pixels:
            yield numbers, np.stack(pixels)
    if faults:
        raise ValueError("Images cannot be read:\n" + "\n".join(faults))


def read_images(subject, images):
    """Returns images as a model reads them, (images, rows, columns, 3) uint8.

    Args:
        subject: a `Classifier` or an exported file.
        images: paths.

    Raises:
        ValueError: if some cannot be read; all of them in one message.
    """
    return np.concatenate([pixels for _, pixels in read_batches(subject, images)])


def _load_keras(path):
    if path.name == MODEL and not path.exists():
        raise ValueError(
            f"Expected a .keras file or the folder of a finished run. Received: {path.parent}, without {MODEL}"
        )
    if not path.exists() or not is_whole_model(path):
        what = "which does not exist" if not path.exists() else f"a {path.suffix or 'nameless'} file"
        raise ValueError(f"Expected a .keras file or the folder of a finished run. Received: {path}, {what}")
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # what a file of something else makes Keras raise has no common kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no model that Keras can load: {reason[:200]}") from error
