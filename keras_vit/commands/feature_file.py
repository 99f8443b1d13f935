"""Writes the features of images as an .npz file, batch by batch."""

import contextlib
import itertools
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_vit._atomic import written_aside

_FLOAT32 = np.dtype("<f4")
_CHUNK = 1 << 20  # bytes
_NAMES = 4096  # written at once


@contextlib.contextmanager
def feature_file(path: str | os.PathLike[str]) -> Iterator[Callable[[Sequence[Any], np.ndarray], None]]:
    """Yields a function of (paths of images, features) that adds them to an .npz file.

    The file appears at the end of the block, if that raises nothing. `np.load` reads two arrays from it: "images", the
    paths, and "features", (images, features) float32. Memory holds one batch; until the end, all are in temporary files
    in the same folder, so that the disk needs space for twice the file.

    Args:
        path: of the file.

    Raises:
        ValueError: if the path does not end in .npz.
        OSError: if the disk is full or cannot be written to.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"Expected a file name that ends in .npz for the features. Received: {path}")
    with contextlib.ExitStack() as stack:
        aside = stack.enter_context(written_aside(path))
        rows = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
        names = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent))
        count = width = longest = 0

        def add(images: Sequence[Any], features: np.ndarray) -> None:
            nonlocal count, width, longest
            rows.write(np.asarray(features, _FLOAT32).tobytes())
            for image in map(os.fspath, images):
                names.write(json.dumps(image) + "\n")  # on one line, whatever is in it
                longest = max(longest, len(image))
            count, width = count + len(images), features.shape[1]

        yield add
        rows.seek(0)
        names.seek(0)
        text = np.dtype(f"<U{max(longest, 1)}")
        texts = iter(lambda: [json.loads(line) for line in itertools.islice(names, _NAMES)], [])
        with zipfile.ZipFile(aside, "w") as archive:
            _add_array(archive, "images", text, (count,), (np.array(some, text).tobytes() for some in texts))
            chunks = iter(lambda: rows.read(_CHUNK), b"")
            _add_array(archive, "features", _FLOAT32, (count, width), chunks)


def _add_array(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], chunks: Iterable[bytes]
) -> None:
    """Adds an array to a zip file as `np.savez` does, from its bytes in parts."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.writelines(chunks)
