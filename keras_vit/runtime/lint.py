"""Checks a .tflite file against the written-down rules of the delegates that may run it: GPU, browser GPU, NPU.

    from keras_vit.runtime.lint import lint
    for finding in lint("model.tflite", "gpu"):
        print(finding.text)

A delegate leaves what it does not support to the CPU, often without a word, or refuses the file. `RULES` has a row for
each rule with its source. The file is read, not run, and may come from any tool.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from keras_vit import _compat

_schema = _compat.tflite_schema()

Delegate = Literal["gpu", "webgpu", "npu"]
DELEGATES: dict[Delegate, str] = {
    "gpu": "LiteRT's GPU delegate on phones",
    "webgpu": "LiteRT.js with WebGPU in a browser",
    "npu": "NPUs, which compute in integers of 8 and 16 bits",
}
_GPU: tuple[Delegate, ...] = ("gpu", "webgpu")
_NPU: tuple[Delegate, ...] = ("npu",)
_ALL: tuple[Delegate, ...] = ("gpu", "webgpu", "npu")

_COMPATIBILITY = "tensorflow/lite/tools/versioning/gpu_compatibility.cc"
_SPECIFICATION = "https://ai.google.dev/edge/litert/models/quantization_spec"
_SHAPES = "tensorflow/lite/delegates/gpu/common/model_builder_helper.cc"
_LITERT_JS = "seen with LiteRT.js 2.5.3 in Chromium"
_VELA = "https://arm-software.github.io/CMSIS-Ethos-U/main/vela/index.html"
_HTP = "https://docs.qualcomm.com/doc/80-63442-10/topic/htp_opdef_version_history.html"

_FLOATS = ("FLOAT32", "FLOAT16")
_INTEGERS = ("INT8", "UINT8", "INT16")
_UNARY = frozenset(
    "ABS CEIL COS ELU EXP FLOOR GELU LOG LOGISTIC NEG RSQRT SIGN SIN SQRT SQUARE TANH RELU RELU6 RELU_N1_TO_1 "
    "LEAKY_RELU HARD_SWISH".split()
)
_BINARY = frozenset(
    "ATAN2 DIV EQUAL FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LOGICAL_AND LESS LESS_EQUAL MAXIMUM MINIMUM NOT_EQUAL "
    "POW SQUARED_DIFFERENCE SUB".split()
)
_REDUCE = frozenset("MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD".split())
_POOL = frozenset("AVERAGE_POOL_2D MAX_POOL_2D".split())
_WEIGHTED = frozenset("CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV".split())
_ONE_INPUT = _POOL | frozenset("CAST QUANTIZE RESHAPE TILE TRANSPOSE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR".split())
_GPU_OPERATORS = (
    _UNARY
    | _BINARY
    | _REDUCE
    | _WEIGHTED
    | _ONE_INPUT
    | frozenset(
        "ADD ADD_N BATCH_MATMUL CONCATENATION CUMSUM DENSIFY DEPTH_TO_SPACE DEQUANTIZE GATHER MIRROR_PAD MUL ONE_HOT "
        "PACK PAD PADV2 PRELU SELECT SELECT_V2 SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V STRIDED_SLICE".split()
    )
)
# Whose output has the type and the scale of their input.
_SAME_SCALE = frozenset(
    "RESHAPE TRANSPOSE STRIDED_SLICE SLICE SPLIT SQUEEZE EXPAND_DIMS CONCATENATION MAX_POOL_2D AVERAGE_POOL_2D PAD "
    "TILE GATHER RESIZE_BILINEAR PACK".split()
)
_NPU_OPERATORS = (
    _SAME_SCALE
    | _WEIGHTED
    | _REDUCE
    | frozenset(
        "ADD SUB MUL DIV BATCH_MATMUL SOFTMAX LOG_SOFTMAX LOGISTIC TANH GELU RELU RELU6 HARD_SWISH PRELU RSQRT SQRT "
        "L2_NORMALIZATION MAXIMUM MINIMUM QUANTIZE DEQUANTIZE CAST DEPTH_TO_SPACE SPACE_TO_DEPTH SPACE_TO_BATCH_ND "
        "BATCH_TO_SPACE_ND RESIZE_NEAREST_NEIGHBOR ARG_MAX ARG_MIN PADV2 NEG ABS EXP SPLIT_V".split()
    )
)
# Scale and zero point that an output of 8 and of 16 bits must have.
_UNIT_SCALES = {
    "SOFTMAX": {"INT8": (1 / 256, -128), "INT16": (1 / 32768, 0)},
    "LOGISTIC": {"INT8": (1 / 256, -128), "INT16": (1 / 32768, 0)},
    "TANH": {"INT8": (1 / 128, 0), "INT16": (1 / 32768, 0)},
}
_SIGN_BIT = 5  # of the fused activations, the one that a GPU does not compute


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a .tflite file.

    Args:
        name: its name.
        shape: its shape; an unknown length is -1.
        type: as in TFLite's schema, such as "FLOAT32".
        scales, zeros: its quantization; () without one.
        axis: of the scales, where there is one for each slice.
        value: its data, where it is constant; also of a constant in float16 that a DEQUANTIZE turns into float32.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    scales: tuple[float, ...]
    zeros: tuple[int, ...]
    axis: int
    value: np.ndarray | None

    @property
    def is_constant(self) -> bool:
        return self.value is not None

    @property
    def text(self) -> str:
        return f"{self.type.lower()} {list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a .tflite file.

    Args:
        number: its position in the graph.
        name: as in TFLite's schema; of a custom operator "CUSTOM" and its own name.
        inputs: its tensors, None for one that is left out.
        outputs: its tensors.
        options: the fields of its options, by their names in the schema.
        ends_graph: whether an output is one of the graph.
        readers: the operators that read its outputs.
        restores_constant: whether it turns a constant of float16 into float32, which delegates do beforehand.
    """

    number: int
    name: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: dict[str, Any]
    ends_graph: bool = False
    readers: list[Operator] = dataclasses.field(default_factory=list, repr=False)
    restores_constant: bool = False

    @property
    def runtime_inputs(self) -> list[Tensor]:
        return [tensor for tensor in self.inputs if tensor is not None and not tensor.is_constant]

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for tensor in (*self.inputs, *self.outputs) if tensor is not None]

    @property
    def is_float(self) -> bool:
        return any(tensor.type in _FLOATS for tensor in self.outputs)


class LintRule(NamedTuple):
    """A rule of delegates.

    Args:
        name: in a few words.
        delegates: those that it concerns.
        operators: names of the operators that it is checked on; None for all.
        check: function of an `Operator` that returns what is wrong, or "".
        remedy: what to do.
        source: where the rule is written down.
        listed: function of an `Operator` that is wrong: whether it is a listed exception, which is reported and does
            not count.
    """

    name: str
    delegates: tuple[Delegate, ...]
    operators: frozenset[str] | None
    check: Callable[[Operator], str]
    remedy: str
    source: str
    listed: Callable[[Operator], bool] = lambda operator: False


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a rule says of an operator of a file.

    Args:
        rule: name of the `LintRule`.
        delegate: name of the delegate.
        operator: position and name, such as "12 ADD".
        problem: what is wrong.
        remedy: what to do.
        source: where the rule is written down.
        listed: whether it is a known exception that does not count, such as the variance of a layer norm in float32.
    """

    rule: str
    delegate: Delegate
    operator: str
    problem: str
    remedy: str
    source: str
    listed: bool = False

    @property
    def text(self) -> str:
        """One line."""
        return f"{self.operator}: {self.problem}. {self.remedy} ({self.rule}; {self.source})"


def lint(path: str | os.PathLike[str], *delegates: Delegate) -> list[Finding]:
    """Returns what delegates do not support of a .tflite file, in the order of its operators.

    Args:
        path: of the file, from this package or any other tool.
        delegates: "gpu", "webgpu" and "npu"; all of them by default.

    Raises:
        ValueError: if the file cannot be read as a .tflite file, or a delegate is unknown.

    Example:
        ```python
        from keras_vit.runtime.lint import lint

        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        keras_vit.export.tflite(model, "model.tflite", mode="float32", input_type="float32")
        assert lint("model.tflite", "gpu") == []
        ```
    """
    if unknown := set(delegates) - set(DELEGATES):
        raise ValueError(f"Expected delegates out of {', '.join(DELEGATES)}. Received: {', '.join(sorted(unknown))}")
    try:
        return lint_operators(read_operators(pathlib.Path(path).read_bytes()), *delegates)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged flatbuffer causes, also an operator without its inputs
        reason = str(error) or type(error).__name__
        raise ValueError(f"Expected a .tflite file. Received: {path}, which cannot be read: {reason:.100}") from error


def lint_operators(operators: Sequence[Operator], *delegates: Delegate) -> list[Finding]:
    """Returns what delegates do not support of operators; see `lint`."""
    return [
        Finding(rule.name, delegate, f"{one.number} {one.name}", problem, rule.remedy, rule.source, rule.listed(one))
        for delegate in delegates or DELEGATES
        for one in operators
        for rule in RULES
        if delegate in rule.delegates and (rule.operators is None or one.name in rule.operators)
        if (problem := rule.check(one))
    ]


def read_operators(file: bytes, with_constants: bool = False) -> list[Operator]:
    """Returns the operators of all graphs of a .tflite file.

    Args:
        file: its bytes.
        with_constants: whether those that only restore constants of float16 are among them.
    """
    if file[4:8] != b"TFL3":
        raise ValueError("it does not begin as one")
    model = _compat.read_flatbuffer(file)
    operators = [operator for graph in model.subgraphs for operator in _operators(model, graph, file)]
    return [one for one in operators if with_constants or not one.restores_constant]


_NAMES = {code: name for name, code in vars(_schema.BuiltinOperator).items() if isinstance(code, int)}
_TYPES = {code: name for name, code in vars(_schema.TensorType).items() if isinstance(code, int)}
_DTYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2", "INT32": "<i4", "INT64": "<i8", "INT16": "<i2", "INT8": "i1"}


def _operators(model: Any, graph: Any, file: bytes) -> list[Operator]:
    tensors = [_tensor(model, tensor, file) for tensor in graph.tensors]
    result, writers = [], dict[int, Operator]()
    outputs = {int(index) for index in graph.outputs}
    for number, one in enumerate(graph.operators or ()):
        code = model.operatorCodes[one.opcodeIndex]
        name = _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name == "CUSTOM":
            name = f"CUSTOM {(code.customCode or b'').decode(errors='replace')}"
        ins, outs = ([*map(int, () if ends is None else ends)] for ends in (one.inputs, one.outputs))
        source = tensors[ins[0]] if ins and ins[0] >= 0 else None
        restores = name == "DEQUANTIZE" and source is not None and source.is_constant and source.type == "FLOAT16"
        operator = Operator(
            number,
            name,
            tuple(tensors[index] if index >= 0 else None for index in ins),
            tuple(tensors[index] for index in outs),
            dict(vars(one.builtinOptions)) if one.builtinOptions is not None else {},
            bool(outputs & {*outs}),
            restores_constant=restores,
        )
        if restores and source:
            tensors[outs[0]] = dataclasses.replace(tensors[outs[0]], value=source.value)
        for index in ins:
            if index in writers:
                writers[index].readers.append(operator)
        writers.update(dict.fromkeys(outs, operator))
        result.append(operator)
    return result


def _tensor(model: Any, tensor: Any, file: bytes) -> Tensor:
    shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
    if tensor.shapeSignature is not None and len(tensor.shapeSignature):
        shape = tuple(map(int, tensor.shapeSignature))
    buffer, kind, quantization = model.buffers[tensor.buffer], _TYPES[tensor.type], tensor.quantization
    data = buffer.data
    if data is None and (buffer.offset or 0) > 1:  # constants behind the flatbuffer
        data = np.frombuffer(file, np.uint8, buffer.size, buffer.offset)
    value = None
    if data is not None and len(data):
        data = np.asarray(data, np.uint8)
        value = data.view(_DTYPES[kind]) if kind in _DTYPES else data
    scales = () if quantization is None or quantization.scale is None else tuple(map(float, quantization.scale))
    zeros = () if quantization is None or quantization.zeroPoint is None else tuple(map(int, quantization.zeroPoint))
    axis = 0 if quantization is None else int(quantization.quantizedDimension)
    return Tensor((tensor.name or b"").decode(errors="replace"), shape, kind, scales, zeros, axis, value)


# ---------------------------------------------------------------------------------------------------------------------
# Checks: each returns what is wrong with an operator, or "".


def _first(problems: Iterator[str]) -> str:
    return next(problems, "")


def _not_among(names: frozenset[str]) -> Callable[[Operator], str]:
    return lambda one: "" if one.name in names else "it is not among the operators of the delegate"


def _too_many_axes(one: Operator) -> str:
    return _first(f"a tensor of {len(t.shape)} axes" for t in one.tensors if len(t.shape) > 4)


def _unknown_shape(one: Operator) -> str:
    return _first(f"a tensor of unknown shape, {t.text}" for t in one.tensors if min(t.shape, default=1) < 0)


def _type_not_in(allowed: Sequence[str]) -> Callable[[Operator], str]:
    def check(one: Operator) -> str:
        ends = [*one.runtime_inputs, *one.outputs]
        return _first(f"a tensor of {t.type.lower()}" for t in ends if t.type not in allowed)

    return check


def _broadcast(one: Operator) -> str:
    """As the delegate without its flag for more: it broadcasts a vector, or 2 and 3 axes to 4 in some cases."""
    shapes = sorted((t.shape for t in one.inputs if t is not None), key=len)
    if len(shapes) != 2 or len(shapes[0]) == len(shapes[1]) or len(shapes[0]) < 2:
        return ""
    short, long = shapes
    works = len(long) == 4 and (
        (len(short) == 3 and long[0] == 1)
        or (len(short) == 2 and long[0] == 1 and short == (1, 1))
        or (len(short) == 2 and (long[0], long[3]) == short)
    )
    return "" if works else f"it combines tensors of {len(long)} and {len(short)} axes, {list(long)} and {list(short)}"


def _outer_product(one: Operator) -> str:
    shapes = [t.shape for t in one.inputs if t is not None]
    if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
        return ""
    pairs = [*zip(*shapes)]
    crossed = any(a < b for a, b in pairs) and any(a > b for a, b in pairs)
    return f"each input is smaller than the other along an axis, {list(shapes[0])} and {list(shapes[1])}" * crossed


def _slice_masks(one: Operator) -> str:
    masks = {"shrinkAxisMask": "drops an axis", "newAxisMask": "adds an axis", "ellipsisMask": "has an ellipsis"}
    return _first(f"it {text}" for mask, text in masks.items() if one.options.get(mask))


def _slice_rank(one: Operator) -> str:
    first = one.inputs[0]
    return "" if first is None or len(first.shape) in (3, 4) else f"it slices a tensor of {len(first.shape)} axes"


def _slice_strides(one: Operator) -> str:
    strides = one.inputs[3] if len(one.inputs) > 3 else None
    if strides is None or strides.value is None:
        return "its strides are not constant"
    return "a stride below 1" if (strides.value < 1).any() else ""


def _gather_indices(one: Operator) -> str:
    indices = one.inputs[1]
    if indices is None or len(indices.shape) != 1:
        return "its indices do not have one axis"
    return "" if indices.type == "INT32" else f"its indices are {indices.type.lower()}"


def _softmax_beta(one: Operator) -> str:
    beta = one.options.get("beta", 1)
    return "" if beta == 1 else f"beta is {beta:g}"


def _dense_inputs(one: Operator) -> str:
    if one.inputs[0] is not None and one.inputs[0].is_constant:
        return "its input is constant"
    if len(one.runtime_inputs) > 2:
        return "more than two of its inputs are computed"
    if one.options.get("weightsFormat"):
        return "its weights have a shuffled format"
    if one.options.get("keepNumDims") and one.inputs[0] and len(one.inputs[0].shape) != len(one.outputs[0].shape):
        return "it keeps its axes, and its output has another number of them"
    return ""


def _constant_axes(one: Operator) -> str:
    axes = one.inputs[1] if len(one.inputs) > 1 else None
    if axes is None or not axes.is_constant:
        return "its axes are not constant"
    return "" if axes.type == "INT32" else f"its axes are {axes.type.lower()}"


def _cast_types(one: Operator) -> str:
    ends = one.inputs[0].type if one.inputs[0] else "", one.outputs[0].type
    works = all(end in ("FLOAT32", "INT32") for end in ends) or ("BOOL" in ends and any(end in _FLOATS for end in ends))
    return "" if works else f"it turns {ends[0].lower()} into {ends[1].lower()}"


def _select_shapes(one: Operator) -> str:
    output = one.outputs[0].shape
    for tensor in one.inputs[1:]:
        if tensor is not None and (tensor.type not in _FLOATS or tensor.shape not in ((), (1,), output)):
            return f"it chooses from {tensor.text} for {list(output)}"
    return ""


def _paddings(one: Operator) -> str:
    paddings = one.inputs[1] if len(one.inputs) > 1 else None
    if paddings is None or not paddings.is_constant:
        return "its paddings are not constant"
    return "" if paddings.shape in ((3, 2), (4, 2)) else f"its paddings have the shape {list(paddings.shape)}"


def _mirror_mode(one: Operator) -> str:
    return "its mode is symmetric" if one.options.get("mode") else ""  # 0 is reflect


def _fused_activation(one: Operator) -> str:
    return "its fused activation is SIGN_BIT" if one.options.get("fusedActivationFunction") == _SIGN_BIT else ""


def _resize_corners(one: Operator) -> str:
    both = one.options.get("alignCorners") and one.options.get("halfPixelCenters")
    return "it aligns both corners and centers" if both else ""


def _dequantize_type(one: Operator) -> str:
    return "it restores int16" if one.inputs[0] and one.inputs[0].type == "INT16" else ""


def _one_runtime_input(one: Operator) -> str:
    count = len(one.runtime_inputs)
    return "" if count == 1 else f"{count} of its inputs are computed, and it accepts one"


def _some_runtime_input(one: Operator) -> str:
    count = len(one.runtime_inputs)
    return "" if count in (1, 2) else f"{count} of its inputs are computed"


def _depthwise(one: Operator) -> str:
    source, multiplier = one.inputs[0], one.options.get("depthMultiplier", 1)
    if any(len(t.shape) != 4 for t in (source, one.inputs[1], one.outputs[0]) if t):
        return "a tensor without four axes"
    channels = source.shape[3] if source else 1
    return "" if multiplier == 1 or channels == 1 else f"depth multiplier {multiplier} of {channels} channels"


def _constant_axis(one: Operator) -> str:
    works = len(one.inputs) == 2 and one.inputs[1] is not None and one.inputs[1].is_constant
    return "" if works else "its axis is not constant"


def _product_with_itself(one: Operator) -> str:
    first, second = one.inputs[0], one.inputs[1]
    return "it multiplies a tensor of 3 axes by itself" if first is second and first and len(first.shape) == 3 else ""


def _tokens_as_batch(one: Operator) -> str:
    weights, shape = one.inputs[1], one.outputs[0].shape
    rounded = weights is not None and weights.type in ("INT8", "INT4")
    return f"its weights have 8 or 4 bits, and its output {list(shape)} has no batch axis" * (
        rounded and len(shape) == 2 and shape[0] > 1
    )


def _in_float(one: Operator) -> str:
    if not one.is_float or (one.name == "DEQUANTIZE" and one.ends_graph and not one.readers):
        return ""
    weights = one.inputs[1] if one.name in _WEIGHTED and len(one.inputs) > 1 else None
    if weights is not None and weights.type in ("INT8", "INT4"):
        return "its weights have few bits, and its activations are float"
    return "it computes in float32"


_VARIANCE = frozenset("RSQRT ADD MEAN RESHAPE MUL DEQUANTIZE".split())


def _is_variance(one: Operator) -> bool:
    """Returns whether an operator in float32 is part of the variance of a layer norm: it leads to an RSQRT alone."""
    if one.name not in _VARIANCE:
        return False
    if one.name == "RSQRT":
        return all(reader.name == "QUANTIZE" for reader in one.readers)
    return bool(one.readers) and all(reader.is_float and _is_variance(reader) for reader in one.readers)


def _weight_scales(one: Operator) -> str:
    weights = one.inputs[1]
    if weights is None or weights.type not in ("INT8", "INT4", "INT2") or one.is_float:
        return ""
    if not weights.scales:
        return "its weights have no scale"
    if any(weights.zeros):
        return "its weights have a zero point other than 0"
    axis = {"DEPTHWISE_CONV_2D": 3}.get(one.name, 0)
    outputs = weights.shape[axis] if len(weights.shape) > axis else 0
    if len(weights.scales) > 1 and (weights.axis != axis or len(weights.scales) != outputs):
        return f"its weights have {len(weights.scales)} scales along axis {weights.axis}, for {outputs} outputs"
    return ""


def _weight_type(one: Operator) -> str:
    weights = one.inputs[1]
    if one.is_float or weights is None or weights.type in ("INT8", "INT4", "INT2"):
        return ""
    return f"its weights are {weights.type.lower()}"


def _bias(one: Operator) -> str:
    if len(one.inputs) < 3 or one.inputs[2] is None or one.is_float:
        return ""
    bias, source, weights = one.inputs[2], one.inputs[0], one.inputs[1]
    if bias.type not in ("INT32", "INT64"):
        return f"its bias is {bias.type.lower()}"
    if bias.scales and source and weights and source.scales:
        expected = source.scales[0] * np.asarray(weights.scales)
        if len(expected) != len(bias.scales) or not np.allclose(bias.scales, expected, rtol=1e-3):
            return "the scale of its bias is not that of its input times its weights"
    return ""


def _scaled(one: Operator) -> str:
    ends = [t for t in (*one.runtime_inputs, *one.outputs) if t.type in _INTEGERS]
    return _first(f"a tensor of {t.type.lower()} without a scale" for t in ends if not t.scales)


def _symmetric(one: Operator) -> str:
    ends = [t for t in one.tensors if t.type == "INT16" and t.scales]
    return _first(f"a tensor of int16 with the zero point {t.zeros[0]}" for t in ends if any(t.zeros))


def _same_scale(one: Operator) -> str:
    first = one.outputs[0]
    if first.type not in _INTEGERS or not first.scales:
        return ""
    for tensor in [*one.runtime_inputs, *one.outputs]:
        if tensor.type == first.type and (tensor.scales, tensor.zeros) != (first.scales, first.zeros):
            return "its input and output have different scales"
    return ""


def _unit_scale(one: Operator) -> str:
    output = one.outputs[0]
    if output.type not in _UNIT_SCALES[one.name] or not output.scales:
        return ""
    scale, zero = _UNIT_SCALES[one.name][output.type]
    works = np.isclose(output.scales[0], scale, rtol=1e-3) and output.zeros[0] == zero
    return "" if works else f"the scale of its output is {output.scales[0]:.4g}, not {scale:.4g} from {zero}"


def _mixed_types(one: Operator) -> str:
    kinds = {t.type for t in one.runtime_inputs if t.type in _INTEGERS}
    return f"it combines {' and '.join(sorted(kinds)).lower()}" if len(kinds) > 1 else ""


_FIXED = "Export with a fixed shape: a batch of 1."
_OWN_GRAPH = "Write the layer with other operations."
_REQUANTIZE = "Quantize the file again: keras-vit export --to tflite-npu."

RULES: tuple[LintRule, ...] = (
    LintRule("operator", _GPU, None, _not_among(_GPU_OPERATORS), _OWN_GRAPH, _COMPATIBILITY),
    LintRule("axes", _GPU, None, _too_many_axes, "Reshape to at most 4 axes.", _SHAPES),
    LintRule("shape", _ALL, None, _unknown_shape, _FIXED, _LITERT_JS),
    LintRule(
        "type",
        _GPU,
        None,
        _type_not_in((*_FLOATS, "INT8", "UINT8", "INT32", "BOOL", "INT4")),
        "Use float32 for numbers and int32 for positions.",
        _SHAPES,
    ),
    LintRule("broadcast", ("gpu",), frozenset({"ADD", "MUL"}), _broadcast, "Reshape to the same axes.", _COMPATIBILITY),
    LintRule("outer product", _GPU, frozenset({"MUL"}), _outer_product, "Use a matrix product.", _COMPATIBILITY),
    LintRule(
        "slice",
        _GPU,
        frozenset({"STRIDED_SLICE"}),
        _slice_masks,
        "Slice with a range, x[:, 0:1], and reshape.",
        _COMPATIBILITY,
    ),
    LintRule(
        "slice axes",
        _GPU,
        frozenset({"STRIDED_SLICE", "SLICE"}),
        _slice_rank,
        "Slice tensors of 3 or 4 axes.",
        _COMPATIBILITY,
    ),
    LintRule(
        "stride", _GPU, frozenset({"STRIDED_SLICE"}), _slice_strides, "Use constant strides of 1 or more.", _SHAPES
    ),
    LintRule("gather", _GPU, frozenset({"GATHER"}), _gather_indices, "Use a list of int32 indices.", _COMPATIBILITY),
    LintRule("softmax", _GPU, frozenset({"SOFTMAX"}), _softmax_beta, "Scale the input before it.", _COMPATIBILITY),
    LintRule("dense", _GPU, frozenset({"FULLY_CONNECTED"}), _dense_inputs, _OWN_GRAPH, _COMPATIBILITY),
    LintRule("reduction", _GPU, _REDUCE, _constant_axes, "Use constant axes of int32.", _COMPATIBILITY),
    LintRule(
        "cast",
        ("gpu",),
        frozenset({"CAST"}),
        _cast_types,
        "Pass float32 images: keras-vit export --input-type float32.",
        _COMPATIBILITY,
    ),
    LintRule(
        "select",
        _GPU,
        frozenset({"SELECT", "SELECT_V2"}),
        _select_shapes,
        "Add a constant instead, or choose from tensors of the output's shape.",
        _COMPATIBILITY,
    ),
    LintRule("padding", _GPU, frozenset({"PAD", "PADV2", "MIRROR_PAD"}), _paddings, "Pad 3 or 4 axes.", _COMPATIBILITY),
    LintRule("mirror", _GPU, frozenset({"MIRROR_PAD"}), _mirror_mode, "Reflect instead.", _COMPATIBILITY),
    LintRule("activation", _GPU, None, _fused_activation, "Use another activation.", _COMPATIBILITY),
    LintRule("resize", _GPU, frozenset({"RESIZE_BILINEAR"}), _resize_corners, "Align one of them.", _COMPATIBILITY),
    LintRule("dequantize", _GPU, frozenset({"DEQUANTIZE"}), _dequantize_type, "Store 8 or 16 bits.", _COMPATIBILITY),
    LintRule("inputs", _GPU, _ONE_INPUT, _one_runtime_input, "Make the other inputs constant.", _COMPATIBILITY),
    LintRule("operands", _GPU, _UNARY | _BINARY, _some_runtime_input, "Compute constants beforehand.", _COMPATIBILITY),
    LintRule(
        "depthwise", _GPU, frozenset({"DEPTHWISE_CONV_2D"}), _depthwise, "Use depth multiplier 1.", _COMPATIBILITY
    ),
    LintRule("sum", _GPU, frozenset({"CUMSUM"}), _constant_axis, "Use a constant axis.", _COMPATIBILITY),
    LintRule(
        "self product", ("webgpu",), frozenset({"BATCH_MATMUL"}), _product_with_itself, "Give it 4 axes.", _LITERT_JS
    ),
    LintRule(
        "batch axis",
        ("webgpu",),
        frozenset({"FULLY_CONNECTED"}),
        _tokens_as_batch,
        "Keep the batch axis: (1, tokens, channels).",
        _LITERT_JS,
    ),
    LintRule("integer operator", _NPU, None, _not_among(_NPU_OPERATORS), _OWN_GRAPH, _HTP),
    LintRule("integer axes", _NPU, None, _too_many_axes, "Reshape to at most 4 axes.", _HTP),
    LintRule("float", _NPU, None, _in_float, _REQUANTIZE, _VELA, _is_variance),
    LintRule("weights", _NPU, _WEIGHTED, _weight_scales, _REQUANTIZE, _SPECIFICATION),
    LintRule("weight type", _NPU, _WEIGHTED, _weight_type, _REQUANTIZE, _SPECIFICATION),
    LintRule("bias", _NPU, _WEIGHTED, _bias, _REQUANTIZE, _SPECIFICATION),
    LintRule("scale", _NPU, None, _scaled, _REQUANTIZE, _SPECIFICATION),
    LintRule("zero point", _NPU, None, _symmetric, _REQUANTIZE, _SPECIFICATION),
    LintRule("same scale", _NPU, _SAME_SCALE, _same_scale, _REQUANTIZE, _SPECIFICATION),
    LintRule("output scale", _NPU, frozenset(_UNIT_SCALES), _unit_scale, _REQUANTIZE, _SPECIFICATION),
    LintRule("types", _NPU, None, _mixed_types, _REQUANTIZE, _SPECIFICATION),
)
