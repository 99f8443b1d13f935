"""Atomic writing of files and folders: a reader sees the old one or the complete new one."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder, and renames it to `path` at the end of the block.

    The temporary path has the same ending. If the block raises, the temporary file or folder is removed, and an
    existing one at `path` stays unchanged. Missing parent folders are made.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield aside
        if path.is_dir() and aside.is_dir():  # a folder cannot take another's place in one step
            shutil.rmtree(path)
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with written_aside(path) as aside:
        aside.write_text(text, "utf-8")
