"""Writes into a TFLite file what a client has to know of it: TFLite metadata, and the labels."""

import io
import zipfile

import flatbuffers
import numpy as np

from keras_vit import _compat
from keras_vit.export.tflite.ranks import keep_batch_axis

_schema = _compat.tflite_schema()

LABELS = "labels.txt"
INPUT = "images"
METADATA = b"TFLITE_METADATA"

# From the schema of TFLite metadata, metadata_schema.fbs; the slots of its tables are the order of the fields below.
IDENTIFIER = b"M001"
IMAGE_PROPERTIES, FEATURE_PROPERTIES = 2, 1  # ContentProperties
RGB = 1  # ColorSpaceType
NORMALIZATION = 1  # ProcessUnitOptions
TENSOR_AXIS_LABELS = 2  # AssociatedFileType

DESCRIPTIONS = {
    "probabilities": "how sure the model is of each class, in the order of labels.txt",
    "features": "what the head reads: a vector to compare images by",
    "rollout": "attention rollout, (rows, columns) of patches: how much of each reaches what the head reads",
}


def add_metadata(model, class_names, *, image_size, facts, input_type, mean, std, outputs):
    """Returns a TFLite model with TFLite metadata and its labels inside, the outputs in the order given.

    Tokens get their batch axis back as well, without which a GPU fails (see `keep_batch_axis`).

    Args:
        model: bytes of a TFLite file with one signature.
        class_names: in the order of the probabilities; () where the outputs are numbers: then no labels and no range
            of scores stand in the file.
        image_size: (rows, columns) of the images it takes, pixels.
        facts: {"name", "description", "version", "author", "license"}.
        input_type: "uint8", "float32" (pixels of 0 to 255 both), or "scaled".
        mean, std: (3,) parts of 255; what a client of a "scaled" file subtracts and divides by.
        outputs: names of the signature's outputs.

    Source: metadata_schema.fbs of TensorFlow's TFLite support library.
    """
    parsed = _schema.ModelT.InitFromPackedBuf(model, 0)
    for buffer in parsed.buffers:
        if buffer.offset > 1:  # ai-edge-quantizer puts a large file's constants behind the flatbuffer
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
    keep_batch_axis(parsed)
    _name_tensors(parsed, outputs)
    _say_scale(parsed.subgraphs[0])
    metadata = _Metadata().write(image_size, facts, input_type, mean, std, outputs)
    parsed.buffers.append(_buffer(np.frombuffer(metadata, np.uint8)))
    note = _schema.MetadataT()
    note.name, note.buffer = METADATA, len(parsed.buffers) - 1
    parsed.metadata = [*(item for item in parsed.metadata or () if item.name != METADATA), note]
    parsed.buffers = [_buffer(buffer.data) for buffer in parsed.buffers]
    builder = flatbuffers.Builder(len(model) + len(metadata) + 2**16)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    file = io.BytesIO()
    file.write(builder.Output())
    # The labels are a stored zip member behind the model: no copy of it is made on the phone.
    if class_names:
        with zipfile.ZipFile(file, "a") as behind:
            # A fixed date: the same model gives the same bytes.
            behind.writestr(zipfile.ZipInfo(LABELS), "".join(f"{name}\n" for name in class_names))
    return file.getvalue()


def _name_tensors(model, outputs):
    """Names input and outputs as the signature does, and puts the outputs into the order asked for."""
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    (entry,), ends = signature.inputs, {item.name.decode(): item.tensorIndex for item in signature.outputs}
    graph.tensors[entry.tensorIndex].name = entry.name = INPUT.encode()
    if list(ends) != list(outputs):
        # A signature of one output or of an unnamed model; names come in the order of the tensors then.
        ends = dict(zip(outputs, ends.values())) if len(outputs) == 1 else ends
    for name in outputs:
        graph.tensors[ends[name]].name = name.encode()
    graph.outputs = [ends[name] for name in outputs]
    for item in signature.outputs:
        item.name = next(name for name, tensor in ends.items() if tensor == item.tensorIndex).encode()


def _say_scale(graph):
    """Says of a uint8 output that 255 is a probability of 1: clients divide by it."""
    for tensor in (graph.tensors[index] for index in graph.outputs):
        if tensor.type == _schema.TensorType.UINT8:
            tensor.quantization = _schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([1 / 255], np.float32)
            tensor.quantization.zeroPoint = np.array([0], np.int64)


class _AlignedBuffer(_schema.BufferT):
    """Writes its data at a multiple of 16 bytes, as the schema demands and the generated code forgets."""

    def Pack(self, builder):
        data = None
        if self.data is not None and len(self.data):
            builder.StartVector(1, len(self.data), 16)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = memoryview(np.ascontiguousarray(self.data))
            data = builder.EndVector()
        _schema.BufferStart(builder)
        if data is not None:
            _schema.BufferAddData(builder, data)
        return _schema.BufferEnd(builder)


def _buffer(data):
    buffer = _AlignedBuffer()
    buffer.data = data
    return buffer


class _Metadata:
    """Builds the metadata's own flatbuffer."""

    def __init__(self):
        self.builder = flatbuffers.Builder(1024)

    def write(self, image_size, facts, input_type, mean, std, outputs):
        """Returns the bytes; for the arguments see `add_metadata`."""
        rows, columns = image_size
        scales = input_type == "scaled"
        # For clients, the numbers are in grey levels. A file of pixels is not scaled, which a float input has to say.
        mean, std = ((255 * np.array(value) if scales else np.full(3, plain)) for value, plain in ((mean, 0), (std, 1)))
        least, most = ((level - mean) / std for level in (0.0, 255.0))
        normalization = self._table(self._floats(mean), self._floats(std))
        content = self._table(("Int8", RGB), self._table(("Uint32", columns), ("Uint32", rows)))
        entry = self._table(
            self._text(INPUT),
            self._text(f"an upright image, RGB, {rows} rows of {columns} pixels"),
            None,
            self._table(("Uint8", IMAGE_PROPERTIES), content),
            self._tables(self._table(("Uint8", NORMALIZATION), normalization)) if input_type != "uint8" else None,
            self._table(self._floats(most), self._floats(least)),
        )
        ends = [self._output(name) for name in outputs]
        graph = self._table(None, None, self._tables(entry), self._tables(*ends))
        names = ("name", "description", "version")
        told = [self._text(facts[name]) for name in names]
        about = [self._text(facts["author"]), self._text(facts["license"])]
        root = self._table(*told, self._tables(graph), *about, None, self._text("1.0.0"))
        self.builder.Finish(root, IDENTIFIER)
        return bytes(self.builder.Output())

    def _output(self, name):
        labels = stats = None
        if name == "probabilities":
            what = self._text("the classes, in order")
            labels = self._tables(self._table(self._text(LABELS), what, ("Int8", TENSOR_AXIS_LABELS)))
            stats = self._table(self._floats([1.0]), self._floats([0.0]))
        content = self._table(("Uint8", FEATURE_PROPERTIES), self._table())
        return self._table(
            self._text(name),
            self._text(DESCRIPTIONS.get(name, "numbers of the model, as they are")),
            None,
            content,
            None,
            stats,
            labels,
        )

    def _text(self, words):
        return self.builder.CreateString(words)

    def _floats(self, values):
        return self.builder.CreateNumpyVector(np.asarray(values, np.float32))

    def _tables(self, *offsets):
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def _table(self, *fields):
        """Returns the offset of a table; a field is an offset, (type, number), or None for one left out."""
        self.builder.StartObject(len(fields))
        for slot, field in enumerate(fields):
            if isinstance(field, tuple):
                kind, number = field
                getattr(self.builder, f"Prepend{kind}Slot")(slot, number, 0)
            elif field is not None:
                self.builder.PrependUOffsetTRelativeSlot(slot, field, 0)
        return self.builder.EndObject()
