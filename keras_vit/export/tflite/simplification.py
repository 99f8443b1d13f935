"""Writes the operators of a float32 TFLite file in a form that runs faster, with the same results.

The converter gets the kernels of dense layers as inputs: it copies constants at every step, which takes three times the
time and memory for a ViT-B/16. They become constants here, and what the converter does with constants is done here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit import _compat
from keras_vit.export.tflite.flatbuffer import (
    constant,
    drop_unused_tensors,
    operator_code,
    own_constant,
    set_constant,
    uses_of,
)

_schema = _compat.tflite_schema()
_OPERATORS = _schema.BuiltinOperator
_OPTIONS = {
    _OPERATORS.SUB: "Sub",
    _OPERATORS.MUL: "Mul",
    _OPERATORS.ADD: "Add",
    _OPERATORS.DIV: "Div",
    _OPERATORS.ABS: "Abs",
    _OPERATORS.MAXIMUM: "MaximumMinimum",
    _OPERATORS.REDUCE_MAX: "Reducer",
}


def simplify(
    model: Any, kernels: Mapping[str, np.ndarray], fold_norms: bool = True, *, scale_norms: bool = False
) -> None:
    """Makes constants of kernels that are inputs, and rewrites operators, in place.

    - A scalar or a vector that a layer's input or output is multiplied by or added to moves into its weights.
    - A layer of constants, such as the learned query of attention pooling, becomes a constant.
    - Layer norms subtract the mean first: six operators on all tokens become three. Keras' order is also wrong by 0.1
      in the scores on MediaPipe's WebGL delegate.

    Args:
        model: a `ModelT` of one graph.
        kernels: {name of an input: (inputs, outputs) float32}.
        fold_norms: whether the scale and offset of a norm move into the layers behind it.
        scale_norms: whether layer norms first divide by the largest absolute value, so that no square passes 65,504,
            the limit of float16: a GPU that computes in half precision keeps the norms of activations of thousands.
    """
    graph = _Graph(model)
    graph.fill(kernels)
    graph.center_norms()
    if scale_norms:
        graph.scale_norms()
    if fold_norms:
        graph.fold_into_readers()
    graph.fold_into_writers()
    graph.fold_constants()
    drop_unused_tensors(model)


class _Graph:
    """The operators of a `ModelT`, and which of them write and read a tensor."""

    def __init__(self, model: Any) -> None:
        self.model = model
        (self.graph,) = model.subgraphs
        self.tensors = self.graph.tensors
        for operator in self.graph.operators:
            operator.inputs, operator.outputs = ([*map(int, ends)] for ends in (operator.inputs, operator.outputs))

    def kind(self, operator: Any) -> int:
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode

    def of_kind(self, kind: int) -> list[Any]:
        return [operator for operator in self.graph.operators if self.kind(operator) == kind]

    def readers(self, tensor: int) -> list[Any]:
        """Returns the operators that read a tensor; a graph's output has one more reader, None."""
        readers = [one for one in self.graph.operators for index in one.inputs if index == tensor]
        return readers + [None] * list(self.graph.outputs).count(tensor)

    def reader(self, tensor: int, kind: int) -> Any:
        """Returns the operator that alone reads a tensor, if it is of a kind, or None."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and readers[0] and self.kind(readers[0]) == kind else None

    def writer(self, tensor: int) -> Any:
        return next((operator for operator in self.graph.operators if tensor in operator.outputs), None)

    def is_constant(self, tensor: int) -> bool:
        return self.model.buffers[self.tensors[tensor].buffer].data is not None

    def values(self, tensor: int) -> np.ndarray:
        return constant(self.model, self.tensors[tensor])

    def factor(self, operator: Any, tensor: int) -> int | None:
        """Returns the constant that an operator of two inputs combines with a tensor, or None."""
        others = [index for index in operator.inputs if index != tensor]
        is_float = len(others) == 1 and self.tensors[others[0]].type == _schema.TensorType.FLOAT32
        return others[0] if is_float and self.is_constant(others[0]) and not _activation(operator) else None

    def redirect(self, old: int, new: int) -> None:
        """Lets the operators that read a tensor read another one."""
        for operator in self.graph.operators:
            operator.inputs = [new if index == old else index for index in operator.inputs]

    def remove(self, *operators: Any) -> None:
        gone = {id(operator) for operator in operators}
        self.graph.operators = [operator for operator in self.graph.operators if id(operator) not in gone]

    def fill(self, kernels: Mapping[str, np.ndarray]) -> None:
        (signature,) = self.model.signatureDefs
        for item in [item for item in signature.inputs if item.name.decode() in kernels]:
            signature.inputs.remove(item)
            self.graph.inputs = [index for index in self.graph.inputs if index != item.tensorIndex]
            kernel = kernels[item.name.decode()]
            self.make_constant(item.tensorIndex, kernel)
            for operator in self.readers(item.tensorIndex):
                if self.kind(operator) == _OPERATORS.TRANSPOSE:  # in front of a fully connected operator
                    self.make_constant(operator.outputs[0], kernel.T)
                    self.remove(operator)
                elif self.kind(operator) == _OPERATORS.BATCH_MATMUL:  # of a layer without a bias
                    self.make_fully_connected(operator, kernel)

    def make_constant(self, tensor: int, values: np.ndarray) -> None:
        self.tensors[tensor].buffer = len(self.model.buffers)
        self.model.buffers.append(_schema.BufferT())
        set_constant(self.model, self.tensors[tensor], values)

    def add_constant(self, name: bytes, values: np.ndarray) -> int:
        tensor = _schema.TensorT()
        tensor.name, tensor.hasRank = name, True
        self.tensors.append(tensor)
        self.make_constant(len(self.tensors) - 1, values)
        return len(self.tensors) - 1

    def make_fully_connected(self, operator: Any, kernel: np.ndarray) -> None:
        """Turns x @ kernel into a FULLY_CONNECTED, whose weights are (outputs, inputs)."""
        source, weights = operator.inputs
        operator.inputs = [source, self.add_constant(self.tensors[weights].name, kernel.T), -1]
        operator.opcodeIndex = operator_code(self.model, _OPERATORS.FULLY_CONNECTED, 5)
        operator.builtinOptionsType = _schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = _schema.FullyConnectedOptionsT()
        operator.builtinOptions.keepNumDims = len(self.tensors[operator.outputs[0]].shape) > 2

    def center_norms(self) -> None:
        """Writes (x - mean) * (factor * scale) + offset for x * (factor * scale) + (offset - mean * factor * scale)."""
        for operator in self.of_kind(_OPERATORS.SQUARED_DIFFERENCE):
            if (norm := self.norm(operator)) is not None:
                self.center(operator, *norm)

    def norm(self, squared: Any) -> tuple[Any, ...] | None:
        """Returns the parts of Keras' layer norm around a SQUARED_DIFFERENCE, or None.

        They are: the factor 1 / standard deviation, its product with the scale (the factor without one), the operators
        NEG, MUL by the scale or None, MUL with the mean, ADD of the offset or None, MUL with the input, and the last
        ADD.
        """
        x, mean = squared.inputs
        factor = squared.outputs[0]
        for kind in (_OPERATORS.MEAN, _OPERATORS.ADD, _OPERATORS.RSQRT):
            following = self.reader(factor, kind)
            if following is None:
                return None
            factor = following.outputs[0]
        negative = next((one for one in self.readers(mean) if one and self.kind(one) == _OPERATORS.NEG), None)
        if negative is None or len(self.readers(mean)) != 2:
            return None
        scale = self.reader(factor, _OPERATORS.MUL)
        product = scale.outputs[0] if scale is not None else factor
        if scale is not None and self.factor(scale, factor) is None:
            return None
        of_mean = self.reader(negative.outputs[0], _OPERATORS.MUL)
        others = [one for one in self.readers(product) if one is not of_mean]
        if of_mean is None or product not in of_mean.inputs or len(others) != 1 or others[0] is None:
            return None
        (of_input,) = others
        last = self.reader(of_mean.outputs[0], _OPERATORS.ADD)
        offset = None
        if last is not None and self.factor(last, of_mean.outputs[0]) is not None:
            offset, last = last, self.reader(last.outputs[0], _OPERATORS.ADD)
        if last is None or self.kind(of_input) != _OPERATORS.MUL or set(of_input.inputs) != {x, product}:
            return None
        if self.reader(of_input.outputs[0], _OPERATORS.ADD) is not last:
            return None
        return factor, negative, scale, of_mean, offset, of_input, last

    def center(
        self,
        squared: Any,
        factor: int,
        negative: Any,
        scale: Any,
        of_mean: Any,
        offset: Any,
        of_input: Any,
        last: Any,
    ) -> None:
        x, mean = squared.inputs
        gamma = None if scale is None else self.factor(scale, factor)
        beta = None if offset is None else self.factor(offset, of_mean.outputs[0])
        chain = [(_OPERATORS.SUB, mean), (_OPERATORS.MUL, factor)]
        chain += [(_OPERATORS.MUL, gamma)] if gamma is not None else []
        chain += [(_OPERATORS.ADD, beta)] if beta is not None else []
        # The first results take the place of the tensors of all tokens that are no longer computed.
        results = [of_input.outputs[0], of_mean.outputs[0], *(one.outputs[0] for one in (scale, offset) if one)]
        results = [*results[: len(chain) - 1], last.outputs[0]]
        place = next(i for i, operator in enumerate(self.graph.operators) if operator is last)
        made = []
        for (kind, other), result in zip(chain, results):
            self.tensors[result].shape = self.tensors[last.outputs[0]].shape
            self.tensors[result].shapeSignature = None
            made.append(self.operator(kind, (x, other), result))
            x = result
        self.graph.operators[place:place] = made
        self.remove(negative, of_mean, of_input, last, *(one for one in (scale, offset) if one))

    def scale_norms(self) -> None:
        """Lets layer norms work on x / a, with a the largest |x| of a token: the same result with epsilon / a^2.

        The numbers then lie between -1 and 1, and their sums below the number of channels. `a` is at least
        sqrt(epsilon), so that its reciprocal stays in the range of float16.
        """
        for squared in self.of_kind(_OPERATORS.SQUARED_DIFFERENCE):
            x, mean = squared.inputs
            first, variance = self.writer(mean), self.reader(squared.outputs[0], _OPERATORS.MEAN)
            if first is None or self.kind(first) != _OPERATORS.MEAN or first.inputs[0] != x or variance is None:
                continue
            added = self.reader(variance.outputs[0], _OPERATORS.ADD)
            epsilon = None if added is None else self.factor(added, variance.outputs[0])
            centered = [one for one in self.readers(mean) if one is not squared]
            if (
                epsilon is None
                or self.values(epsilon).size != 1
                or [self.kind(one) for one in centered if one] != [_OPERATORS.SUB]
            ):
                continue
            root = np.sqrt(self.values(epsilon).reshape(()))
            made: list[Any] = []

            def compute(kind: int, inputs: Sequence[int], like: int, made: list[Any] = made) -> int:
                output = self.add_computed(like)
                made.append(self.operator(kind, inputs, output))
                return output

            size = compute(_OPERATORS.ABS, [x], x)
            size = compute(_OPERATORS.REDUCE_MAX, [size, first.inputs[1]], mean)
            size = compute(_OPERATORS.MAXIMUM, [size, self.add_constant(b"root_of_epsilon", root)], mean)
            factor = compute(_OPERATORS.DIV, [self.add_constant(b"one", np.ones(())), size], mean)
            scaled = compute(_OPERATORS.MUL, [x, factor], x)
            root_of_epsilon = compute(_OPERATORS.MUL, [factor, self.add_constant(b"root_of_epsilon", root)], mean)
            scaled_epsilon = compute(_OPERATORS.MUL, [root_of_epsilon, root_of_epsilon], mean)
            for one in (first, squared, *centered):
                one.inputs = [scaled if index == x else index for index in one.inputs]
            added.inputs = [variance.outputs[0], scaled_epsilon]
            place = next(i for i, operator in enumerate(self.graph.operators) if operator is first)
            self.graph.operators[place:place] = made

    def add_computed(self, like: int) -> int:
        """Adds a tensor of the shape of another one."""
        tensor = copy.copy(self.tensors[like])
        tensor.name, tensor.buffer = tensor.name + b"/%d" % len(self.tensors), 0
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, kind: int, inputs: Sequence[int], output: int) -> Any:
        name = _OPTIONS[kind]
        operator = _schema.OperatorT()
        operator.opcodeIndex = operator_code(self.model, kind)
        operator.inputs, operator.outputs = [*inputs], [output]
        operator.builtinOptionsType = getattr(_schema.BuiltinOptions, f"{name}Options")
        operator.builtinOptions = getattr(_schema, f"{name}OptionsT")()
        if kind == _OPERATORS.REDUCE_MAX:
            operator.builtinOptions.keepDims = True
        return operator

    def fold_into_readers(self) -> None:
        """Moves products and sums with a vector into the fully connected layers behind, if nothing else reads them."""
        for kind in (_OPERATORS.ADD, _OPERATORS.MUL):  # the sum is the last of the two
            for operator in self.of_kind(kind):
                for source in operator.inputs:
                    vector = self.factor(operator, source)
                    if vector is None or not self.is_vector(vector, source):
                        continue
                    readers = self.readers(operator.outputs[0])
                    if readers and all(self.is_layer(one, operator.outputs[0]) for one in readers):
                        values = self.values(vector).reshape(-1)
                        for layer in readers:
                            self.fold_input(layer, kind, values)
                        self.redirect(operator.outputs[0], source)
                        self.remove(operator)
                    break

    def fold_constants(self) -> None:
        """Computes layers of constants, and what only changes their shape."""
        for operator in list(self.graph.operators):
            kind, source, (output, *_) = self.kind(operator), operator.inputs[0], operator.outputs
            if source < 0 or not self.is_constant(source) or self.tensors[source].type != _schema.TensorType.FLOAT32:
                continue
            if self.is_layer(operator) and not _activation(operator):
                weights = self.values(operator.inputs[1])
                values = self.values(source).reshape(-1, weights.shape[1]) @ weights.T
                if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
                    values = values + self.values(operator.inputs[2])
            elif kind == _OPERATORS.RESHAPE:
                values = self.values(source)
            elif kind == _OPERATORS.TRANSPOSE:
                order = self.model.buffers[self.tensors[operator.inputs[1]].buffer].data
                values = self.values(source).transpose(np.frombuffer(bytes(order), "int32"))
            else:
                continue
            self.make_constant(output, values.reshape(self.tensors[output].shape))
            self.remove(operator)

    def is_vector(self, vector: int, tensor: int) -> bool:
        """Returns whether a constant has one number for each channel of a tensor, along its last axis."""
        shape, channels = list(self.tensors[vector].shape), self.tensors[tensor].shape[-1]
        return len(shape) > 0 and shape[-1] == channels == np.prod(shape)

    def is_layer(self, operator: Any, source: int | None = None) -> bool:
        """Returns whether an operator is a fully connected layer with constant weights, that reads `source`."""
        return (
            operator is not None
            and self.kind(operator) == _OPERATORS.FULLY_CONNECTED
            and all(index < 0 or self.is_constant(index) for index in operator.inputs[1:])
            and (source is None or operator.inputs[0] == source)
        )

    def fold_input(self, layer: Any, kind: int, vector: np.ndarray) -> None:
        weights = self.values(layer.inputs[1])
        if kind == _OPERATORS.MUL:
            self.set_part(layer, 1, weights * vector)
        else:
            shift = weights.astype("float64") @ vector.astype("float64")
            if len(layer.inputs) < 3 or layer.inputs[2] < 0:
                layer.inputs[2:] = [self.add_constant(b"bias", np.zeros(len(shift)))]
            self.set_part(layer, 2, self.values(layer.inputs[2]) + shift)

    def set_part(self, layer: Any, place: int, values: np.ndarray) -> None:
        """Replaces the weights (1) or the bias (2) of a layer; another layer that shares them keeps its own."""
        set_constant(self.model, own_constant(self.model, uses_of(self.model), layer, place), values)

    def fold_into_writers(self) -> None:
        """Moves a product with a scalar into the fully connected layer in front, as that of queries."""
        for operator in self.of_kind(_OPERATORS.MUL):
            for source in operator.inputs:
                scalar, layer = self.factor(operator, source), self.writer(source)
                if scalar is None or self.values(scalar).size != 1 or not self.is_layer(layer) or _activation(layer):
                    continue
                if len(self.readers(source)) == 1 and None not in self.readers(operator.outputs[0]):
                    for place, part in enumerate(layer.inputs):
                        if place and part >= 0:
                            self.set_part(layer, place, self.values(part) * self.values(scalar).reshape(()))
                    self.redirect(operator.outputs[0], source)
                    self.remove(operator)
                break


def _activation(operator: Any) -> int:
    return getattr(operator.builtinOptions, "fusedActivationFunction", 0) or 0
