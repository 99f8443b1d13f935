import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.analysis import attention, reading
from keras_vit.analysis.attention import (
    attention_distance,
    attention_entropy,
    attention_maps,
    attention_rollout,
    class_attention,
    mean_attention,
    patch_attention,
    rollout,
    rollout_tensor,
)
from keras_vit.layers import TransformerBlock
from keras_vit.models.hooks import changed, layers_of

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


def made_images(grid=GRID):
    return np.random.default_rng(0).uniform(-1, 1, (2, 4 * grid[0], 4 * grid[1], 3)).astype(np.float32)


def give(monkeypatch, *maps):
    """Lets the blocks look at what the test says."""
    heads = [keras.ops.convert_to_tensor(np.array([block], np.float32)) for block in maps]

    monkeypatch.setattr(attention, "Watch", lambda model, layers, point, read: read)
    monkeypatch.setattr(
        reading,
        "Watches",
        lambda reads: Given([[np.asarray(read(None, weights)) for weights in heads] for read in reads]),
    )


class Given:
    def __init__(self, results):
        self.results = results

    def predict_on_batch(self, images):
        return self.results


@pytest.mark.parametrize("pooling, tokens", [("token", PATCHES + 1), ("gap", PATCHES)])
def test_a_map_a_block_whose_rows_sum_to_1(pooling, tokens):
    maps = list(attention_maps(build(pooling), made_images()))
    assert [weights.shape for weights in maps] == [(2, HEADS, tokens, tokens)] * BLOCKS
    for weights in maps:
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)


def test_the_maps_are_what_the_blocks_themselves_compute():
    """Queries times keys of the block's own input, after its norm, a head at a time."""
    model = build()
    maps = list(attention_maps(model, made_images()))
    for i, weights in enumerate(maps):
        block = model.get_layer(f"block_{i:02d}")
        x = np.asarray(keras.Model(model.input, block.input)(made_images()))
        x = np.asarray(block.attention_norm(x))
        for head in range(HEADS):
            own = slice(head * 4, head * 4 + 4)
            query, key = (np.asarray(part(x))[..., own] for part in (block.attention.query, block.attention.key))
            scores = np.exp(query @ key.transpose(0, 2, 1) / 2)  # 2: the root of a head's width, 4
            np.testing.assert_allclose(weights[:, head], scores / scores.sum(axis=-1, keepdims=True), atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 0.1
    assert np.abs(maps[0][:, 0] - maps[0][:, 1]).max() > 0.1


@pytest.mark.parametrize(
    "function", [attention_maps, attention_rollout, attention_distance, attention_entropy, class_attention]
)
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
    rollout = attention_rollout(build(grid=(1, 2)), made_images((1, 2)))
    np.testing.assert_allclose(rollout, [[[0.25, 0.5]]], atol=1e-7)


def test_rollout_averages_the_heads(monkeypatch):
    to_first, to_second = [[0, 1, 0]] * 3, [[0, 0, 1]] * 3
    give(monkeypatch, [to_first, to_second])
    rollout = attention_rollout(build(grid=(1, 2)), made_images((1, 2)))
    np.testing.assert_allclose(rollout, [[[0.25, 0.25]]], atol=1e-7)


def test_rollout_reads_the_mean_of_all_tokens_where_there_is_no_class_token(monkeypatch):
    """Both patches look at the second: the rows are 1/2, 1/2 and 0, 1."""
    give(monkeypatch, [[[0, 1], [0, 1]]])
    rollout = attention_rollout(build("gap", grid=(2, 1)), made_images((2, 1)))
    np.testing.assert_allclose(rollout, [[[0.25], [0.75]]], atol=1e-7)


@pytest.mark.parametrize("pooling, expected", [("token", 0), ("gap", 1 / PATCHES)])
def test_rollout_of_tokens_that_look_at_themselves_moves_nothing(monkeypatch, pooling, expected):
    tokens = PATCHES + (pooling == "token")
    give(monkeypatch, *[[np.eye(tokens)] * HEADS] * BLOCKS)
    np.testing.assert_allclose(
        attention_rollout(build(pooling), made_images()), np.full((1, *GRID), expected), atol=1e-7
    )


def test_rollout_of_tokens_that_look_at_all_alike():
    """Half stays at each of the two blocks, the rest is shared out."""
    model = build()
    for i in range(BLOCKS):
        query = model.get_layer(f"block_{i:02d}").attention.query
        query.set_weights([np.zeros(weight.shape) for weight in query.weights])
    expected = np.full((2, *GRID), (1 - 0.5**BLOCKS) / (PATCHES + 1))
    np.testing.assert_allclose(attention_rollout(model, made_images()), expected, atol=1e-6)


def test_rollout_keeps_rows_and_columns_apart(monkeypatch):
    row = np.arange(PATCHES + 1) / sum(range(PATCHES + 1))
    give(monkeypatch, [[row] * (PATCHES + 1)])
    rollout = attention_rollout(build(), made_images())
    np.testing.assert_allclose(rollout[0], row[1:].reshape(GRID) / 2, atol=1e-7)


def test_rollout_with_attention_pooling_reads_what_it_looks_at(make):
    """Two patches; the first looks at the second, the pooling at the first alone: half stays, half goes on."""
    first, pooling = np.array([[[0.0, 1], [0, 1]]]), np.array([[[1.0, 0]]])
    np.testing.assert_allclose(rollout([first, pooling], (1, 2), slice(None)), [[[0.5, 0.5]]], atol=1e-7)
    np.testing.assert_allclose(rollout([first], (1, 2), slice(None)), [[[0.25, 0.75]]], atol=1e-7)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("pooling", ["gap", "map"])
def test_rollout_reads_what_the_pooling_does(monkeypatch, make, pooling, class_token):
    """Each token looks at itself alone, so that the rollout is what the pooling reads: all patches alike."""
    give(monkeypatch, *[[np.eye(PATCHES + class_token)] * HEADS] * BLOCKS)
    model = make.build(pooling, fields={"class_token": class_token})
    shared_by = PATCHES + class_token * (pooling == "map")  # the attention pooling reads the class token, too
    np.testing.assert_allclose(attention_rollout(model, made_images()), np.full((1, *GRID), 1 / shared_by), atol=1e-7)


FAMILIES = {
    "DINOv3": ("token", {"rotary": keras_vit.Rotary(), "positions": "none", "register_tokens": 3, "qkv_bias": "qv"}),
    "EVA-02": ("gap", {"rotary": keras_vit.Rotary(1e4, (16, 16)), "class_token": True, "norm_at": "pooled"}),
    "BEiT": ("gap", {"relative_bias": True, "positions": "none", "class_token": True, "norm_at": "pooled"}),
    "PE": ("map", {"rotary": keras_vit.Rotary(1e4, (4, 4), 1, True), "class_token": True, "pre_norm": True}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_attention_is_that_which_the_model_computes_with(make, images, family):
    """Whatever its positions: a model that looks as the maps say computes the same, and otherwise another thing."""
    pooling, fields = FAMILIES[family]
    model = make.build(pooling, fields=fields)
    blocks = layers_of(model, TransformerBlock)
    maps = attention_maps(model, images)
    inputs = keras.Model(model.inputs, [block.input for block in blocks])
    with changed([block.attention for block in blocks], "probabilities", lambda layer, weights: next(given)):
        given = iter(maps)
        same = keras.ops.convert_to_numpy(model(images))
        given = iter(maps[::-1])
        other = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(same, model.predict_on_batch(images), atol=1e-5)
    assert np.abs(other - same).max() > 1e-3
    for block, tokens, of_block in zip(blocks, inputs.predict_on_batch(images), maps, strict=True):
        np.testing.assert_allclose(block.attention_probabilities(tokens), of_block, atol=1e-5)


@pytest.mark.parametrize("pooling, fields", [("token", {}), ("gap", {}), ("map", {}), *FAMILIES.values()])
def test_rollout_built_into_a_model_gives_the_same(make, images, pooling, fields):
    model = make.build(pooling, fields=fields)
    built_in = keras.Model(model.inputs, rollout_tensor(model)).predict(images, verbose=0)
    np.testing.assert_allclose(built_in, attention_rollout(model, images), atol=1e-6)


@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed"])
def test_inside_a_model_of_the_users_own(vit, images, make, kind):
    """That model halves the pixels before ours."""
    outer = make.nested(vit, kind)
    for result, expected in zip(attention_maps(outer, images), attention_maps(vit, 0.5 * images), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_allclose(attention_rollout(outer, images), attention_rollout(vit, 0.5 * images), atol=1e-6)
    assert class_attention(outer, images).shape == (3, 2, 2, 3, 5)


def test_of_a_hybrid_with_a_grid_of_its_own(hybrid, make):
    assert attention_rollout(hybrid, make.made_images(64, 96, 1)).shape == (1, 8, 12)


def look(monkeypatch, weights):
    """Lets all heads of all blocks look as a matrix says, tokens x tokens."""
    tensor = keras.ops.convert_to_tensor(np.asarray(weights, np.float32)[None, None])
    monkeypatch.setattr(
        keras_vit.layers.Attention,
        "probabilities",
        lambda self, queries, tokens: keras.ops.tile(tensor, (keras.ops.shape(queries)[0], self.num_heads, 1, 1)),
    )


def right(grid):
    """Each patch looks at its right neighbour, the last of a row at the first of it; no class token."""
    places = np.arange(grid[0] * grid[1]).reshape(grid)
    weights = np.zeros((places.size, places.size))
    weights[places.ravel(), np.roll(places, -1, axis=1).ravel()] = 1
    return weights


def with_class_token(weights, to_class, from_class):
    """Adds a class token in front that gets a share of what each patch gives."""
    whole = np.zeros(np.array(weights.shape) + 1)
    whole[1:, 1:] = weights * (1 - to_class)
    whole[1:, 0], whole[0] = to_class, from_class
    return whole


def test_distance_of_patches_that_look_at_themselves_is_0(monkeypatch, make, images):
    look(monkeypatch, np.eye(15))
    np.testing.assert_allclose(attention_distance(make.build("gap"), images), np.zeros((2, 2)), atol=1e-6)


def test_distance_to_the_right_neighbour_is_the_patch_size(monkeypatch, make):
    """A row of two patches: each one's neighbour is the other, 4 pixels away."""
    look(monkeypatch, right((3, 2)))
    model = make.build("gap", grid=(3, 2))
    np.testing.assert_allclose(attention_distance(model, make.made_images(12, 8)), np.full((2, 2), 4), atol=1e-5)


def test_a_class_token_that_takes_most_attention_changes_no_distance(monkeypatch, make):
    look(monkeypatch, with_class_token(right((3, 2)), to_class=0.9, from_class=1 / 7))
    model = make.build("token", grid=(3, 2))
    np.testing.assert_allclose(attention_distance(model, make.made_images(12, 8)), np.full((2, 2), 4), atol=1e-4)


def test_distance_of_a_hybrid_is_in_pixels_of_the_image(monkeypatch, hybrid, make):
    """A patch is 8 pixels wide. Its right neighbour; the last of the twelve of a row looks back over eleven."""
    look(monkeypatch, with_class_token(right((8, 12)), to_class=0.5, from_class=1 / 97))
    expected = (11 * 8 + 11 * 8) / 12
    np.testing.assert_allclose(attention_distance(hybrid, make.made_images(64, 96, 1)), [[expected] * 2], rtol=1e-5)


def test_distance_and_entropy_against_numpy(vit, images):
    maps = attention_maps(vit, images)
    places = np.array([(4 * row, 4 * column) for row in range(3) for column in range(5)])
    apart = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=-1))
    for block, weights in enumerate(maps):
        for head in range(HEADS):
            patches = weights[:, head, 1:, 1:]
            patches = patches / patches.sum(axis=-1, keepdims=True)
            distance = (patches * apart).sum(axis=-1).mean()
            entropy = -(weights[:, head] * np.log(weights[:, head])).sum(axis=-1).mean()
            assert attention_distance(vit, images)[block, head] == pytest.approx(distance, rel=1e-4)
            assert attention_entropy(vit, images)[block, head] == pytest.approx(entropy, rel=1e-4)


@pytest.mark.parametrize("weights, expected", [(np.eye(15), 0), (np.full((15, 15), 1 / 15), np.log(15))])
def test_the_least_and_the_most_entropy(monkeypatch, make, images, weights, expected):
    look(monkeypatch, weights)
    np.testing.assert_allclose(attention_entropy(make.build("gap"), images), np.full((2, 2), expected), atol=1e-5)


def test_class_attention_is_the_class_tokens_row(vit, images):
    maps = attention_maps(vit, images)
    result = class_attention(vit, images)
    np.testing.assert_allclose(result[:, 1, 0].reshape(3, -1), maps[1][:, 0, 0, 1:], atol=1e-6)


def test_what_patches_look_at_leaves_the_class_token_out(vit, images):
    maps = attention_maps(vit, images)
    np.testing.assert_allclose(patch_attention(vit, images)[:, 1], maps[1].mean(axis=1)[:, 1:, 1:], atol=1e-6)
    together = maps[0][:, 1, 1:, 1:].mean(axis=1).reshape(3, 3, 5)
    np.testing.assert_allclose(mean_attention(vit, images)[:, 0, 1], together, atol=1e-6)


def test_class_attention_needs_a_class_token(make, images):
    with pytest.raises(ValueError, match="Expected a model with a class token"):
        class_attention(make.build("gap"), images)


def test_a_image_of_another_size_is_refused(vit, make):
    with pytest.raises(ValueError, match=r"\(12, 20, 3\).*Received: images of shape \(3, 20, 12, 3\)"):
        attention_rollout(vit, make.made_images(20, 12))


def test_half_precision_gives_nearly_the_same(make, images):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = make.build()
    finally:
        keras.config.set_dtype_policy("float32")
    whole = make.build()
    np.testing.assert_allclose(attention_rollout(half, images), attention_rollout(whole, images), atol=5e-3)
    np.testing.assert_allclose(attention_distance(half, images), attention_distance(whole, images), atol=0.05)


def test_many_images_are_rolled_out_in_parts(vit, make):
    many = make.made_images(12, 20, reading.BATCH + 3)
    apart = np.concatenate([attention_rollout(vit, many[:5]), attention_rollout(vit, many[5:])])
    np.testing.assert_allclose(attention_rollout(vit, many), apart, atol=1e-6)
