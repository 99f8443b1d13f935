"""Lists the images of a data set of TensorFlow Datasets (TFDS).

The images stay in its files and are read from there by position, so that a data set can be larger than memory.
"""

import itertools
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from keras_vit._arguments import counted
from keras_vit.data.decoding import FileRange, ImageError, recognize
from keras_vit.data.listing import THREADS, Learns, ListedImage, Listing, Progress, digest_of, refuse_unlabelled
from keras_vit.data.messages import listed
from keras_vit.data.splits import Span, choose_splits

_NAME = re.compile(r"[A-Za-z]\w*(/[\w.+-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?")
_RECORDS = 32  # records that are read from TensorFlow in one step: eight times as fast as one by one
_log = logging.getLogger("keras_vit")


def names_like(text: str, data_dir: str | os.PathLike[str] | None) -> set[str]:
    """Returns the names of TFDS' data sets and of the folders in `data_dir`; none if `text` has another form."""
    if not _NAME.fullmatch(text):
        return set()
    import tensorflow_datasets as tfds

    folders = [path.name for path in Path(data_dir).glob("*/")] if data_dir is not None else []
    return {*tfds.list_builders(with_community_datasets=False), *folders}


def is_prepared_name(text: str, data_dir: str | os.PathLike[str] | None) -> bool:
    """Returns whether TFDS knows a data set of this name, or `data_dir` has a folder of this name."""
    return re.split("[/:]", text)[0] in names_like(text, data_dir)


def list_prepared(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    wanted: dict[str, str | None],
    learns: Learns | None = None,
) -> Listing:
    """Reads the splits of a TFDS data set once, for the position, the label and the digest of each image.

    The checksums of TFDS' files are tested. No image is decoded; its format is recognized by its first bytes. The name
    of an image is its tfds_id.

    Args:
        name: such as "cifar10", "oxford_iiit_pet:4.0.0" or "vtab/x:1.0.0".
        data_dir: TFDS' data folder; None for its default. TFDS downloads a data set that is not there.
        wanted: {split: an expression of TFDS such as "train[:98%]+test[10:]", or None}.
        learns: "labels" for a feature of lists of labels, if there is one.

    Raises:
        ValueError: if there is no such data set or split, it is not a data set of images with one label each, its files
            are incomplete, damaged or not tfrecord files, or an example has no label.
    """
    import tensorflow_datasets as tfds

    builder = _builder(tfds, name, data_dir)
    info = builder.info
    image, label = _features(tfds, info, learns)
    several = _lists_labels(tfds, info.features[label])
    feature = info.features[label].feature if several else info.features[label]
    class_names = tuple(map(feature.int2str, range(feature.num_classes)))

    def spans(expression: str) -> list[Span]:
        try:
            instructions = info.splits[expression].file_instructions
        except (ValueError, KeyError, NotImplementedError) as error:
            have = ", ".join(info.splits)
            raise ValueError(f"{name} has no split {expression!r}, it has: {have} ({error})") from error
        return [(part.filename, part.skip, part.skip + part.take) for part in instructions]

    def labelled(split: str) -> bool:
        first = [(path, start, start + 1) for path, start, stop in spans(split) if start < stop][:1]
        rows = (numbers for span in first for *_, numbers in _records(span, image, label))
        return any(all(number >= 0 for number in numbers) for numbers in rows)

    chosen = choose_splits(name, tuple(info.splits), wanted, spans, labelled)
    _refuse_missing(name, {path for places in chosen.values() for path, *_ in places})
    work = [(split, span) for split, places in chosen.items() for span in places]
    progress = Progress(sum(stop - start for _, (_, start, stop) in work))
    images: list[ListedImage] = []
    unlabelled: list[str] = []

    def read(job: tuple[str, Span]) -> list[ListedImage]:
        read_images = []
        for place, title, data, numbers in _records(job[1], image, label):
            if (several or numbers) and all(0 <= number < len(class_names) for number in numbers):
                labels = tuple(sorted({class_names[number] for number in numbers}))
                facts: dict[str, Any] = {"digest": digest_of(data), "reason": _reason(data)}
                facts["target"] = labels if several else None
                read_images.append(ListedImage(place, title, "|".join(labels), job[0], **facts))
            else:
                unlabelled.append(f"{title}: {', '.join(map(str, numbers))}")
        return read_images

    with ThreadPoolExecutor(THREADS) as pool:
        for read_images in pool.map(read, work):
            images += read_images
            progress.add(len(read_images))
    refuse_unlabelled(name, class_names, sorted(unlabelled))
    kind: Learns = "labels" if several else "classes"
    return Listing(name, builder.name, tuple(chosen), class_names, tuple(images), learns=kind)


def _builder(tfds: Any, name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, AssertionError) as error:
        raise ValueError(f"TFDS has no data set {name!r}: {str(error).splitlines()[0]}") from error
    if not builder.is_prepared():
        _log.info("%s is not in %s: TFDS downloads it", name, builder.data_dir)
        try:
            builder.download_and_prepare()
        except OSError as error:
            raise ValueError(
                f"{name} is not in {builder.data_dir}, and cannot be downloaded: {error}. Prepare it where there "
                "is a network, and name the folder of TFDS' data in data_dir."
            ) from error
    if builder.info.file_format.value != "tfrecord":
        raise ValueError(
            f"Expected tfrecord files of TFDS. Received: {builder.data_dir}, {builder.info.file_format.value}. "
            "Prepare it with `tfds build --file_format=tfrecord`."
        )
    return builder


def _features(tfds: Any, info: Any, learns: Learns | None) -> tuple[str, str]:
    """Returns the names of the image and the label: TFDS' supervised keys, or the only features of their kind."""
    images = [name for name, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    labels = [name for name, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    lists = [name for name, feature in info.features.items() if _lists_labels(tfds, feature)]
    if learns == "labels" and lists:
        labels = lists
    keys: tuple[str, str] = info.supervised_keys or ("", "")
    if keys[0] in images and keys[1] in labels:
        return keys[0], keys[1]
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f"Expected a data set of images with one class each. Received: {info.full_name}, which has the images "
            f"{images} and the class labels {labels}"
            + (f". Set objective=labels for the lists of labels in {', '.join(lists)}" if lists else "")
        )
    return images[0], labels[0]


def _lists_labels(tfds: Any, feature: Any) -> bool:
    """Returns whether a feature has a list of class labels for each image."""
    return isinstance(getattr(feature, "feature", None), tfds.features.ClassLabel)


def _refuse_missing(name: str, paths: set[str]) -> None:
    missing = sorted(path for path in paths if not os.path.isfile(path))
    if missing:
        raise ValueError("\n".join([f"{name} lacks {counted(len(missing), 'file')} on this disk:", *listed(missing)]))


def _records(span: Span, image: str, label: str) -> Iterator[tuple[FileRange, str, bytes, list[int]]]:
    """Yields (position of the image, tfds_id, bytes, labels) for the records of a span."""
    import tensorflow as tf

    path, start, stop = span
    offset = count = 0
    try:
        batches = tf.data.TFRecordDataset(path).take(stop).batch(_RECORDS).as_numpy_iterator()
        for record in itertools.chain.from_iterable(batches):
            if count >= start:
                features = tf.train.Example.FromString(record).features.feature
                (data,), numbers = features[image].bytes_list.value, list(features[label].int64_list.value)
                # On disk: the record's length (8 bytes), a checksum (4), the record, a checksum (4).
                place = FileRange(path, offset + 12 + record.index(data), len(data))
                yield place, f"{os.path.basename(path)}__{count}", data, numbers
            offset += 12 + len(record) + 4
            count += 1
    except tf.errors.OpError as error:
        raise ValueError(
            f"{path} is damaged after its first {count:,} records ({error.message}). Prepare it again."
        ) from error
    if count < stop:
        raise ValueError(f"{path} ends after {count:,} of {stop:,} records. Prepare it again.")


def _reason(data: bytes) -> str:
    try:
        recognize(data)
    except ImageError as error:
        return str(error)
    return ""
