"""Restores the batch axis of token tensors that the TFLite converter removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_vit import _compat
from keras_vit.export.tflite.flatbuffer import operator_code

_schema = _compat.tflite_schema()

OPERATORS = _schema.BuiltinOperator
_WEIGHTS = (_schema.TensorType.INT8, _schema.TensorType.INT4)
# Elementwise operators: their output has the shape of their inputs.
ELEMENTWISE = (OPERATORS.GELU, OPERATORS.ADD, OPERATORS.MUL)


def keep_batch_axis(model: Any) -> None:
    """Restores the batch axis of (tokens, hidden_size) tensors at layers with weights of 8 or 4 bits, in place.

    The converter folds the reshape in front of a fully connected layer into it, which reads (1, tokens, hidden_size)
    and returns (tokens, hidden_size). A GPU then reads tokens as images of a batch, and LiteRT.js 2.5.3 fails ("Unable
    to parse bc coord for BATCH axis"). Weights of 32 bits do not need this, and those of 16 must not have it: XNNPACK
    would not run their layers.

    Args:
        model: a `_schema.ModelT` of one graph and batch 1.
    """
    (graph,) = model.subgraphs
    computed = {index for operator in graph.operators for index in operator.outputs}
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]

    def without_batch_axis(indices: Iterable[int]) -> set[int]:
        return {
            i for i in indices if i in computed and len(graph.tensors[i].shape) == 2 and graph.tensors[i].shape[0] > 1
        }

    flat: set[int] = set()
    before: set[int] | None = None
    while flat != before:
        before = set(flat)
        for kind, operator in zip(kinds, graph.operators):
            ends = without_batch_axis((*operator.inputs, *operator.outputs))
            rounded = kind == OPERATORS.FULLY_CONNECTED and graph.tensors[operator.inputs[1]].type in _WEIGHTS
            if rounded or kind in ELEMENTWISE and ends & flat:
                flat |= ends
    for index in flat:
        tensor = graph.tensors[index]
        tensor.shape, tensor.shapeSignature = np.array([1, *tensor.shape], np.int32), None
    for kind, operator in zip(kinds, list(graph.operators)):
        shape = graph.tensors[operator.outputs[0]].shape
        if kind == OPERATORS.FULLY_CONNECTED and len(shape) == 3:
            operator.builtinOptions.keepNumDims = True
            if len(graph.tensors[operator.inputs[0]].shape) == 4:  # a feature map, whose pixels are the tokens
                _reshape_to_tokens(model, graph, operator)
        if kind == OPERATORS.RESHAPE and operator.outputs[0] in flat:
            operator.inputs = np.array([operator.inputs[0], _constant(model, graph, shape)], np.int32)
            operator.builtinOptions = None


def match_axes(model: Any) -> None:
    """Reshapes an input of sums and products to the axes of the other one, of the same size, in place.

    The converter adds (1, tokens, hidden_size) and (tokens, hidden_size), which LiteRT's GPU delegate leaves to the
    CPU.
    """
    (graph,) = model.subgraphs
    for operator in list(graph.operators):
        if model.operatorCodes[operator.opcodeIndex].builtinCode not in (OPERATORS.ADD, OPERATORS.MUL, OPERATORS.SUB):
            continue
        shapes = [[] if (shape := graph.tensors[i].shape) is None else [*map(int, shape)] for i in operator.inputs]
        lengths = [len(shape) for shape in shapes]
        if (
            len(shapes) == 2
            and lengths[0] != lengths[1]
            and min(lengths) > 1
            and np.prod(shapes[0]) == np.prod(shapes[1])
        ):
            short = lengths.index(min(lengths))
            _reshape_input(model, graph, operator, short, shapes[1 - short])


def _reshape_to_tokens(model: Any, graph: Any, operator: Any) -> None:
    """Inserts a reshape of (1, rows, columns, channels) to (1, tokens, channels) in front of an operator."""
    _, rows, columns, channels = graph.tensors[operator.inputs[0]].shape
    _reshape_input(model, graph, operator, 0, [1, rows * columns, channels])


def _reshape_input(model: Any, graph: Any, operator: Any, place: int, shape: Sequence[int]) -> None:
    """Inserts a reshape in front of an operator's input."""
    before = graph.tensors[operator.inputs[place]]
    after, reshape, index = _schema.TensorT(), _schema.OperatorT(), len(graph.tensors)
    after.shape, after.hasRank = np.array(shape, np.int32), True
    after.type, after.name, after.quantization = before.type, before.name + b"/%d" % index, before.quantization
    graph.tensors.append(after)
    reshape.opcodeIndex = operator_code(model, OPERATORS.RESHAPE)
    reshape.inputs = np.array([operator.inputs[place], _constant(model, graph, after.shape)], np.int32)
    reshape.outputs = np.array([index], np.int32)
    operator.inputs = np.array([index if i == place else one for i, one in enumerate(operator.inputs)], np.int32)
    graph.operators.insert(next(i for i, one in enumerate(graph.operators) if one is operator), reshape)


def _constant(model: Any, graph: Any, shape: Any) -> int:
    """Adds a constant shape to the graph, and returns its tensor's number."""
    buffer, tensor = _schema.BufferT(), _schema.TensorT()
    buffer.data = np.frombuffer(np.array(shape, np.int32).tobytes(), np.uint8)
    tensor.shape, tensor.type, tensor.buffer = (
        np.array([len(shape)], np.int32),
        _schema.TensorType.INT32,
        len(model.buffers),
    )
    tensor.name = b"shape"
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
