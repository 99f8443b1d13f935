"""Finds the images of a data set that TensorFlow Datasets has prepared on this disk.

The images stay in its files and are read from there by position, so a data set may be larger than memory.
"""

import itertools
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_vit.data.decoding import ImageError, Record, recognize
from keras_vit.data.listing import THREADS, ListedImage, Listing, Progress, digest_of, listed, refuse_unlabelled
from keras_vit.data.splits import Span, choose_splits

_NAME = re.compile(r"[A-Za-z]\w*(/[\w.+-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?")
_AT_ONCE = 32  # records taken from TensorFlow in one step: an eighth of the time of one by one
_log = logging.getLogger("keras_vit")


def names_like(text: str, data_dir: str | os.PathLike | None) -> set[str]:
    """Returns the names of TFDS' data sets and of the folders in `data_dir`; none if `text` cannot be such a name."""
    if not _NAME.fullmatch(text):
        return set()
    import tensorflow_datasets as tfds

    folders = [path.name for path in Path(data_dir).glob("*/")] if data_dir is not None else []
    return {*tfds.list_builders(with_community_datasets=False), *folders}


def is_prepared_name(text: str, data_dir: str | os.PathLike | None) -> bool:
    """Whether TFDS knows a data set of this name, or `data_dir` has a folder of it."""
    return re.split("[/:]", text)[0] in names_like(text, data_dir)


def list_prepared(name: str, data_dir: str | os.PathLike | None, wanted: dict[str, str | None]) -> Listing:
    """Reads through the splits of a TFDS data set once: where each image lies, its label and its digest.

    TFDS tests its files with checksums, and so does this reading; an image itself is looked at no further than
    to tell its format. An image's name is TFDS's own tfds_id.

    Args:
        name: such as "cifar10", "oxford_iiit_pet:4.0.0" or "vtab/x:1.0.0".
        data_dir: where TFDS has its data; None for its default. If the data set is not there, TFDS downloads it.
        wanted: {split: TFDS' expression, such as "train[:98%]+test[10:]", or None}.

    Raises:
        ValueError: if there is no such data set or split, it is not one of images with one label each, its files
            are incomplete, damaged or no tfrecord, or an example has no label.
    """
    import tensorflow_datasets as tfds

    builder = _builder(tfds, name, data_dir)
    info = builder.info
    image, label = _features(tfds, info)
    class_names = tuple(map(info.features[label].int2str, range(info.features[label].num_classes)))

    def spans(expression: str) -> list[Span]:
        try:
            instructions = info.splits[expression].file_instructions
        except (ValueError, KeyError, NotImplementedError) as error:
            have = ", ".join(info.splits)
            raise ValueError(f"{name} has no split {expression!r}, it has: {have} ({error})") from error
        return [(part.filename, part.skip, part.skip + part.take) for part in instructions]

    def labelled(split: str) -> bool:
        first = [(path, start, start + 1) for path, start, stop in spans(split) if start < stop][:1]
        return any(number >= 0 for span in first for *_, number in _records(span, image, label))

    chosen = choose_splits(name, tuple(info.splits), wanted, spans, labelled)
    _refuse_missing(name, {path for places in chosen.values() for path, *_ in places})
    work = [(split, span) for split, places in chosen.items() for span in places]
    progress, images, unlabelled = Progress(sum(stop - start for _, (_, start, stop) in work)), [], []

    def read(job: tuple[str, Span]) -> list[ListedImage]:
        found = []
        for place, title, data, number in _records(job[1], image, label):
            if 0 <= number < len(class_names):
                reason = _reason(data)
                found.append(
                    ListedImage(place, title, class_names[number], job[0], digest=digest_of(data), reason=reason)
                )
            else:
                unlabelled.append(f"{title}: {number}")
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(read, work):
            images += found
            progress.add(len(found))
    refuse_unlabelled(name, class_names, sorted(unlabelled))
    return Listing(name, builder.name, tuple(chosen), class_names, tuple(images))


def _builder(tfds, name: str, data_dir: str | os.PathLike | None):
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
            f"Of TFDS' files, tfrecord alone is read. Received: {builder.data_dir}, {builder.info.file_format.value}. "
            "Prepare it with `tfds build --file_format=tfrecord`."
        )
    return builder


def _features(tfds, info) -> tuple[str, str]:
    """Returns the names of the image and the label: TFDS' supervised keys, or the only ones there are."""
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    found = {what: [k for k, f in info.features.items() if isinstance(f, kind)] for what, kind in kinds.items()}
    keys = info.supervised_keys or (None, None)
    if keys[0] in found["image"] and keys[1] in found["label"]:
        return keys[0], keys[1]
    if any(len(names) != 1 for names in found.values()):
        raise ValueError(
            f"Expected a data set of images with one class each. Received: {info.full_name}, which has the images "
            f"{found['image']} and the class labels {found['label']}"
        )
    return found["image"][0], found["label"][0]


def _refuse_missing(name: str, paths: set[str]) -> None:
    missing = sorted(path for path in paths if not os.path.isfile(path))
    if missing:
        raise ValueError("\n".join([f"{name} lacks {len(missing)} files on this disk:", *listed(missing)]))


def _records(span: Span, image: str, label: str) -> Iterator[tuple[Record, str, bytes, int]]:
    """Yields (place of the image, TFDS' id, bytes, label) for the records of a file from `start` to `stop`."""
    import tensorflow as tf

    path, start, stop = span
    offset = count = 0
    try:
        batches = tf.data.TFRecordDataset(path).take(stop).batch(_AT_ONCE).as_numpy_iterator()
        for record in itertools.chain.from_iterable(batches):
            if count >= start:
                features = tf.train.Example.FromString(record).features.feature
                (data,), (number,) = features[image].bytes_list.value, features[label].int64_list.value
                # On disk: the record's length (8 bytes), a checksum (4), the record, a checksum (4).
                place = Record(path, offset + 12 + record.index(data), len(data))
                yield place, f"{os.path.basename(path)}__{count}", data, number
            offset += 12 + len(record) + 4
            count += 1
    except tf.errors.OpError as error:
        raise ValueError(
            f"{path} is damaged behind its first {count:,} records ({error.message}). Prepare it again."
        ) from error
    if count < stop:
        raise ValueError(f"{path} ends after {count:,} of {stop:,} records. Prepare it again.")


def _reason(data: bytes) -> str:
    try:
        recognize(data)
    except ImageError as error:
        return str(error)
    return ""
