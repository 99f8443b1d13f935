"""Quantizes all operators of a TFLite file: weights of 8 bits and activations of 16, as the NPUs of phones compute."""

from __future__ import annotations

import collections
import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_vit import _compat
from keras_vit.export.tflite.flatbuffer import constant, drop_unused_tensors, operator_code, packed
from keras_vit.export.tflite.quantization import GELU_FLOOR, Calibrated, run_graph

logger = logging.getLogger("keras_vit")

_schema = _compat.tflite_schema()
_OPERATORS, _TYPES = _schema.BuiltinOperator, _schema.TensorType
_NAMES = {number: name for name, number in vars(_OPERATORS).items() if isinstance(number, int)}

# Operators whose output has the scale of their input, and those with one of their own: the first version of each that
# computes in 16 bits. All others stay in float32.
SAME_SCALE = {
    _OPERATORS.RESHAPE: 1,
    _OPERATORS.TRANSPOSE: 4,
    _OPERATORS.STRIDED_SLICE: 4,
    _OPERATORS.SLICE: 4,
    _OPERATORS.SPLIT: 4,
    _OPERATORS.PAD: 3,
    _OPERATORS.TILE: 3,
    _OPERATORS.MAX_POOL_2D: 3,
    _OPERATORS.AVERAGE_POOL_2D: 3,
    _OPERATORS.RESIZE_BILINEAR: 4,
}
OWN_SCALE = {
    _OPERATORS.FULLY_CONNECTED: 7,
    _OPERATORS.CONV_2D: 4,
    _OPERATORS.BATCH_MATMUL: 3,
    _OPERATORS.CONCATENATION: 3,
    _OPERATORS.ADD: 4,
    _OPERATORS.SUB: 5,
    _OPERATORS.MUL: 4,
    _OPERATORS.MEAN: 3,
    _OPERATORS.RSQRT: 3,
    _OPERATORS.GELU: 2,
    _OPERATORS.SOFTMAX: 3,
    _OPERATORS.TANH: 3,
    _OPERATORS.LOGISTIC: 3,
}
# Their kernels demand the scale of outputs from -1 to 1.
UNIT_OUTPUTS = (_OPERATORS.SOFTMAX, _OPERATORS.TANH, _OPERATORS.LOGISTIC)
# With weights of 8 bits, and a bias of this type.
_BIASES = {_OPERATORS.FULLY_CONNECTED: "int32", _OPERATORS.CONV_2D: "int64"}
# From the root of a variance back to the squares of differences.
_VARIANCE = (_OPERATORS.RSQRT, _OPERATORS.ADD, _OPERATORS.MEAN, _OPERATORS.RESHAPE, _OPERATORS.MUL)
# An RSQRT of 16 bits interpolates in a table: below this part of the largest input its error exceeds 0.4 %.
LEAST_RSQRT = 0.02
HEADROOM = 2  # of the calibrated ranges: other images exceed them, and one bit of 16 costs little


class _Kind(NamedTuple):
    """Type of an activation: real numbers are scale * (integers - zero)."""

    type: int
    scale: float = 0.0
    zero: int = 0


_FLOAT = _Kind(_TYPES.FLOAT32)
_PIXELS = _Kind(_TYPES.UINT8, 1.0)
_SHIFTED_PIXELS = _Kind(_TYPES.INT8, 1.0, -128)  # no kernel turns uint8 into int16


def in_integers(calibrated: Calibrated) -> bytes:
    """Returns the file with weights of 8 bits and activations of 16, in ranges that the calibration images set.

    Some operators stay in float32, between a DEQUANTIZE and a QUANTIZE: those without a kernel for integers, and the
    variance of a layer norm whose tokens differ too much for 16 bits, such as a small class token among patches. A line
    of the log counts them. 8 bits for activations would not do: those of the values alone change the probabilities of a
    ViT-S/14 twice as much as all activations of 16 bits (docs/benchmarks.md).

    Args:
        calibrated: the float32 file with its statistics.
    """
    model = copy.deepcopy(calibrated.model)
    ends: dict[str, Any] = {}
    for layer in calibrated.layers:
        ends |= calibrated.write_weights(model, layer, 8)
    _use_products(model)
    ranges = _ranges(packed(copy.deepcopy(model)), model, calibrated.images)
    for layer in calibrated.layers:
        if layer.before_gelu:
            ranges[layer.output] = max(ranges[layer.output][0], GELU_FLOOR), ranges[layer.output][1]
    quantized = _Quantized(model, ranges, {name: end["max"].reshape(-1) / 127 for name, end in ends.items()})
    quantized.rewrite()
    if in_float := collections.Counter(
        _NAMES[model.operatorCodes[one.opcodeIndex].builtinCode] for one in quantized.in_float
    ):
        kinds = ", ".join(f"{number} {name}" for name, number in sorted(in_float.items()))
        logger.info("of %d operators, these stay in float32: %s", len(model.subgraphs[0].operators), kinds)
    drop_unused_tensors(model)
    return packed(model)


def _use_products(model: Any) -> None:
    """Writes (x - y) * (x - y) for SQUARED_DIFFERENCE and -1 * x for NEG, in place.

    No kernel computes them in 16 bits. A layer norm has the difference already: its SUB moves to the front.
    """
    (graph,) = model.subgraphs
    operators = list(graph.operators)

    def of_kind(kind: int) -> list[Any]:
        return [one for one in operators if model.operatorCodes[one.opcodeIndex].builtinCode == kind]

    for squared in of_kind(_OPERATORS.SQUARED_DIFFERENCE):
        ends = [*map(int, squared.inputs)]
        found = (one for one in of_kind(_OPERATORS.SUB) if [*map(int, one.inputs)] == ends)
        difference = next(found, None)
        if difference is None:
            difference = _operator(model, _OPERATORS.SUB, ends, [_new_tensor(graph, squared.outputs[0])])
        else:
            operators.remove(difference)
        product = _operator(model, _OPERATORS.MUL, [difference.outputs[0]] * 2, squared.outputs)
        place = next(i for i, one in enumerate(operators) if one is squared)
        operators[place : place + 1] = [difference, product]
    for negative in of_kind(_OPERATORS.NEG):
        place = next(i for i, one in enumerate(operators) if one is negative)
        minus = _new_tensor(graph, negative.outputs[0])
        graph.tensors[minus].shape, graph.tensors[minus].buffer = np.array([1], np.int32), len(model.buffers)
        model.buffers.append(_schema.BufferT())
        model.buffers[-1].data = np.array([-1], "float32").view("uint8")
        operators[place] = _operator(model, _OPERATORS.MUL, [negative.inputs[0], minus], negative.outputs)
    graph.operators = operators


_OPTIONS = {_OPERATORS.SUB: "SubOptions", _OPERATORS.MUL: "MulOptions"}


def _operator(model: Any, kind: int, inputs: Sequence[int], outputs: Sequence[int], version: int = 1) -> Any:
    operator = _schema.OperatorT()
    operator.opcodeIndex = operator_code(model, kind, version)
    operator.inputs, operator.outputs = [*map(int, inputs)], [*map(int, outputs)]
    if kind in _OPTIONS:
        operator.builtinOptionsType = getattr(_schema.BuiltinOptions, _OPTIONS[kind])
        operator.builtinOptions = getattr(_schema, f"{_OPTIONS[kind]}T")()
    return operator


def _new_tensor(graph: Any, like: int) -> int:
    """Adds a tensor of the shape of another one, and returns its number."""
    tensor = copy.copy(graph.tensors[int(like)])
    tensor.name, tensor.buffer, tensor.quantization = tensor.name + b"/%d" % len(graph.tensors), 0, None
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _ranges(tflite: bytes, model: Any, images: Sequence[np.ndarray]) -> dict[int, tuple[float, float]]:
    """Returns {tensor: (least, largest value)} of all float32 activations over the images."""
    (graph,) = model.subgraphs
    computed = [int(index) for one in graph.operators for index in one.outputs]
    wanted = [i for i in (*map(int, graph.inputs), *computed) if graph.tensors[i].type == _TYPES.FLOAT32]
    ends = dict.fromkeys(wanted, (np.inf, -np.inf))
    for values in run_graph(tflite, images, wanted):
        for index, array in values.items():
            least, most = ends[index]
            ends[index] = min(least, float(array.min())), max(most, float(array.max()))
    return ends


class _Quantized:
    """Rewrites the operators of a `ModelT` of one graph in integers.

    Args:
        model: it; changed in place.
        ranges: {tensor: (least, largest value)} of its float32 activations.
        scales: {name of a tensor: (outputs,)} of weights that are rounded already; others are rounded here.
    """

    def __init__(self, model: Any, ranges: Mapping[int, tuple[float, float]], scales: Mapping[str, np.ndarray]) -> None:
        self.model, self.ranges, self.scales = model, ranges, scales
        (self.graph,) = model.subgraphs
        self.kinds: dict[int, _Kind] = {}  # of activations
        self.copies: dict[tuple[int, _Kind], int] = {}
        self.operators: list[Any] = []
        self.in_float: list[Any] = []  # operators

    def rewrite(self) -> None:
        for index in map(int, self.graph.inputs):
            self.set_kind(index, _PIXELS if self.graph.tensors[index].type == _TYPES.UINT8 else _FLOAT)
        too_fine = self.too_fine()
        for operator in self.graph.operators:
            self.rewrite_operator(operator, any(operator is one for one in too_fine))
        outputs = {index: self.as_kind(index, _FLOAT) for index in map(int, self.graph.outputs)}
        for signature in self.model.signatureDefs or ():
            for item in signature.outputs:
                item.tensorIndex = outputs[item.tensorIndex]
        self.graph.outputs, self.graph.operators = [*outputs.values()], self.operators

    def too_fine(self) -> list[Any]:
        """Returns the operators of variances, and of their roots, that 16 bits do not resolve."""
        writers = {int(one.outputs[0]): one for one in self.graph.operators}
        found = []
        for operator in self.graph.operators:
            if self.kind(operator) != _OPERATORS.RSQRT:
                continue
            least, most = self.ranges[int(operator.inputs[0])]
            while least < LEAST_RSQRT * HEADROOM * most and operator and self.kind(operator) in _VARIANCE:
                found.append(operator)
                is_square = self.kind(operator) == _OPERATORS.MUL
                operator = None if is_square else writers.get(int(operator.inputs[0]))
        return found

    def kind(self, operator: Any) -> int:
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode

    def rewrite_operator(self, operator: Any, in_float: bool) -> None:
        code = self.model.operatorCodes[operator.opcodeIndex]
        kind, inputs, outputs = code.builtinCode, [*map(int, operator.inputs)], [*map(int, operator.outputs)]
        if kind == _OPERATORS.CAST and self.kinds.get(inputs[0]) == _PIXELS:
            self.set_kind(outputs[0], self.calibrated(outputs[0]))
            shifted = self.as_kind(inputs[0], _SHIFTED_PIXELS)
            self.operators.append(_operator(self.model, _OPERATORS.QUANTIZE, [shifted], outputs, 2))
            return
        version, own = 1, _FLOAT
        if kind in SAME_SCALE and not in_float:
            version = SAME_SCALE[kind]
            place = next(place for place, index in enumerate(inputs) if index in self.kinds)
            own = self.kinds[inputs[place]]
            if own != _PIXELS:
                own = self.calibrated(inputs[place])
                inputs[place] = self.as_kind(inputs[place], own)
        elif kind in OWN_SCALE and not in_float:
            version = OWN_SCALE[kind]
            own = _Kind(_TYPES.INT16, 2.0**-15) if kind in UNIT_OUTPUTS else self.calibrated(outputs[0])
            for place, index in enumerate(inputs):
                if index >= 0 and not (kind == _OPERATORS.MEAN and place):  # the axes of a mean are no numbers
                    inputs[place] = self.as_input(kind, inputs, place, own)
            if hasattr(operator.builtinOptions, "potScaleInt16"):
                operator.builtinOptions.potScaleInt16 = False  # scales that are no powers of two
        else:
            inputs = [self.as_kind(index, _FLOAT) if index in self.kinds else index for index in inputs]
            self.in_float.append(operator)
        for index in outputs:
            self.set_kind(index, own)
        operator.inputs, operator.opcodeIndex = inputs, operator_code(self.model, kind, max(version, code.version))
        self.operators.append(operator)

    def as_input(self, kind: int, inputs: Sequence[int], place: int, output: _Kind) -> int:
        """Returns an input of an operator in integers."""
        index = inputs[place]
        if index in self.kinds:
            return self.as_kind(index, output if kind == _OPERATORS.CONCATENATION else self.calibrated(index))
        values = constant(self.model, self.graph.tensors[index])
        if kind in _BIASES and place == 1:
            most = abs(values).reshape(len(values), -1).max(1)
            scales = self.scales.get(self.graph.tensors[index].name.decode(), np.where(most > 0, most / 127, 1))
            of_rows = scales.reshape(-1, *[1] * (values.ndim - 1))
            return self.add_constant(index, values / of_rows, "int8", scales)
        if kind in _BIASES and place == 2:
            source, weights = (self.graph.tensors[inputs[i]].quantization.scale for i in (0, 1))
            scales = np.float64(source) * weights
            # LiteRT 2.3 reads biases of 32 bits as 64 in a convolution, and returns other numbers without an error.
            return self.add_constant(index, values / scales, _BIASES[kind], scales)
        scale = output.scale if kind == _OPERATORS.CONCATENATION else max(abs(values).max(), 1e-30) / 32767
        return self.add_constant(index, values / scale, "int16", [scale])

    def calibrated(self, index: int) -> _Kind:
        """Returns the type of an activation in 16 bits, with its calibrated range."""
        known = self.kinds.get(index)
        if known and known.type == _TYPES.INT16:
            return known
        largest = max(*map(abs, self.ranges.get(index, (0, 255))), 1e-30)  # pixels have no range of their own
        return _Kind(_TYPES.INT16, float(np.float32(largest * HEADROOM / 32767)))

    def set_kind(self, index: int, kind: _Kind) -> None:
        tensor, self.kinds[index] = self.graph.tensors[index], kind
        tensor.type = kind.type
        tensor.quantization = None if kind == _FLOAT else _quantization([kind.scale], kind.zero)

    def as_kind(self, index: int, kind: _Kind) -> int:
        """Returns an activation in another type, which a new operator converts it to."""
        if self.kinds[index] == kind:
            return index
        if (index, kind) not in self.copies:
            other = self.copies[index, kind] = _new_tensor(self.graph, index)
            self.set_kind(other, kind)
            converter = _OPERATORS.DEQUANTIZE if kind == _FLOAT else _OPERATORS.QUANTIZE
            self.operators.append(_operator(self.model, converter, [index], [other], 2))
        return self.copies[index, kind]

    def add_constant(self, like: int, whole: np.ndarray, dtype: str, scales: Any) -> int:
        """Adds a constant of integers, which are rounded, with the name of another tensor; returns its number."""
        index, buffer, limits = _new_tensor(self.graph, like), _schema.BufferT(), np.iinfo(dtype)
        values = np.clip(np.rint(whole), -min(limits.max, 2**53), min(limits.max, 2**53)).astype(dtype)
        buffer.data = np.ascontiguousarray(values).reshape(-1).view("uint8")
        self.model.buffers.append(buffer)
        tensor = self.graph.tensors[index]
        tensor.type, tensor.buffer = getattr(_TYPES, dtype.upper()), len(self.model.buffers) - 1
        tensor.quantization = _quantization(scales, 0)
        return index


def _quantization(scales: Any, zero: int) -> Any:
    result = _schema.QuantizationParametersT()
    result.scale = np.asarray(scales, "float32")
    result.zeroPoint, result.quantizedDimension = np.full(len(result.scale), zero, np.int64), 0
    return result
