"""Training checkpoints: saves the state of an unfinished run, so that it resumes after a crash.

A checkpoint is a folder, step_00000123, of two files: state.npz, the arrays, and manifest.json, the step, the notes and
the SHA-256 of both. It gets its name once it is complete on the disk, so a killed process leaves no partial checkpoint.
"""

import dataclasses
import errno
import hashlib
import io
import json
import logging
import operator
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, BinaryIO, cast

import ml_dtypes
import numpy as np

from keras_vit._atomic import WriteError, aside_of, written_aside

logger = logging.getLogger("keras_vit")

STATE, MANIFEST = "state.npz", "manifest.json"

# step_00000123, or step_00000123_2 where that name exists: one rename cannot replace a folder by another.
_NAME = re.compile(r"step_(\d{8,})(?:_(\d+))?")
_FIELDS = {"step": int, "best": bool, "notes": dict, "sha256": str, "size": int, "dtypes": dict}
# The kinds of NumPy dtypes that a state file holds: numbers and text, no objects.
_STORABLE_KINDS = "biufcSU"


@dataclasses.dataclass(frozen=True)
class TrainingCheckpoint:
    """A saved state of a training run: the arrays of the model and the optimizer at a step.

    Args:
        path: the checkpoint's folder.
        step: number of steps before it.
        notes: the notes that `TrainingCheckpoints.save` stored, as JSON returns them.
        best: whether it was saved as the best so far.

    Example:
        ```python
        checkpoints = keras_vit.training.TrainingCheckpoints("checkpoints")
        checkpoint = checkpoints.save(10, {"kernel": np.ones((2, 3))}, notes={"epoch": 1})
        assert checkpoint.arrays()["kernel"].shape == (2, 3)
        ```
    """

    path: pathlib.Path
    step: int
    notes: dict[str, Any]
    best: bool = False

    def arrays(self) -> dict[str, np.ndarray]:
        """Reads the arrays and verifies their SHA-256.

        Returns:
            {name: array}.

        Raises:
            ValueError: if a file was altered since it was written.
            FileNotFoundError: if a save has removed the checkpoint.
        """
        manifest = _read_manifest(self.path)
        with open(self.path / STATE, "rb") as file:
            _verify_state(file, manifest)
            file.seek(0)
            return _read_state(file, manifest["dtypes"])


class TrainingCheckpoints:
    """The training checkpoints of one run: saves, finds the newest to resume from, removes old ones.

    One process saves; any number of processes may read at the same time.

    Args:
        folder: folder of the checkpoints; the first save makes it.
        keep: number of the newest steps to keep; the last checkpoint saved as the best is kept as well.

    Raises:
        ValueError: if `keep` is below 1.

    Example:
        ```python
        checkpoints = keras_vit.training.TrainingCheckpoints("checkpoints", keep=2)
        for step in (1, 2, 3):
            checkpoints.save(step, {"kernel": np.full(5, step)}, notes={}, best=step == 2)
        assert checkpoints.newest().step == 3 and checkpoints.best().step == 2
        ```
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"Expected to keep at least 1 checkpoint. Received: keep={keep}")
        self.folder, self.keep = pathlib.Path(folder), keep
        self._verified: dict[pathlib.Path, tuple[Any, ...]] = {}  # {path: fingerprint of a verified state file}
        self._reported: set[tuple[pathlib.Path, str]] = set()

    def newest(self) -> TrainingCheckpoint | None:
        """Returns the newest intact checkpoint, or None; logs the damaged ones that it skips and removes nothing."""
        return next(self._intact(), None)

    def best(self) -> TrainingCheckpoint | None:
        """Returns the newest intact checkpoint that was saved as the best, or None."""
        return next((checkpoint for checkpoint in self._intact() if checkpoint.best), None)

    def save(
        self, step: int, arrays: Mapping[str, Any], notes: Mapping[str, Any], best: bool = False
    ) -> TrainingCheckpoint:
        """Saves a checkpoint; once it is complete on the disk, removes those that need not be kept.

        Args:
            step: number of steps before it. A checkpoint of the same step is replaced.
            arrays: {name: array} of numbers or text, bfloat16 and the like included.
            notes: a dictionary that JSON can hold.
            best: whether this is the best state so far.

        Returns:
            The checkpoint.

        Raises:
            ValueError: if arrays hold NaN or infinite values or another dtype, JSON cannot hold the notes, or the
                folder has a checkpoint of a later step. Nothing is written then.
            OSError: if the disk is full or not writable; the older checkpoints stay as they are.
        """
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        step, notes = _checked_step(step), _checked_notes(notes)
        _check_arrays(step, arrays)
        older = list(self._intact())
        if older and older[0].step > step:
            raise ValueError(
                f"Expected a step at or after {older[0].step}, the step of {older[0].path}. Received: step={step}. "
                "Resume from that checkpoint, or choose another folder."
            )
        try:
            path = self.folder / self._unused_name(step)
            manifest = _write_checkpoint(path, {"step": step, "best": bool(best), "notes": notes}, arrays)
            self._verified[path] = _fingerprint(os.stat(path / STATE), manifest)
        except OSError as error:
            raise WriteError(error.errno, self._save_error(step, arrays, error)) from error
        saved = TrainingCheckpoint(path, step, notes, bool(best))
        self._remove_old([saved, *older])
        return saved

    def _intact(self) -> Iterator[TrainingCheckpoint]:
        """Yields the intact checkpoints, the newest first."""
        for path in self._paths():
            try:
                checkpoint = self._open(path)
            except (OSError, ValueError) as error:
                if not path.exists():  # a save has removed it since the folder was listed, so there are newer ones
                    yield from self._intact()
                    return
                self._report(path, error)
            else:
                yield checkpoint

    def _paths(self) -> list[pathlib.Path]:
        """Returns the paths named like a checkpoint, the newest first."""
        paths = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if match := _NAME.fullmatch(path.name):
                paths[path] = int(match[1]), int(match[2] or 1)
            elif not path.name.startswith("."):
                self._report(path, "its name is not that of a checkpoint")
        return sorted(paths, key=paths.__getitem__, reverse=True)

    def _open(self, path: pathlib.Path) -> TrainingCheckpoint:
        """Returns the checkpoint at a path; hashes its state file once, and again if that file has changed."""
        manifest = _read_manifest(path)
        with open(path / STATE, "rb") as file:
            fingerprint = _fingerprint(os.fstat(file.fileno()), manifest)
            if self._verified.get(path) != fingerprint:
                _verify_state(file, manifest)
                self._verified[path] = fingerprint
        return TrainingCheckpoint(path, manifest["step"], manifest["notes"], manifest["best"])

    def _report(self, path: pathlib.Path, reason: object) -> None:
        if (path, str(reason)) not in self._reported:
            self._reported.add((path, str(reason)))
            logger.warning("%s is not an intact checkpoint and is skipped: %s", path, reason)

    def _unused_name(self, step: int) -> str:
        used = [_split_name(path) for path in self._paths()]
        attempt = max((attempt for other, attempt in used if other == step), default=0) + 1
        return f"step_{step:08d}" + (f"_{attempt}" if attempt > 1 else "")

    def _remove_old(self, checkpoints: Sequence[TrainingCheckpoint]) -> None:
        """Removes all checkpoints, the newest first, but the newest steps and the best."""
        by_step: dict[int, TrainingCheckpoint] = {}
        for checkpoint in checkpoints:
            by_step.setdefault(checkpoint.step, checkpoint)
        best = next((checkpoint for checkpoint in checkpoints if checkpoint.best), None)
        kept = [*list(by_step.values())[: self.keep], best]
        for checkpoint in checkpoints:
            if checkpoint not in kept:
                # Renamed first: an interrupted removal leaves no partial checkpoint under a checkpoint's name.
                hidden = aside_of(checkpoint.path.with_name(f"{checkpoint.path.name}.old"))
                try:
                    os.replace(checkpoint.path, hidden)
                    shutil.rmtree(hidden)
                except OSError as error:
                    logger.warning("the old checkpoint %s could not be removed: %s", checkpoint.path, error)
                self._verified.pop(checkpoint.path, None)

    def _save_error(self, step: int, arrays: Mapping[str, np.ndarray], error: OSError) -> str:
        newest = self.newest()
        last = (
            f"The last checkpoint is {newest.path}, of step {newest.step}" if newest else "There is no checkpoint yet"
        )
        size = sum(array.nbytes for array in arrays.values()) / 1e6
        advice = f"Free some space ({size:,.1f} MB a checkpoint) or make it writable"
        if self.folder.exists() and not self.folder.is_dir():
            advice = f"Move the file {self.folder} away"
        return (
            f"Step {step} could not be saved in {self.folder}: {os.strerror(error.errno or errno.EIO)}. {last}. "
            f"{advice}, and run the same command again."
        )


def _checked_step(step: int) -> int:
    step = operator.index(step)
    if step < 0:
        raise ValueError(f"Expected a step, 0 or more. Received: step={step}")
    return step


def _checked_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(notes, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected notes that JSON can hold, numbers finite. Received: notes={notes!r}") from error


def _check_arrays(step: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises a ValueError that names all arrays with NaN or infinite values, or of objects."""
    faults = []
    for name, array in arrays.items():
        if not _is_extended(array.dtype) and array.dtype.kind not in _STORABLE_KINDS:
            faults.append(f"  {name}: {array.dtype}, neither numbers nor text")
        elif array.dtype.kind not in "SU" and (bad := array.size - np.count_nonzero(np.isfinite(array))):
            faults.append(f"  {name}: {bad:,} of {array.size:,} values are NaN or infinite")
    if faults:
        raise ValueError(f"Expected finite arrays. Received at step {step}, which is not saved:\n" + "\n".join(faults))


def _write_checkpoint(path: pathlib.Path, manifest: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Writes a checkpoint's folder, complete on the disk before it gets its name; returns the manifest."""
    with written_aside(path) as aside:
        aside.mkdir()
        with open(aside / STATE, "wb") as file:
            digest, dtypes = _write_state(file, arrays)
            manifest |= {"sha256": digest, "size": file.tell(), "dtypes": dtypes}
        with open(aside / MANIFEST, "w", encoding="utf-8") as text:
            json.dump(manifest | {"seal": _seal(manifest)}, text, indent=1)
    return manifest


def _split_name(path: pathlib.Path) -> tuple[int, int]:
    """Returns the step and the attempt in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    if not match:
        raise ValueError(f"Expected the name of a checkpoint. Received: {path.name}")
    return int(match[1]), int(match[2] or 1)


def _read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest of a checkpoint's folder.

    Raises:
        ValueError: if it is not JSON, was altered, or is that of another step.
        OSError: if it cannot be read.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        seal = manifest.pop("seal")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its {MANIFEST} is not the manifest of a checkpoint") from error
    if seal != _seal(manifest):
        raise ValueError(f"its {MANIFEST} was altered")
    if wrong := [name for name, kind in _FIELDS.items() if type(manifest.get(name)) is not kind]:
        raise ValueError(f"its {MANIFEST} lacks {', '.join(wrong)}")
    if manifest["step"] != _split_name(path)[0]:
        raise ValueError(f"its {MANIFEST} is that of step {manifest['step']}")
    return manifest


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _fingerprint(stat: os.stat_result, manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what identifies the content of a state file without reading it."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, manifest["sha256"]


def _verify_state(file: io.BufferedReader, manifest: Mapping[str, Any]) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != manifest["size"]:
        raise ValueError(f"its {STATE} has {size:,} bytes of {manifest['size']:,}")
    if hashlib.file_digest(file, "sha256").hexdigest() != manifest["sha256"]:
        raise ValueError(f"its {STATE} was altered: the SHA-256 differs")


def _write_state(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, str]]:
    """Writes arrays as an .npz; returns its SHA-256 and {name: dtype} of the arrays whose dtype NumPy has no name for.

    Those, bfloat16 and the like, are stored bit for bit as unsigned integers of the same size. Equal arrays make equal
    files.
    """
    hashed = _HashedFile(file)
    dtypes = {name: array.dtype.name for name, array in arrays.items() if _is_extended(array.dtype)}
    with zipfile.ZipFile(cast(IO[bytes], hashed), "w") as archive:
        for name, array in arrays.items():
            stored = array.view(f"u{array.itemsize}") if name in dtypes else array
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, stored, allow_pickle=False)
    return hashed.hash.hexdigest(), dtypes


def _read_state(file: BinaryIO, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file that `_write_state` wrote, {name: array}."""
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
            arrays[name] = array.view(getattr(ml_dtypes, dtypes[name])) if name in dtypes else array
    return arrays


def _is_extended(dtype: np.dtype) -> bool:
    return dtype.isbuiltin == 2  # NumPy's number for dtypes that another package registers, as ml_dtypes does


class _HashedFile:
    """A file for writing that computes the hash of its content on the way; it cannot seek."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()
        self.flush = file.flush

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return self.file.write(data)
