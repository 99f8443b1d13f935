"""Opens the model that a command line names, with its class names, pixel range and kind of outputs."""

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
from typing import Any

import keras
import numpy as np

import keras_vit.builders  # registers the layers, without which no model of ours loads
from keras_vit._arguments import counted
from keras_vit.builders import Channels
from keras_vit.commands.run_folder import MODEL_FILE, recipe_beside
from keras_vit.data.listing import Learns
from keras_vit.data.pipeline import read_pixels
from keras_vit.export.targets import KNOWN
from keras_vit.imagenet import class_names as imagenet_names
from keras_vit.models.class_names import names_for
from keras_vit.models.config import Gelu
from keras_vit.models.features import PredictionAndRepresentation, Representation
from keras_vit.models.hooks import head_of
from keras_vit.models.interface import image_size_of, in_dtype, numbers_of, outputs_of, pixels_of, served
from keras_vit.models.reject import Reject
from keras_vit.preprocessing import OFFICIAL_PIXELS, Pixels, preprocess_input
from keras_vit.weights.formats import OPEN_CLIP_WEIGHTS
from keras_vit.weights.keras_file import is_whole_model, load_keras_file

logger = logging.getLogger("keras_vit")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageModel:
    """A Keras model of images, with all that a command needs to run it on image files.

    Args:
        path: its file.
        model: the Keras model; its input are preprocessed images.
        class_names: in the order of the outputs; () for a model that returns features or numbers.
        protocol: how evaluation resizes and crops images, out of `keras_vit.data.crop.PROTOCOLS`; that of the run
            that the model came from.
        pixels: the pixel values that the model expects.
        kind: the kind of the outputs, out of `keras_vit.models.config.OUTPUT_KINDS`; None for the features of a model
            without a head.
        served: the model with probabilities in place of logits, and with two classes in place of a binary head; None
            for a model that returns features or numbers.
        with_features: whether `predict` also returns the features of the images, the input of the head.
    """

    path: pathlib.Path
    model: keras.Model
    class_names: tuple[str, ...]
    protocol: str = "official"
    pixels: Pixels = OFFICIAL_PIXELS
    kind: str | None = "probabilities"
    served: keras.Model | None = None
    with_features: bool = False

    @property
    def returns(self) -> str | None:
        """What `predict` returns: "probabilities", "scores" of independent classes, "numbers", or None for features."""
        if self.kind == "scores" and self.served is not self.model:
            return "probabilities"  # of the two classes of a binary head
        return "probabilities" if self.kind == "logits" else self.kind

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The least score of each label that an image has; () for other models than of independent labels."""
        return (getattr(self.model, "thresholds", None) or ()) if self.returns == "scores" else ()

    @property
    def reject(self) -> Reject | None:
        """When an image is none of the classes; None where the model does not know it."""
        return getattr(self.model, "reject", None) if self.returns == "probabilities" else None

    @property
    def learns(self) -> Learns:
        """What the model has learned: classes that exclude each other, independent labels, or numbers."""
        if self.kind == "numbers":
            return "numbers"
        return "labels" if self.thresholds else "classes"

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) of the input images in pixels."""
        return image_size_of(self.model)

    @property
    def channels(self) -> int:
        """Channels of the input images: 1 for grey, 3 for RGB, 4 for RGBA, another number for bands."""
        channels: int = self.model.inputs[0].shape[3]
        return channels

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the arrays that `predict` returns."""
        heads = [*numbers_of(self.model)] if self.kind == "numbers" else ["probabilities"] if self.kind else []
        return (*heads, *(["features"] if self.with_features else []), *([KNOWN] if self.reject else []))

    def read(self, image: Any) -> np.ndarray:
        """Returns an encoded image at the size of the model, uint8 (height, width, channels), resized as in
        evaluation."""
        return read_pixels(image, self.image_size, self.protocol, self.channels)

    def preprocess(self, images: np.ndarray) -> np.ndarray:
        """Returns uint8 images of the size of the model in the pixel range that it expects."""
        return preprocess_input(images, self.pixels)

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns {name: array} of the outputs for uint8 images: {"probabilities": (batch, classes)}, or numbers.

        With `with_features`, also {"features": (batch, features)}; of a model with a `Reject`, also its margins,
        {"known": (batch, 1)}.
        """
        arrays = keras.tree.flatten(self._prediction_model.predict(self.preprocess(images), verbose=0))
        outputs = dict(zip(self.outputs, map(np.asarray, arrays)))
        if self.reject:
            outputs[KNOWN] = keras.ops.convert_to_numpy(self.reject.margin(outputs["probabilities"]))
        return outputs

    @functools.cached_property
    def _prediction_model(self) -> keras.Model:
        model = self.served or self.model
        if self.kind == "numbers":
            model = keras.Model(self.model.inputs, list(numbers_of(self.model).values()))
        if not self.with_features:
            return model
        return PredictionAndRepresentation(model) if self.kind else Representation(model)


def load_keras_model(
    target: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
    *,
    channels: int | None = None,
    gelu: Gelu | None = None,
) -> tuple[pathlib.Path, keras.Model]:
    """Loads a Keras model from its file, the folder of a run, or a checkpoint.

    Args:
        target: a .keras or .h5 file of a whole model, the folder of a run, or a checkpoint as in `keras_vit.load`.
        image_size: (height, width) in pixels to resize the model to; None for its own.
        channels: of the input images, which a checkpoint is adapted to as in a run; None for its own.
        gelu: of a checkpoint, as in `keras_vit.load`.

    Returns:
        (path of the model, model).

    Raises:
        ValueError: if it cannot be loaded, or is a Keras model of other channels, or one with `gelu`.
    """
    path = pathlib.Path(target)
    if is_checkpoint(target):
        adapted: Channels | None = None if channels is None else "slice" if channels == 4 else "average"
        load = functools.partial(keras_vit.builders.load, str(target), gelu=gelu, channels=adapted)
        model = load(input_shape=(*image_size, channels or 3) if image_size else None)
        if channels and channels != model.inputs[0].shape[3]:
            model = load(input_shape=(*image_size_of(model), channels))
        return path, model
    path = path / MODEL_FILE if path.is_dir() else path
    if gelu is not None:
        raise ValueError(f"Expected gelu for a checkpoint alone. Received: {gelu=}, {path}, which has its own")
    model = _load_keras_file(path)
    if channels and channels != model.inputs[0].shape[3]:
        received = counted(model.inputs[0].shape[3], "channel")
        raise ValueError(
            f"Expected a model of {channels} channels. Received: {path}, of {received}. Name a checkpoint, which is "
            "adapted to others"
        )
    return path, keras_vit.resize(model, image_size) if image_size else model


def open_model(
    target: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
    *,
    pixels: str | Pixels | None = None,
    outputs: str | None = None,
    dtype: str | None = None,
    channels: int | None = None,
    gelu: Gelu | None = None,
) -> ImageModel:
    """Opens a model of images.

    Args:
        target: the model, as in `load_keras_model`. Its class names are stored in the model, or in a labels.txt in
            the same folder.
        image_size: (height, width) in pixels to resize the model to; None for its own.
        pixels: the pixel values that the model expects, as in `keras_vit.pixels_of`; read from its layers by default.
        outputs: the kind of its outputs, as in `keras_vit.outputs_of`; read from its layers by default.
        dtype: the dtype to compute in, as in `keras_vit.load`; the model's own by default.
        channels, gelu: as in `load_keras_model`.

    Raises:
        ValueError: if the model cannot be loaded, its input are not images, its pixels or outputs are unknown, the
            number of class names is not that of its outputs, or a dtype is set for a quantized model.
    """
    path, model = load_keras_model(target, image_size, channels=channels, gelu=gelu)
    model = in_dtype(model, dtype) if dtype else model
    return describe_image_model(path, model, pixels=pixels, outputs=outputs)


def describe_image_model(
    path: pathlib.Path, model: keras.Model, *, pixels: str | Pixels | None = None, outputs: str | None = None
) -> ImageModel:
    """Returns a loaded Keras model as an `ImageModel`.

    Args:
        path: the file of the model.
        model: the Keras model.
        pixels: as in `open_model`.
        outputs: as in `open_model`.

    Raises:
        ValueError: as `open_model`.
    """
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] is None:
        raise ValueError(
            f"Expected a model of images, with one input (batch, height, width, channels). Received: {path} with "
            f"inputs {shapes}"
        )
    image_size_of(model)
    contract = pixels_of(model, pixels)
    recipe = recipe_beside(path / MODEL_FILE if path.is_dir() else path)
    protocol = recipe.evaluation if recipe else "official"
    logger.info("%s reads pixels as %s%s", path, contract.description, " (as specified)" if pixels is not None else "")
    if outputs is None and head_of(model) is None:
        return ImageModel(path, model, (), protocol, contract, None)
    names = names_for(path, getattr(model, "class_names", None))
    kind = outputs_of(model, outputs, names)
    if outputs is not None:
        with contextlib.suppress(ValueError):  # the layers do not show the kind: no contradiction
            if (traced := outputs_of(model, None, names)) != kind and kind != "numbers":
                logger.warning("%s returns %s by its last layers; %s is used, as specified", path, traced, kind)
    if kind == "numbers":
        logger.info("%s returns numbers: %s", path, ", ".join(numbers_of(model)))
        return ImageModel(path, model, (), protocol, contract, kind)
    served_model = served(model, kind, names)
    count = served_model.output_shape[-1]
    if names is None and count == len(imagenet_names()):
        names = tuple(name for _, name in imagenet_names())
    if names is not None and len(names) != count:
        raise ValueError(
            f"Expected {counted(count, 'class name')} for {path}, which returns {kind} of {counted(count, 'class')}. "
            f"Received: {counted(len(names), 'class name')}. Correct its labels.txt"
        )
    names = tuple(names or (f"class {i}" for i in range(count)))
    opened = ImageModel(path, model, names, protocol, contract, kind, served_model)
    logger.info("%s returns %s of %s", path, opened.returns, counted(count, "class"))
    return opened


def remark_on_license(model: keras.Model) -> None:
    """Logs a line on the licence of the checkpoint that a model is made from, unless it allows any use."""
    license = getattr(model, "license", None)
    if license and not license.permissive:
        logger.log(logging.WARNING if license.is_known else logging.INFO, "licence of the checkpoint: %s", license.text)


def is_checkpoint(target: str | os.PathLike[str]) -> bool:
    """Returns whether a text names a published checkpoint, or a weight file in a format other than a whole Keras model.

    Args:
        target: a path, an address or a name.
    """
    name = str(target)
    published = name in {row.name for row in keras_vit.checkpoints()}
    folder = any((pathlib.Path(name) / file).exists() for file in ("model.safetensors", OPEN_CLIP_WEIGHTS))
    if is_whole_model(name):
        return False
    return name.endswith((".npz", ".safetensors", ".h5")) or "://" in name or folder or published


def open_classifier(
    target: str | os.PathLike[str], *, pixels: str | Pixels | None = None, outputs: str | None = None
) -> ImageModel:
    """Opens a classifier of images.

    Args:
        target: the model, as in `open_model`.
        pixels: as in `open_model`.
        outputs: as in `open_model`.

    Raises:
        ValueError: as `open_model`, or if the model returns features or numbers.
    """
    opened = open_model(target, pixels=pixels, outputs=outputs)
    if opened.kind == "numbers":
        raise ValueError(
            f"Expected a classifier with outputs (batch, classes). Received: {opened.path}, which returns numbers: "
            f"{', '.join(opened.outputs)}. If these are classes, set outputs= (--outputs)"
        )
    if opened.thresholds:
        raise ValueError(
            f"Expected a classifier of one class an image. Received: {opened.path}, whose images have any number of "
            f"{counted(len(opened.class_names), 'label')}"
        )
    return require_head(opened)


def require_head(opened: ImageModel) -> ImageModel:
    """Returns a model that predicts classes or numbers unchanged.

    Raises:
        ValueError: if the model has no head and returns features.
    """
    if opened.kind is None:
        raise ValueError(
            f"Expected a model with a head. Received: {opened.path}, which returns features "
            f"{opened.model.output_shape}. To use them as numbers, set outputs='numbers' (--outputs numbers)"
        )
    return opened


def _load_keras_file(path: pathlib.Path) -> keras.Model:
    if path.name == MODEL_FILE and not path.exists():
        raise ValueError(
            f"Expected a .keras file or the folder of a finished run. Received: {path.parent}, without {MODEL_FILE}"
        )
    if not path.exists() or not is_whole_model(path):
        fault = "which does not exist" if not path.exists() else f"a {path.suffix or 'nameless'} file"
        raise ValueError(f"Expected a .keras file or the folder of a finished run. Received: {path}, {fault}")
    return load_keras_file(path)
