"""Reads and changes the products with weights of a TFLite file."""

import collections
import copy
import dataclasses
import re

import numpy as np

from keras_vit import _compat


@dataclasses.dataclass(frozen=True)
class Product:
    """Holds a FULLY_CONNECTED operator with constant weights: its layer's path, and its tensors' numbers and names."""

    layer: str
    position: int
    input: int
    output: int
    name: str
    before_gelu: bool


def products_of(model):
    """Returns the `Product`s of a flatbuffer's model, in its order."""
    kinds_of_operators = _compat.tflite_schema().BuiltinOperator
    graph = model.subgraphs[0]
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    gelus = {graph.operators[i].inputs[0] for i, kind in enumerate(kinds) if kind == kinds_of_operators.GELU}
    readers = collections.Counter(index for operator in graph.operators for index in operator.inputs)
    found = []
    for position, (kind, operator) in enumerate(zip(kinds, graph.operators)):
        if kind == kinds_of_operators.FULLY_CONNECTED and _has_constant(model, graph.tensors[operator.inputs[1]]):
            read, (given,) = operator.inputs[0], operator.outputs
            names = [graph.tensors[index].name.decode() for index in (given, *operator.inputs[1:]) if index >= 0]
            before_gelu = given in gelus and readers[given] == 1
            found.append(Product(_layer(names), position, read, given, names[0], before_gelu))
    return found


def _layer(names):
    """Returns the path of the layer that an operator comes from: the converter's names without operators and counts."""
    for name in names:
        parts = [re.sub(r"_\d$", "", part) for part in name.split(";")[0].split("/")]
        path = "/".join(part for part in parts if part[:1].islower())
        if found := re.search(r"(^|/)((block_\d|encoder|pre_logits|head|pooling).*)", path):
            return found[2]
    return names[0].split(";")[0]


def _has_constant(model, tensor):
    return model.buffers[tensor.buffer].data is not None


def constant(model, tensor):
    """Returns the float32 values of a constant tensor."""
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), "float32").reshape(tensor.shape)


def uses_of(model):
    """Returns how many operator inputs read each buffer: the converter keeps one copy of equal constants."""
    graph = model.subgraphs[0]
    indices = (index for operator in graph.operators for index in operator.inputs if index >= 0)
    return collections.Counter(graph.tensors[index].buffer for index in indices)


def own_constant(model, uses, operator, place):
    """Returns the constant that an operator reads as one that no other reads."""
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


def put(model, tensor, values):
    """Gives a constant tensor other float32 values."""
    model.buffers[tensor.buffer].data = np.frombuffer(values.astype("float32").tobytes(), "uint8")
