"""Atomic writing of files and folders: a reader sees the old one or the complete new one, also after a power cut."""

import contextlib
import datetime
import errno
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator

# A temporary name: the process and, as eight hexadecimal digits, the host that write the file whose name follows.
_ASIDE = re.compile(r"\.(\d+)-([0-9a-f]{8})\..+", re.DOTALL)
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_DAY = 86_400  # seconds; nothing is written aside for longer, so an older leftover belongs to no process
# The system's errors of a file that cannot be written, which some libraries pass on as text alone.
_IN_WORDS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_UNNAMED = (*_IN_WORDS, errno.EIO, errno.EINVAL)
_LOCK, _HOLDER = ".lock", ".lock.json"


class WriteError(OSError):
    """Raised if a file cannot be written; the message names it and says what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


def aside_of(path: pathlib.Path) -> pathlib.Path:
    """Returns the temporary path, in the same folder and with the same ending, that this process uses for a path."""
    return path.with_name(f".{os.getpid()}-{_HOST}.{path.name}")


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder, and renames it to `path` at the end of the block.

    The temporary path has the same ending. If the block raises, the temporary file or folder is removed, and an
    existing one at `path` stays unchanged. Missing parent folders are made. What killed processes left in the folder is
    removed.

    Raises:
        OSError: if the disk is full or cannot be written to; it names `path`.
    """
    path = pathlib.Path(path)
    aside = aside_of(path)
    with named_errors(path, aside):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        _remove(aside)
    try:
        with named_errors(path, aside):
            yield aside
            move(aside, path)
    finally:
        _remove(aside)


def move(source: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a file or folder within its folder, once it is on the disk; replaces an existing one."""
    for part in [source, *source.rglob("*")] if source.is_dir() else [source]:
        _sync(part)
    if target.is_dir() and source.is_dir():  # a folder cannot take another's place in one step
        shutil.rmtree(target)
    os.replace(source, target)
    _sync(target.parent)


def _sync(path: pathlib.Path) -> None:
    """Returns once a file, or the list of names in a folder, is on the disk."""
    if os.name == "nt" and path.is_dir():  # where a folder cannot be opened
        return
    opened = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some mounted drives cannot sync a folder
            raise
    finally:
        os.close(opened)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with written_aside(path) as aside:
        aside.write_text(text, "utf-8")


@contextlib.contextmanager
def named_errors(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> Iterator[None]:
    """Adds to an error of the disk which file could not be written, and what to do.

    Libraries report a full disk as an OSError without a name, or as an error of their own with the system's words.

    Args:
        path: the file or folder that the block writes.
        *others: paths that it writes first, such as a temporary one.

    Raises:
        OSError: instead of an error that names no file, or one of these; an error about another file stays as it is.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        code = _disk_error(error, [os.fspath(each) for each in (path, *others)])
        if code is None:
            raise
        words = "" if isinstance(error, OSError) else f" ({str(error).strip()[:300]})"  # it may name a temporary file
        raise WriteError(
            code,
            f"{os.fspath(path)} could not be written: {os.strerror(code)}{words}. Free some space or make it writable, "
            "and run the same command again.",
        ) from error


def _disk_error(error: Exception, paths: list[str]) -> int | None:
    """Returns the system's number of an error in writing some paths; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename is not None:
            name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
            ours = any(name == path or name.startswith(path + os.sep) for path in paths)
            return error.errno if ours and error.errno != errno.ENOENT else None
        return error.errno if error.errno in _UNNAMED else None
    return next((code for code in _IN_WORDS if os.strerror(code) in str(error)), None)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what killed processes of this host have left half written in a folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _ASIDE.fullmatch(path.name)
        if match and _is_left(path, int(match[1]), match[2]):
            with contextlib.suppress(OSError):
                _remove(path)


def _is_left(path: pathlib.Path, process: int, host: str) -> bool:
    """Returns whether no process writes a temporary path any more."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_ctime > _DAY:
            return True
    if host != _HOST or os.name == "nt":  # there, the signal 0 would end the process
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # of another user
        return False
    return False


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other processes from writing to a folder during the block; the system frees it if the process is killed.

    A block within a block of the same thread is fine. The folder is made, and removed again if it stays empty.

    Raises:
        ValueError: if another process writes to the folder, with its number, host, start and command.
        OSError: if the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    folder = pathlib.Path(folder).resolve()
    with named_errors(folder, folder / _LOCK, folder / _HOLDER):
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, is_singleton=True)
        first = not lock.is_locked
        try:
            lock.acquire(timeout=0.2)  # a killed process may still be ending
        except Timeout as error:
            raise ValueError(
                f"Expected a folder that no other process writes to. Received: {folder}, {_holder(folder)}. Wait until "
                "it has ended, or choose another folder."
            ) from error
    try:
        if first:
            remove_leftovers(folder)
            write_text(folder / _HOLDER, json.dumps(_this_process()))
        yield
    finally:
        if first:  # while it is locked: a process that waits for the removed file tries again with the next one
            for name in (_HOLDER, _LOCK):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
        lock.release()
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()


def is_locked(folder: pathlib.Path) -> bool:
    """Returns whether a process writes to a folder, or was killed while it did."""
    return (folder / _LOCK).exists()


def _this_process() -> dict[str, str]:
    program, *arguments = sys.argv or ["python"]
    return {
        "process": str(os.getpid()),
        "host": platform.node(),
        "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": shlex.join([os.path.basename(program), *arguments])[:300],
    }


def _holder(folder: pathlib.Path) -> str:
    """Returns in words which process has locked a folder."""
    try:
        holder = json.loads((folder / _HOLDER).read_text("utf-8"))
        process, host, since, command = (str(holder[name]) for name in ("process", "host", "since", "command"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "to which another process writes"
    return f"to which process {process} on {host} has been writing since {since}: {command}"
