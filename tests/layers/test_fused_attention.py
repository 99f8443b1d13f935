"""Attention in one kernel: the same numbers, used where nobody reads the probabilities, and what JAX lowers to."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit import _compat, layers
from keras_vit.models.hooks import Watch

X = np.random.default_rng(0).normal(size=(2, 11, 12)).astype("float32")


@pytest.fixture
def kernel(monkeypatch):
    """Gives every backend Keras' function as its kernel; returns the shapes of the queries that it was called with."""
    shapes = []

    def attend(q, k, v):
        shapes.append(tuple(q.shape))
        return ops.dot_product_attention(q, k, v)

    monkeypatch.setattr(_compat, "fused_attention", lambda dtype: attend)
    return shapes


def outputs(layer, *inputs, **options):
    return ops.convert_to_numpy(layer(*inputs, **options))


@pytest.mark.parametrize("queries", [11, 5, 1])
def test_the_numbers_are_the_same(kernel, monkeypatch, queries):
    attention = layers.Attention(num_heads=3)
    fused = outputs(attention, X[:, :queries], X)
    assert kernel == [(2, queries, 3, 4)]
    monkeypatch.setattr(_compat, "fused_attention", lambda dtype: None)
    np.testing.assert_allclose(fused, outputs(attention, X[:, :queries], X), atol=1e-6)


def test_dropout_needs_the_probabilities_in_training_alone(kernel):
    attention = layers.Attention(num_heads=3, dropout=0.5)
    attention(X, X, training=True)
    assert kernel == []
    attention(X, X, training=False)
    assert kernel == [(2, 11, 3, 4)]


def test_a_hook_reads_the_probabilities(kernel):
    attention = layers.Attention(num_heads=3)
    tokens = keras.Input((11, 12))
    (probabilities,) = Watch(keras.Model(tokens, attention(tokens, tokens)), [attention], "probabilities")(X)
    assert kernel == []
    np.testing.assert_allclose(ops.convert_to_numpy(probabilities).sum(-1), 1, atol=1e-5)


class Sharper(layers.Attention):
    """A user's attention, with probabilities of its own."""

    def probabilities(self, queries, tokens):
        return ops.softmax(8 * ops.log(super().probabilities(queries, tokens)))


@pytest.mark.parametrize(
    "attention", [layers.RelativeAttention(3), layers.WindowAttention(3, 0.0, (2, 5), (2, 5)), Sharper(3)]
)
def test_other_scores_are_no_kernels(kernel, attention):
    attention(X, X)
    assert kernel == []


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="JAX has a kernel on a GPU, TensorFlow none")
def test_the_numbers_of_pytorchs_own_kernel_are_the_same(monkeypatch):
    assert _compat.fused_attention("float32")
    attention = layers.Attention(num_heads=3)
    fused = outputs(attention, X[:, :5], X)
    monkeypatch.setattr(_compat, "fused_attention", lambda dtype: None)
    np.testing.assert_allclose(fused, outputs(attention, X[:, :5], X), atol=1e-6)


# Lowers a training step at 1,024 x 1,024 pixels, 4,096 tokens, first as on this machine, then as on one with a GPU.
LOWER = """
import json, re
import jax, keras, keras_vit, numpy as np
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from keras.src.backend.jax import nn

keras.config.set_dtype_policy("mixed_bfloat16")
variant = keras_vit.Variant(patch_size=16, hidden_size=128, num_layers=2, num_heads=2, mlp_dim=64)
model = keras_vit.build(variant, input_shape=(1024, 1024, 3), classes=3, pooling="gap")
weights = [jax.ShapeDtypeStruct(weight.shape, weight.dtype) for weight in model.trainable_variables]
images = jax.ShapeDtypeStruct((2, 1024, 1024, 3), "float32")

def step(weights, images):
    return jax.grad(lambda weights: model.stateless_call(weights, [], images, training=True)[0].sum())(weights)

def lowered(platform):
    traced = jax.jit(lambda *arguments: step(*arguments)).trace(weights, images)  # JAX keeps what it traced before
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return [text.count("4096x4096"), *(len(re.findall(f"@{re.escape(name)}\\\\(", text)) for name in KERNELS)]

KERNELS = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")
plain = lowered("cuda")
jax.default_backend = lambda: "gpu"
cudnn.check_cudnn_version, cudnn.check_compute_capability = lambda: 91000, lambda capability: True
nn._can_use_flash_attention = lambda *arguments: True
shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 1024, 1024, 3"), "float32")
forward = jax.jit(lambda weights, images: model.stateless_call(weights, [], images, training=False)[0])
exported = jax.export.export(forward, platforms=["cuda"])(weights, shape).mlir_module()
results = [plain, lowered("cuda"), lowered("cpu"), exported.count("cudnn")]
KERNELS = ("tpu_custom_call",)
jax.default_backend = lambda: "tpu"
print(json.dumps([*results, lowered("tpu"), lowered("cpu")]))
"""


def test_jax_lowers_to_a_kernel_of_a_gpu_or_a_tpu_and_holds_no_probabilities(run_warm):
    plain, fused, elsewhere, exported, on_tpu, off_tpu = run_warm("-c", LOWER, KERAS_BACKEND="jax")
    assert plain[0] > 0 and plain[1:] == [0, 0]
    assert fused == [0, 2, 2]  # for each of two blocks, and its gradient
    assert elsewhere[0] > 0 and elsewhere[1:] == [0, 0]
    assert exported == 0  # for any batch size
    assert on_tpu == [0, 3]  # the output, the gradient of queries, that of keys and values; both blocks call them
    assert off_tpu[0] > 0 and off_tpu[1] == 0


# JAX' kernel for TPUs, interpreted on this machine's processor.
ON_TPU = """
import functools, json
import jax, numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel
from keras import ops
from keras_vit import _compat

make = splash_attention_kernel.make_splash_mha
splash_attention_kernel.make_splash_mha = functools.partial(make, interpret=True)
plain = functools.partial(ops.dot_product_attention, flash_attention=False)
random, differences = np.random.default_rng(0), []
for queries, tokens, head_dim in ((150, 150, 64), (1, 130, 64), (5, 17, 12)):
    q = random.normal(size=(2, queries, 3, head_dim)).astype("float32")
    k, v = random.normal(size=(2, 2, tokens, 3, head_dim)).astype("float32")
    values, gradients = [], []
    for attend in (_compat.splash_attention, plain):
        values.append(attend(q, k, v))
        gradients.append(jax.grad(lambda *a: (attend(*a) ** 2).sum(), argnums=(0, 1, 2))(q, k, v))
    differences.append(float(abs(values[0] - values[1]).max()))
    differences += [float(abs(one - two).max()) for one, two in zip(*gradients)]
print(json.dumps(differences))
"""


def test_the_numbers_of_jax_kernel_for_tpus_are_the_same(run_warm):
    differences = run_warm("-c", ON_TPU, KERAS_BACKEND="jax")
    assert len(differences) == 3 * 4 and max(differences) < 1e-5
