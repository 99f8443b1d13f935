"""Rules of delegates: faults that are planted in a clean file, and the files of this package."""

import copy
import dataclasses
import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_vit
from keras_vit import _compat
from keras_vit.commands.cli import main
from keras_vit.export.serving import make_serving
from keras_vit.export.tflite.conversion import exported
from keras_vit.models.config import ResNet, Rotary
from keras_vit.runtime.lint import DELEGATES, RULES, lint, lint_operators, read_operators

SCHEMA = _compat.tflite_schema()
KINDS, TYPES = SCHEMA.BuiltinOperator, SCHEMA.TensorType
PLAIN = keras_vit.Variant(patch_size=4, hidden_size=32, num_layers=2, num_heads=2, mlp_dim=48)
MODELS = {
    "token": (PLAIN, {}),
    "gap": (PLAIN, {"pooling": "gap"}),
    "map": (PLAIN, {"pooling": "map", "classifier_activation": "sigmoid"}),
    "registers": (dataclasses.replace(PLAIN, register_tokens=3, layer_scale=0.1), {}),
    "rotary": (
        dataclasses.replace(PLAIN, register_tokens=4, layer_scale=0.1, swiglu=True, positions="none", rotary=Rotary()),
        {},
    ),
    "relative bias": (dataclasses.replace(PLAIN, relative_bias=True, positions="none"), {}),
    "windows": (dataclasses.replace(PLAIN, attention_window=2), {}),
    "hybrid": (keras_vit.Variant(1, 32, 1, 2, 48, stem=ResNet((1,), (128,), 32)), {}),
    "bit": (ResNet((1,), (128,), 32), {}),
}


def pixels(number):
    waves = np.random.default_rng(0).normal(size=(number, 3, 3, 3))
    y, x = (np.cos(np.pi * np.arange(3)[:, None] * (np.arange(side) + 0.5) / side) for side in (16, 24))
    return (127.5 + 127 * np.tanh(np.einsum("nckl,kr,lq->nrqc", waves, y, x))).astype("uint8")


def serving_of(kind, input_type="float32"):
    variant, options = MODELS[kind]
    keras.utils.set_random_seed(0)
    model = keras_vit.build(variant, input_shape=(16, 24, 3), classes=5, weights=None, **options)
    return make_serving(model, list("abcde"), input_type=input_type, calibration=pixels(16))


@pytest.mark.parametrize("kind", MODELS)
def test_our_files_have_no_findings(kind):
    serving = serving_of(kind)
    for mode in ("float32", "float16", "int8"):
        assert lint_operators(read_operators(exported(serving, mode)), "gpu", "webgpu") == []


@pytest.mark.parametrize("kind", ["token", "map", "rotary"])
def test_our_files_for_npus_have_known_exceptions_alone(kind):
    found = lint_operators(read_operators(exported(serving_of(kind, "uint8"), "npu")), "npu")
    assert all(finding.listed and finding.rule == "float" for finding in found)


@pytest.fixture(scope="module")
def float_file():
    return _compat.read_flatbuffer(exported(serving_of("token"), "float32"))


@pytest.fixture(scope="module")
def integer_file():
    return _compat.read_flatbuffer(exported(serving_of("map", "uint8"), "npu"))


class Fault:
    """Changes to a file, by the operators' kinds."""

    def __init__(self, model):
        self.model, (self.graph,) = copy.deepcopy(model), model.subgraphs
        (self.graph,) = self.model.subgraphs

    def code(self, kind):
        code = SCHEMA.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def operator(self, kind, number=0):
        codes = [code.builtinCode for code in self.model.operatorCodes]
        return [one for one in self.graph.operators if codes[one.opcodeIndex] == kind][number]

    def tensor(self, operator, place=0, output=False):
        return self.graph.tensors[(operator.outputs if output else operator.inputs)[place]]

    def rename(self, kind, to, options=None, number=0):
        operator = self.operator(kind, number)
        operator.opcodeIndex = self.code(to)
        name = None if options is None else f"{options}Options"
        operator.builtinOptionsType = 0 if name is None else getattr(SCHEMA.BuiltinOptions, name)
        operator.builtinOptions = None if name is None else getattr(SCHEMA, f"{name}T")()
        return operator

    def constant(self, values):
        tensor, buffer = SCHEMA.TensorT(), SCHEMA.BufferT()
        values = np.asarray(values)
        tensor.shape, tensor.type = np.array(values.shape, np.int32), getattr(TYPES, values.dtype.name.upper())
        tensor.name, tensor.buffer = b"planted", len(self.model.buffers)
        buffer.data = values.reshape(-1).view("uint8")
        self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def computed(self, shape, kind=TYPES.FLOAT32):
        tensor = SCHEMA.TensorT()
        tensor.shape, tensor.type, tensor.name, tensor.buffer = np.array(shape, np.int32), kind, b"planted", 0
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


def set_shape(fault, kind, shape, place=0, output=False):
    fault.tensor(fault.operator(kind), place, output).shape = np.array(shape, np.int32)


def set_type(fault, kind, type_, place=0, output=False, number=0):
    fault.tensor(fault.operator(kind, number), place, output).type = type_


def set_option(fault, kind, **options):
    for name, value in options.items():
        setattr(fault.operator(kind).builtinOptions, name, value)


def set_input(fault, kind, place, index, number=0):
    operator = fault.operator(kind, number)
    inputs = [*operator.inputs] + [-1] * (place + 1 - len(operator.inputs))
    inputs[place] = index
    operator.inputs = inputs
    return operator


def unknown_shape(fault):
    fault.tensor(fault.operator(KINDS.MEAN)).shapeSignature = np.array([-1, 25, 32], np.int32)


def broadcast(fault):
    set_input(fault, KINDS.ADD, 1, fault.computed((25, 32)))


def outer_product(fault):
    operator = fault.operator(KINDS.MUL)
    operator.inputs = [fault.computed((1, 25, 1)), fault.computed((1, 1, 32))]


def gather(fault, indices):
    operator = fault.rename(KINDS.STRIDED_SLICE, KINDS.GATHER, "Gather")
    operator.inputs = [operator.inputs[0], fault.constant(indices)]


def select(fault):
    operator = fault.rename(KINDS.MUL, KINDS.SELECT_V2, "SelectV2")
    operator.inputs = [fault.computed((1, 25, 32), TYPES.BOOL), operator.inputs[0], fault.computed((1, 25, 1))]


def paddings(fault):
    operator = fault.rename(KINDS.RESHAPE, KINDS.PAD, "Pad")
    operator.inputs = [operator.inputs[0], fault.constant(np.zeros((2, 2), np.int32))]


def mirror(fault):
    operator = fault.rename(KINDS.RESHAPE, KINDS.MIRROR_PAD, "MirrorPad")
    operator.inputs = [operator.inputs[0], fault.constant(np.zeros((4, 2), np.int32))]
    operator.builtinOptions.mode = 1


def resize(fault):
    operator = fault.rename(KINDS.RESHAPE, KINDS.RESIZE_BILINEAR, "ResizeBilinear")
    operator.builtinOptions.alignCorners = operator.builtinOptions.halfPixelCenters = True


def depthwise(fault):
    operator = fault.rename(KINDS.BATCH_MATMUL, KINDS.DEPTHWISE_CONV_2D, "DepthwiseConv2D")
    operator.builtinOptions.depthMultiplier = 2


def cast(fault):
    operator = fault.rename(KINDS.GELU, KINDS.CAST, "Cast")
    fault.tensor(operator).type = TYPES.INT8


def cumsum(fault):
    operator = fault.rename(KINDS.GELU, KINDS.CUMSUM, "Cumsum")
    operator.inputs = [operator.inputs[0], fault.computed((1,), TYPES.INT32)]


def dequantize(fault):
    operator = fault.rename(KINDS.GELU, KINDS.DEQUANTIZE)
    fault.tensor(operator).type = TYPES.INT16


def strides(fault):
    set_input(fault, KINDS.STRIDED_SLICE, 3, fault.constant(np.array([1, -1, 1], np.int32)))


def few_bits(fault):
    weights = fault.tensor(fault.operator(KINDS.FULLY_CONNECTED, 1), 1)
    weights.type = TYPES.INT8
    set_shape(fault, KINDS.FULLY_CONNECTED, (25, 32), output=True)
    fault.tensor(fault.operator(KINDS.FULLY_CONNECTED), 1).type = TYPES.INT8


def self_product(fault):
    operator = fault.operator(KINDS.BATCH_MATMUL)
    operator.inputs = [operator.inputs[0]] * 2
    fault.tensor(operator).shape = np.array([1, 25, 32], np.int32)


def quantization(fault, kind, place=0, output=False, number=0, **changes):
    tensor = fault.tensor(fault.operator(kind, number), place, output)
    tensor.quantization = copy.deepcopy(tensor.quantization)
    for name, value in changes.items():
        setattr(tensor.quantization, name, value)


def one(scale=1.0, zero=0):
    return {"scale": np.array([scale], "float32"), "zeroPoint": np.array([zero], np.int64)}


# (rule, delegate, which file, what is planted)
FAULTS = [
    ("operator", "gpu", "float", lambda f: f.rename(KINDS.GELU, KINDS.TOPK_V2)),
    ("axes", "gpu", "float", lambda f: set_shape(f, KINDS.TRANSPOSE, (1, 4, 4, 6, 4, 3), output=True)),
    ("shape", "gpu", "float", unknown_shape),
    ("shape", "npu", "integer", unknown_shape),
    ("type", "gpu", "float", lambda f: set_type(f, KINDS.MEAN, TYPES.INT64)),
    ("type", "gpu", "float", lambda f: set_type(f, KINDS.MEAN, TYPES.INT16)),
    ("broadcast", "gpu", "float", broadcast),
    ("outer product", "gpu", "float", outer_product),
    ("slice", "gpu", "float", lambda f: set_option(f, KINDS.STRIDED_SLICE, shrinkAxisMask=2)),
    ("slice", "gpu", "float", lambda f: set_option(f, KINDS.STRIDED_SLICE, newAxisMask=1)),
    ("slice", "gpu", "float", lambda f: set_option(f, KINDS.STRIDED_SLICE, ellipsisMask=1)),
    ("slice axes", "gpu", "float", lambda f: set_shape(f, KINDS.STRIDED_SLICE, (25, 32))),
    ("stride", "gpu", "float", strides),
    ("gather", "gpu", "float", lambda f: gather(f, np.zeros((1, 1), np.int32))),
    ("gather", "gpu", "float", lambda f: gather(f, np.zeros(1, np.int64))),
    ("softmax", "gpu", "float", lambda f: set_option(f, KINDS.SOFTMAX, beta=0.5)),
    (
        "dense",
        "gpu",
        "float",
        lambda f: set_input(f, KINDS.FULLY_CONNECTED, 0, f.constant(np.ones((1, 48), "float32"))),
    ),
    ("dense", "gpu", "float", lambda f: set_option(f, KINDS.FULLY_CONNECTED, weightsFormat=1)),
    ("reduction", "gpu", "float", lambda f: set_input(f, KINDS.MEAN, 1, f.computed((1,), TYPES.INT32))),
    ("cast", "gpu", "float", cast),
    ("select", "gpu", "float", select),
    ("padding", "gpu", "float", paddings),
    ("mirror", "gpu", "float", mirror),
    ("activation", "gpu", "float", lambda f: set_option(f, KINDS.ADD, fusedActivationFunction=5)),
    ("resize", "gpu", "float", resize),
    ("dequantize", "gpu", "float", dequantize),
    ("inputs", "gpu", "float", lambda f: set_input(f, KINDS.RESHAPE, 1, f.computed((3,), TYPES.INT32))),
    ("operands", "gpu", "float", lambda f: set_input(f, KINDS.GELU, 0, f.constant(np.ones((1, 2), "float32")))),
    ("depthwise", "gpu", "float", depthwise),
    ("sum", "gpu", "float", cumsum),
    ("self product", "webgpu", "float", self_product),
    ("batch axis", "webgpu", "float", few_bits),
    ("integer operator", "npu", "integer", lambda f: f.rename(KINDS.GELU, KINDS.SIN)),
    ("integer axes", "npu", "integer", lambda f: set_shape(f, KINDS.TRANSPOSE, (1, 4, 4, 6, 4, 3), output=True)),
    ("float", "npu", "integer", lambda f: set_type(f, KINDS.GELU, TYPES.FLOAT32, output=True)),
    ("weights", "npu", "integer", lambda f: quantization(f, KINDS.FULLY_CONNECTED, 1, **one(zero=3))),
    ("weights", "npu", "integer", lambda f: quantization(f, KINDS.FULLY_CONNECTED, 1, quantizedDimension=1)),
    ("weight type", "npu", "integer", lambda f: set_type(f, KINDS.FULLY_CONNECTED, TYPES.FLOAT32, 1)),
    ("bias", "npu", "integer", lambda f: set_type(f, KINDS.FULLY_CONNECTED, TYPES.FLOAT32, 2, number=2)),
    ("bias", "npu", "integer", lambda f: quantization(f, KINDS.FULLY_CONNECTED, 2, number=2, **one(0.37))),
    ("scale", "npu", "integer", lambda f: quantization(f, KINDS.GELU, 0, True, scale=None)),
    ("zero point", "npu", "integer", lambda f: quantization(f, KINDS.GELU, 0, True, **one(zero=7))),
    ("same scale", "npu", "integer", lambda f: quantization(f, KINDS.TRANSPOSE, 0, True, **one(0.37))),
    ("output scale", "npu", "integer", lambda f: quantization(f, KINDS.SOFTMAX, 0, True, **one(0.37))),
    ("types", "npu", "integer", lambda f: set_type(f, KINDS.BATCH_MATMUL, TYPES.INT8, 1)),
]


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_planted_fault_is_named(number, float_file, integer_file):
    rule, delegate, which, plant = FAULTS[number]
    clean = float_file if which == "float" else integer_file
    assert [one for one in lint_operators(read_operators(written(clean)), delegate) if not one.listed] == []
    fault = Fault(clean)
    plant(fault)
    assert rule in {one.rule for one in lint_operators(read_operators(written(fault.model)), delegate)}


def written(model):
    return _compat.write_flatbuffer(copy.deepcopy(model))


def test_every_rule_has_a_fault_and_a_source():
    assert {rule.name for rule in RULES} == {rule for rule, *_ in FAULTS}
    assert all(rule.source and rule.remedy for rule in RULES)
    assert {delegate for rule in RULES for delegate in rule.delegates} == set(DELEGATES)


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + bytes(40), b"\0\0\0\0TFL3" + b"\xff" * 60, bytes(8) + b"TFL3"])
def test_what_is_no_tflite_file_is_refused(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected a \.tflite file\. Received: .*model\.tflite"):
        lint(path)
    with pytest.raises(ValueError, match="delegates out of gpu, webgpu, npu"):
        lint(path, "tpu")


def test_operators_without_their_inputs_are_refused(tmp_path, float_file):
    model = copy.deepcopy(float_file)
    for operator in model.subgraphs[0].operators:
        operator.inputs = []
    path = tmp_path / "model.tflite"
    path.write_bytes(_compat.write_flatbuffer(model))
    with pytest.raises(ValueError, match=r"Expected a \.tflite file\. Received: .*model\.tflite"):
        lint(path)


def test_the_command(tmp_path):
    serving = serving_of("token", "uint8")
    file, bad = tmp_path / "model.tflite", tmp_path / "none.tflite"
    file.write_bytes(exported(serving, "int8"))
    clean = CliRunner().invoke(main, ["lint", str(file), "--for", "webgpu"])
    assert (clean.exit_code, clean.output) == (0, f"{file}, webgpu: 0 findings\n")
    found = CliRunner().invoke(main, ["lint", str(file), "--for", "gpu", "--json"])
    ((result,), code) = json.loads(found.output), found.exit_code
    assert code == 3 and [one["rule"] for one in result["findings"]] == ["cast"]
    assert CliRunner().invoke(main, ["lint", str(file)]).exit_code == 3
    assert CliRunner().invoke(main, ["lint", str(bad)]).exit_code == 2
