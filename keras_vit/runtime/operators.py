"""What operators a TFLite file is made of, and which of them a GPU delegate refuses."""

import collections

from keras_vit import _compat

_schema = _compat.tflite_schema()


_NAMES = {code: name for name, code in vars(_schema.BuiltinOperator).items() if isinstance(code, int)}
_TYPES = {code: name for name, code in vars(_schema.TensorType).items() if isinstance(code, int)}

# What LiteRT's WebGPU delegate was seen to run whole (LiteRT.js 2.5.3), with ViTs, hybrids and BiTs of ours.
GPU_OPERATORS = set(
    "ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE DIV EXP "
    "FULLY_CONNECTED GELU LOGISTIC MAX_POOL_2D MEAN MUL NEG PAD QUANTIZE RELU RESHAPE RESIZE_BILINEAR RSQRT "
    "SLICE SOFTMAX SPLIT SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE".split()
)


def operators(file):
    """Returns how many operators of each kind a TFLite file has, {name: number}, and what a GPU refuses, words.

    Args:
        file: its bytes.
    """
    model = _schema.Model.GetRootAsModel(file, 0)
    kinds, refused = collections.Counter(), []
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            code = model.OperatorCodes(operator.OpcodeIndex())
            # Codes above 127 do not fit the older of the two fields.
            name = _NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            name = f"{name} {code.CustomCode().decode()}" if name == "CUSTOM" else name
            kinds[name] += 1
            refused += [f"{name}: {why}" for why in _faults(name, operator, graph)]
    return dict(sorted(kinds.items())), sorted(set(refused))


def _faults(name, operator, graph):
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
            yield "a tensor of open shape"
        if (kind := _TYPES[tensor.Type()]) in ("INT64", "FLOAT64", "STRING", "COMPLEX64", "COMPLEX128"):
            yield f"a tensor of {kind.lower()}"
