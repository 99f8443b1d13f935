"""An index of the embeddings of a folder's images, in one .npz file that is kept up to date image by image."""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit import _arguments as checked
from keras_vit._atomic import written_aside
from keras_vit.analysis.embeddings import nearest_neighbours

FORMAT = 1  # of the file; increase it when a reader of this version would misread a new one
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    EOFError,
    TypeError,
    NotImplementedError,
    RecursionError,
    zipfile.BadZipFile,
)

Stamp = tuple[int, int]  # size in bytes, and time of the last change in ns: a file with the same two is unchanged


@dataclasses.dataclass(frozen=True, eq=False)
class ImageIndex:
    """The embeddings of the images of a folder.

    Args:
        paths: of the images inside the folder, with "/" between the names.
        stamps: int64 (images, 2), the `Stamp` of each file.
        embeddings: float32 (images, size), of length 1. In float16, which would halve the file, a cosine changes by up
            to 5e-5 (of a real ViT-S/14): some neighbours in a list differ by less.
        made_with: what the embeddings depend on, as JSON has it.
    """

    paths: tuple[str, ...]
    stamps: np.ndarray
    embeddings: np.ndarray
    made_with: Mapping[str, Any]

    @classmethod
    def empty(cls, made_with: Mapping[str, Any]) -> "ImageIndex":
        """Returns an index without images."""
        return cls((), np.empty((0, 2), np.int64), np.empty((0, 0), np.float32), made_with)

    def unchanged(self, files: Mapping[str, Stamp]) -> "ImageIndex":
        """Returns the index without the images that are no longer there, or whose files have changed.

        Args:
            files: {path: stamp} of the images that the folder has now.
        """
        kept = [files.get(path) == tuple(stamp) for path, stamp in zip(self.paths, self.stamps.tolist())]
        paths = tuple(path for path, keep in zip(self.paths, kept) if keep)
        return ImageIndex(paths, self.stamps[kept], self.embeddings[kept], self.made_with)

    def added(self, files: Mapping[str, Stamp], embeddings: np.ndarray) -> "ImageIndex":
        """Returns the index with more images, sorted by path.

        Args:
            files: {path: stamp} of the images, none of which is in the index.
            embeddings: of the images, in the same order, as `unit_embeddings` returns them.

        Raises:
            ValueError: if they are of another size than those of the index.
        """
        if self.paths and embeddings.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"Expected embeddings of {self.embeddings.shape[1]} numbers, as the index has. Received: embeddings of "
                f"{embeddings.shape[1]}"
            )
        paths = (*self.paths, *files)
        order = sorted(range(len(paths)), key=paths.__getitem__)
        stamps = np.concatenate([self.stamps, np.array([*files.values()], np.int64).reshape(-1, 2)])
        embeddings = np.concatenate([self.embeddings, embeddings]) if self.paths else embeddings
        return ImageIndex(tuple(paths[i] for i in order), stamps[order], embeddings[order], self.made_with)

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the nearest images of each query, as `nearest_neighbours` does.

        Args:
            queries: (queries, size) of any length.
            count: number of images; all of them if there are fewer.
        """
        return nearest_neighbours(self.embeddings, queries, count)


def unit_embeddings(paths: Sequence[str], embeddings: np.ndarray) -> np.ndarray:
    """Returns embeddings as an index has them, float32 (images, size) of length 1.

    Args:
        paths: of the images, for the message.
        embeddings: (images, size) of any length.

    Raises:
        ValueError: if some hold NaN or infinity.
    """
    lengths = np.linalg.norm(embeddings.astype(np.float32), axis=1, keepdims=True)
    if wrong := [path for path, length in zip(paths, lengths[:, 0]) if not np.isfinite(length)]:
        raise ValueError(f"Expected finite embeddings. Received: NaN or infinity for {checked.first_few(wrong)}")
    units: np.ndarray = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    return units


def read_index(path: str | os.PathLike[str]) -> ImageIndex | None:
    """Reads an index; None if there is no such file.

    Args:
        path: of the .npz file.

    Raises:
        ValueError: if the file is not an index, is damaged, or has the format of another version.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return None
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            made_with = json.loads(str(file["made_with"]))
            if made_with.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}, that of this version of keras_vit")
            images, stamps, embeddings = (file[name] for name in ("images", "stamps", "embeddings"))
        layout = [(array.dtype.kind, array.ndim, len(array)) for array in (images, stamps, embeddings)]
        if layout != [("U", 1, len(images)), ("i", 2, len(images)), ("f", 2, len(images))] or stamps.shape[1] != 2:
            raise ValueError(f"its arrays have the kinds, axes and lengths {layout}")
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"Expected an index of images. Received: {path}, which cannot be read: {reason}. "
            "Delete it to make it anew, or name another file"
        ) from error
    return ImageIndex(tuple(images.tolist()), stamps, embeddings, made_with)


def write_index(path: str | os.PathLike[str], index: ImageIndex) -> None:
    """Writes an index as an .npz file, which replaces an older one when it is complete.

    `np.load` reads the arrays "images" (paths), "stamps", "embeddings" and "made_with" (JSON) from it.

    Args:
        path: of the file.
        index: the index.
    """
    with written_aside(path) as aside:
        np.savez(
            aside,
            images=np.array(index.paths, dtype=np.str_).reshape(-1),
            stamps=index.stamps,
            embeddings=index.embeddings,
            made_with=np.array(json.dumps({"format": FORMAT, **index.made_with})),
        )
