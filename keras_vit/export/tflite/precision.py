"""Stores the weights of a TFLite file in 8 or 16 bits, each rounded to the nearest, without images.

As TensorFlow's converter does, but after the operators have got their last form (see `simplification`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_vit import _compat
from keras_vit.export.tflite.flatbuffer import constant, operator_code

_schema = _compat.tflite_schema()
_OPERATORS, _TYPES = _schema.BuiltinOperator, _schema.TensorType

MIN_WEIGHTS = 1024  # of a layer whose weights are stored in 8 bits
# Operators that read weights of 8 bits: the weights' axis of outputs, and the first version with a scale for each.
EIGHT_BITS = {_OPERATORS.FULLY_CONNECTED: (0, 12), _OPERATORS.CONV_2D: (0, 5), _OPERATORS.DEPTHWISE_CONV_2D: (3, 6)}


def store_in_8_bits(model: Any) -> None:
    """Stores the weights of dense and convolutional layers in 8 bits, with a scale for each output, in place.

    The operators round their inputs to 8 bits, too, anew for each image.
    """
    (graph,) = model.subgraphs
    for index, readers in _readers(graph).items():
        tensor = graph.tensors[index]
        codes = {operator.opcodeIndex for operator, _ in readers}
        kinds = {model.operatorCodes[code].builtinCode for code in codes}
        if not _is_float_constant(model, tensor) or {place for _, place in readers} != {1} or len(kinds) > 1:
            continue
        (kind,) = kinds
        weights = constant(model, tensor)
        if kind not in EIGHT_BITS or weights.size < MIN_WEIGHTS:
            continue
        axis, version = EIGHT_BITS[kind]
        largest = abs(weights).max(tuple(other for other in range(weights.ndim) if other != axis), keepdims=True)
        scales = np.where(largest > 0, largest / 127, 1).astype("float32")
        _replace(model, tensor, np.rint(weights / scales).astype("int8"), _TYPES.INT8)
        tensor.quantization = _schema.QuantizationParametersT()
        tensor.quantization.scale = scales.reshape(-1)
        tensor.quantization.zeroPoint = np.zeros(scales.size, np.int64)
        tensor.quantization.quantizedDimension = axis
        for operator, _ in readers:
            code = model.operatorCodes[operator.opcodeIndex]
            code.version = max(code.version, version)
            if kind == _OPERATORS.FULLY_CONNECTED:
                operator.builtinOptions.asymmetricQuantizeInputs = True


def store_in_16_bits(model: Any) -> None:
    """Stores all constants in float16, each in front of a DEQUANTIZE, in place; a GPU leaves that out."""
    (graph,) = model.subgraphs
    code = operator_code(model, _OPERATORS.DEQUANTIZE, 3)
    restoring = []
    for index in _readers(graph):
        tensor = graph.tensors[index]
        if not _is_float_constant(model, tensor):
            continue
        stored, operator = _schema.TensorT(), _schema.OperatorT()
        stored.shape, stored.name, stored.buffer = tensor.shape, tensor.name + b"/float16", tensor.buffer
        stored.hasRank = True
        with np.errstate(over="ignore"):
            _replace(model, stored, constant(model, tensor).astype("float16"), _TYPES.FLOAT16)
        tensor.buffer = 0
        operator.opcodeIndex = code
        operator.inputs, operator.outputs = [len(graph.tensors)], [index]
        graph.tensors.append(stored)
        restoring.append(operator)
    graph.operators = restoring + list(graph.operators)


def _readers(graph: Any) -> dict[int, list[tuple[Any, int]]]:
    """Returns {tensor: [(operator, which of its inputs the tensor is)]}."""
    readers: dict[int, list[tuple[Any, int]]] = {}
    for operator in graph.operators:
        for place, index in enumerate(operator.inputs):
            readers.setdefault(int(index), []).append((operator, place))
    readers.pop(-1, None)  # an input that is left out
    return readers


def _is_float_constant(model: Any, tensor: Any) -> bool:
    return tensor.type == _TYPES.FLOAT32 and model.buffers[tensor.buffer].data is not None


def _replace(model: Any, tensor: Any, values: np.ndarray, kind: int) -> None:
    """Gives a tensor a buffer of its own, as another tensor may share the one that it has."""
    tensor.type, tensor.buffer = kind, len(model.buffers)
    model.buffers.append(_schema.BufferT())
    model.buffers[-1].data = np.ascontiguousarray(values).reshape(-1).view("uint8")
