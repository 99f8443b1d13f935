"""Writes files and folders whole or not at all."""

import contextlib
import os
import pathlib
import shutil


@contextlib.contextmanager
def written_aside(path):
    """Gives a temporary path to write to, beside `path` and with its ending, and renames it when the block is done.

    If the block fails, what it wrote is removed and an older file of that name stands as it was. Missing parent folders
    are made.
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


def write_text(path, text):
    """Writes a text file in UTF-8, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, "utf-8")
