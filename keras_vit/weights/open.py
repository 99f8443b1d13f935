"""Opens a checkpoint: a file, an address, a published checkpoint's name or a model that Keras saved."""

import contextlib
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit.models.description import describe_model
from keras_vit.models.license import License
from keras_vit.preprocessing import Pixels
from keras_vit.weights.architecture import Architecture, detect_architecture, refuse_other_sizes
from keras_vit.weights.checkpoints import Checkpoint, checkpoints, find_checkpoint
from keras_vit.weights.download import fetch
from keras_vit.weights.formats import CheckpointFile, open_checkpoint_file
from keras_vit.weights.keras_file import is_whole_model, load_keras_file
from keras_vit.weights.licenses import license_of

logger = logging.getLogger("keras_vit")
# Formats without a pixel contract in the file: the official code scales pixels to -1 to 1.
OFFICIAL_FORMATS = ("npz", "big_vision", "bit")

Weights = str | os.PathLike[str] | Checkpoint


class OpenedCheckpoint(NamedTuple):
    """An opened checkpoint.

    Args:
        file: the weight file; None for `weights=None`.
        architecture: the architecture that the file shows; None where it does not show one.
        pixels: how the images are scaled and resized; None where neither the file nor the table says so.
        model: the model, if Keras saved it whole.
        license: of the checkpoint; None for a model that Keras saved whole and that was trained from random weights.
    """

    file: CheckpointFile | None = None
    architecture: Architecture | None = None
    pixels: Pixels | None = None
    model: keras.Model | None = None
    license: License | None = None


@contextlib.contextmanager
def open_checkpoint(
    weights: Weights | OpenedCheckpoint | None,
    variant: str | None = None,
    shape: Sequence[int | None] | None = None,
    include_top: bool = True,
    num_heads: int | None = None,
    require_architecture: bool = False,
) -> Iterator[OpenedCheckpoint]:
    """Opens a checkpoint. Downloads it if it is not in the cache.

    Args:
        weights: as in `keras_vit.build`, or an `OpenedCheckpoint`, which is yielded as it is.
        variant: name of the published architecture that it is for, if there is one.
        shape: (height, width, channels) of the images that it is for, if known.
        include_top: whether its head will be used.
        num_heads: attention heads, if the caller knows them.
        require_architecture: whether a file that does not show its architecture is an error.

    Yields:
        An `OpenedCheckpoint`, empty for `weights=None`.

    Raises:
        ValueError, OSError: if there is no such file, or it cannot be read or downloaded.
    """
    if weights is None or isinstance(weights, OpenedCheckpoint):
        yield weights or OpenedCheckpoint()
        return
    path, row, pixels = _locate(weights, variant, shape, include_top)
    if is_whole_model(path):
        yield _open_saved_model(path)
        return
    with open_checkpoint_file(path) as file:
        architecture = None
        if file.format is not None:
            try:
                architecture = detect_architecture(file, num_heads)
            except ValueError:
                if require_architecture:
                    raise
                # The caller named the architecture: `read_weights` lists what does not fit it.
                logger.debug("%s does not show its architecture", path, exc_info=True)
            else:
                refuse_other_sizes(file, architecture)
        # Pillow smooths an image that it makes smaller; all projects but the official code resize with it.
        known = {name: value for name, value in file.pixels.items() if value is not None}
        if not pixels and known.get("mean"):
            try:
                pixels = Pixels(**known, antialias=True)
            except (ValueError, TypeError) as error:
                raise ValueError(f"The configuration of {path} has other pixels than a model reads: {error}") from error
        if pixels is None and file.family and file.family.mean and file.family.std:
            pixels = Pixels(file.family.mean, file.family.std, "bicubic", True)
            logger.info("%s has no mean and std of pixels: those of %s are assumed", path, file.family.name)
        if pixels is None and file.format not in (None, *OFFICIAL_FORMATS):
            logger.info(
                "%s has no mean and std of pixels; unless the model has its own, they are scaled to -1 to 1", path
            )
        yield OpenedCheckpoint(file, architecture, pixels, license=license_of(file, row))


def checkpoint_digest(weights: Weights, variant: str | None = None, shape: Sequence[int | None] | None = None) -> str:
    """Returns the SHA-256 of a checkpoint's file; of a folder, the SHA-256 of a list of its files and their SHA-256.

    Args:
        weights, variant, shape: as in `open_checkpoint`. The file is downloaded if it is not in the cache.

    Raises:
        ValueError, OSError: if there is no such file, or it cannot be read or downloaded.
    """
    path = pathlib.Path(_locate(weights, variant, shape, include_top=False)[0])
    folder = path.parent if path.name.endswith(".index.json") else path
    try:
        if not folder.is_dir():
            return _sha256(path)
        files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
        return hashlib.sha256("".join(f"{file.name} {_sha256(file)}\n" for file in files).encode()).hexdigest()
    except OSError as error:
        raise ValueError(f"Expected weights to name a readable file. Received: weights={weights}: {error}") from error


def checkpoint_path(weights: Weights) -> pathlib.Path:
    """Returns the path of a checkpoint, a file or a folder, which is downloaded if it is not in the cache.

    Args:
        weights: as in `open_checkpoint`.

    Raises:
        ValueError, OSError: if there is no such file, or it cannot be downloaded.
    """
    return pathlib.Path(_locate(weights, None, None, True)[0])


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _locate(
    weights: Weights, variant: str | None, shape: Sequence[int | None] | None, include_top: bool
) -> tuple[str, Checkpoint | None, Pixels | None]:
    """Returns the path of a checkpoint, which is downloaded if needed, its row, if it has one, and the row's pixels."""
    row = weights if isinstance(weights, Checkpoint) else None
    if row is None:
        weights = str(checked.path("weights", weights, "a path, an address, a name or a keras_vit.Checkpoint"))
        if "://" in weights:
            address = weights.partition("@")[0] if weights.startswith("hf://") else weights
            return os.fspath(fetch(weights)), next((row for row in checkpoints() if row.address == address), None), None
        if os.path.exists(weights) or os.path.dirname(weights) or weights.endswith((".safetensors", ".keras", ".h5")):
            return weights, None, None
        try:
            side = max(side or 0 for side in shape[:2]) if shape else 224
            row = find_checkpoint(weights, variant, side, include_top)
        except ValueError:
            if weights.endswith(".npz"):  # a missing file; opening it raises the error
                return weights, None, None
            raise
    path = os.fspath(fetch(row.address))
    if row.address.startswith("hf://"):  # the repository has a configuration of its own
        return path, row, None
    return path, row, Pixels(row.mean, row.std, row.interpolation or "bilinear", bool(row.interpolation), row.crop)


def _open_saved_model(path: str) -> OpenedCheckpoint:
    """Opens a model that Keras saved whole."""
    model = load_keras_file(path)
    description = describe_model(model)
    file = CheckpointFile(
        path,
        None,
        {name: tuple(variable.shape) for name, variable in description.weights.items()},
        description.numerics,
        grid=description.grid,
        resized_with=description.position_resize,
        class_names=getattr(model, "class_names", None),
        _file=_Variables(description.weights),
    )
    height, width, channels = description.input_shape
    architecture = Architecture(
        description.variant,
        description.name,
        channels,
        description.classes,
        description.representation_size,
        (height, width),
    )
    return OpenedCheckpoint(file, architecture, description.pixels, model, getattr(model, "license", None))


class _Variables(dict[str, Any]):
    """Reads the weights of a model in the way that `CheckpointFile` reads arrays."""

    def read(self, name: str, rows: tuple[int, int] | None = None) -> np.ndarray:
        return keras.ops.convert_to_numpy(self[name])
