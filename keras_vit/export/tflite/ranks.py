"""Gives the tokens of an image their batch axis back where the TFLite converter took it away."""

import numpy as np

from keras_vit import _compat

_schema = _compat.tflite_schema()

OPERATORS = _schema.BuiltinOperator
_WEIGHTS = (_schema.TensorType.INT8, _schema.TensorType.INT4)
# What works on each number by itself, and so gives what it takes.
PASSES_ON = (OPERATORS.GELU, OPERATORS.ADD, OPERATORS.MUL)


def keep_batch_axis(model):
    """Makes the (tokens, width) tensors around products with weights of 8 or 4 bits (1, tokens, width), in place.

    The converter folds the reshape in front of a product into it: (1, tokens, width) goes in and (tokens, width) comes
    out. On a GPU tokens are taken for images of a batch then, and LiteRT.js 2.5.3 fails ("Unable to parse bc coord
    for BATCH axis"). Weights of more bits do without, and those of 16 have to: XNNPACK takes none of them otherwise.

    Args:
        model: a `_schema.ModelT` of one graph and batch 1.
    """
    (graph,) = model.subgraphs
    made = {index for operator in graph.operators for index in operator.outputs}
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]

    def flat(indices):
        return {i for i in indices if i in made and len(graph.tensors[i].shape) == 2 and graph.tensors[i].shape[0] > 1}

    found, before = set(), None
    while found != before:
        before = set(found)
        for kind, operator in zip(kinds, graph.operators):
            ends = flat((*operator.inputs, *operator.outputs))
            rounded = kind == OPERATORS.FULLY_CONNECTED and graph.tensors[operator.inputs[1]].type in _WEIGHTS
            if rounded or kind in PASSES_ON and ends & found:
                found |= ends
    for index in found:
        tensor = graph.tensors[index]
        tensor.shape, tensor.shapeSignature = np.array([1, *tensor.shape], np.int32), None
    for kind, operator in zip(kinds, list(graph.operators)):
        shape = graph.tensors[operator.outputs[0]].shape
        if kind == OPERATORS.FULLY_CONNECTED and len(shape) == 3:
            operator.builtinOptions.keepNumDims = True
            if len(graph.tensors[operator.inputs[0]].shape) == 4:  # a map, of which each pixel is a patch
                _lay_out_as_tokens(model, graph, operator)
        if kind == OPERATORS.RESHAPE and operator.outputs[0] in found:
            operator.inputs = np.array([operator.inputs[0], _constant(model, graph, shape)], np.int32)
            operator.builtinOptions = None


def _lay_out_as_tokens(model, graph, operator):
    """Puts a reshape of (1, rows, columns, width) to (1, tokens, width) in front of a product."""
    image = graph.tensors[operator.inputs[0]]
    tokens, reshape = _schema.TensorT(), _schema.OperatorT()
    tokens.shape = np.array([1, image.shape[1] * image.shape[2], image.shape[3]], np.int32)
    tokens.type, tokens.name = image.type, image.name + b"/tokens"
    tokens.quantization = image.quantization
    graph.tensors.append(tokens)
    index = len(graph.tensors) - 1
    codes = [code.builtinCode for code in model.operatorCodes]
    reshape.opcodeIndex = codes.index(OPERATORS.RESHAPE)
    reshape.inputs = np.array([operator.inputs[0], _constant(model, graph, tokens.shape)], np.int32)
    reshape.outputs = np.array([index], np.int32)
    operator.inputs = np.array([index, *operator.inputs[1:]], np.int32)
    graph.operators.insert(next(i for i, one in enumerate(graph.operators) if one is operator), reshape)


def _constant(model, graph, shape):
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
