"""Layers of optional parts of a Vision Transformer, against the papers' formulas in NumPy."""

import keras
import numpy as np
import pytest

from keras_vit import layers

GRID, WIDTH, HEADS = (3, 5), 12, 2
PATCHES = GRID[0] * GRID[1]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def drawn(layer, *shapes):
    layer.build(*shapes)
    layer.set_weights([normal(*weight.shape, seed=i) * 0.5 for i, weight in enumerate(layer.weights)])
    return layer


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def heads_of(dense, x):
    x = array(dense(x))
    return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def test_relative_attention_adds_a_key_for_each_distance():
    x = normal(2, 7, WIDTH, seed=9)
    layer = drawn(layers.RelativeAttention(HEADS), x.shape, x.shape)
    q, k = heads_of(layer.query, x), heads_of(layer.key, x)
    keys = array(layer.relative_keys)
    scores = np.zeros((2, HEADS, 7, 7))
    for i in range(7):
        for j in range(7):
            key = k[:, :, j] + keys[j - i + 6]
            scores[:, :, i, j] = (q[:, :, i] * key).sum(axis=-1) / np.sqrt(WIDTH / HEADS)
    np.testing.assert_allclose(array(layer.probabilities(x, x)), softmax(scores), atol=1e-5)


def window_of(patch, window):
    row, column = divmod(patch, GRID[1])
    return row // (window[0] or GRID[0]), column // (window[1] or GRID[1])


@pytest.mark.parametrize("window", [(2, 2), (1, None), (None, 1)], ids=["square", "rows", "columns"])
@pytest.mark.parametrize("extra", [0, 2])
def test_patches_attend_within_their_window_and_to_the_tokens_in_front(window, extra):
    x = normal(2, extra + PATCHES, WIDTH, seed=9)
    plain = drawn(layers.Attention(HEADS), x.shape, x.shape)
    layer = drawn(layers.WindowAttention(HEADS, grid=GRID, window=window), x.shape, x.shape)
    seen = np.ones((extra + PATCHES,) * 2)
    for i in range(PATCHES):
        for j in range(PATCHES):
            seen[extra + i, extra + j] = window_of(i, window) == window_of(j, window)
    expected = array(plain.probabilities(x, x)) * seen
    expected /= expected.sum(axis=-1, keepdims=True)
    result = array(layer.probabilities(x, x))
    assert (result[:, :, seen == 0] == 0).all()
    np.testing.assert_allclose(result, expected, atol=1e-6)
    of_all_pairs = layers.Attention.call(layer, x, x)
    np.testing.assert_allclose(array(layer(x, x)), array(of_all_pairs), atol=1e-5)


def test_window_attention_has_dropout_in_training():
    x = np.ones((1, 1 + PATCHES, WIDTH), "float32")
    layer = drawn(layers.WindowAttention(HEADS, 0.5, GRID, (2, 2)), x.shape, x.shape)
    layer.out.set_weights([np.eye(WIDTH, dtype="float32"), np.zeros(WIDTH, "float32")])
    # Tokens that are alike have one value, and what is left of it: 0, 1/5, ... 2 of the class token's 16 probabilities
    # and of a window's 5.
    whole = array(layer(x, x))
    shares = np.unique(np.round(array(layer(x, x, training=True)) / whole, 4))
    assert len(shares) > 3
    assert shares.min() >= 0 and shares.max() <= 2.001


@pytest.mark.parametrize("window", [(5, 5), (3, 5), (99, 99)])
def test_a_window_that_covers_the_grid_is_full_attention(window):
    x = normal(2, 1 + PATCHES, WIDTH)
    options = {"layer_scale": 0.3, "swiglu": True}
    plain = drawn(layers.TransformerBlock(HEADS, 7, **options), x.shape)
    layer = drawn(layers.WindowBlock(HEADS, 7, GRID, window, **options), x.shape)
    np.testing.assert_array_equal(array(layer(x)), array(plain(x)))


def test_positions_in_two_dimensions():
    x = normal(2, 2 + PATCHES, WIDTH)
    layer = drawn(layers.Positions("learned-2d", GRID), x.shape)
    rows, columns, extra = (array(getattr(layer, name)) for name in ("rows", "columns", "extra"))
    for r in range(GRID[0]):
        for c in range(GRID[1]):
            i = 2 + r * GRID[1] + c
            np.testing.assert_allclose(array(layer(x))[:, i], x[:, i] + np.r_[rows[r], columns[c]], atol=1e-6)
    np.testing.assert_allclose(array(layer(x))[:, :2], x[:, :2] + extra, atol=1e-6)


def test_fixed_positions_are_sines_and_cosines_of_the_column_then_of_the_row():
    layer = layers.Positions("sincos-2d", GRID)
    values = array(layer(np.zeros((1, 1 + PATCHES, WIDTH), "float32")))[0]
    assert not layer.weights
    assert not values[0].any()
    frequencies = 1 / 10_000 ** (np.arange(3) / 2)
    for r in range(GRID[0]):
        for c in range(GRID[1]):
            waves = [np.sin(c * frequencies), np.cos(c * frequencies), np.sin(r * frequencies), np.cos(r * frequencies)]
            np.testing.assert_allclose(values[1 + r * GRID[1] + c], np.concatenate(waves), atol=1e-6)


def test_registers_follow_the_class_token_and_have_no_position():
    x = normal(2, 5, 3)
    layer = drawn(layers.PatchEncoder(8, register_tokens=2), x.shape)
    plain = drawn(layers.PatchEncoder(8), x.shape)
    plain.set_weights([w for w in layer.get_weights() if w.shape != (1, 2, 8)])
    result, without = array(layer(x)), array(plain(x))
    np.testing.assert_array_equal(result[:, [0, 3, 4, 5, 6, 7]], without)
    np.testing.assert_array_equal(result[:, 1:3], np.repeat(array(layer.register_tokens), 2, axis=0))


def test_the_gated_mlp():
    x = normal(2, 3, 4)
    layer = drawn(layers.SwiGLU(5), x.shape)
    hidden = array(layer.hidden(x))
    gate, value = hidden[..., :5], hidden[..., 5:]
    np.testing.assert_allclose(array(layer(x)), array(layer.out(gate / (1 + np.exp(-gate)) * value)), atol=1e-5)


def test_layer_scale_multiplies_both_branches():
    x = normal(2, 3, 4)
    layer = drawn(layers.TransformerBlock(2, 5, layer_scale=0.1), x.shape)
    for scale in layer.scales:
        scale.gamma.assign([0.0] * 4)
    np.testing.assert_array_equal(array(layer(x)), x)
    layer.scales[1].gamma.assign([1.0, 0, 2, 0])
    np.testing.assert_allclose(
        array(layer(x)), x + array(layer.mlp(layer.mlp_norm(x))) * np.array([1.0, 0, 2, 0]), atol=1e-6
    )


def test_the_input_of_the_other_heads():
    tokens = normal(2, 6, 3)
    both = np.concatenate([tokens[:, 0], tokens[:, 3:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(array(layers.ClassAndMean(3)(tokens)), both, atol=1e-6)
    pair = array(layers.ClassAndDistillation()(tokens))
    np.testing.assert_array_equal(pair, np.concatenate([tokens[:, 0], tokens[:, 1]], axis=1))
    head = drawn(layers.DistilledHead(4), pair.shape)
    kernel, bias, *other = head.get_weights()
    one, two = tokens[:, 0] @ kernel + bias, tokens[:, 1] @ other[0] + other[1]
    np.testing.assert_allclose(array(head(pair)), (one + two) / 2, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers.Positions("sines", GRID), "Expected kind to be one of"),
        (lambda: layers.Positions("sincos-2d", GRID).build((None, 16, 6)), "multiple of 4"),
        (lambda: layers.Positions("learned", GRID).build((None, 14, 8)), "each of 3 x 5 patches"),
    ],
)
def test_bad_positions(make, message):
    with pytest.raises(ValueError, match=message):
        make()
