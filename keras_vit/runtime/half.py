"""Rewrites a .tflite file so that the CPU computes it as a GPU does in half precision.

    from keras_vit.runtime.half import in_half_precision
    pathlib.Path("half.tflite").write_bytes(in_half_precision(pathlib.Path("model.tflite").read_bytes()))

A GPU delegate stores every tensor in float16 by default, whatever the file says: what passes 65,504 becomes infinite,
and an infinite sum of squares turns a layer norm into zeros. The rewritten file rounds every tensor to float16 and
back, so that LiteRT on any computer gives the numbers of such a GPU, but for the order of its sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_vit import _compat

_schema: Any = _compat.tflite_schema()
_KINDS, _TYPES = _schema.BuiltinOperator, _schema.TensorType
_FEW_BITS = (_TYPES.INT8, _TYPES.INT4)


def in_half_precision(file: bytes) -> bytes:
    """Returns a .tflite file that computes another one in float16.

    Every float32 tensor is rounded to float16 where it is computed, and so are inputs and constants. Sums inside an
    operator, of a matrix product or a mean, are in float32 and rounded once: the delegate's means are so, its products
    at least in part. Weights of 8 and 4 bits beside float32 activations are restored to float16, as a GPU does before
    it starts.

    Args:
        file: bytes of the file.

    Raises:
        ValueError: if it is not a .tflite file.

    Source: `CalculationsPrecision::F16` in tensorflow/lite/delegates/gpu/common/precision.h, and of means
    `Reduce::GetReduceKernelCode` in tensorflow/lite/delegates/gpu/common/tasks/reduce.cc.
    """
    if file[4:8] != b"TFL3":
        raise ValueError("Expected a .tflite file. Received: bytes that do not begin as one")
    model = _compat.read_flatbuffer(file)
    for graph in model.subgraphs:
        _Rewriter(model, graph).run()
    return _compat.write_flatbuffer(model)


class _Rewriter:
    """Rewrites one graph of a file, in place."""

    def __init__(self, model: Any, graph: Any):
        self.model, self.graph = model, graph
        self.operators: list[Any] = []
        code = _schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = _KINDS.CAST, _KINDS.CAST, 1
        self.cast_code = len(model.operatorCodes)
        model.operatorCodes.append(code)
        self.rounded: dict[int, int] = {}  # number of a float32 tensor, and of the same in float16's values

    def run(self) -> None:
        constants = {index for index in range(len(self.graph.tensors)) if self._is_constant(index)}
        for index in map(int, self.graph.inputs):
            self._round(index)
        for operator in self.graph.operators or ():
            kind = self._kind(operator)
            operator.inputs = [self.rounded.get(int(index), int(index)) for index in operator.inputs]
            if self._type(operator.outputs[0]) == _TYPES.FLOAT32 and kind != _KINDS.DEQUANTIZE:
                for index in constants & {*operator.inputs}:
                    self._round_constant(index)
            self.operators.append(operator)
            for index in map(int, operator.outputs):
                self._round(index)
        self.graph.operators = self.operators
        self.graph.outputs = [self.rounded.get(int(index), int(index)) for index in self.graph.outputs]
        signatures = self.model.signatureDefs or ()
        for signature in [one for one in signatures if self.model.subgraphs[one.subgraphIndex] is self.graph]:
            for item in signature.outputs:
                item.tensorIndex = self.rounded.get(item.tensorIndex, item.tensorIndex)

    def _round(self, index: int) -> None:
        """Adds the operators that round a computed tensor to float16 and back, once."""
        tensor = self.graph.tensors[index]
        if tensor.type != _TYPES.FLOAT32 or index in self.rounded or self._is_constant(index):
            return
        half, back = self._tensor(tensor.shape, _TYPES.FLOAT16), self._tensor(tensor.shape, _TYPES.FLOAT32)
        self._cast(index, half)
        self._cast(half, back)
        self.rounded[index] = back

    def _round_constant(self, index: int) -> None:
        tensor = self.graph.tensors[index]
        data = np.asarray(self.model.buffers[tensor.buffer].data, np.uint8)
        if tensor.type == _TYPES.FLOAT32:
            values = data.view("<f4")
        elif tensor.type in _FEW_BITS and tensor.quantization is not None and tensor.quantization.scale is not None:
            values = _restored(tensor, data.view(np.int8)).reshape(-1)
            tensor.type, tensor.quantization = _TYPES.FLOAT32, None
        else:
            return
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16).astype("<f4")
        tensor.buffer = self._buffer(halves)

    def _is_constant(self, index: int) -> bool:
        data = self.model.buffers[self.graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def _type(self, index: int) -> int:
        return self.graph.tensors[index].type

    def _kind(self, operator: Any) -> int:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode)

    def _cast(self, start: int, end: int) -> None:
        operator, options = _schema.OperatorT(), _schema.CastOptionsT()
        options.inDataType, options.outDataType = self._type(start), self._type(end)
        operator.opcodeIndex, operator.inputs, operator.outputs = self.cast_code, [start], [end]
        operator.builtinOptionsType, operator.builtinOptions = _schema.BuiltinOptions.CastOptions, options
        self.operators.append(operator)

    def _tensor(self, shape: Any, kind: int) -> int:
        tensor = _schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = shape, kind, 0
        tensor.name = b"half/%d" % len(self.graph.tensors)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _buffer(self, values: np.ndarray) -> int:
        buffer = _schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1


def _restored(tensor: Any, stored: np.ndarray) -> np.ndarray:
    """Returns the values of weights of few bits. Two of 4 bits share a byte, the first in its low half."""
    if tensor.type == _TYPES.INT4:
        pairs = stored.view(np.uint8)
        halves = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(-1)[: math.prod(tensor.shape)]
        stored = (halves.astype(np.int8) ^ 8) - 8
    values = stored.reshape(tensor.shape).astype(np.float32)
    scales, zeros = (
        np.asarray(part, np.float32) for part in (tensor.quantization.scale, tensor.quantization.zeroPoint)
    )
    axis = [1] * values.ndim
    if len(scales) > 1:
        axis[tensor.quantization.quantizedDimension] = len(scales)
    return (values - zeros.reshape(axis)) * scales.reshape(axis)
