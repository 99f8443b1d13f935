"""Writes and reads arrays as one .npz file: nothing compressed, nothing pickled, every dtype exact."""

import hashlib
import zipfile

import ml_dtypes
import numpy as np

# NumPy's own kinds of dtype that such a file holds: numbers and text, no objects.
_PLAIN = "biufcSU"


def refuse_unsound(step, arrays):
    """Refuses arrays that are no sound state of a run.

    Raises:
        ValueError: if values are not finite, or arrays hold neither numbers nor text; names all of them.
    """
    faults = []
    for name, array in arrays.items():
        if not _is_extended(array.dtype) and array.dtype.kind not in _PLAIN:
            faults.append(f"  {name}: {array.dtype}, which is neither numbers nor text")
        elif array.dtype.kind not in "SU" and (bad := array.size - np.count_nonzero(np.isfinite(array))):
            faults.append(f"  {name}: {bad:,} of {array.size:,} values are not finite")
    if faults:
        raise ValueError(f"Expected finite arrays. Received at step {step}, which is not saved:\n" + "\n".join(faults))


def write_state(file, arrays):
    """Writes arrays to an open file.

    Arrays of dtypes that NumPy's format has no name for, bfloat16 and its like, are stored as unsigned integers of
    their width, bit for bit. Equal arrays make equal files.

    Returns:
        The file's SHA-256, and {name: dtype} of those arrays, which `read_state` needs.
    """
    hashed = _Hashed(file)
    dtypes = {name: array.dtype.name for name, array in arrays.items() if _is_extended(array.dtype)}
    with zipfile.ZipFile(hashed, "w") as archive:
        for name, array in arrays.items():
            stored = array.view(f"u{array.itemsize}") if name in dtypes else array
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, stored, allow_pickle=False)
    return hashed.hash.hexdigest(), dtypes


def read_state(file, dtypes):
    """Returns the arrays of a file, {name: array}."""
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
            arrays[name] = array.view(getattr(ml_dtypes, dtypes[name])) if name in dtypes else array
    return arrays


def _is_extended(dtype):
    return dtype.isbuiltin == 2  # NumPy's number for dtypes that a package registers, as ml_dtypes does


class _Hashed:
    """A file for writing that hashes what passes, so that no file is read for its hash; it cannot seek back."""

    def __init__(self, file):
        self.file, self.hash = file, hashlib.sha256()
        self.flush = file.flush

    def write(self, data):
        self.hash.update(data)
        return self.file.write(data)
