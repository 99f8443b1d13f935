"""Opens what `weights=` names (a file, an address, a published checkpoint, a model that Keras saved) and reads it."""

import contextlib
import hashlib
import logging
import os
import pathlib
from typing import NamedTuple

import h5py
import keras

from keras_vit import _arguments as checked
from keras_vit.models.description import describe_model
from keras_vit.preprocessing import Pixels
from keras_vit.weights.architecture import Architecture, detect_architecture
from keras_vit.weights.checkpoints import Checkpoint, find_checkpoint
from keras_vit.weights.download import fetch
from keras_vit.weights.formats import SourceFile, open_weights

logger = logging.getLogger("keras_vit")
# Sources whose files never say how pixels are scaled: their one project reads them from -1 to 1.
BY_THE_OFFICIAL_CODE = ("npz", "big_vision", "bit")


class OpenedCheckpoint(NamedTuple):
    """What a checkpoint gives: the file, what it is of as far as it tells, and how it wants its images."""

    file: SourceFile | None = None
    found: Architecture | None = None
    pixels: Pixels | None = None
    model: keras.Model | None = None  # the model, where Keras saved it whole


@contextlib.contextmanager
def open_checkpoint(weights, variant=None, shape=None, include_top=True, num_heads=None, must_tell=False):
    """Opens a checkpoint, downloaded if need be.

    Args:
        weights: as in `keras_vit.build`, or what this gave before.
        variant: name of the published architecture that it is for, if there is one.
        shape: (rows, columns, channels) that it is for, if that is known.
        include_top: whether its head will be used.
        num_heads: attention heads, where the caller knows.
        must_tell: whether the file has to tell what it is of.

    Yields:
        `Given`, all None for `weights=None`.

    Raises:
        ValueError, OSError: if there is no such file or it cannot be read or fetched.
    """
    if weights is None or isinstance(weights, OpenedCheckpoint):
        yield weights or OpenedCheckpoint()
        return
    path, pixels = _locate(weights, variant, shape, include_top)
    if is_whole_model(path):
        yield _saved_model(path)
        return
    with open_weights(path) as file:
        found = None
        if file.source is not None:
            try:
                found = detect_architecture(file, num_heads)
            except ValueError:
                if must_tell:
                    raise
                # The caller named the architecture; what is wrong with the file is listed against that.
                logger.debug("%s: architecture not told", path, exc_info=True)
        # Pillow smooths what it makes smaller; all but the official code resize with it.
        known = {name: value for name, value in file.pixels.items() if value is not None}
        pixels = pixels or (Pixels(**known, antialias=True) if known.get("mean") else None)
        if pixels is None and file.source not in (None, *BY_THE_OFFICIAL_CODE):
            logger.info("%s does not say how pixels are scaled; where the model does not, it is -1 to 1", path)
        yield OpenedCheckpoint(file, found, pixels)


def is_whole_model(path):
    """Returns whether a file is a model that Keras saved whole: a .keras file, or a .h5 file with more than weights."""
    path = os.fspath(path)
    if path.endswith(".h5") and h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            return "model_config" in file.attrs
    return path.endswith(".keras")


def digest(weights, variant=None, shape=None):
    """Returns the SHA-256 of the file that a checkpoint is in; of a folder, that of all its files' SHA-256.

    Args:
        weights, variant, shape: as in `opened`; it is downloaded if need be.

    Raises:
        ValueError, OSError: if there is no such file or it cannot be read or fetched.
    """
    path = pathlib.Path(_locate(weights, variant, shape, include_top=False)[0])
    folder = path.parent if path.name.endswith(".index.json") else path
    try:
        if not folder.is_dir():
            return _sha256(path)
        files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
        return hashlib.sha256("".join(f"{file.name} {_sha256(file)}\n" for file in files).encode()).hexdigest()
    except OSError as error:
        raise ValueError(f"Expected weights to name a file that can be read. Received: {weights}: {error}") from error


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _locate(weights, variant, shape, include_top):
    """Returns the path of a checkpoint, downloaded if need be, and its pixel contract, if the table says."""
    row = weights if isinstance(weights, Checkpoint) else None
    if row is None:
        weights = checked.path("weights", weights, "a path, an address, a name or a keras_vit.Checkpoint")
        if "://" in weights:
            return os.fspath(fetch(weights)), None
        if os.path.exists(weights) or os.path.dirname(weights) or weights.endswith((".safetensors", ".keras", ".h5")):
            return weights, None
        try:
            row = find_checkpoint(weights, variant, max(shape[:2]) if shape else 224, include_top)
        except ValueError:
            if weights.endswith(".npz"):  # no AugReg file's name: a path that leads nowhere, which is said on opening
                return weights, None
            raise
    pixels = Pixels(row.mean, row.std, row.interpolation or "bilinear", bool(row.interpolation), row.crop)
    return os.fspath(fetch(row.address)), pixels


def _saved_model(path):
    """Returns what a model that Keras saved gives."""
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # what a file of something else makes Keras raise has no common kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no model that Keras can load: {reason}") from error
    told = describe_model(model)
    file = SourceFile(
        path,
        None,
        {name: tuple(variable.shape) for name, variable in told.weights.items()},
        told.numerics,
        grid=told.grid,
        resized=told.position_resize,
        class_names=getattr(model, "class_names", None),
        _file=_Variables(told.weights),
    )
    found = Architecture(
        told.variant, told.name, told.input_shape[2], told.classes, told.representation_size, told.input_shape[:2]
    )
    return OpenedCheckpoint(file, found, told.pixels, model)


class _Variables(dict):
    """Reads the weights of a model as a file's arrays are read."""

    def read(self, name, rows=None):
        return keras.ops.convert_to_numpy(self[name])
