"""Counts the operators of a TFLite file, and names those that a GPU delegate does not support."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from typing import Any

from keras_vit import _compat

_schema = _compat.tflite_schema()

_NAMES = {code: name for name, code in vars(_schema.BuiltinOperator).items() if isinstance(code, int)}
_TYPES = {code: name for name, code in vars(_schema.TensorType).items() if isinstance(code, int)}
_BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "INT16": 2, "UINT8": 1, "INT8": 1, "INT4": 1, "BOOL": 1}  # others: 8

# Operators that LiteRT's WebGPU delegate ran (LiteRT.js 2.5.3), in ViTs, hybrids and BiTs.
GPU_OPERATORS = set(
    "ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE DIV EXP "
    "FULLY_CONNECTED GELU LOGISTIC MAX_POOL_2D MEAN MUL NEG PAD QUANTIZE RELU RESHAPE RESIZE_BILINEAR RSQRT "
    "SLICE SOFTMAX SPLIT SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE".split()
)


# TFLite's kernels count bytes in 32 bits.
_MAX_BYTES = 2**31
_MAX_PARTS = 1_000_000  # tensors of a file, which may be the same ones again and again


def refuse_huge(file: bytes) -> None:
    """Raises a ValueError for a TFLite file that states a tensor of 2 GiB or more, which would be reserved.

    Args:
        file: its bytes. Other exceptions may be raised where they are not a TFLite file.
    """
    model = _schema.Model.GetRootAsModel(file, 0)
    graphs = (model.Subgraphs(i) for i in range(model.SubgraphsLength()))
    tensors = (graph.Tensors(i) for graph in graphs for i in range(graph.TensorsLength()))
    for count, tensor in enumerate(tensors):
        shape = tensor.ShapeAsNumpy().tolist() if tensor.ShapeLength() else []
        size = math.prod(shape) * _BYTES.get(_TYPES.get(tensor.Type(), ""), 8)
        if min(shape, default=0) < 0 or size >= _MAX_BYTES or count >= _MAX_PARTS:
            raise ValueError(f"it has a tensor of shape {str(shape):.80}")


def count_operators(file: bytes) -> tuple[dict[str, int], list[str]]:
    """Returns {operator: count} of a TFLite file, and the operators that a GPU does not support, with the reason.

    Args:
        file: its bytes.
    """
    model = _schema.Model.GetRootAsModel(file, 0)
    counts: collections.Counter[str] = collections.Counter()
    unsupported: list[str] = []
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            code = model.OperatorCodes(operator.OpcodeIndex())
            # Codes above 127 do not fit the older of the two fields.
            name = _NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            name = f"{name} {code.CustomCode().decode()}" if name == "CUSTOM" else name
            counts[name] += 1
            unsupported += [f"{name}: {reason}" for reason in _reasons(name, operator, graph)]
    return dict(sorted(counts.items())), sorted(set(unsupported))


def _reasons(name: str, operator: Any, graph: Any) -> Iterator[str]:
    """Yields why a GPU delegate does not support an operator."""
    if name not in GPU_OPERATORS:
        yield "not among the operators of the delegate"
    if name == "STRIDED_SLICE":
        options = _schema.StridedSliceOptions()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        if options.ShrinkAxisMask():
            yield "drops an axis"
    ends = [*operator.InputsAsNumpy(), *operator.OutputsAsNumpy()]
    for tensor in (graph.Tensors(i) for i in ends if i >= 0):
        if tensor.ShapeLength() > 4:
            yield f"a tensor of {tensor.ShapeLength()} axes"
        if tensor.ShapeSignatureLength() and tensor.ShapeSignatureAsNumpy().min() < 0:
            yield "a tensor of unknown shape"
        if (kind := _TYPES[tensor.Type()]) in ("INT64", "FLOAT64", "STRING", "COMPLEX64", "COMPLEX128"):
            yield f"a tensor of {kind.lower()}"
