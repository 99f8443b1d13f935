import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.analysis import attention
from keras_vit.analysis.attention import attention_maps, attention_rollout

BLOCKS, HEADS, GRID = 2, 2, (3, 5)
PATCHES = GRID[0] * GRID[1]


def build(pooling="token", grid=GRID):
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(4, 8, BLOCKS, HEADS, 11, pooling=pooling)
    model = keras_vit.build(variant, input_shape=(4 * grid[0], 4 * grid[1], 3), classes=7)
    # Stronger than they begin, so that no two heads and blocks look alike.
    model.set_weights(
        [weight + np.random.default_rng(0).normal(0, 0.5, weight.shape) for weight in model.get_weights()]
    )
    return model


def pictures(grid=GRID):
    return np.random.default_rng(0).uniform(-1, 1, (2, 4 * grid[0], 4 * grid[1], 3)).astype(np.float32)


def give(monkeypatch, *maps):
    """Lets the blocks look at what the test says."""
    heads = [keras.ops.convert_to_tensor(np.array([block], np.float32)) for block in maps]

    def watch(model, layers, method, read):
        return Given([np.asarray(read(None, weights)) for weights in heads])

    monkeypatch.setattr(attention, "Watch", watch)


class Given:
    def __init__(self, results):
        self.results = results

    def predict(self, images, **options):
        return self.results


@pytest.mark.parametrize("pooling, tokens", [("token", PATCHES + 1), ("gap", PATCHES)])
def test_a_map_a_block_whose_rows_sum_to_1(pooling, tokens):
    maps = list(attention_maps(build(pooling), pictures()))
    assert [weights.shape for weights in maps] == [(2, HEADS, tokens, tokens)] * BLOCKS
    for weights in maps:
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)


def test_the_maps_are_what_the_blocks_themselves_compute():
    """Queries times keys of the block's own input, after its norm, a head at a time."""
    model = build()
    maps = list(attention_maps(model, pictures()))
    for i, weights in enumerate(maps):
        block = model.get_layer(f"block_{i:02d}")
        x = np.asarray(keras.Model(model.input, block.input)(pictures()))
        x = np.asarray(block.attention_norm(x))
        for head in range(HEADS):
            own = slice(head * 4, head * 4 + 4)
            query, key = (np.asarray(part(x))[..., own] for part in (block.attention.query, block.attention.key))
            scores = np.exp(query @ key.transpose(0, 2, 1) / 2)  # 2: the root of a head's width, 4
            np.testing.assert_allclose(weights[:, head], scores / scores.sum(axis=-1, keepdims=True), atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 0.1
    assert np.abs(maps[0][:, 0] - maps[0][:, 1]).max() > 0.1


@pytest.mark.parametrize("function", [lambda *x: list(attention_maps(*x)), attention_rollout])
def test_a_model_without_our_blocks_raises(function):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()], name="flat")
    with pytest.raises(ValueError, match="Received: 'flat' without"):
        function(model, np.zeros((1, 4, 4, 3), np.float32))


def test_rollout_by_hand(monkeypatch):
    """Two patches beside each other and a class token, two blocks, one head.

    With the residual path the first block mixes by [[1/2, 1/2, 0], [0, 1/2, 1/2], [0, 0, 1]], the second by
    [[1/2, 0, 1/2], [0, 1, 0], [1/2, 0, 1/2]]. The second times the first, row of the class token: 1/4, 1/4, 1/2.
    In the other order it would be 1/4, 1/2, 1/4.
    """
    first = [[0, 1, 0], [0, 0, 1], [0, 0, 1]]
    second = [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    give(monkeypatch, [first], [second])
    rollout = attention_rollout(build(grid=(1, 2)), pictures((1, 2)))
    np.testing.assert_allclose(rollout, [[[0.25, 0.5]]], atol=1e-7)


def test_rollout_averages_the_heads(monkeypatch):
    to_first, to_second = [[0, 1, 0]] * 3, [[0, 0, 1]] * 3
    give(monkeypatch, [to_first, to_second])
    rollout = attention_rollout(build(grid=(1, 2)), pictures((1, 2)))
    np.testing.assert_allclose(rollout, [[[0.25, 0.25]]], atol=1e-7)


def test_rollout_reads_the_mean_of_all_tokens_where_there_is_no_class_token(monkeypatch):
    """Both patches look at the second: the rows are 1/2, 1/2 and 0, 1."""
    give(monkeypatch, [[[0, 1], [0, 1]]])
    rollout = attention_rollout(build("gap", grid=(2, 1)), pictures((2, 1)))
    np.testing.assert_allclose(rollout, [[[0.25], [0.75]]], atol=1e-7)


@pytest.mark.parametrize("pooling, expected", [("token", 0), ("gap", 1 / PATCHES)])
def test_rollout_of_tokens_that_look_at_themselves_moves_nothing(monkeypatch, pooling, expected):
    tokens = PATCHES + (pooling == "token")
    give(monkeypatch, *[[np.eye(tokens)] * HEADS] * BLOCKS)
    np.testing.assert_allclose(attention_rollout(build(pooling), pictures()), np.full((1, *GRID), expected), atol=1e-7)


def test_rollout_of_tokens_that_look_at_all_alike():
    """Half stays at each of the two blocks, the rest is shared out."""
    model = build()
    for i in range(BLOCKS):
        query = model.get_layer(f"block_{i:02d}").attention.query
        query.set_weights([np.zeros(weight.shape) for weight in query.weights])
    expected = np.full((2, *GRID), (1 - 0.5**BLOCKS) / (PATCHES + 1))
    np.testing.assert_allclose(attention_rollout(model, pictures()), expected, atol=1e-6)


def test_rollout_keeps_rows_and_columns_apart(monkeypatch):
    row = np.arange(PATCHES + 1) / sum(range(PATCHES + 1))
    give(monkeypatch, [[row] * (PATCHES + 1)])
    rollout = attention_rollout(build(), pictures())
    np.testing.assert_allclose(rollout[0], row[1:].reshape(GRID) / 2, atol=1e-7)
