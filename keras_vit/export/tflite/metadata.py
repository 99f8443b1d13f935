"""Writes TFLite metadata and labels into a TFLite file, which MediaPipe and ML Kit read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

from keras_vit import _compat
from keras_vit.export.checksum import COMMENT, with_checksum
from keras_vit.export.targets import image_kind
from keras_vit.export.tflite.batch_axis import keep_batch_axis, match_axes
from keras_vit.export.tflite.flatbuffer import packed

_schema: Any = _compat.tflite_schema()

LABELS, THRESHOLDS = "labels.txt", "thresholds.txt"
INPUT = "images"
METADATA = b"TFLITE_METADATA"

# From the schema of TFLite metadata, metadata_schema.fbs. Fields below are in the order of the slots of its tables.
IDENTIFIER = b"M001"
IMAGE_PROPERTIES, FEATURE_PROPERTIES = 2, 1  # ContentProperties
COLOUR_SPACES = {1: 2, 3: 1}  # channels -> ColorSpaceType, grey and RGB; 0 is unknown
NORMALIZATION = 1  # ProcessUnitOptions
DESCRIPTIONS_FILE, TENSOR_AXIS_LABELS = 1, 2  # AssociatedFileType

DESCRIPTIONS = {
    "probabilities": "the probability of each class, in the order of labels.txt",
    "features": "the input of the model's head: a vector to compare images by",
    "rollout": "attention rollout, (rows, columns) of patches: how much each contributes to the features",
    "known": "the highest probability minus a threshold: below 0, the image is none of the classes",
}

INDEPENDENT = (
    "the score of each label on its own, 0 to 1, in the order of labels.txt; an image has each label whose score is at "
    "least that in thresholds.txt"
)


def add_metadata(
    model: bytes,
    class_names: Sequence[str],
    *,
    image_size: tuple[int, int],
    channels: int = 3,
    facts: Mapping[str, str],
    input_type: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    outputs: Sequence[str],
    thresholds: Sequence[float] = (),
) -> bytes:
    """Returns the bytes of a TFLite file with TFLite metadata, labels and its SHA-256 inside, and its outputs in order.

    Tokens get their batch axis back, too; without it a GPU fails (see `keep_batch_axis`).

    Args:
        model: bytes of a TFLite file with one signature.
        class_names: in the order of the probabilities; () where the outputs are numbers: then the file has no labels
            and no range of scores.
        image_size: (height, width) of the input images, pixels.
        channels: of the input images.
        facts: {"name", "description", "version", "author", "license"}.
        input_type: "uint8", "float32" (pixels of 0 to 255 both), or "scaled".
        mean, std: (channels,) parts of 255, by which a client of a "scaled" file scales.
        outputs: names of the signature's outputs, in order.
        thresholds: of independent labels, the least score of each that an image has; () where the classes exclude each
            other.

    Source: metadata_schema.fbs of TensorFlow's TFLite support library.
    """
    parsed = _schema.ModelT.InitFromPackedBuf(model, 0)
    for buffer in parsed.buffers:
        if buffer.offset > 1:  # ai-edge-quantizer puts a large file's constants behind the flatbuffer
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
    keep_batch_axis(parsed)
    match_axes(parsed)
    _name_tensors(parsed, outputs)
    _declare_scale(parsed.subgraphs[0])
    metadata = _Metadata().write(image_size, channels, facts, input_type, mean, std, outputs, bool(thresholds))
    parsed.buffers.append(_schema.BufferT())
    parsed.buffers[-1].data = np.frombuffer(metadata, np.uint8)
    note = _schema.MetadataT()
    note.name, note.buffer = METADATA, len(parsed.buffers) - 1
    parsed.metadata = [*(item for item in parsed.metadata or () if item.name != METADATA), note]
    file = io.BytesIO()
    file.write(packed(parsed))
    with zipfile.ZipFile(file, "a") as behind:
        # The labels are an uncompressed zip member behind the model, which a phone reads without a copy of the file.
        if class_names:
            # ZipInfo has a fixed date: the same model always has the same bytes.
            behind.writestr(zipfile.ZipInfo(LABELS), "".join(f"{name}\n" for name in class_names))
        if thresholds:
            behind.writestr(zipfile.ZipInfo(THRESHOLDS), "".join(f"{threshold:.9g}\n" for threshold in thresholds))
        behind.comment = COMMENT
    return with_checksum(file.getbuffer())


def _name_tensors(model: Any, outputs: Sequence[str]) -> None:
    """Names input and outputs as in the signature, and puts the outputs into order."""
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    (entry,), ends = signature.inputs, {item.name.decode(): item.tensorIndex for item in signature.outputs}
    graph.tensors[entry.tensorIndex].name = entry.name = INPUT.encode()
    if list(ends) != list(outputs):
        # A signature with one output, or of a model without names: the names are in the order of the tensors.
        ends = dict(zip(outputs, ends.values())) if len(outputs) == 1 else ends
    for name in outputs:
        graph.tensors[ends[name]].name = name.encode()
    graph.outputs = [ends[name] for name in outputs]
    for item in signature.outputs:
        item.name = next(name for name, tensor in ends.items() if tensor == item.tensorIndex).encode()


def _declare_scale(graph: Any) -> None:
    """Declares that 255 of a uint8 output is a probability of 1: clients divide by it."""
    for tensor in (graph.tensors[index] for index in graph.outputs):
        if tensor.type == _schema.TensorType.UINT8:
            tensor.quantization = _schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([1 / 255], np.float32)
            tensor.quantization.zeroPoint = np.array([0], np.int64)


class _Metadata:
    """Builds the metadata's own flatbuffer."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def write(
        self,
        image_size: tuple[int, int],
        channels: int,
        facts: Mapping[str, str],
        input_type: str,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        outputs: Sequence[str],
        has_thresholds: bool,
    ) -> bytes:
        """Returns the bytes; for the arguments see `add_metadata`."""
        height, width = image_size
        # In grey levels for clients. A file of pixels is not scaled, which has to be declared for a float input.
        levels = [np.zeros(channels), np.ones(channels)]
        if input_type == "scaled":
            levels = [255 * np.array(mean), 255 * np.array(std)]
        least, most = ((level - levels[0]) / levels[1] for level in (0.0, 255.0))
        normalization = self._table(*map(self._floats, levels))
        content = self._table(
            ("Int8", COLOUR_SPACES.get(channels, 0)), self._table(("Uint32", width), ("Uint32", height))
        )
        entry = self._table(
            self._text(INPUT),
            self._text(f"an upright {image_kind(channels)} image, height {height} and width {width} pixels"),
            None,
            self._table(("Uint8", IMAGE_PROPERTIES), content),
            self._tables(self._table(("Uint8", NORMALIZATION), normalization)) if input_type != "uint8" else None,
            self._table(self._floats(most), self._floats(least)),
        )
        ends = [self._output(name, has_thresholds) for name in outputs]
        graph = self._table(None, None, self._tables(entry), self._tables(*ends))
        before = [self._text(facts[name]) for name in ("name", "description", "version")]
        after = [self._text(facts[name]) for name in ("author", "license")]
        root = self._table(*before, self._tables(graph), *after, None, self._text("1.0.0"))
        self.builder.Finish(root, IDENTIFIER)
        return bytes(self.builder.Output())

    def _output(self, name: str, has_thresholds: bool) -> int:
        labels = stats = None
        text = DESCRIPTIONS.get(name, "numbers, as the model returns them")
        if name == "probabilities":
            files = [(LABELS, "the classes, in order", TENSOR_AXIS_LABELS)]
            if has_thresholds:
                text = INDEPENDENT
                files.append((THRESHOLDS, "the least score of each label that an image has", DESCRIPTIONS_FILE))
            labels = self._tables(
                *(self._table(self._text(file), self._text(of), ("Int8", kind)) for file, of, kind in files)
            )
            stats = self._table(self._floats([1.0]), self._floats([0.0]))
        content = self._table(("Uint8", FEATURE_PROPERTIES), self._table())
        return self._table(
            self._text(name),
            self._text(text),
            None,
            content,
            None,
            stats,
            labels,
        )

    def _text(self, text: str) -> int:
        return self.builder.CreateString(text)

    def _floats(self, values: Any) -> int:
        return self.builder.CreateNumpyVector(np.asarray(values, np.float32))

    def _tables(self, *offsets: int) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def _table(self, *fields: int | tuple[str, int] | None) -> int:
        """Returns the offset of a table; a field is an offset, (type, number), or None if it is absent."""
        self.builder.StartObject(len(fields))
        for slot, field in enumerate(fields):
            if isinstance(field, tuple):
                kind, number = field
                getattr(self.builder, f"Prepend{kind}Slot")(slot, number, 0)
            elif field is not None:
                self.builder.PrependUOffsetTRelativeSlot(slot, field, 0)
        return self.builder.EndObject()
