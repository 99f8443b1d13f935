import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.layers import MLP, Attention, AttentionPooling, ClassToken, TransformerBlock
from keras_vit.layers.mlp import GELUS

HEADS, WIDTH, MLP_DIM, TOKENS = 2, 14, 11, 5
FORMS = {
    "tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "erf": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def randomised(layer, *shapes):
    layer.build(*shapes)
    layer.set_weights([normal(*weight.shape, seed=i) * 0.5 for i, weight in enumerate(layer.weights)])
    return layer


def numbers(layer):
    return {weight.path: np.asarray(weight, np.float64) for weight in layer.weights}


# The layers again, in float64, from the papers.


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def dense(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def norm(x, weights, name):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def attention(queries, tokens, weights, name):
    """Returns the output, and the probabilities (batch, heads, queries, tokens)."""
    q, k, v = (
        dense(x, weights, f"{name}/{part}") for part, x in zip(("query", "key", "value"), (queries, tokens, tokens))
    )
    size, outputs, probabilities = WIDTH // HEADS, [], []
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        scores = q[..., own] @ k[..., own].transpose(0, 2, 1) / math.sqrt(size)
        probabilities.append(softmax(scores))
        outputs.append(probabilities[-1] @ v[..., own])
    return dense(np.concatenate(outputs, axis=-1), weights, f"{name}/out"), np.stack(probabilities, axis=1)


def mlp(x, weights, name, gelu):
    return dense(np.vectorize(FORMS[gelu])(dense(x, weights, f"{name}/hidden")), weights, f"{name}/out")


def test_attention_is_the_papers():
    layer = randomised(Attention(HEADS, name="a"), (None, 3, WIDTH), (None, TOKENS, WIDTH))
    queries, tokens = normal(2, 3, WIDTH), normal(2, TOKENS, WIDTH, seed=1)
    expected, probabilities = attention(queries, tokens, numbers(layer), "a")
    np.testing.assert_allclose(layer(queries, tokens), expected, atol=1e-5)
    np.testing.assert_allclose(layer.probabilities(queries, tokens), probabilities, atol=1e-6)


def test_attention_is_that_of_keras():
    layer = randomised(Attention(HEADS), (None, 3, WIDTH), (None, TOKENS, WIDTH))
    queries, tokens = normal(2, 3, WIDTH), normal(2, TOKENS, WIDTH, seed=1)
    theirs = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
    theirs(queries, tokens)
    order = [getattr(layer, name) for name in ("query", "key", "value", "out")]  # theirs: query, key, value, output
    ours = [weight for part in order for weight in (part.kernel, part.bias)]
    by_name = dict(zip((weight.path.split("/", 1)[1] for weight in theirs.weights), theirs.weights))
    names = ("query", "key", "value", "attention_output")
    for ours_weight, name in zip(ours, (f"{name}/{kind}" for name in names for kind in ("kernel", "bias"))):
        by_name[name].assign(np.reshape(ours_weight, by_name[name].shape))
    output, scores = theirs(queries, tokens, return_attention_scores=True)
    np.testing.assert_allclose(layer(queries, tokens), output, atol=1e-5)
    np.testing.assert_allclose(layer.probabilities(queries, tokens), scores, atol=1e-6)


def test_a_width_that_the_heads_cannot_share_raises():
    with pytest.raises(ValueError, match="hidden_size=14, num_heads=3"):
        Attention(3).build((None, TOKENS, WIDTH), (None, TOKENS, WIDTH))


def identity(layer):
    """Gives a layer's dense layers, all square, the identity as their kernel and no bias."""
    layer.set_weights(
        [np.eye(*weight.shape) if len(weight.shape) == 2 else np.zeros(weight.shape) for weight in layer.weights]
    )
    return layer


@pytest.mark.parametrize("gelu", FORMS)
def test_gelu(gelu):
    x = np.linspace(-6, 6, 1001, dtype=np.float32)[None, :, None]
    layer = MLP(1, gelu=gelu)
    layer.build(x.shape)
    expected = np.vectorize(FORMS[gelu])(x.astype(np.float64))
    np.testing.assert_allclose(identity(layer)(x), expected, atol=1e-6)
    other = np.vectorize(FORMS["erf" if gelu == "tanh" else "tanh"])(x.astype(np.float64))
    assert np.abs(expected - other).max() > 1e-4  # so that the two are told apart


def gradient_of_sum(function, x):
    """Returns the gradient of the sum of a function of an array, by the backend."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(lambda x: function(x).sum())(x)
    if backend == "torch":
        import torch

        tensor = torch.tensor(x, requires_grad=True)
        with torch.enable_grad():
            function(tensor).sum().backward()
        return tensor.grad
    import tensorflow as tf

    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = function(tensor)
    return tape.gradient(y, tensor)


def test_the_gradient_of_the_exact_gelu():
    x = np.linspace(-9, 9, 1001, dtype=np.float32)
    wide = x.astype(np.float64)
    below = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in wide])  # of a normal distribution
    expected = below + wide * np.exp(-(wide**2) / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(gradient_of_sum(GELUS["erf"], x), expected, atol=1e-6)


def test_the_exact_gelu_in_bfloat16():
    x = ops.cast(np.linspace(-9, 9, 1001, dtype=np.float32), "bfloat16")
    y, x = (ops.convert_to_numpy(ops.cast(values, "float32")) for values in (GELUS["erf"](x), x))
    expected = np.array([0.5 * value * math.erfc(-value / math.sqrt(2)) for value in x.astype(np.float64)])
    # The formula rounds 1 + erf, which is near 0 for a negative x: 2**-9 of x at most, and the argument of erf before.
    np.testing.assert_array_less(np.abs(y - expected), 2**-7 * np.maximum(np.abs(x), 2**-9))


def test_gelu_is_the_official_files_by_default():
    assert MLP(1).gelu == TransformerBlock(1, 1).mlp.gelu == AttentionPooling(1, 1).mlp.gelu == "tanh"


@pytest.mark.parametrize("gelu", FORMS)
def test_a_block_is_equation_2_and_3(gelu):
    layer = randomised(TransformerBlock(HEADS, MLP_DIM, gelu=gelu, name="b"), (None, TOKENS, WIDTH))
    x, weights = normal(2, TOKENS, WIDTH), numbers(layer)
    y = norm(x, weights, "b/attention_norm")
    y, probabilities = attention(y, y, weights, "b/attention")
    expected = x + y
    expected = expected + mlp(norm(expected, weights, "b/mlp_norm"), weights, "b/mlp", gelu)
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)
    np.testing.assert_allclose(layer.attention_probabilities(x), probabilities, atol=1e-5)


@pytest.mark.parametrize("gelu", FORMS)
def test_attention_pooling_has_no_residual_around_the_attention_and_no_norm_at_the_end(gelu):
    layer = randomised(AttentionPooling(HEADS, MLP_DIM, gelu, name="p"), (None, TOKENS, WIDTH))
    tokens, weights = normal(3, TOKENS, WIDTH), numbers(layer)
    x, _ = attention(np.repeat(weights["p/probe"], 3, axis=0), tokens, weights, "p/attention")
    expected = x + mlp(norm(x, weights, "p/norm"), weights, "p/mlp", gelu)
    np.testing.assert_allclose(layer(tokens), expected[:, 0], atol=1e-4)


def test_the_class_token_is_the_first():
    tokens = normal(2, TOKENS, WIDTH)
    np.testing.assert_array_equal(ClassToken()(tokens), tokens[:, 0])
    assert ClassToken()(keras.KerasTensor((None, TOKENS, WIDTH))).shape == (None, WIDTH)


# Dropout. What is dropped is 0, and what is kept is scaled up by what the rate leaves over.


def test_the_mlp_drops_twice():
    keras.utils.set_random_seed(0)
    layer = MLP(WIDTH, dropout=0.5)
    x = np.abs(normal(20, TOKENS, WIDTH)) + 1
    layer.build(x.shape)
    full, dropped = np.asarray(identity(layer)(x)), np.asarray(layer(x, training=True))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 4 * full[kept], rtol=1e-5)
    assert 0.2 < kept.mean() < 0.3


def test_attention_drops_probabilities():
    keras.utils.set_random_seed(0)
    layer = Attention(1, dropout=0.25)
    tokens = np.repeat(np.eye(WIDTH, dtype=np.float32)[None], 8, axis=0)  # so that the output is the probabilities
    layer.build(tokens.shape, tokens.shape)
    full = np.asarray(identity(layer)(tokens, tokens))
    dropped = np.asarray(layer(tokens, tokens, training=True))
    np.testing.assert_allclose(full.sum(axis=-1), 1, atol=1e-6)
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], full[kept] / 0.75, rtol=1e-5)
    assert 0.7 < kept.mean() < 0.8


def half(which, **rates):
    """Returns a block whose other half adds nothing."""
    layer = randomised(TransformerBlock(HEADS, MLP_DIM, **rates), (None, TOKENS, WIDTH))
    silent = (layer.mlp if which == "attention" else layer.attention).out
    silent.set_weights([np.zeros(weight.shape) for weight in silent.weights])
    return layer


@pytest.mark.parametrize("which", ["attention", "mlp"])
def test_stochastic_depth_drops_whole_images_and_keeps_the_expectation(which):
    keras.utils.set_random_seed(0)
    layer = half(which, stochastic_depth=0.25)
    x = normal(200, TOKENS, WIDTH)
    added = np.asarray(layer(x, training=False)) - x
    in_training = np.asarray(layer(x, training=True))
    skipped = (in_training == x).all(axis=(1, 2))
    assert 30 < skipped.sum() < 70  # 50 of 200 are expected, and the seed is fixed
    np.testing.assert_allclose((in_training - x)[~skipped], added[~skipped] / 0.75, atol=1e-4)


def test_the_two_halves_are_skipped_each_by_itself():
    keras.utils.set_random_seed(0)
    x = normal(1, TOKENS, WIDTH)
    block = randomised(TransformerBlock(HEADS, MLP_DIM, stochastic_depth=0.5), (None, TOKENS, WIDTH))
    outcomes = np.asarray(block(np.repeat(x, 64, axis=0), training=True))
    assert len(np.unique(outcomes.round(3), axis=0)) == 4


def test_dropout_after_the_attention():
    keras.utils.set_random_seed(0)
    layer = half("attention", dropout=0.25)
    x = normal(20, TOKENS, WIDTH)
    added = np.asarray(layer(x, training=False)) - x
    in_training = np.asarray(layer(x, training=True)) - x
    kept = in_training != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(in_training[kept], added[kept] / 0.75, atol=1e-4)
