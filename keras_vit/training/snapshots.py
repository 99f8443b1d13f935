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

import numpy as np

from keras_vit.atomic import written_aside
from keras_vit.training.state_file import read_state, refuse_unsound, write_state

logger = logging.getLogger("keras_vit")

STATE, MANIFEST = "state.npz", "manifest.json"

# step_00000123, or step_00000123_2 where that name is taken: a folder cannot take another's place in one step.
_NAME = re.compile(r"step_(\d{8,})(?:_(\d+))?")
# What a killed write leaves behind, named by `written_aside`, and what a killed removal does.
_LEFTOVER = re.compile(rf"\.\d+\.{_NAME.pattern}(\.old)?")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A state of a run on disk.

    Args:
        path: its folder.
        step: steps that the run has behind it.
        notes: what `Snapshots.save` was given, as JSON gives it back.
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
            FileNotFoundError: if a save has removed the snapshot meanwhile.
        """
        manifest = _read_manifest(self.path)
        with open(self.path / STATE, "rb") as file:
            _check_state(file, manifest)
            file.seek(0)
            return read_state(file, manifest["dtypes"])


class Snapshots:
    """The snapshots of one run, in a folder of their own.

    One process saves; any number may read meanwhile.

    Args:
        folder: the folder; made by the first save.
        keep: how many of the newest steps stay, beside the one last saved as the best.

    Raises:
        ValueError: if `keep` is below 1.
    """

    def __init__(self, folder, keep=3):
        if keep < 1:
            raise ValueError(f"Expected to keep at least 1 snapshot. Received: keep={keep}")
        self.folder, self.keep = pathlib.Path(folder), keep
        self._verified = {}  # what a state's file was, by its path, when its hash agreed
        self._reported = set()
        self._cleared = False

    def newest(self):
        """Returns the newest whole `Snapshot`, or None; says which it passes over and why, and removes nothing."""
        return next(self._whole(), None)

    def best(self):
        """Returns the newest whole `Snapshot` that was saved as the best, or None."""
        return next((snapshot for snapshot in self._whole() if snapshot.best), None)

    def save(self, step, arrays, notes, best=False):
        """Writes a snapshot; when it stands whole on the disk, removes those that need not be kept.

        Args:
            step: steps that the run has behind it. A step that was saved before is replaced.
            arrays: {name: array} of numbers or text, bfloat16 and its like too.
            notes: a dict that JSON can hold.
            best: whether this is the best state so far.

        Returns:
            The `Snapshot`.

        Raises:
            ValueError: if arrays hold values that are not finite or cannot be stored, the notes are no JSON, or a
                snapshot of a later step stands. Nothing is written then.
            OSError: if the disk does not take it; the older snapshots stand as they were.
        """
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        step, notes = _step(step), _plain_notes(notes)
        refuse_unsound(step, arrays)
        older = list(self._whole())
        if older and older[0].step > step:
            raise ValueError(
                f"Expected a step at or after {older[0].step}, which {older[0].path} holds. Received: step={step}. "
                "Go on from that snapshot, or choose another folder."
            )
        try:
            self._clear_leftovers()
            path = self.folder / self._free_name(step)
            manifest = _write(path, {"step": step, "best": bool(best), "notes": notes}, arrays)
            self._verified[path] = _seen(os.stat(path / STATE), manifest)
        except OSError as error:
            raise OSError(error.errno, self._not_saved(step, arrays, error)) from error
        saved = Snapshot(path, step, notes, bool(best))
        self._remove_old([saved, *older])
        return saved

    def _whole(self):
        """Yields the whole snapshots, the newest first."""
        for path in self._visible():
            try:
                snapshot = self._open(path)
            except (OSError, ValueError) as error:
                if not path.exists():  # a save has removed it since the folder was listed, so there are newer ones
                    yield from self._whole()
                    return
                self._report(path, error)
            else:
                yield snapshot

    def _visible(self):
        """Returns the paths that bear a snapshot's name, the newest first."""
        paths = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if match := _NAME.fullmatch(path.name):
                paths[path] = int(match[1]), int(match[2] or 1)
            elif not path.name.startswith("."):
                self._report(path, "it bears no snapshot's name")
        return sorted(paths, key=paths.get, reverse=True)

    def _open(self, path):
        """Returns the snapshot at a path; hashes its state once, and again if the file is not the same any more."""
        manifest = _read_manifest(path)
        with open(path / STATE, "rb") as file:
            seen = _seen(os.fstat(file.fileno()), manifest)
            if self._verified.get(path) != seen:
                _check_state(file, manifest)
                self._verified[path] = seen
        return Snapshot(path, manifest["step"], manifest["notes"], manifest["best"])

    def _report(self, path, reason):
        if (path, str(reason)) not in self._reported:
            self._reported.add((path, str(reason)))
            logger.warning("%s is no whole snapshot and is passed over: %s", path, reason)

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
        """Removes of the whole snapshots, the newest first, all but the newest steps and the best."""
        of_step = {}
        for snapshot in whole:
            of_step.setdefault(snapshot.step, snapshot)
        best = next((snapshot for snapshot in whole if snapshot.best), None)
        kept = [*list(of_step.values())[: self.keep], best]
        for snapshot in whole:
            if snapshot not in kept:
                # Out of sight first: a removal that is cut off leaves no half snapshot under a snapshot's name.
                hidden = snapshot.path.with_name(f".{os.getpid()}.{snapshot.path.name}.old")
                try:
                    os.replace(snapshot.path, hidden)
                    shutil.rmtree(hidden)
                except OSError as error:
                    logger.warning("the old snapshot %s could not be removed: %s", snapshot.path, error)
                self._verified.pop(snapshot.path, None)

    def _not_saved(self, step, arrays, error):
        newest = self.newest()
        stands = f"{newest.path}, of step {newest.step}, stands" if newest else "No earlier snapshot stands"
        size = sum(array.nbytes for array in arrays.values()) / 1e6
        return (
            f"Step {step} could not be saved in {self.folder}: {error.strerror or error}. {stands}. "
            f"Make room there ({size:,.1f} MB a snapshot) or make it writable, and give the same command again."
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
    """Writes a snapshot's folder, whole on the disk before it gets its name; returns the manifest."""
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
    """Returns the manifest of a snapshot's folder.

    Raises:
        ValueError: if it is missing, is not what was written, or is another step's.
        OSError: if it cannot be read.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        seal = manifest.pop("seal")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its {MANIFEST} is no manifest of a snapshot") from error
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
