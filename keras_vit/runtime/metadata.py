"""Reads what a TFLite file says of itself: TFLite metadata, and the labels behind the model."""

import dataclasses
import io
import struct
import zipfile

from keras_vit import _compat

_schema = _compat.tflite_schema()


_NORMALIZATION = 1  # ProcessUnitOptions of metadata_schema.fbs
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType


class MetadataError(ValueError):
    """Says why a file cannot be used, as the end of a sentence that names it."""


@dataclasses.dataclass(frozen=True)
class FileDescription:
    """Holds what a file says of itself.

    Args:
        facts: {"name", "description", "version", "author", "license"}; what is not said is "".
        mean, std: of each colour, in grey levels; None where pixels are taken as they are.
        outputs: names, in the order of the file's outputs.
        class_names: in the order of the numbers of the output that has labels; () where the file returns numbers.
        scores: which output that is, the first where none has labels.
    """

    facts: dict
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    outputs: tuple[str, ...]
    class_names: tuple[str, ...]
    scores: int


class _Table:
    """Reads one table of a flatbuffer: a field by its slot, 0 or nothing where it is absent."""

    def __init__(self, data, at):
        self.data, self.at = data, at

    def _field(self, slot):
        fields = self.at - self._number("<i", self.at)
        size = self._number("<H", fields)
        offset = self._number("<H", fields + 4 + 2 * slot) if 4 + 2 * slot < size else 0
        return self.at + offset if offset else None

    def _number(self, kind, at):
        return struct.unpack_from(kind, self.data, at)[0]

    def _follow(self, at):
        return at + self._number("<I", at)

    def number(self, slot, kind="<b"):
        at = self._field(slot)
        return 0 if at is None else self._number(kind, at)

    def _vector(self, slot):
        """Returns where the items of a vector begin, and how many there are."""
        at = self._field(slot)
        return (0, 0) if at is None else ((start := self._follow(at)) + 4, self._number("<I", start))

    def text(self, slot):
        start, length = self._vector(slot)
        return bytes(self.data[start : start + length]).decode("utf-8")

    def floats(self, slot):
        start, length = self._vector(slot)
        return struct.unpack_from(f"<{length}f", self.data, start)

    def table(self, slot):
        at = self._field(slot)
        return None if at is None else _Table(self.data, self._follow(at))

    def tables(self, slot):
        start, length = self._vector(slot)
        return [_Table(self.data, self._follow(start + 4 * i)) for i in range(length)]


def read_description(file):
    """Returns the `Description` of a TFLite file.

    Args:
        file: its bytes.

    Raises:
        ValueError: if it is no TFLite file, or carries no metadata of an image classifier with labels.
    """
    if file[4:8] != b"TFL3":
        raise MetadataError("is no TFLite file")
    try:
        root = _Table(block := _metadata(file), struct.unpack_from("<I", block)[0])
        graph = root.tables(3)[0]
        (entry,), ends = graph.tables(2), graph.tables(3)
        scores, labels = _labels(file, ends)
        units = [unit.table(1) for unit in entry.tables(4) if unit.number(0) == _NORMALIZATION]
        mean, std = (units[0].floats(0), units[0].floats(1)) if units else (None, None)
        told = zip(("name", "description", "version", "author", "license"), (0, 1, 2, 4, 5))
        facts = {name: root.text(slot) for name, slot in told}
        return FileDescription(facts, mean, std, tuple(end.text(0) for end in ends), labels, scores)
    except MetadataError:
        raise
    except Exception as error:  # a damaged file can make the readers of flatbuffers and zip raise nearly anything
        raise MetadataError("carries TFLite metadata that cannot be read") from error


def _metadata(file):
    model = _schema.Model.GetRootAsModel(file, 0)
    for i in range(model.MetadataLength()):
        if model.Metadata(i).Name() == b"TFLITE_METADATA":
            return model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy().tobytes()
    raise MetadataError("carries no TFLite metadata, which says what it takes and names its classes")


def _labels(file, ends):
    for i, end in enumerate(ends):
        for item in end.tables(6):
            if item.number(2) == _TENSOR_AXIS_LABELS:
                with zipfile.ZipFile(io.BytesIO(file)) as behind:
                    return i, tuple(behind.read(item.text(0)).decode("utf-8").split("\n")[:-1])
    if any(end.text(0) == "probabilities" for end in ends):
        raise MetadataError("names no classes")
    return 0, ()  # numbers, which have none
