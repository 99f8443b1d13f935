"""Opens whole models that Keras saved: runs nothing that a file brings, and checks its claims before Keras reads it."""

import io
import math
import os
import zipfile

import h5py
import keras

from keras_vit import _compat
from keras_vit._finite import refuse_model_not_finite
from keras_vit.weights.arrays import NUMBERS, UNCOUNTED, first_line
from keras_vit.weights.json_file import parse_json
from keras_vit.weights.readers import H5File, check_member

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
KINDS = f"{NUMBERS}b"  # of the arrays: layers of Keras may have boolean weights
UNPACKED = 10  # times the size of a file that its members may have; Keras does not compress them
SMALL = 1 << 25  # bytes; of a smaller file, the weights are counted before Keras makes them


def is_whole_model(path: str | os.PathLike[str]) -> bool:
    """Returns whether Keras saved a whole model in a file: a .keras file, or a .h5 file with more than weights."""
    path = os.fspath(path)
    if not path.endswith(".h5"):
        return path.endswith(".keras")
    try:
        with h5py.File(path, "r") as file:
            return "model_config" in file.attrs
    except Exception:  # missing or damaged: the reader of weights says so
        return False


def load_keras_file(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a model that Keras saved whole, in safe mode whatever Keras' global setting.

    Args:
        path: a .keras or .h5 file of a whole model.

    Raises:
        ValueError: if it is damaged, holds code or links, claims more than its bytes can hold, is not a model, or has
            weights that are NaN or infinite.
    """
    path = os.fspath(path)
    try:
        with _compat.safe_deserialization():
            if os.path.isfile(path):
                _check_file(path)
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        if not isinstance(model, keras.Model):
            raise ValueError(f"it holds a {type(model).__name__}")
    except Exception as error:  # Keras raises errors of many kinds for a file that is something else
        raise ValueError(f"{path} is not a model that Keras can load: {first_line(error):.500}") from error
    refuse_model_not_finite(model, path)
    return model


def _check_file(path: str) -> None:
    """Raises a ValueError if a file is damaged, or claims more than its bytes can hold."""
    if not path.endswith(".keras"):
        H5File(path, kinds=KINDS).close()
        return
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            try:
                check_member(member, size)
            except ValueError as error:
                raise ValueError(f"its member {member.filename[:200]!r} {error}") from error
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise ValueError("it has two members of one name")
        if (unpacked := sum(member.file_size for member in members)) > UNPACKED * size:
            raise ValueError(f"it claims to unpack to {unpacked} bytes, more than {UNPACKED} times its size")
        config = parse_json(archive.read(CONFIG))
        if WEIGHTS not in names:
            raise ValueError(f"it has no {WEIGHTS}")
        # Keras reads this member as a whole, too; with it, its checksum is checked, at whose failure Keras reads on.
        with H5File(path, io.BytesIO(archive.read(WEIGHTS)), KINDS) as file:
            held = sum(map(math.prod, file.shapes.values()))
    if size <= SMALL:
        claimed = _compat.count_weights({**config, "compile_config": None})
        if claimed > held + UNCOUNTED:
            raise ValueError(f"it claims to be a model of {claimed:,} weights and holds {held:,}")
