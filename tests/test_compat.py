"""Every private or unstable name of another library: that it is there, means what it did, and is used in one place."""

import ast
import importlib.util
import json
import pathlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.saving import serialization_lib

import keras_vit
from keras_vit import _compat

PACKAGE = pathlib.Path(keras_vit.__file__).parent

# ---------------------------------------------------------------------------------------------------------------------
# Where they are used

# Parts of the name of a module or attribute of another library that say that it may change.
UNSTABLE = {"experimental", "src", "internal", "raw_ops", "jax2tf", "flatbuffer_utils", "schema_py_generated"}
UNSTABLE |= {"qtyping", "recipe_manager", "__internal__"}
# Undocumented names without an underscore.
UNSTABLE |= {"jax_state_sync", "dynamic_scale", "lr_adjust", "zeropower_via_newtonschulz5"}
NAMEDTUPLE = {"_replace", "_asdict", "_fields"}
BASES = (keras.Model, keras.Sequential, keras.layers.Dense, keras.optimizers.Muon, keras.callbacks.Callback)
OVERRIDABLE = {name for base in BASES for name in dir(base)} | {"_maybe_symbolic_build"}


def is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def names_made(tree):
    """Yields the private names that a source gives to something of its own."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def foreign_names(source, of_package=frozenset()):
    """Returns the private and unstable names of others in a source.

    Args:
        source: the text.
        of_package: private names that the package's modules make: what `self` may have of a base elsewhere.
    """
    tree = ast.parse(source)
    own = set(names_made(tree))
    result = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            front = [node.module] if isinstance(node, ast.ImportFrom) else []
            names = [".".join([*front, name.name]) for name in node.names]
            for name in (name for name in names if name.split(".")[0] not in ("keras_vit", "__future__")):
                parts = set(name.split("."))
                in_tensorflow = name.startswith("tensorflow.") and parts & {"python", "core", "compiler"}
                if parts & UNSTABLE or in_tensorflow or "jax.extend" in name or any(is_private(part) for part in parts):
                    result.add(name)
        elif isinstance(node, ast.Attribute):
            of = ast.unparse(node.value)
            known = own | (of_package if of in ("self", "cls", "super()") else set())
            ours = of.split(".")[0] == "keras_vit" or node.attr in NAMEDTUPLE or node.attr in known
            unstable = node.attr in UNSTABLE or node.attr.startswith("experimental")
            if (is_private(node.attr) and not ours) or unstable:
                result.add(f"{of}.{node.attr}")
        elif isinstance(node, ast.keyword) and (node.arg or "").startswith("experimental"):
            result.add(f"{node.arg}=")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and (is_private(name.value) or name.value in UNSTABLE):
                result.add(f"{ast.unparse(node.func)}({name.value})")
        elif isinstance(node, ast.ClassDef) and node.bases:
            names = set(names_made(node)) & (OVERRIDABLE | UNSTABLE)
            result |= {f"{node.name}.{name}" for name in names if is_private(name) or name in UNSTABLE}
    return result


@pytest.mark.parametrize(
    "source, found",
    [
        ("from keras.src import backend", {"keras.src.backend"}),
        ("import tensorflow.lite.python.lite", {"tensorflow.lite.python.lite"}),
        ("from tensorflow.core.framework import summary_pb2", {"tensorflow.core.framework.summary_pb2"}),
        ("from jax.experimental import jax2tf", {"jax.experimental.jax2tf"}),
        ("from jax.extend import mlir", {"jax.extend.mlir"}),
        ("import tensorflow.compiler.mlir.stablehlo", {"tensorflow.compiler.mlir.stablehlo"}),
        ("tf.raw_ops.Select(x=1)", {"tf.raw_ops"}),
        ("tf.lookup.experimental.MutableHashTable()", {"tf.lookup.experimental"}),
        ("strategy.experimental_local_results(x)", {"strategy.experimental_local_results"}),
        ("Interpreter(experimental_preserve_all_tensors=True)", {"experimental_preserve_all_tensors="}),
        ("layer._layers", {"layer._layers"}),
        ("class A:\n  def f(self): return self._layers", {"self._layers"}),
        ("class A:\n  def _f(self): return self._f() + other._f", set()),
        ("class A(keras.Model):\n  def _flatten_layers(self): pass", {"A._flatten_layers"}),
        (
            "class A(keras.Model):\n  def call(self): self._flatten_layers = []",
            {"A._flatten_layers"},
        ),
        ("class A(keras.optimizers.Muon):\n  def lr_adjust(self, x): pass", {"A.lr_adjust"}),
        ("hasattr(model, '_functional')", {"hasattr(_functional)"}),
        ("row._replace(a=1); keras_vit._public.load; self.__class__", set()),
    ],
)
def test_the_reader_of_foreign_names(source, found):
    assert foreign_names(source) == found


def test_private_names_of_others_are_in_one_place():
    sources = {path: path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if path.name != "_compat.py"}
    of_package = {name for text in sources.values() for name in names_made(ast.parse(text))}
    result = {str(path.relative_to(PACKAGE)): foreign_names(text, of_package) for path, text in sources.items()}
    assert {path: names for path, names in result.items() if names} == {}


def test_every_function_has_a_test():
    tree = ast.parse(pathlib.Path(_compat.__file__).read_text("utf-8"))
    names = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    text = pathlib.Path(__file__).read_text("utf-8")
    assert {name for name in names if not name.startswith("_") and f"_compat.{name}" not in text} == set()


def test_importing_it_imports_nothing_else(run_python):
    code = (
        "import importlib.util, json, sys; before = {*sys.modules};"
        f"spec = importlib.util.spec_from_file_location('one', {_compat.__file__!r});"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec));"
        "print(json.dumps(sorted({name.split('.')[0] for name in {*sys.modules} - before})))"
    )
    assert not set(run_python("-c", code)) - set(sys.stdlib_module_names)


# ---------------------------------------------------------------------------------------------------------------------
# Keras


def test_tensorflow_has_no_kernel_for_attention():
    """For the other backends, and `_compat.splash_attention`: layers/test_fused_attention.py."""
    assert _compat.fused_attention("float32") is None


def test_layers_inside_a_layer_come_in_order():
    wrapped = keras.layers.Bidirectional(keras.layers.LSTM(2))
    assert _compat.sublayers(wrapped) == [wrapped.forward_layer, wrapped.backward_layer]
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.ReLU()])
    outer = keras.Sequential([inner, keras.layers.Rescaling(2.0), inner.layers[-1]])
    of_ours = [layer for layer in _compat.layers_inside(outer) if layer in (*outer.layers, *inner.layers)]
    assert of_ours == [inner, *inner.layers, outer.layers[1]]


def test_a_graph_is_followed_from_end_to_start():
    dense = keras.layers.Dense(3)
    inner = keras.Sequential([keras.Input((3,)), dense])
    x = keras.Input((3,))
    y = inner(dense(x)) * 2.0
    model = keras.Model(x, y)
    assert _compat.is_graph(model) and _compat.is_graph(inner)
    assert not _compat.is_graph(dense) and not _compat.is_graph(keras.Sequential([dense]))
    kinds = [type(node.operation).__name__ for node in _compat.graph_nodes(model)]
    assert kinds == ["InputLayer", "Dense", "Sequential", "Multiply"]
    assert _compat.graph_nodes(model)[1].input_tensors[0] is x
    assert _compat.graph_nodes(model)[-1].outputs[0] is y
    before = _compat.input_of(y)
    assert _compat.operation_of(before) is inner
    assert _compat.nested_output(before) is inner.outputs[0]
    assert _compat.input_of(_compat.input_of(before)) is x


class Indices(keras.optimizers.Optimizer):
    def update_step(self, gradient, variable, learning_rate):
        self.seen.append(_compat.variable_index(self, variable))


def test_a_lambda_is_refused_whatever_the_global_setting():
    config = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    setting = serialization_lib.SafeModeScope(False)  # as `keras.config.enable_unsafe_deserialization`, for a while
    with setting:
        keras.saving.deserialize_keras_object(json.loads(json.dumps(config)), safe_mode=True)
        with _compat.safe_deserialization(), pytest.raises(ValueError, match="Lambda|lambda"):
            keras.saving.deserialize_keras_object(config, safe_mode=True)
        assert serialization_lib.in_safe_mode() is False


def test_weights_are_counted_and_not_made():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5), keras.layers.Dropout(0.5)])
    config = keras.saving.serialize_keras_object(model)
    text = json.dumps(config)
    assert _compat.count_weights(config) == 3 * 5 + 5 + 2  # the state of the dropout's seed
    assert _compat.count_weights(json.loads(text.replace('"units": 5', '"units": 1000000000000'))) == 4 * 10**12 + 2


def test_the_index_of_a_weight_in_an_update_step():
    weights = [keras.Variable(np.zeros(3, "float32"), name=name) for name in "abc"]
    optimizer = Indices(0.1)
    optimizer.build(weights)
    optimizer.seen = []
    optimizer.apply([tf.zeros(3)] * 3, weights)
    assert optimizer.seen == [0, 1, 2]


class _Muon(_compat.MuonHooks, keras.optimizers.Muon):
    def uses_adam(self, variable):
        return variable.name != "kernel"


def test_muon_updates_the_kernels_that_are_chosen():
    layer = keras.layers.Conv2D(4, 2)
    layer.build((None, 8, 8, 3))
    optimizer = _Muon(0.1, weight_decay=None, adam_weight_decay=None)
    optimizer.build(layer.trainable_variables)
    before = [keras.ops.convert_to_numpy(variable) for variable in layer.trainable_variables]
    gradients = [keras.ops.ones(variable.shape) for variable in layer.trainable_variables]
    optimizer.apply(gradients, layer.trainable_variables)
    kernel, bias = (was - keras.ops.convert_to_numpy(now) for was, now in zip(before, layer.trainable_variables))
    assert optimizer.adam_velocities[0] is None and optimizer.adam_velocities[1] is not None
    # One singular value of the matrix (rows, columns and channels in by filters) is about 1, times the rate.
    assert 0.6 < np.linalg.norm(kernel.reshape(-1, 4), 2) / (0.1 * 0.2 * np.sqrt(12)) < 1.3
    np.testing.assert_allclose(bias, 0.1 * optimizer.adam_lr_ratio, rtol=1e-3)


class Built(_compat.BuiltBeforeFit, keras.Model):
    pass


def test_fit_does_not_build_a_model_that_is_built(monkeypatch):
    assert callable(keras.Model._maybe_symbolic_build)
    calls = []
    monkeypatch.setattr(keras.Model, "_maybe_symbolic_build", lambda *_, **__: calls.append(1))
    for kind in (keras.Model, Built):
        x = keras.Input((2,))
        model = kind(x, keras.layers.Dense(1)(x))
        model.compile("sgd", "mse")
        model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
        assert calls == [1]  # of Keras' own model alone


SYNC = """
import json, keras, numpy as np
from keras_vit import _compat
x = keras.Input((2,))
model = keras.Model(x, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(x))
model.compile("sgd", "mse")
seen = []
class Look(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        _compat.sync_weights(model)
        seen.append(float(model.layers[-1].kernel.numpy()[0, 0]))
model.fit(np.ones((4, 2)), np.zeros((4, 1)), batch_size=4, verbose=0, callbacks=[Look()])
print(json.dumps(seen))
"""


def test_weights_are_brought_up_to_date_within_fit(run_python):
    (weight,) = run_python("-c", SYNC, KERAS_BACKEND="jax")
    assert weight == pytest.approx(1 - 0.01 * 4)


FUSED = """
import json, keras, numpy as np
from keras_vit import _compat
from keras_vit.training.optimizers import AdamW
def trained(kind):
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=(5, 3)).astype("float32"), name=name) for name in ("kernel", "bias")]
    optimizer = kind(0.01, kernel_decay=0.1, ema=0.9, scales={"bias": 0.5})
    for _ in range(7):
        optimizer.apply([keras.ops.array(rng.normal(size=(5, 3)).astype("float32")) for _ in weights], weights)
    return [keras.ops.convert_to_numpy(value) for value in weights + optimizer.variables]
fused = trained(AdamW)
adam_of_keras = keras.optimizers.Optimizer._backend_update_step
plain = trained(type("Plain", (AdamW,), {"_backend_update_step": adam_of_keras}))
print(json.dumps([float(np.abs(one - other).max()) for one, other in zip(fused, plain, strict=True)]))
"""


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
def test_the_fused_step_of_pytorch_is_that_of_keras(run_warm):
    """To rounding: Keras computes the corrections of Adam in float32, `_compat.FusedOnTorch` in float64."""
    differences = run_warm("-c", FUSED, KERAS_BACKEND="torch")
    assert len(differences) == 2 + 2 + 3 * 2 and max(differences) < 1e-6


# ---------------------------------------------------------------------------------------------------------------------
# TensorFlow and JAX


def test_the_exact_gelu():
    """Its gradient and its rounding are tested on each backend in tests/layers/test_transformer.py."""
    np.testing.assert_allclose(_compat.exact_gelu(np.float32([-1, 0, 2])), [-0.1586553, 0, 1.9544997], atol=1e-6)


def test_projective_transform():
    image = np.arange(12, dtype="float32").reshape(1, 3, 4, 1)
    one_left = tf.constant([[1, 0, 1, 0, 1, 0, 0, 0]], tf.float32)
    result = _compat.projective_transform(image, one_left, (3, 4)).numpy()
    np.testing.assert_array_equal(result[0, ..., 0], image[0, :, [1, 2, 3, 3], 0].T)


def test_index_shuffle():
    index, seed = tf.range(8, dtype=tf.int64), tf.tile(tf.constant([[1, 2, 3]], tf.uint32), (8, 1))
    # Written down with TensorFlow 2.21: runs that go on rely on the same order.
    assert _compat.index_shuffle(index, seed, 8, 4).numpy().tolist() == [2, 0, 6, 4, 5, 1, 7, 3]


def test_select_whole():
    x, y = tf.zeros((2, 3), tf.uint8), tf.ones((2, 3), tf.uint8)
    for condition, value in ((True, 0), (False, 1)):
        assert (_compat.select_whole(tf.constant(condition), x, y).numpy() == value).all()


def test_bincount():
    assert _compat.bincount(tf.constant([3, 1, 3]), 5).numpy().tolist() == [0, 1, 0, 2, 0]


def test_a_table_changes_inside_a_graph():
    table = _compat.sizes_table()

    @tf.function
    def once(key):
        before = table.lookup(key)
        with tf.control_dependencies([before]), tf.control_dependencies([table.insert(key, tf.constant([4, 5]))]):
            return before, table.lookup(key)

    before, after = once(tf.constant(3, tf.int64))
    assert (before.numpy().tolist(), after.numpy().tolist()) == ([-1, -1], [4, 5])


def test_replicas():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    assert _compat.steps_without_merge() is True
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        assert isinstance(_compat.steps_without_merge(), bool)
    (value,) = _compat.replica_values(strategy, strategy.run(lambda: tf.constant(3)))
    assert int(value) == 3


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer])
def test_gradients_that_are_summed_are_not_summed_again(monkeypatch, wrap):
    sums, all_reduce = [], tf.distribute.ReplicaContext.all_reduce

    def counted(self, operation, values, options=None):
        sums.append(len(values))
        return all_reduce(self, operation, values, options)

    monkeypatch.setattr(tf.distribute.ReplicaContext, "all_reduce", counted)
    for change, expected in ((lambda optimizer: None, [1]), (_compat.expect_summed_gradients, [])):
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope():
            variable, optimizer = keras.Variable([5.0]), wrap(keras.optimizers.SGD(1.0))
            optimizer.build([variable])
        change(optimizer)
        gradient = tf.constant([getattr(optimizer, "initial_scale", 1.0)])
        sums.clear()
        strategy.run(lambda: optimizer.apply([gradient], [variable]))  # noqa: B023
        assert (sums, float(variable.value.numpy()[0])) == (expected, 4.0)


def test_tpu(monkeypatch):
    assert callable(tf.config.experimental_connect_to_cluster) and callable(tf.tpu.experimental.initialize_tpu_system)
    calls = []
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda at: calls.append(("connect", at)))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda at: calls.append(("initialize", at)))
    _compat.connect_tpu("a resolver")
    assert calls == [("connect", "a resolver"), ("initialize", "a resolver")]


def test_a_function_inside_a_dataset_is_called_as_written():
    kinds = []

    def inner(x):
        kinds.append(type(x > 0))  # AutoGraph would rewrite a branch on it
        return x + 1

    data = tf.data.Dataset.range(2).map(lambda x: _compat.as_written(inner)(x))
    assert [int(x) for x in data] == [1, 2] and len(kinds) == 1


def test_a_savedmodel_without_gradients():
    assert _compat.without_gradients().experimental_custom_gradients is False


def test_jax_in_tensorflow():
    import jax.numpy as jnp

    def function(weights, unused, x):
        return {"double": jnp.dot(x, weights["w"]) * 2, "rows": (jnp.ones((x.shape[0], 5), "bfloat16"),)}

    shapes = [None, None, "(batch, 3)"]
    types = [{"w": tf.TensorSpec((3,))}, tf.TensorSpec((2, 2), tf.int32), tf.TensorSpec((None, 3))]
    run = tf.function(_compat.jax_in_tensorflow(function, shapes), input_signature=types, autograph=False)
    graph = run.get_concrete_function()
    assert graph.structured_outputs["rows"][0].shape.as_list() == [None, 5]
    for batch in (2, 7):
        result = run({"w": np.ones(3, "float32")}, np.zeros((2, 2), "int32"), np.ones((batch, 3), "float32"))
        assert result["double"].numpy().tolist() == [6] * batch
        assert (result["rows"][0].dtype, result["rows"][0].shape) == (tf.bfloat16, (batch, 5))
    variable = tf.Variable(tf.fill((3,), 2.0))
    assert run({"w": variable}, tf.zeros((2, 2), tf.int32), tf.ones((1, 3)))["double"].numpy().tolist() == [12]


def test_a_function_of_jax_runs_on_the_device_of_tensorflow():
    import jax

    def function(x):
        return jax.lax.platform_dependent(x, cpu=lambda x: x + 1, cuda=lambda x: x + 2, tpu=lambda x: x + 3)

    run = tf.function(_compat.jax_in_tensorflow(function, ["(batch, 3)"]), autograph=False)
    (node,) = (
        node
        for node in run.get_concrete_function(tf.TensorSpec((None, 3))).graph.as_graph_def().node
        if node.op == "XlaCallModule"
    )
    assert list(node.attr["platforms"].list.s) == [b"CPU", b"CUDA", b"TPU"]
    assert run(tf.zeros((2, 3))).numpy().tolist() == [[1, 1, 1]] * 2


def test_operations_of_jax_are_written_in_a_version_that_tensorflow_reads():
    from tensorflow.compiler.mlir.stablehlo import stablehlo

    run = tf.function(_compat.jax_in_tensorflow(lambda x: x + 1, ["(batch, 3)"]), autograph=False)
    nodes = run.get_concrete_function(tf.TensorSpec((None, 3))).graph.as_graph_def().node
    (module,) = (node.attr["module"].s for node in nodes if node.op == "XlaCallModule")
    (version,) = re.findall(rb"StableHLO_v([0-9.]+)", module)
    newest = stablehlo.get_current_version()
    assert stablehlo.get_smaller_version(version.decode(), newest) == version.decode()


# ---------------------------------------------------------------------------------------------------------------------
# LiteRT, ai-edge-quantizer, datasets


@pytest.fixture(scope="module")
def tflite():
    def product(x):
        return tf.nn.relu(tf.matmul(x, tf.ones((3, 64)))) + 1.0

    run = tf.function(product, input_signature=[tf.TensorSpec((1, 3))]).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([run]).convert()


def test_the_schema_reads_a_file(tflite):
    schema = _compat.tflite_schema()
    model = schema.Model.GetRootAsModel(tflite, 0)
    codes = [model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())]
    assert schema.BuiltinOperator.FULLY_CONNECTED in codes
    assert schema.ModelT.InitFromPackedBuf(tflite, 0).subgraphs[0].tensors[0].type == schema.TensorType.FLOAT32


def test_a_flatbuffer_is_changed_and_written(tflite):
    model = _compat.read_flatbuffer(tflite)
    model.description = b"changed"
    assert _compat.read_flatbuffer(_compat.write_flatbuffer(model)).description == b"changed"


def test_all_tensors_are_kept(tflite):
    from ai_edge_litert.interpreter import Interpreter

    with _compat.all_tensors_kept() as options:
        interpreter = Interpreter(model_content=tflite, **options)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ones((1, 3), "float32"))
    interpreter.invoke()
    product = _compat.read_flatbuffer(tflite).subgraphs[0].operators[0]
    assert interpreter.get_tensor(product.outputs[0]).tolist() == [[3] * 64]  # before the 1 is added


def test_the_quantizer(tflite):
    quantizer, recipe_manager, qtyping = _compat.quantizer_modules()
    recipe = recipe_manager.RecipeManager()
    granularity = qtyping.QuantGranularity("CHANNELWISE")
    recipe.add_dynamic_config(".*", qtyping.TFLOperationName.FULLY_CONNECTED, 8, granularity)
    work = quantizer.Quantizer(tflite)
    work.load_quantization_recipe(recipe.get_quantization_recipe())
    with _compat.all_tensors_kept():
        file = bytes(work.quantize({}, enable_progress_bar=False, enable_progress_report=False).quantized_model)
    types = {tensor.type for tensor in _compat.read_flatbuffer(file).subgraphs[0].tensors}
    assert _compat.tflite_schema().TensorType.INT8 in types


IMPORTED = """
import json, sys
from keras_vit import _compat
openvino = _compat.openvino_without_telemetry()
images = openvino.opset8.parameter([1], float)
telemetry = openvino.tools.ovc.telemetry_utils.tm.__name__
print(json.dumps([telemetry, [name for name in sys.modules if name.startswith("openvino_telemetry.")]]))
"""


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="needs OpenVINO")
def test_openvino_is_imported_without_telemetry(run_python):
    assert run_python("-c", IMPORTED) == ["openvino.tools.ovc.telemetry_stub", []]


def test_a_dataset_in_another_order():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"number": [1, 2, 3]})
    assert not _compat.has_row_order(rows)
    assert _compat.has_row_order(rows.select([2, 0]))
