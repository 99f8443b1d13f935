"""Every use of a private or unstable name of another library, in one place.

Each function says which name it uses and why there is no public way. The names are those of Keras 3.15, TensorFlow
2.21, JAX 0.10 and 0.12, LiteRT 2.3, ai-edge-quantizer 0.10, OpenVINO 2026.4 and datasets 5.2. tests/test_compat.py
has a test for each, which fails when the name goes away or changes its meaning, and a scan of the package for such
names anywhere else.

Importing this module imports no other library: the functions import what they use.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# ---------------------------------------------------------------------------------------------------------------------
# Keras: layers inside layers


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers directly inside a layer or model, in the order in which they were made.

    Uses `Layer._layers`: `Model.layers` is public, but a layer that is no model has no such list.
    """
    return list(layer._layers)


def layers_inside(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers inside a layer or model at any depth, each once, an outer one before those inside it."""
    result: dict[int, keras.layers.Layer] = {}

    def visit(outer: keras.layers.Layer) -> None:
        for inner in sublayers(outer):
            if id(inner) not in result:
                result[id(inner)] = inner
                visit(inner)

    visit(layer)
    return list(result.values())


# ---------------------------------------------------------------------------------------------------------------------
# Keras: the graph of a functional model, whose nodes have no public name


def is_graph(layer: Any) -> bool:
    """Returns whether a layer is a model with a graph: functional, or a built Sequential. Uses `_nodes_by_depth`."""
    import keras

    return isinstance(layer, keras.Model) and hasattr(_functional(layer), "_nodes_by_depth")


def graph_nodes(model: keras.Model) -> list[Any]:
    """Returns the calls that a model is made of, from its input on: nodes of `operation`, `input_tensors`, `outputs`.

    Uses `_nodes_by_depth`: `Model.layers` is public, but a layer that is called twice is in it once.
    """
    depths = _functional(model)._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def operation_of(tensor: keras.KerasTensor) -> Any:
    """Returns the layer or operation that computes a tensor of a graph.

    Uses `_keras_history`, for which there is no public name.
    """
    return tensor._keras_history.operation


def input_of(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the first tensor that a tensor is computed from.

    Uses `_keras_history` and `_inbound_nodes`: `Layer.input` is public, but raises for a layer that is called twice.
    """
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors[0]


def nested_output(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the tensor inside a nested model that becomes one of its outputs. Uses `_keras_history`."""
    history = tensor._keras_history
    return _functional(history.operation).outputs[history.tensor_index]


def _functional(model: Any) -> Any:
    return getattr(model, "_functional", None) or model  # a Sequential holds a functional model


# ---------------------------------------------------------------------------------------------------------------------
# Attention


def fused_attention(dtype: str) -> Callable[[Any, Any, Any], Any] | None:
    """Returns a function that computes attention in one kernel, which holds no probabilities; None without a kernel.

    PyTorch has one for every device. JAX has cuDNN's, for 16 bits on a GPU, and `splash_attention` on a TPU.

    Not `keras.ops.dot_product_attention` on PyTorch, as it copies its arguments first.

    Args:
        dtype: in which the attention is computed.

    Returns:
        A function of queries, keys and values, (batch, tokens, heads, head_dim) each, which divides the scores by the
        square root of head_dim.
    """
    import keras
    from keras import ops

    backend = keras.backend.backend()
    if backend == "torch":
        from torch.nn import functional

        def by_token(*arguments: Any) -> Any:
            return functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in arguments)).transpose(1, 2)

        return by_token
    if backend == "jax":
        import jax

        device = jax.default_backend()
        if device == "tpu":
            platform, kernel, fewest = (
                "tpu",
                splash_attention,
                1024,
            )  # tokens; fewer lose more by padding than they save
        elif device == "gpu" and dtype in ("bfloat16", "float16"):
            platform, kernel, fewest = "cuda", ops.dot_product_attention, 1
        else:
            return None
        plain = functools.partial(ops.dot_product_attention, flash_attention=False)

        def attend(*arguments: Any) -> Any:
            (batch, *_), (_, tokens, *_) = arguments[0].shape, arguments[1].shape
            if tokens < fewest or not isinstance(batch, int):  # open, in a model that is exported: a kernel needs it
                return plain(*arguments)
            # What is lowered for another device is computed again for a gradient, and so keeps nothing for it: what it
            # keeps would be in what is lowered for the device, too.
            other = jax.checkpoint(plain)
            return jax.lax.platform_dependent(*arguments, **{platform: kernel}, default=other)

        return attend
    return None


def splash_attention(q: Any, k: Any, v: Any) -> Any:
    """Returns attention by JAX' kernel for TPUs, of queries, keys and values (batch, tokens, heads, head_dim).

    Uses `jax.experimental.pallas.ops.tpu.splash_attention`: `keras.ops.dot_product_attention` uses it, too, but as of
    Keras 3.15 does not scale the scores, and masks all later tokens.
    """
    import jax
    import jax.numpy as jnp
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    (_, queries, heads, head_dim), tokens = q.shape, k.shape[1]

    def padded(x: Any) -> Any:  # (batch, heads, tokens, head_dim), of a multiple of the 128 tokens of a block
        return jnp.transpose(jnp.pad(x, ((0, 0), (0, -x.shape[1] % 128), (0, 0), (0, 0))), (0, 2, 1, 3))

    q, k, v = padded(q * head_dim**-0.5), padded(k), padded(v)
    sizes = q.shape[2], k.shape[2]
    # A query attends to the tokens of its own segment, so not to the padding.
    segments = splash_attention_kernel.SegmentIds(
        jnp.zeros(sizes[0], "int32"), (jnp.arange(sizes[1]) >= tokens).astype("int32")
    )
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.FullMask(sizes)] * heads)
    kernel = splash_attention_kernel.make_splash_mha(mask, head_shards=1, q_seq_shards=1)
    return jnp.transpose(jax.vmap(kernel, (0, 0, 0, None))(q, k, v, segments)[:, :, :queries], (0, 2, 1, 3))


# ---------------------------------------------------------------------------------------------------------------------
# Keras: files of models


@contextlib.contextmanager
def safe_deserialization() -> Iterator[None]:
    """Lets Keras build nothing inside the block that runs code from a file, whatever its global setting.

    Uses `SafeModeScope`: `load_model(safe_mode=True)` gives way to `keras.config.enable_unsafe_deserialization`, which
    has no opposite.
    """
    from keras.src.saving.serialization_lib import SafeModeScope

    with SafeModeScope(True):
        yield


def count_weights(config: dict[str, Any]) -> int:
    """Returns the number of values in the weights of a model from its configuration, without allocating them.

    Uses the list of weights that a `keras.StatelessScope` leaves for later, which has no public name.
    """
    import keras
    from keras.src.backend.common import global_state

    name = "uninitialized_variables"
    others = global_state.get_global_attribute(name)
    global_state.set_global_attribute(name, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            keras.saving.deserialize_keras_object(config)
        return sum(math.prod(weight.shape) for weight in global_state.get_global_attribute(name))
    finally:
        global_state.set_global_attribute(name, others)


# ---------------------------------------------------------------------------------------------------------------------
# Keras: training


def variable_index(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the place of a weight among those that an optimizer was built with, in `update_step`.

    Uses `Optimizer._get_variable_index`: on TensorFlow, `update_step` receives another object than `build` did.
    """
    return optimizer._get_variable_index(variable)


class MuonHooks:
    """Chooses which weights Keras' Muon updates, and lets it see kernels as matrices; comes before it among the bases.

    Overrides `Muon._should_use_adamw`, `lr_adjust` and `zeropower_via_newtonschulz5`, which are undocumented: the
    public arguments exclude weights of two axes only, and weights of more axes are always left to Adam.
    """

    def uses_adam(self, variable: keras.Variable) -> bool:
        """Returns whether Adam, not Muon, updates a weight."""
        raise NotImplementedError

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return self.uses_adam(variable)

    def lr_adjust(self, x: Any) -> Any:
        return _as_matrix(super().lr_adjust, x)  # type: ignore[misc]  # of Muon, the next among the bases

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        return _as_matrix(lambda x: super(MuonHooks, self).zeropower_via_newtonschulz5(x, steps), x)  # type: ignore[misc]


def _as_matrix(function: Callable[[Any], Any], x: Any) -> Any:
    from keras import ops

    return ops.reshape(function(ops.reshape(x, (-1, x.shape[-1]))), x.shape)


class FusedOnTorch:
    """Updates all weights by PyTorch's fused AdamW, in one pass through memory; comes before Adam among the bases.

    Overrides `_backend_update_step` of Keras' Adam, as its optimizers for PyTorch do, which no subclass inherits from:
    update steps of single operations pass through memory twenty times. `torch.optim.adamw.adamw` has no settled
    arguments.
    """

    def factor_and_decay(self, variable: keras.Variable) -> tuple[float, float]:
        """Returns the factor on the learning rate of a weight, and its weight decay."""
        raise NotImplementedError

    def update_average(self, variable: keras.Variable) -> None:
        """Is called after each update of a weight."""
        raise NotImplementedError

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        import keras

        optimizer: Any = self
        if keras.backend.backend() != "torch" or optimizer.amsgrad:
            super()._backend_update_step(grads, trainable_variables, learning_rate)  # type: ignore[misc]
            return
        import torch
        from torch.optim.adamw import adamw

        groups: dict[tuple[float, float], list[tuple[Any, ...]]] = {}
        for gradient, variable in zip(grads, trainable_variables):
            index = variable_index(optimizer, variable)
            moments = optimizer._momentums[index].value, optimizer._velocities[index].value
            groups.setdefault(self.factor_and_decay(variable), []).append((variable.value, gradient, *moments))
        step, rate = int(optimizer.iterations), float(learning_rate)
        with torch.no_grad():
            for (factor, decay), tensors in groups.items():
                values, gradients, momentums, velocities = map(list, zip(*tensors))
                adamw(
                    values,
                    gradients,
                    momentums,
                    velocities,
                    [],
                    list(torch.full((len(values),), float(step), device=values[0].device)),
                    fused=True,
                    amsgrad=False,
                    beta1=optimizer.beta_1,
                    beta2=optimizer.beta_2,
                    lr=rate * factor,
                    weight_decay=decay,
                    # Keras adds epsilon before the correction of the second moment, PyTorch after it.
                    eps=optimizer.epsilon / math.sqrt(1 - optimizer.beta_2 ** (step + 1)),
                    maximize=False,
                )
        for variable in trainable_variables:
            self.update_average(variable)


def expect_summed_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer apply gradients as they are, which are summed over the replicas already.

    Replaces `_all_reduce_sum_gradients` of Keras' optimizers for TensorFlow, which has no switch: a second sum takes as
    long as the first, and workers exchange all gradients over the network for it.
    """
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    inner._all_reduce_sum_gradients = list


class BuiltBeforeFit:
    """Keeps `fit` from building a model; comes before `keras.Model` among the bases of one that is built already.

    Overrides `_maybe_symbolic_build` of Keras' TensorFlow trainer, which has no switch: it reduces a batch over
    workers, which it cannot where they are many.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        pass


def exact_gelu(x: Any) -> Any:
    """Returns the exact GELU, x * (1 + erf(x / sqrt(2))) / 2, in as few operations as the backend has.

    On PyTorch it is `keras.ops.gelu(approximate=False)`, one operation, and one for the gradient, which keeps x alone;
    the formula has five, and more for the gradient. Elsewhere it is the formula: TensorFlow fuses it with the matrix
    product before it, XLA fuses any, and exporting `keras.ops.gelu(approximate=False)` to ONNX leaves an Erfc that no
    runtime can run.
    """
    import keras
    from keras import ops

    if keras.backend.backend() == "torch":
        return ops.gelu(x, approximate=False)
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))


def sync_weights(model: keras.Model) -> None:
    """Brings a model's weights up to date in the middle of `fit`, where the JAX trainer leaves them behind.

    Uses `jax_state_sync`, which the models of Keras' JAX backend have; `fit` calls it at the end of an epoch only.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


# ---------------------------------------------------------------------------------------------------------------------
# TensorFlow


def projective_transform(images: Any, transforms: Any, size: tuple[int, int]) -> Any:
    """Returns images resampled bilinearly by a projective transform each; the edges are repeated outside.

    Uses `tf.raw_ops.ImageProjectiveTransformV3`: `keras.ops.image.affine_transform` runs it too, but not with
    TensorFlow's tensors on another backend.

    Args:
        images: (batch, height, width, channels).
        transforms: (batch, 8) float32, from a place in the result to its place in the image.
        size: (height, width) of the result in pixels.
    """
    import tensorflow as tf

    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def index_shuffle(index: Any, seed: Any, count: Any, rounds: int) -> Any:
    """Returns the place of each index in a random permutation of `count` numbers.

    Uses `tf.raw_ops.RandomIndexShuffle`: `tf.random.experimental.index_shuffle` pads a seed for each index wrongly.

    Args:
        index: (indices,) int64.
        seed: (indices, 3) uint32.
        count: how many numbers are permuted, an integer; or (indices,) int64, another permutation for each index.
        rounds: of the cipher.
    """
    import tensorflow as tf

    return tf.raw_ops.RandomIndexShuffle(index=index, seed=seed, max_index=count - 1, rounds=rounds)


def select_whole(condition: Any, x: Any, y: Any) -> Any:
    """Returns one of two tensors, by one decision for the whole of them.

    Uses `tf.raw_ops.Select`: `tf.where` spreads the decision over all elements, which is ten times as slow.
    """
    import tensorflow as tf

    return tf.raw_ops.Select(condition=condition, x=x, y=y)


def bincount(values: Any, size: int) -> Any:
    """Returns how often each number from 0 to `size` - 1 occurs in a vector of int32, (size,) int32.

    Uses `tf.raw_ops.DenseBincount`: `tf.math.bincount` reads the least and the greatest of the values first.
    """
    import tensorflow as tf

    return tf.raw_ops.DenseBincount(input=values, size=size, weights=tf.zeros(0, tf.int32))


def sizes_table() -> Any:
    """Returns a table from an int64 to two int32, (-1, -1) where it has none, which changes inside a graph.

    Uses `tf.lookup.experimental.MutableHashTable`; the public tables of `tf.lookup` do not change.
    """
    import tensorflow as tf

    return tf.lookup.experimental.MutableHashTable(tf.int64, tf.int32, [-1, -1])


def steps_without_merge() -> bool:
    """Returns whether a `tf.distribute` strategy lets each replica apply gradients on its own.

    Uses `tf.__internal__.distribute.strategy_supports_no_merge_call`, as Keras' own optimizers do.
    """
    import tensorflow as tf

    return bool(tf.__internal__.distribute.strategy_supports_no_merge_call())


def replica_values(strategy: Any, value: Any) -> tuple[Any, ...]:
    """Returns the values that the replicas of this process have.

    Uses `tf.distribute.Strategy.experimental_local_results`, the one documented way.
    """
    return strategy.experimental_local_results(value)


def connect_tpu(resolver: Any) -> None:
    """Connects to a TPU and sets it up.

    Uses `tf.config.experimental_connect_to_cluster` and `tf.tpu.experimental.initialize_tpu_system`, the one documented
    way.
    """
    import tensorflow as tf

    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that tf.data calls as it is: AutoGraph cannot rewrite what calls a Keras model.

    Uses `tf.autograph.experimental.do_not_convert`: tf.data has no option of its own for a function inside another one.
    """
    import tensorflow as tf

    converted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(function)
    return converted


def without_gradients() -> Any:
    """Returns options that leave custom gradients out of a SavedModel: a client does not train it.

    Uses `tf.saved_model.SaveOptions(experimental_custom_gradients=...)`, the one documented way.
    """
    import tensorflow as tf

    return tf.saved_model.SaveOptions(experimental_custom_gradients=False)


# ---------------------------------------------------------------------------------------------------------------------
# JAX


def jax_in_tensorflow(function: Callable[..., Any], shapes: Sequence[str | None]) -> Callable[..., Any]:
    """Returns a function of JAX as a function of TensorFlow, for CPUs, NVIDIA GPUs and TPUs, without its gradient.

    Uses TensorFlow's `stablehlo` and `xla` modules and `jax.extend.mlir`. `jax.experimental.jax2tf` does the same, but
    writes StableHLO of a few weeks before the release of JAX, which an older TensorFlow does not read: the operations
    are written here in the version of the installed TensorFlow, or in JAX's own where that is older.

    Args:
        function: of arrays; its result is a tree of arrays.
        shapes: of its arguments, with names for the open axes; None for known ones.
    """
    import jax
    import jax.export
    import tensorflow as tf
    from jax.extend import mlir
    from tensorflow.compiler.mlir.stablehlo import stablehlo
    from tensorflow.compiler.tf2xla.python import xla

    scope = jax.export.SymbolicScope()

    def description(value: Any, shape: str | None) -> Any:
        sizes = tuple(value.shape) if shape is None else jax.export.symbolic_shape(shape, scope=scope)
        return jax.ShapeDtypeStruct(sizes, tf.as_dtype(value.dtype).as_numpy_dtype)

    def run(*arguments: Any) -> Any:
        described = [
            jax.tree.map(lambda value, shape=shape: description(value, shape), argument)
            for argument, shape in zip(arguments, shapes, strict=True)
        ]
        exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*described)
        values = jax.tree.leaves(arguments)
        results = xla.call_module(
            [tf.convert_to_tensor(values[i]) for i in exported.module_kept_var_idx],
            version=exported.calling_convention_version,
            module=mlir.serialize_portable_artifact(exported.mlir_module(), stablehlo.get_current_version()),
            Tout=[tf.as_dtype(result.dtype) for result in exported.out_avals],
            Sout=[[size if isinstance(size, int) else None for size in result.shape] for result in exported.out_avals],
            platforms=[platform.upper() for platform in exported.platforms],
            use_shardy_partitioner=jax.config.jax_use_shardy_partitioner,
        )
        return jax.tree.unflatten(exported.out_tree, results)

    return run


# ---------------------------------------------------------------------------------------------------------------------
# LiteRT and ai-edge-quantizer


def tflite_schema() -> Any:
    """Returns the generated readers and writers of TFLite's flatbuffer, `ai_edge_litert.schema_py_generated`.

    They are undocumented, and change with the schema; nothing else reads a file's operators.
    """
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def read_flatbuffer(file: bytes) -> Any:
    """Returns a TFLite file as a `ModelT`, to be changed. Uses `ai_edge_litert.tools.flatbuffer_utils`."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(file))


def write_flatbuffer(model: Any) -> bytes:
    """Returns a `ModelT` as a TFLite file. Uses `ai_edge_litert.tools.flatbuffer_utils`."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@contextlib.contextmanager
def all_tensors_kept() -> Iterator[dict[str, bool]]:
    """Returns the interpreter option that keeps the values of all tensors, and hides its warning meanwhile.

    The quantizer sets it too.

    Uses `experimental_preserve_all_tensors` of LiteRT's `Interpreter`: nothing else shows a graph's inner tensors.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning: Enabling `experimental_preserve_all_tensors`", UserWarning)
        yield {"experimental_preserve_all_tensors": True}


def quantizer_modules() -> tuple[Any, Any, Any]:
    """Returns ai-edge-quantizer's modules `quantizer`, `recipe_manager` and `qtyping`.

    The last two are undocumented: the public recipes have no ranges by tensor.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe_manager

    return quantizer, recipe_manager, qtyping


# ---------------------------------------------------------------------------------------------------------------------
# OpenVINO


def openvino_without_telemetry() -> Any:
    """Imports OpenVINO, which otherwise reports each import and each conversion to its makers over the network.

    Uses that it goes on without the package `openvino_telemetry`: the documented way, the command `opt_in_out`, is the
    user's to run. Raises an ImportError if OpenVINO is not installed.
    """
    absent: Any = None
    sys.modules.setdefault("openvino_telemetry", absent)
    import openvino

    return openvino


# ---------------------------------------------------------------------------------------------------------------------
# datasets


def has_row_order(dataset: Any) -> bool:
    """Returns whether a Hugging Face dataset reads its rows in another order than that of its files.

    Uses `Dataset._indices`: `flatten_indices` is public, but copies the rows.
    """
    return dataset._indices is not None
