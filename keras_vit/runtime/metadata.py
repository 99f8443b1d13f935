"""Reads the TFLite metadata and the labels in a TFLite file."""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from collections.abc import Sequence

from keras_vit import _compat

_schema = _compat.tflite_schema()

_NORMALIZATION = 1  # ProcessUnitOptions of metadata_schema.fbs
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType
_THRESHOLDS = "thresholds.txt"

# The most that is read: of labels (100,000 names have about 2 MB), of the directory of the zip file behind the model,
# of a text and of a list in the metadata, whose tables may lie in each other.
LABELS_BYTES, _DIRECTORY_BYTES, _TEXT_BYTES, _ITEMS = 2**24, 2**16, 2**16, 256


class MetadataError(ValueError):
    """Raised if a file cannot be used. Its message is the end of a sentence that names the file."""


@dataclasses.dataclass(frozen=True)
class FileDescription:
    """The metadata of a TFLite file.

    Args:
        facts: {"name", "description", "version", "author", "license"}; "" where one is absent.
        mean, std: of each colour, in grey levels; None where the input is pixels that are not scaled.
        outputs: names, in the order of the file's outputs.
        class_names: in the order of the output that has labels; () where the file returns numbers.
        scores_index: of the output that has labels; 0 where none has.
        thresholds: of labels that are scored independently, the least score of each that an image has; () otherwise.
    """

    facts: dict[str, str]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    outputs: tuple[str, ...]
    class_names: tuple[str, ...]
    scores_index: int
    thresholds: tuple[float, ...] = ()


class _Table:
    """A table of a flatbuffer. A field is read by its slot; it is 0 or empty where it is absent."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at

    def _field(self, slot: int) -> int | None:
        fields = self.at - self._number("<i", self.at)
        size = self._number("<H", fields)
        offset = self._number("<H", fields + 4 + 2 * slot) if 4 + 2 * slot < size else 0
        return self.at + offset if offset else None

    def _number(self, kind: str, at: int) -> int:
        return struct.unpack_from(kind, self.data, at)[0]

    def _follow(self, at: int) -> int:
        return at + self._number("<I", at)

    def number(self, slot: int, kind: str = "<b") -> int:
        at = self._field(slot)
        return 0 if at is None else self._number(kind, at)

    def _vector(self, slot: int, most: int = _ITEMS) -> tuple[int, int]:
        """Returns the position of a vector's first item, and the number of items, at most `most`."""
        at = self._field(slot)
        start, length = (0, 0) if at is None else ((start := self._follow(at)) + 4, self._number("<I", start))
        if length > most:
            raise MetadataError(f"carries TFLite metadata with a list of {length:,} items, of which {most:,} are read")
        return start, length

    def text(self, slot: int) -> str:
        start, length = self._vector(slot, _TEXT_BYTES)
        return bytes(self.data[start : start + length]).decode("utf-8")

    def floats(self, slot: int) -> tuple[float, ...]:
        start, length = self._vector(slot)
        return struct.unpack_from(f"<{length}f", self.data, start)

    def table(self, slot: int) -> _Table | None:
        at = self._field(slot)
        return None if at is None else _Table(self.data, self._follow(at))

    def tables(self, slot: int) -> list[_Table]:
        start, length = self._vector(slot)
        return [_Table(self.data, self._follow(start + 4 * i)) for i in range(length)]


def read_description(file: bytes) -> FileDescription:
    """Returns the metadata and labels of a TFLite file.

    Args:
        file: its bytes.

    Raises:
        MetadataError: if it is not a TFLite file, or lacks the metadata of an image classifier with labels.
    """
    if file[4:8] != b"TFL3":
        raise MetadataError("is not a TFLite file")
    try:
        root = _Table(block := _metadata(file), struct.unpack_from("<I", block)[0])
        graph = root.tables(3)[0]
        (entry,), outputs = graph.tables(2), graph.tables(3)
        scores_index, labels = _labels(file, outputs)
        units = [unit.table(1) for unit in entry.tables(4) if unit.number(0) == _NORMALIZATION]
        mean, std = (units[0].floats(0), units[0].floats(1)) if units and units[0] else (None, None)
        slots = {"name": 0, "description": 1, "version": 2, "author": 4, "license": 5}
        facts = {name: root.text(slot) for name, slot in slots.items()}
        names, thresholds = tuple(end.text(0) for end in outputs), _thresholds(file, outputs, len(labels))
        return FileDescription(facts, mean, std, names, labels, scores_index, thresholds)
    except MetadataError:
        raise
    except Exception as error:  # the readers of flatbuffers and zip can raise nearly anything for a damaged file
        raise MetadataError("carries TFLite metadata that cannot be read") from error


def _metadata(file: bytes) -> bytes:
    model = _schema.Model.GetRootAsModel(file, 0)
    for i in range(min(model.MetadataLength(), _ITEMS)):
        if model.Metadata(i).Name() == b"TFLITE_METADATA":
            return model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy().tobytes()
    raise MetadataError("carries no TFLite metadata, which describe its input and name its classes")


def _labels(file: bytes, outputs: Sequence[_Table]) -> tuple[int, tuple[str, ...]]:
    """Returns the index of the output that has labels, and the labels."""
    for i, end in enumerate(outputs):
        for item in end.tables(6):
            if item.number(2) == _TENSOR_AXIS_LABELS:
                return i, tuple(_member(file, item.text(0)).decode("utf-8").split("\n")[:-1])
    if any(end.text(0) == "probabilities" for end in outputs):
        raise MetadataError("names no classes")
    return 0, ()  # numbers, which have none


def _thresholds(file: bytes, outputs: Sequence[_Table], count: int) -> tuple[float, ...]:
    """Returns the thresholds in the file, one for each label; () without."""
    if not any(item.text(0) == _THRESHOLDS for end in outputs for item in end.tables(6)):
        return ()
    thresholds = tuple(map(float, _member(file, _THRESHOLDS).decode("ascii").split("\n")[:-1]))
    if len(thresholds) != count or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise MetadataError(f"has {len(thresholds)} thresholds of 0 to 1 for {count} labels")
    return thresholds


def _member(file: bytes, name: str) -> bytes:
    """Returns a member of the zip file behind a model."""
    end = file.rindex(b"PK\5\6", 0, len(file) - 18)  # of a record of 22 bytes
    (directory,) = struct.unpack_from("<I", file, end + 12)
    if directory > _DIRECTORY_BYTES or file[max(end - 20, 0) : end].startswith(b"PK\6\7"):
        raise MetadataError(f"carries a zip file with a directory of more than {_DIRECTORY_BYTES:,} bytes")
    with zipfile.ZipFile(io.BytesIO(file)) as behind:
        size = behind.getinfo(name).file_size
        if size > LABELS_BYTES:
            raise MetadataError(f"carries labels of {size:,} bytes, of which {LABELS_BYTES:,} are read")
        with behind.open(name) as member:
            return member.read(size)  # at most, whatever it expands to
