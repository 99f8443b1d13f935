"""Lists the images of a Hugging Face data set, by name or in a folder that `datasets` saved.

The images stay in its files and are read from there by position, so that a data set can be larger than memory.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit import _compat
from keras_vit.data.decoding import FileRange, ImageError, read_file, recognize
from keras_vit.data.listing import Learns, ListedImage, Listing, Progress, digest_of, refuse_unlabelled
from keras_vit.data.splits import Span, choose_splits


def is_saved(path: Path) -> bool:
    """Returns whether save_to_disk of `datasets` wrote a folder."""
    return any(os.path.isfile(path / name) for name in ("dataset_dict.json", "state.json"))


def list_hub(
    data: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    wanted: dict[str, str | None],
    learns: Learns | None = None,
) -> Listing:
    """Reads the splits of a data set once, for the position, the label and the digest of each image.

    No image is decoded. Its format is recognized by its first bytes.

    Args:
        data: "NAME", "OWNER/NAME" or "OWNER/NAME/CONFIG", or a folder that `datasets` loads or saved.
        data_dir: folder for the downloads of `datasets`; None for its default.
        wanted: {split: an expression such as "train[:98%]+test[10:]", or None}.
        learns: "labels" for a column of lists of labels, if there is one.

    Raises:
        ImportError: if `datasets` is not installed.
        ValueError: if there is no such data set or split, it is not a data set of images with one label each, or an
            example has no label.
    """
    datasets = _import_datasets()
    name = os.fspath(data)
    splits = _load(datasets, name, data_dir)
    features = next(iter(splits.values())).features
    image, label = _columns(datasets, name, features, learns)
    several = _lists_labels(datasets, features[label])
    names = features[label].feature.names if several else features[label].names
    class_names, sizes = tuple(names), {split: len(dataset) for split, dataset in splits.items()}

    def spans(expression: str) -> list[Span]:
        try:
            parts = datasets.ReadInstruction.from_spec(expression).to_absolute(sizes)
        except (ValueError, AssertionError) as error:
            raise ValueError(f"{name} has no split {expression!r}, it has: {', '.join(sizes)} ({error})") from error
        return [(part.splitname, part.from_, part.to) for part in parts]

    def labelled(split: str) -> bool:
        first = next((_numbers(value) for _, value in _rows(splits[split], image, label, 0, 1)), None)
        return first is not None and all(number >= 0 for number in first)

    chosen = choose_splits(name, tuple(splits), wanted, spans, labelled)
    progress = Progress(sum(stop - start for places in chosen.values() for _, start, stop in places))
    images, unlabelled = [], []
    for split, (of, start, stop) in ((split, span) for split, places in chosen.items() for span in places):
        for index, (file, value) in enumerate(_rows(splits[of], image, label, start, stop), start):
            numbers = _numbers(value)
            if numbers is not None and all(0 <= number < len(class_names) for number in numbers):
                labels = sorted({class_names[number] for number in numbers})
                image_listed = _image(file, f"{of} {index}", "|".join(labels), split)
                images.append(replace(image_listed, target=tuple(labels)) if several else image_listed)
            else:
                unlabelled.append(f"{of} {index}: {value}")
            progress.add()
    refuse_unlabelled(name, class_names, unlabelled)
    kind: Learns = "labels" if several else "classes"
    return Listing(name, Path(name).name, tuple(chosen), class_names, tuple(images), learns=kind)


def _import_datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError('Hugging Face data sets need the extra "datasets": pip install datasets') from error
    return datasets


def _load(datasets: Any, name: str, data_dir: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Returns {split: Dataset}."""
    repository, config = name, ""
    if not os.path.isdir(name) and name.count("/") == 2:
        repository, _, config = name.rpartition("/")
    try:
        if is_saved(Path(name)):
            loaded = datasets.load_from_disk(name)
        else:
            cache = None if data_dir is None else os.fspath(data_dir)
            loaded = datasets.load_dataset(repository, config or None, cache_dir=cache)
    except (OSError, ValueError) as error:
        raise ValueError(f"The package datasets cannot load {name!r}: {error}") from error
    return dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}


def _columns(datasets: Any, name: str, features: dict[str, Any], learns: Learns | None) -> tuple[str, str]:
    """Returns the columns of images and labels: the only ones of their kind, or those with the usual names."""
    chosen, faults = [], []
    lists = [column for column, feature in features.items() if _lists_labels(datasets, feature)]
    for kind, usual in ((datasets.Image, "image"), (datasets.ClassLabel, "label")):
        columns = [column for column, feature in features.items() if isinstance(feature, kind)]
        if kind is datasets.ClassLabel and learns == "labels" and lists:
            columns = lists
        chosen.append(usual if usual in columns else (columns or [""])[0])
        if len(columns) != 1 and usual not in columns:
            faults.append(f"its {kind.__name__} columns are {', '.join(columns) or 'none'}")
    if faults:
        raise ValueError(
            "Expected one Image and one ClassLabel column, or of several one named image and one named label. "
            f"Received: {name}, {'; '.join(faults)}"
            + (f". Set objective=labels for the lists of labels in {', '.join(lists)}" if lists else "")
        )
    return chosen[0], chosen[1]


def _lists_labels(datasets: Any, feature: Any) -> bool:
    """Returns whether a column has a list of class labels for each image."""
    return isinstance(getattr(feature, "feature", None), datasets.ClassLabel)


def _numbers(value: Any) -> list[int] | None:
    """Returns the numbers of the labels of an image, of one or of several; None without."""
    numbers = value if isinstance(value, list) else [value]
    return None if None in numbers else numbers


def _rows(dataset: Any, image: str, label: str, start: int, stop: int) -> Iterator[tuple[str | bytes | FileRange, Any]]:
    """Yields (image, label) for rows `start` to `stop`."""
    first = 0
    for path, whole, table in _tables(dataset):
        end = first + table.num_rows
        here = max(start, first)
        rows = table.select([image, label]).slice(max(here - first, 0), max(min(stop, end) - here, 0))
        for batch in rows.to_batches():
            yield from zip(_files(batch.column(0), path, whole), batch.column(1).to_pylist(), strict=True)
        first = end


def _tables(dataset: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yields (path, the file as a buffer, table) of each Arrow file, or (None, None, table) without files."""
    import pyarrow as pa

    paths = [file["filename"] for file in dataset.cache_files]
    files = [pa.memory_map(path).read_buffer() for path in paths]
    tables = [pa.ipc.open_stream(file).read_all() for file in files]  # in the memory of the map, not a copy
    if sum(table.num_rows for table in tables) == len(dataset) and not _compat.has_row_order(dataset):
        yield from zip(paths, files, tables, strict=True)
    else:  # in memory, or in another order than in the files
        yield None, None, dataset.with_format("arrow")[:]


def _files(column: Any, path: str, whole: Any) -> Iterator[str | bytes | FileRange]:
    """Yields each image of a column: a range of the Arrow file, a path, or bytes."""
    parts = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
    data, names = parts["bytes"], parts["path"].to_pylist()
    _, ends, content = data.buffers()
    width = np.int64 if str(data.type).startswith("large") else np.int32
    ends = np.frombuffer(ends, width)[data.offset : data.offset + len(data) + 1].tolist() if ends else []
    base = content.address - whole.address if whole and content else -1
    in_file = whole is not None and 0 <= base < whole.size  # not if the file's buffers are compressed
    for index, name in enumerate(names):
        if not data[index].is_valid:
            yield name or b""
        elif in_file:
            yield FileRange(path, base + ends[index], ends[index + 1] - ends[index])
        else:
            yield data[index].as_py()


def _image(file: str | bytes | FileRange, name: str, class_name: str, split: str) -> ListedImage:
    digest = reason = ""
    try:
        data = read_file(file)
        digest = digest_of(data)
        recognize(data)
    except ImageError as error:
        reason = str(error)
    return ListedImage(file, name, class_name, split, digest=digest, reason=reason)
