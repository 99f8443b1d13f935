"""`keras-vit search`: lists the images of a folder that are nearest to words, or to other images.

The embeddings of the images are in an index, so that later searches embed new and changed images alone.
"""

import dataclasses
import functools
import json
import logging
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import keras_vit
from keras_vit import _arguments as checked
from keras_vit._arguments import counted
from keras_vit._atomic import locked
from keras_vit._progress import log_progress, show_progress
from keras_vit.analysis.image_index import ImageIndex, Stamp, read_index, unit_embeddings, write_index
from keras_vit.commands.image_files import image_paths, read_batches, read_images, thumbnail
from keras_vit.commands.image_model import ImageModel, is_checkpoint, open_model
from keras_vit.commands.prediction_lines import csv_line, digits
from keras_vit.commands.run_folder import MODEL_FILE, recipe_beside
from keras_vit.data.decoding import ImageError, value_range
from keras_vit.data.messages import listed, one_line
from keras_vit.data.pipeline import read_pixels
from keras_vit.models.config import Gelu
from keras_vit.preprocessing import Pixels, as_pixels
from keras_vit.report.search_page import NearestImages, ShownImage, write_search_page
from keras_vit.weights.open import checkpoint_digest

logger = logging.getLogger("keras_vit")

SEARCH_MODEL = "hf://google/siglip2-base-patch16-224"
PAGE = "search.html"
_SECONDS_BETWEEN_WRITES = 60.0  # of the index, so that a killed process loses at most a minute
_SIDE = 256  # pixels, of an image on the page


class Match(NamedTuple):
    """An image of the folder that is near to a query.

    Args:
        image: its path.
        similarity: the cosine of its embedding and that of the query, -1 to 1.
        probability: that a text and the image belong together, by the checkpoint; None where it has none.
    """

    image: str
    similarity: float
    probability: float | None = None


class Query(NamedTuple):
    """A query and the images that are nearest to it.

    Args:
        query: the text, or the path of the image.
        is_image: whether it is an image.
        matches: the most similar first.
    """

    query: str
    is_image: bool
    matches: list[Match]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the embeddings of an index depend on.

    Args:
        folder: the path of the images when the index was made.
        model: the model as it was named, and of a file its absolute path.
        sha256: of its file.
        image_size: (height, width) of its input in pixels.
        channels: of its input.
        protocol: how images are resized, out of `keras_vit.data.crop.PROTOCOLS`.
        pixels: the fields of its `keras_vit.Pixels`.
        options: image_size, pixels and gelu as the model was opened with; None for its own.
        value_range: the numbers that are black and white in images of more than 8 bits; None for the types' own.
    """

    folder: str
    model: str
    sha256: str
    image_size: tuple[int, int]
    channels: int
    protocol: str
    pixels: Mapping[str, Any]
    options: Mapping[str, Any]
    value_range: Sequence[float] | None

    def read(self, image: Any) -> np.ndarray:
        """Returns an encoded image as the model reads it: `read_batches` needs nothing else of a model."""
        return read_pixels(image, self.image_size, self.protocol, self.channels)


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search returned.

    Args:
        queries: each query with its images.
        folder: the images that were searched.
        index: the file of their embeddings.
        settings: what these depend on.
        count: number of images with an embedding.
        faults: a line with the name and the reason for each image that cannot be read.
    """

    queries: list[Query]
    folder: str
    index: pathlib.Path
    settings: Settings
    count: int
    faults: list[str]

    def tables(self) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """Yields each query with its table, {heading: text} of each image."""
        for query, is_image, matches in self.queries:
            rows = []
            for rank, match in enumerate(matches, 1):
                row = {"rank": str(rank), "similarity": f"{match.similarity:.4f}"}
                row |= {} if match.probability is None else {"probability": f"{match.probability:#.3g}"}
                rows.append(row | {"image": one_line(match.image)})
            yield f"like {one_line(query)}" if is_image else f'"{one_line(query)}"', rows

    def lines(self, style: str) -> Iterator[str]:
        """Yields the lines of a "json" or a "csv" output: an object or a row for each image of each query."""
        if style == "csv":
            yield csv_line(("query", "by", "rank", "similarity", "probability", "image"))
        for query, is_image, matches in self.queries:
            by = "image" if is_image else "text"
            for rank, match in enumerate(matches, 1):
                numbers = [None if n is None else digits(n) for n in (match.similarity, match.probability)]
                if style == "csv":
                    yield csv_line((query, by, str(rank), *(number or "" for number in numbers), match.image))
                    continue
                similarity, probability = (None if number is None else float(number) for number in numbers)
                row = {"query": query, "by": by, "rank": rank, "similarity": similarity}
                row |= {} if probability is None else {"probability": probability}
                yield json.dumps(row | {"image": match.image})

    def write_page(self, path: str | os.PathLike[str]) -> None:
        """Writes an HTML page of the images, each with a link to its file.

        Args:
            path: of the page.
        """
        start = os.path.dirname(os.path.abspath(path))

        def shown(image: str) -> ShownImage:
            pixels = thumbnail(image, _SIDE, self.settings.channels)
            return ShownImage(pixels, image, os.path.relpath(os.path.abspath(image), start))

        groups = [
            NearestImages(
                query,
                shown(query) if is_image else None,
                [(shown(image), similarity, probability) for image, similarity, probability in matches],
            )
            for query, is_image, matches in self.queries
        ]
        height, width = self.settings.image_size
        facts = {
            "folder": self.folder,
            "model": self.settings.model if "://" in self.settings.model else os.path.basename(self.settings.model),
            "image size": f"{height} × {width} pixels",
            "images that cannot be read": f"{len(self.faults):,}" if self.faults else "",
        }
        write_search_page(path, groups, self.count, {name: value for name, value in facts.items() if value})


def default_index(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of the index of a folder, below runs/.

    Raises:
        ValueError: if that is inside the folder of the images.
    """
    name = re.sub(r"\W+", "-", os.path.basename(os.path.abspath(folder)))
    path = pathlib.Path("runs", f"{name or 'images'}-search", "index.npz")
    if pathlib.Path(folder).resolve() in path.resolve().parents:
        raise ValueError(
            f"Expected a place for the index outside of the folder of images. Received: {path} in {folder}. Name a "
            "file for it with --index, which can be anywhere, or start the command from another folder"
        )
    return path


@show_progress()
def search(
    folder: str | os.PathLike[str],
    texts: Sequence[str] = (),
    images: Sequence[str | os.PathLike[str]] = (),
    model: str | os.PathLike[str] | None = None,
    *,
    index: str | os.PathLike[str] | None = None,
    top: int = 20,
    image_size: tuple[int, int] | None = None,
    pixels: str | None = None,
    gelu: Gelu | None = None,
) -> Search:
    """Lists the images of a folder whose embeddings are nearest to those of texts and of other images.

    The index of the folder is made, or brought up to date: images that are new or have another size or time of change
    are embedded, and those that are no longer there leave it.

    Args:
        folder: the images in it and in the folders inside are searched.
        texts: for each, a search by words; the model is then a SigLIP or CLIP checkpoint with a text tower.
        images: paths; for each, a search for images like it. The image itself is left out where it is in the folder.
        model: a .keras file, the folder of a run or a checkpoint as in `keras_vit.load`; by default that of the index,
            or `SEARCH_MODEL`.
        index: the .npz file of the embeddings; by default as `default_index` says.
        top: number of images for each query.
        image_size: (height, width) in pixels to resize the model to; None for its own, or that of the index.
        pixels, gelu: as in `keras_vit.commands.image_model.open_model`; None for those of the index.

    Returns:
        The queries with their images.

    Raises:
        ValueError: if there is no query, the folder has no image, no image can be read, the index is of another folder,
            model or image size, the model has no text tower and texts are searched for, or a query cannot be read.
        ImportError: if the library is missing that reads the tokenizer; it names the extra.
    """
    folder, top = os.fspath(folder), checked.integer("top", top)
    if not texts and not images or not all(text.strip() for text in texts):
        raise ValueError(f"Expected texts or images to search by, none of them blank. Received: {texts=}, {images=}")
    path = pathlib.Path(index) if index else default_index(folder)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"Expected a file name that ends in .npz for the index. Received: {path}")
    files, faults = _files_in(folder)
    options = {"image_size": image_size and list(image_size), "pixels": pixels, "gelu": gelu}
    stored, settings, opened = _index_at(path, folder, files, model, options)
    tower = functools.cache(lambda: opened or _open(settings.model, settings.options))
    embeddings, probability = [], None  # of the queries: first, as to embed a folder takes long
    if texts:
        shape = opened.model.output_shape if opened else (None, stored.embeddings.shape[1]) if stored.paths else None
        of_texts, probability = _embedded_texts(settings.model, texts, shape)
        embeddings.append(of_texts)
    if images:
        embeddings.append(_embedded(tower(), read_images(settings, images)))
    current = _updated(path, stored, files, folder, settings, tower, faults)
    if faults:
        logger.warning(
            "%s of %s cannot be read:\n%s",
            *(f"{len(faults):,}", counted(len(current.paths) + len(faults), "image"), "\n".join(listed(faults))),
        )
    if not current.paths:
        raise ValueError(f"Expected images. Received: {folder}, with none that can be read")
    order, cosines = current.nearest(np.concatenate(embeddings), top + 1)
    queries = []
    for number, query in enumerate([*texts, *(os.fspath(image) for image in images)]):
        is_image = number >= len(texts)
        own = _name_in(folder, query) if is_image else None
        near = [(current.paths[i], float(cosine)) for i, cosine in zip(order[number], cosines[number])]
        matches = [
            Match(os.path.join(folder, name), cosine, probability(cosine) if probability and not is_image else None)
            for name, cosine in [one for one in near if one[0] != own][:top]
        ]
        queries.append(Query(query, is_image, matches))
    return Search(queries, folder, path, settings, len(current.paths), faults)


def _index_at(
    path: pathlib.Path,
    folder: str,
    files: Mapping[str, Stamp],
    model: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> tuple[ImageIndex, Settings, ImageModel | None]:
    """Returns the index in a file and its settings, or an empty one and the model that is opened for it."""
    stored = read_index(path)
    if stored is None:
        opened = _open(os.fspath(model or SEARCH_MODEL), options)
        settings = _settings_of(folder, model or SEARCH_MODEL, opened, options)
        return ImageIndex.empty(dataclasses.asdict(settings)), settings, opened
    settings = _settings_in(path, stored)
    _refuse_other_settings(path, settings, model, options)
    _refuse_other_folder(path, settings, folder, stored, files)
    if model and _name_of(model) != settings.model:  # the same file in another place, which later searches need
        settings = dataclasses.replace(settings, model=_name_of(model))
        stored = dataclasses.replace(stored, made_with=dataclasses.asdict(settings))
        with locked(path.parent):
            write_index(path, stored)
    return stored, settings, None


def _files_in(folder: str) -> tuple[dict[str, Stamp], list[str]]:
    """Returns {name inside the folder: stamp} of the images in a folder, and lines on what cannot be listed."""
    if not os.path.isdir(folder):
        raise ValueError(f"Expected a folder of images. Received: {folder}, which is not a folder")
    files: dict[str, Stamp] = {}
    faults = []
    # With "@" or "-", a name would be that of a list.
    for path in image_paths(os.path.join(os.curdir, folder) if folder.startswith(("@", "-")) else folder):
        try:
            if isinstance(path, ImageError):
                raise path
            status = os.stat(path)
        except (ImageError, OSError) as error:
            reason = f"{path}: cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
            faults.append(one_line(reason))
        else:
            files[_name_in(folder, path)] = status.st_size, status.st_mtime_ns
    if not files:
        raise ValueError("\n".join([f"Expected a folder of images. Received: {folder}", *listed(faults)]))
    return files, faults


def _name_in(folder: str, path: str) -> str:
    """Returns the path of a file inside a folder, or one that no file there has."""
    inside, above = (pathlib.PurePath(os.path.abspath(each)) for each in (path, folder))
    return inside.relative_to(above).as_posix() if inside.is_relative_to(above) else ""


def _open(model: str, options: Mapping[str, Any]) -> ImageModel:
    size = options["image_size"]
    opened = open_model(model, size and tuple(size), pixels=options["pixels"], gelu=options["gelu"])
    return dataclasses.replace(opened, with_features=True)


def _embedded(opened: ImageModel, pixels: np.ndarray) -> np.ndarray:
    return opened.predict(pixels)["features"].astype(np.float32)


def _digest(model: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of the file of a model."""
    return checkpoint_digest(_file_of(model))


def _file_of(model: str | os.PathLike[str]) -> str:
    """Returns the path of a model's file in the folder of a run, and any other name as it is."""
    return os.path.join(model, MODEL_FILE) if os.path.isdir(model) and not is_checkpoint(model) else os.fspath(model)


def _name_of(model: str | os.PathLike[str]) -> str:
    """Returns the absolute path of a model's file or folder, and an address or another name as it is."""
    return os.path.abspath(model) if os.path.exists(model) else os.fspath(model)


def _settings_of(
    folder: str, model: str | os.PathLike[str], opened: ImageModel, options: Mapping[str, Any]
) -> Settings:
    return Settings(
        os.path.abspath(folder),
        _name_of(model),
        _digest(model),
        opened.image_size,
        opened.channels,
        opened.protocol,
        dataclasses.asdict(opened.pixels),
        options,
        value_range(),
    )


def _settings_in(path: pathlib.Path, index: ImageIndex) -> Settings:
    """Returns the settings that an index was made with."""
    try:
        settings = Settings(**{name: checked.plain(value) for name, value in index.made_with.items()})
        Pixels(**settings.pixels)
        _ = [settings.options[name] for name in ("image_size", "pixels", "gelu")]
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"Expected an index of images. Received: {path}, whose settings are damaged: {error}. Delete it to make it "
            "anew, or name another file"
        ) from error
    recipe_beside(_file_of(settings.model))  # images of more than 8 bits are read as by the run
    return settings


def _refuse_other_settings(
    path: pathlib.Path, settings: Settings, model: str | os.PathLike[str] | None, options: Mapping[str, Any]
) -> None:
    """Raises an error that lists what an index was not made with."""
    if not model and os.path.isabs(settings.model) and not os.path.exists(settings.model):
        raise ValueError(
            f"Expected the model of the index {path}. Received: {settings.model}, which is no longer there. Name its "
            "new place with --model"
        )
    faults = []
    if _digest(model or settings.model) != settings.sha256:
        is_other = model and _name_of(model) != settings.model
        here = os.fspath(model or "") if is_other else "the same, whose file has changed"
        faults.append(f"  model: {settings.model} there, {here} here")
    size, pixels, gelu = (options[name] for name in ("image_size", "pixels", "gelu"))
    if size and tuple(size) != settings.image_size:
        faults.append(f"  image size: {settings.image_size} there, {tuple(size)} here")
    contract = Pixels(**settings.pixels)
    if pixels is not None and as_pixels(pixels).for_channels(settings.channels) != contract:
        faults.append(f"  pixels: {contract.description} there, {pixels} here")
    if gelu not in (None, settings.options["gelu"]):
        faults.append(f"  gelu: {settings.options['gelu'] or 'that of the file'} there, {gelu} here")
    if (value_range() or None) != (settings.value_range or None):
        faults.append(f"  range of numbers: {settings.value_range} there, {value_range()} here")
    if faults:
        raise ValueError(
            f"Expected an index of this model and these settings. Received: {path}, which was made with others:\n"
            + "\n".join(faults)
            + "\nLeave out --model and the other options to search with those of the index, name another file with "
            "--index, or delete this one to make it anew"
        )


def _refuse_other_folder(
    path: pathlib.Path, settings: Settings, folder: str, index: ImageIndex, files: Mapping[str, Stamp]
) -> None:
    """Raises an error if an index is that of other images, which would all leave it; a folder may be moved."""
    if os.path.abspath(folder) != settings.folder and index.paths and not index.unchanged(files).paths:
        raise ValueError(
            f"Expected the index of {folder}. Received: {path}, of the images of {settings.folder}, none of which is "
            "here. Name another file with --index, or delete this one"
        )


def _embedded_texts(
    model: str, texts: Sequence[str], shape: tuple[int | None, ...] | None
) -> tuple[np.ndarray, Callable[[float], float] | None]:
    """Returns the embeddings of texts, and the function of a cosine that is the checkpoint's probability, if any.

    Args:
        model: a checkpoint with a text tower.
        texts: the texts.
        shape: of the embeddings of images; None if it is not known.
    """
    try:
        encoder = keras_vit.text_encoder(model)
    except ValueError as error:
        raise ValueError(
            f"A search by words needs a SigLIP or CLIP checkpoint with its text tower; {model} has none that can be "
            f"read. Name one with --model, or search by --image.\n{error}"
        ) from error
    size = encoder.output_shape[-1]
    if shape not in (None, (None, size)):
        raise ValueError(
            f"Expected an image tower that returns embeddings (batch, {size}), as the text tower does. Received: "
            f"{model}, which returns {shape}"
        )
    embeddings = encoder.predict(keras_vit.tokenizer(model)(texts), verbose=0)
    if encoder.bias is None or encoder.scale is None:
        return embeddings, None
    scale, bias = encoder.scale, encoder.bias
    return embeddings, lambda cosine: float(1 / (1 + np.exp(-scale * cosine - bias)))


def _updated(
    path: pathlib.Path,
    stored: ImageIndex,
    files: Mapping[str, Stamp],
    folder: str,
    settings: Settings,
    tower: Callable[[], ImageModel],
    faults: list[str],
) -> ImageIndex:
    """Returns an index brought up to date with the files of its folder, and writes it.

    What is embedded is written every minute, and if the work is stopped, so that the next one continues.

    Args:
        path: of the index.
        stored: the index as it is.
        files: {name: stamp} of the images.
        folder: that they are in.
        settings: of the index.
        tower: opens the model.
        faults: a line is added for each image that cannot be read.
    """
    kept = stored.unchanged(files)
    known = {*kept.paths}
    names = {os.path.join(folder, name): name for name in files if name not in known}
    gone = sum(name not in files for name in stored.paths)
    if not names and not gone:
        logger.info("index: %s, %s, all unchanged", path, counted(len(kept.paths), "image"))
        return kept
    new: dict[str, Stamp] = {}
    parts: list[np.ndarray] = []

    def current() -> ImageIndex:
        return kept.added(new, np.concatenate(parts)) if parts else kept

    with locked(path.parent):
        written = time.monotonic()
        try:
            batches = ((batch, batch.images) for batch in read_batches(settings, names))
            for batch, images in log_progress(batches, "embedded", len(names)):
                faults += batch.faults
                if not images:
                    continue
                parts.append(unit_embeddings(images, _embedded(tower(), batch.pixels)))
                new |= {names[image]: files[names[image]] for image in images}
                if time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
                    write_index(path, current())
                    written = time.monotonic()
        finally:
            if new or len(kept.paths) < len(stored.paths):
                write_index(path, current())
    logger.info(
        "index: %s, %s: %s new or changed, %s unchanged, %s no longer there",
        *(path, counted(len(kept.paths) + len(new), "image"), f"{len(new):,}", f"{len(kept.paths):,}", f"{gone:,}"),
    )
    return current()
