"""Keeps the states of an unfinished run on disk, each of them whole or not there."""

import dataclasses
import errno
import hashlib
import json
import logging
import operator
import os
import pathlib
import re
import shutil
import zipfile

import ml_dtypes
import numpy as np

from keras_vit._atomic import written_aside

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


logger = logging.getLogger("keras_vit")

STATE, MANIFEST = "state.npz", "manifest.json"

# step_00000123, or step_00000123_2 where that name is taken: a folder cannot take another's place in one step.
_NAME = re.compile(r"step_(\d{8,})(?:_(\d+))?")
# What a killed write leaves behind, named by `written_aside`, and what a killed removal does.
_LEFTOVER = re.compile(rf"\.\d+\.{_NAME.pattern}(\.old)?")


@dataclasses.dataclass(frozen=True)
class TrainingCheckpoint:
    """A state of a run on disk.

    Args:
        path: its folder.
        step: steps that the run has behind it.
        notes: what `TrainingCheckpoints.save` was given, as JSON gives it back.
        best: whether it was saved as the best so far.
    """

    path: pathlib.Path
    step: int
    notes: dict
    best: bool = False

    def arrays(self):
        """Reads the arrays, {name: array}, from a file whose hash agrees.

        Raises:
            ValueError: if the files were altered since they were written.
            FileNotFoundError: if a save has removed the checkpoint meanwhile.
        """
        manifest = _read_manifest(self.path)
        with open(self.path / STATE, "rb") as file:
            _check_state(file, manifest)
            file.seek(0)
            return read_state(file, manifest["dtypes"])


class TrainingCheckpoints:
    """The checkpoints of one run, in a folder of their own.

    One process saves; any number may read meanwhile.

    Args:
        folder: the folder; made by the first save.
        keep: how many of the newest steps stay, beside the one last saved as the best.

    Raises:
        ValueError: if `keep` is below 1.
    """

    def __init__(self, folder, keep=3):
        if keep < 1:
            raise ValueError(f"Expected to keep at least 1 checkpoint. Received: keep={keep}")
        self.folder, self.keep = pathlib.Path(folder), keep
        self._verified = {}  # what a state's file was, by its path, when its hash agreed
        self._reported = set()
        self._cleared = False

    def newest(self):
        """Returns the newest whole `TrainingCheckpoint`, or None; logs which it skips and why, and removes nothing."""
        return next(self._whole(), None)

    def best(self):
        """Returns the newest whole `TrainingCheckpoint` that was saved as the best, or None."""
        return next((checkpoint for checkpoint in self._whole() if checkpoint.best), None)

    def save(self, step, arrays, notes, best=False):
        """Writes a checkpoint; when it stands whole on the disk, removes those that need not be kept.

        Args:
            step: steps that the run has behind it. A step that was saved before is replaced.
            arrays: {name: array} of numbers or text, bfloat16 and its like too.
            notes: a dict that JSON can hold.
            best: whether this is the best state so far.

        Returns:
            The `TrainingCheckpoint`.

        Raises:
            ValueError: if arrays hold values that are not finite or cannot be stored, the notes are no JSON, or a
                checkpoint of a later step stands. Nothing is written then.
            OSError: if the disk does not take it; the older checkpoints stand as they were.
        """
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        step, notes = _step(step), _plain_notes(notes)
        refuse_unsound(step, arrays)
        older = list(self._whole())
        if older and older[0].step > step:
            raise ValueError(
                f"Expected a step at or after {older[0].step}, which {older[0].path} holds. Received: step={step}. "
                "Go on from that checkpoint, or choose another folder."
            )
        try:
            self._clear_leftovers()
            path = self.folder / self._free_name(step)
            manifest = _write(path, {"step": step, "best": bool(best), "notes": notes}, arrays)
            self._verified[path] = _seen(os.stat(path / STATE), manifest)
        except OSError as error:
            raise OSError(error.errno, self._not_saved(step, arrays, error)) from error
        saved = TrainingCheckpoint(path, step, notes, bool(best))
        self._remove_old([saved, *older])
        return saved

    def _whole(self):
        """Yields the whole checkpoints, the newest first."""
        for path in self._visible():
            try:
                checkpoint = self._open(path)
            except (OSError, ValueError) as error:
                if not path.exists():  # a save has removed it since the folder was listed, so there are newer ones
                    yield from self._whole()
                    return
                self._report(path, error)
            else:
                yield checkpoint

    def _visible(self):
        """Returns the paths that bear a checkpoint's name, the newest first."""
        paths = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if match := _NAME.fullmatch(path.name):
                paths[path] = int(match[1]), int(match[2] or 1)
            elif not path.name.startswith("."):
                self._report(path, "it bears no checkpoint's name")
        return sorted(paths, key=paths.get, reverse=True)

    def _open(self, path):
        """Returns the checkpoint at a path; hashes its state once, and again if the file is not the same any more."""
        manifest = _read_manifest(path)
        with open(path / STATE, "rb") as file:
            seen = _seen(os.fstat(file.fileno()), manifest)
            if self._verified.get(path) != seen:
                _check_state(file, manifest)
                self._verified[path] = seen
        return TrainingCheckpoint(path, manifest["step"], manifest["notes"], manifest["best"])

    def _report(self, path, reason):
        if (path, str(reason)) not in self._reported:
            self._reported.add((path, str(reason)))
            logger.warning("%s is no whole checkpoint and is passed over: %s", path, reason)

    def _free_name(self, step):
        taken = [_NAME.fullmatch(path.name) for path in self._visible()]
        again = max((int(match[2] or 1) for match in taken if int(match[1]) == step), default=0) + 1
        return f"step_{step:08d}" + (f"_{again}" if again > 1 else "")

    def _clear_leftovers(self):
        if not self._cleared and self.folder.is_dir():
            for path in self.folder.iterdir():
                if _LEFTOVER.fullmatch(path.name):
                    shutil.rmtree(path)
        self._cleared = True

    def _remove_old(self, whole):
        """Removes of the whole checkpoints, the newest first, all but the newest steps and the best."""
        of_step = {}
        for checkpoint in whole:
            of_step.setdefault(checkpoint.step, checkpoint)
        best = next((checkpoint for checkpoint in whole if checkpoint.best), None)
        kept = [*list(of_step.values())[: self.keep], best]
        for checkpoint in whole:
            if checkpoint not in kept:
                # Out of sight first: a removal that is cut off leaves no half checkpoint under a checkpoint's name.
                hidden = checkpoint.path.with_name(f".{os.getpid()}.{checkpoint.path.name}.old")
                try:
                    os.replace(checkpoint.path, hidden)
                    shutil.rmtree(hidden)
                except OSError as error:
                    logger.warning("the old checkpoint %s could not be removed: %s", checkpoint.path, error)
                self._verified.pop(checkpoint.path, None)

    def _not_saved(self, step, arrays, error):
        newest = self.newest()
        stands = f"{newest.path}, of step {newest.step}, stands" if newest else "No earlier checkpoint stands"
        size = sum(array.nbytes for array in arrays.values()) / 1e6
        return (
            f"Step {step} could not be saved in {self.folder}: {error.strerror or error}. {stands}. "
            f"Make room there ({size:,.1f} MB a checkpoint) or make it writable, and give the same command again."
        )


def _step(step):
    step = operator.index(step)
    if step < 0:
        raise ValueError(f"Expected a step, 0 or more. Received: step={step}")
    return step


def _plain_notes(notes):
    try:
        return json.loads(json.dumps(notes, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected notes that JSON can hold, numbers finite. Received: notes={notes!r}") from error


def _write(path, manifest, arrays):
    """Writes a checkpoint's folder, whole on the disk before it gets its name; returns the manifest."""
    with written_aside(path) as aside:
        aside.mkdir()
        with open(aside / STATE, "wb") as file:
            digest, dtypes = write_state(file, arrays)
            _sync(file)
            manifest |= {"sha256": digest, "size": file.tell(), "dtypes": dtypes}
        with open(aside / MANIFEST, "w", encoding="utf-8") as file:
            json.dump(manifest | {"seal": _seal(manifest)}, file, indent=1)
            _sync(file)
        _sync_folder(aside)
    _sync_folder(path.parent)
    return manifest


def _read_manifest(path):
    """Returns the manifest of a checkpoint's folder.

    Raises:
        ValueError: if it is missing, is not what was written, or is another step's.
        OSError: if it cannot be read.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        seal = manifest.pop("seal")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its {MANIFEST} is no manifest of a checkpoint") from error
    if seal != _seal(manifest):
        raise ValueError(f"its {MANIFEST} was altered")
    if manifest["step"] != int(_NAME.fullmatch(path.name)[1]):
        raise ValueError(f"its {MANIFEST} is of step {manifest['step']}")
    return manifest


def _check_state(file, manifest):
    size = os.fstat(file.fileno()).st_size
    if size != manifest["size"]:
        raise ValueError(f"its {STATE} has {size:,} bytes of {manifest['size']:,}")
    if hashlib.file_digest(file, "sha256").hexdigest() != manifest["sha256"]:
        raise ValueError(f"its {STATE} was altered: the SHA-256 differs")


def _seal(manifest):
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _seen(stat, manifest):
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, manifest["sha256"]


def _sync(file):
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path):
    if os.name == "nt":  # where a folder cannot be opened
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # mounted drives that know of no such thing
            raise
    finally:
        os.close(folder)
