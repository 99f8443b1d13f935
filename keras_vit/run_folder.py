"""The folder of a run: whose it is, and what is in it."""

import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
import platform

import keras
import numpy as np

import keras_vit.public  # registers the layers, without which no model of ours loads
from keras_vit.checkpoint import digest, is_whole_model
from keras_vit.class_names import names_for
from keras_vit.data.pipeline import read_pixels
from keras_vit.imagenet import class_names as imagenet_names
from keras_vit.models.interface import image_size_of, numbers_of, outputs_of, pixels_of, served
from keras_vit.preprocessing import OFFICIAL, Pixels, preprocess_input
from keras_vit.run_images import image_changes
from keras_vit.training.fit import SNAPSHOTS
from keras_vit.training.recipe import CIRCUMSTANCES, Recipe
from keras_vit.variants import ResNet, Variant, get_variant, name_of
from keras_vit.watch import head_of

RUN, METRICS, MODEL, LABELS = "run.json", "metrics.json", "model.keras", "labels.txt"
BATCH = 64  # images at once

logger = logging.getLogger("keras_vit")


def describe(recipe, source, devices, contract, weights):
    """Returns what run.json says of a run: its recipe, data, devices, and how pixels are scaled.

    Args:
        recipe, source, devices: of the run.
        contract: the `Pixels` of its model.
        weights: the SHA-256 of the checkpoint that it starts from, or None.
    """
    return {
        "recipe": dataclasses.asdict(recipe),
        "data": _data(source),
        "weights_sha256": weights,
        "versions": {
            "keras_vit": keras_vit.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "devices": devices.words,
        "pixels": {"words": contract.words, **dataclasses.asdict(contract)},
    }


def _data(source):
    return {
        "sha256": source.digest,
        **{split: len(getattr(source, split).labels) for split in ("train", "validation", "test")},
        "classes": list(source.class_names),
    }


def finished(folder, recipe):
    """Returns the metrics of a finished run of this recipe, or None if it is still to be made.

    A run of other settings that has not got as far as its first checkpoint gives way to this one.

    Raises:
        ValueError: if the folder holds anything but a run of this recipe.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected a folder for the run. Received: {folder}, a file. Choose another with --output.")
    if not folder.exists() or not any(not path.name.startswith(".") for path in folder.iterdir()):
        return None
    if not (folder / RUN).exists():
        raise ValueError(f"{folder} holds files that are no run's. Choose another folder with --output, or empty it.")
    if not _has_begun(folder):
        return None
    theirs, ours = dataclasses.asdict(_recipe(folder / RUN)), dataclasses.asdict(recipe)
    if other := _differences({name: theirs[name] for name in ours if name not in CIRCUMSTANCES}, ours):
        raise _other_run(folder, "settings", other)
    return _read_json(folder / METRICS) if (folder / METRICS).exists() else None


def refuse_other_data(folder, source):
    """Raises a ValueError with what differs, if the data is not what the folder's run learned from."""
    folder = pathlib.Path(folder)
    if not (folder / RUN).exists() or not _has_begun(folder):
        return
    theirs, ours = _read_json(folder / RUN).get("data", {}), _data(source)
    other = _differences(theirs, ours)
    if other and (images := image_changes(folder, source)):
        # The images by name say more than the digest and the counts that follow from them.
        other = images + _differences({"classes": theirs.get("classes")}, ours)
    if other:
        raise _other_run(folder, "data", other, " Or put the data back as it was, to keep to that run.")


def weights_digest(folder, recipe):
    """Returns the SHA-256 of the checkpoint that a recipe starts from, or None if it starts from random weights.

    Raises:
        ValueError: if it cannot be read, or is not what the folder's run began with.
    """
    if recipe.weights is None:
        return None
    folder = pathlib.Path(folder)
    begun = (folder / RUN).exists() and _has_begun(folder)
    try:
        ours = digest(recipe.weights, name_of(get_variant(recipe.variant)), (recipe.image_size,) * 2 + (3,))
    except ValueError as error:
        if begun:
            raise ValueError(f"{error}\n{folder} began with it; put it back to go on.") from error
        raise
    theirs = _read_json(folder / RUN).get("weights_sha256") if begun else None
    if theirs not in (None, ours):
        changed = [f"  {recipe.weights}: sha256 {theirs} there, {ours} here"]
        raise _other_run(folder, "weights", changed, " Or put the file back as it was, to keep to that run.")
    return ours


def _has_begun(folder):
    """Returns whether a run has anything to go on from, or to lose."""
    return any((folder / name).exists() for name in (MODEL, METRICS)) or any((folder / SNAPSHOTS).glob("[!.]*"))


def _differences(theirs, ours):
    return [f"  {name}: {theirs[name]!r} there, {ours[name]!r} here" for name in theirs if theirs[name] != ours[name]]


def _other_run(folder, what, other, instead=""):
    return ValueError(
        f"{folder} holds a run of other {what}:\n" + "\n".join(other) + "\nChoose another folder with --output."
        f"{instead}"
    )


def recipe_of(model_path):
    """Returns the recipe that a model file's folder was made by, or None if there is none."""
    path = pathlib.Path(model_path).parent / RUN
    return _recipe(path) if path.exists() else None


def recipe_in(folder):
    """Returns the recipe of a run's folder.

    Raises:
        ValueError: if there is no run in it.
    """
    path = pathlib.Path(folder) / RUN
    if not path.exists():
        raise ValueError(f"Expected the folder of a run. Received: {folder}, without {RUN}")
    return _recipe(path)


def _recipe(path):
    settings = _read_json(path).get("recipe", {})
    if isinstance(settings.get("variant"), dict):
        settings["variant"] = (ResNet if "units" in settings["variant"] else Variant)(**settings["variant"])
    try:
        # JSON has no tuples, the recipe no lists.
        return Recipe(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is of another version of keras_vit: {error}") from error


def _read_json(path):
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A model with what its command has to know of it.

    Args:
        path: its file.
        model: the Keras model, preprocessed RGB images -> whatever it returns.
        class_names: in the order of its probabilities; () where it returns features or numbers.
        protocol: how images are brought to its size; that of the run it came from.
        pixels: how its images are scaled.
        kind: of its outputs, out of `keras_vit.models.interface.KINDS`; None for features, of a model without a head.
        served: the model with probabilities in place of logits, and of two classes for a binary head.
    """

    path: pathlib.Path
    model: keras.Model
    class_names: tuple[str, ...]
    protocol: str = "official"
    pixels: Pixels = OFFICIAL
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

    def read(self, picture):
        """Returns an image at that size, (height, width, 3) uint8, as evaluation has it."""
        return read_pixels(picture, self.image_size, self.protocol)

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
        return path, keras_vit.public.load(str(target), input_shape=(*image_size, 3) if image_size else None)
    path = path / MODEL if path.is_dir() else path
    model = _load_keras(path)
    return path, keras_vit.public.resize(model, image_size) if image_size else model


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
    logger.info("%s reads pixels as %s%s", path, contract.words, " (as said)" if pixels is not None else "")
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
    known = name in {row.name for row in keras_vit.public.checkpoints()}
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


def read_batches(subject, pictures, size=BATCH):
    """Yields images as a model reads them, batch by batch: (number of the first, (images, height, width, 3) uint8).

    Args:
        subject: a `Classifier` or an exported file.
        pictures: paths.
        size: of a batch.

    Raises:
        ValueError: at the end, if some cannot be read; all of them in one message. Their batches lack them.
    """
    faults = []
    for start in range(0, len(pictures), size):
        numbers, pixels = [], []
        for i, picture in enumerate(pictures[start : start + size], start):
            try:
                pixels.append(subject.read(picture))
                numbers.append(i)
            except ValueError as error:
                faults.append(f"  {error}")
        if pixels:
            yield numbers, np.stack(pixels)
    if faults:
        raise ValueError("Pictures cannot be read:\n" + "\n".join(faults))


def read_pictures(subject, pictures):
    """Returns pictures as a model reads them, (pictures, rows, columns, 3) uint8.

    Args:
        subject: a `Classifier` or an exported file.
        pictures: paths.

    Raises:
        ValueError: if some cannot be read; all of them in one message.
    """
    return np.concatenate([pixels for _, pixels in read_batches(subject, pictures)])


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
