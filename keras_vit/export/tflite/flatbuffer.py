"""Reads and changes a TFLite file: its fully connected layers and its constants."""

from __future__ import annotations

import collections
import copy
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

from keras_vit import _compat

_schema: Any = _compat.tflite_schema()


@dataclasses.dataclass(frozen=True)
class FullyConnected:
    """A FULLY_CONNECTED operator with constant weights.

    Args:
        layer: path of the Keras layer.
        position: of the operator in the graph.
        input, output: numbers of its tensors.
        name: of the output tensor.
        before_gelu: whether a GELU alone reads the output.
    """

    layer: str
    position: int
    input: int
    output: int
    name: str
    before_gelu: bool


def fully_connected_layers(model: Any) -> list[FullyConnected]:
    """Returns the fully connected layers of a flatbuffer's model, in its order."""
    operators = _schema.BuiltinOperator
    graph = model.subgraphs[0]
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    gelus = {graph.operators[i].inputs[0] for i, kind in enumerate(kinds) if kind == operators.GELU}
    readers = collections.Counter(index for operator in graph.operators for index in operator.inputs)
    layers = []
    for position, (kind, operator) in enumerate(zip(kinds, graph.operators)):
        if kind == operators.FULLY_CONNECTED and _has_constant(model, graph.tensors[operator.inputs[1]]):
            source, (output,) = operator.inputs[0], operator.outputs
            names = [graph.tensors[index].name.decode() for index in (output, *operator.inputs[1:]) if index >= 0]
            before_gelu = output in gelus and readers[output] == 1
            layers.append(FullyConnected(_layer(names), position, source, output, names[0], before_gelu))
    return layers


def _layer(names: Sequence[str]) -> str:
    """Returns the path of an operator's Keras layer: the converter's names without operators and counts."""
    for name in names:
        parts = [re.sub(r"_\d$", "", part) for part in name.split(";")[0].split("/")]
        path = "/".join(part for part in parts if part[:1].islower())
        if match := re.search(r"(^|/)((block_\d|encoder|pre_logits|projection|head|pooling).*)", path):
            return match[2]
    return names[0].split(";")[0]


def _has_constant(model: Any, tensor: Any) -> bool:
    return model.buffers[tensor.buffer].data is not None


def constant(model: Any, tensor: Any) -> np.ndarray:
    """Returns the float32 values of a constant tensor."""
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), "float32")
    return values.reshape(() if tensor.shape is None else tensor.shape)


def uses_of(model: Any) -> collections.Counter[int]:
    """Counts the operator inputs that read each buffer: the converter keeps one copy of equal constants."""
    graph = model.subgraphs[0]
    indices = (index for operator in graph.operators for index in operator.inputs if index >= 0)
    return collections.Counter(graph.tensors[index].buffer for index in indices)


def own_constant(model: Any, uses: collections.Counter[int], operator: Any, place: int) -> Any:
    """Returns the constant tensor at an operator's input, copied first if other operators read it too."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[operator.inputs[place]]
    if uses[tensor.buffer] > 1:
        uses[tensor.buffer] -= 1
        buffer, tensor = copy.copy(model.buffers[tensor.buffer]), copy.copy(tensor)
        tensor.buffer, tensor.name = len(model.buffers), tensor.name + b"/%d" % len(graph.tensors)
        operator.inputs[place] = len(graph.tensors)
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
        uses[tensor.buffer] = 1
    return tensor


def set_constant(model: Any, tensor: Any, values: np.ndarray) -> None:
    """Replaces the float32 values of a constant tensor, and its shape."""
    tensor.shape = np.array(values.shape, np.int32)
    model.buffers[tensor.buffer].data = np.ascontiguousarray(values, "float32").reshape(-1).view("uint8")


def operator_code(model: Any, kind: int, version: int = 1) -> int:
    """Returns the number of an operator code of a version, which is added if the file has none."""
    codes = [(code.builtinCode, code.version) for code in model.operatorCodes]
    if (kind, version) not in codes:
        code = _schema.OperatorCodeT()
        # The older of the two fields has 7 bits.
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), version
        model.operatorCodes.append(code)
        codes.append((kind, version))
    return codes.index((kind, version))


def drop_unused_tensors(model: Any) -> None:
    """Removes the tensors of a model of one graph that no operator uses, in place."""
    (graph,) = model.subgraphs
    ends = [*map(int, graph.inputs), *map(int, graph.outputs)]
    used = {*ends, *(int(i) for one in graph.operators for i in (*one.inputs, *one.outputs) if i >= 0)}
    numbers = {old: new for new, old in enumerate(sorted(used))} | {-1: -1}
    graph.tensors = [graph.tensors[index] for index in sorted(used)]
    for holder in (graph, *graph.operators):
        holder.inputs, holder.outputs = ([numbers[i] for i in ends] for ends in (holder.inputs, holder.outputs))
    for signature in model.signatureDefs or ():
        for item in (*signature.inputs, *signature.outputs):
            item.tensorIndex = numbers[item.tensorIndex]


def packed(model: Any) -> bytes:
    """Returns a `ModelT` as a TFLite file, without the buffers that nothing uses, which go from the model, too."""
    holders = [*(tensor for graph in model.subgraphs for tensor in graph.tensors), *(model.metadata or ())]
    used = sorted({0, *(holder.buffer for holder in holders)})
    places = {old: new for new, old in enumerate(used)}
    for holder in holders:
        holder.buffer = places[holder.buffer]
    model.buffers = [_AlignedBuffer.of(model.buffers[index].data) for index in used]
    size = sum(0 if buffer.data is None else len(buffer.data) for buffer in model.buffers)
    builder = flatbuffers.Builder(size + size // 64 + 2**20)  # a builder that grows copies all that it holds
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


class _AlignedBuffer(_schema.BufferT):
    """A buffer with its data at a multiple of 16 bytes, which the schema demands and the generated code neglects."""

    @classmethod
    def of(cls, data: np.ndarray | None) -> _AlignedBuffer:
        buffer = cls()
        buffer.data = data
        return buffer

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = None
        if self.data is not None and len(self.data):
            builder.StartVector(1, len(self.data), 16)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = np.ascontiguousarray(self.data).data
            data = builder.EndVector()
        _schema.BufferStart(builder)
        if data is not None:
            _schema.BufferAddData(builder, data)
        return _schema.BufferEnd(builder)
