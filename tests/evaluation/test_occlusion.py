import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.evaluation.occlusion import (
    _GREY,
    KeptTokens,
    grey_out_patches,
    occlusion_grid,
    random_order,
    salient_order,
    shift_image,
    shuffle_squares,
)
from keras_vit.layers import PatchEncoder, PatchMean, TokenMap, TransformerBlock
from keras_vit.layers.attention import Attention
from keras_vit.models.hooks import around_calls, changed, layers_of

GRID, KEPT, IMAGES = (3, 5), 4, 2
PATCHES = GRID[0] * GRID[1]
KINDS = {  # {kind: (tokens in front of the patches, fields of the variant)}
    "token": (1, {}),
    "gap": (0, {"pooling": "gap"}),
    "map": (0, {"pooling": "map"}),
    "distilled": (2, {"distillation_token": True}),
    "rotary": (3, {"rotary": keras_vit.Rotary(), "positions": "none", "register_tokens": 2}),
    "rotary gap": (1, {"rotary": keras_vit.Rotary(1e4, (16, 16)), "pooling": "gap", "class_token": True}),
    "bias": (1, {"relative_bias": True, "positions": "none"}),
}


def build(kind):
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(4, 8, 2, 2, 11, **KINDS[kind][1])
    model = keras_vit.build(variant, input_shape=(12, 20, 3), classes=7)
    # Stronger than they begin, so that it matters which tokens are there.
    generator = np.random.default_rng(0)
    model.set_weights([weight + generator.normal(0, 0.4, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def model():
    return build("token")


def made_images(count=IMAGES):
    return np.random.default_rng(1).integers(0, 256, (count, 12, 20, 3)).astype(np.uint8)


def masked(model, images, kept, extra):
    """The whole model, of which no token may look at a dropped one: what the kept ones come to."""
    seen = np.zeros((IMAGES, PATCHES + extra), "float32")
    seen[:, :extra] = 1
    np.put_along_axis(seen, kept + extra, 1, axis=1)

    def attend(layer, weights):
        weights = weights * seen[:, None, None]
        return weights / ops.sum(weights, axis=-1, keepdims=True)

    def pool(layer, call, tokens, **_):
        shares = seen.copy()
        shares[:, : getattr(layer, "extra_tokens", 0)] = 0
        return ops.sum(tokens * shares[..., None], axis=1) / shares.sum(axis=1, keepdims=True)

    with (
        changed(layers_of(model, Attention), "probabilities", attend),
        around_calls(layers_of(model, (keras.layers.GlobalAveragePooling1D, PatchMean)), pool),
    ):
        return ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize("kind", KINDS)
def test_kept_tokens_are_as_if_nobody_looked_at_the_others(kind):
    model = build(kind)
    images = made_images() / 127.5 - 1
    kept = random_order(IMAGES, PATCHES)[:, :KEPT]
    expected = masked(model, images, kept, KINDS[kind][0])
    np.testing.assert_allclose(KeptTokens(model, KEPT).predict_on_batch([images, kept]), expected, atol=1e-5)
    assert np.abs(expected - model.predict_on_batch(images)).max() > 0.01


def test_what_the_dropped_patches_show_does_not_matter(model):
    kept = random_order(IMAGES, PATCHES)[:, :KEPT]
    dropped = [np.setdiff1d(np.arange(PATCHES), some) for some in kept]
    some = KeptTokens(model, KEPT)
    grey = np.stack([grey_out_patches(image, gone, GRID) for image, gone in zip(made_images(), dropped)])
    results = [some.predict_on_batch([images / 127.5 - 1, kept]) for images in (made_images(), grey)]
    np.testing.assert_allclose(*results, atol=1e-6)


@pytest.mark.parametrize("kind", ["token", "rotary", "bias"])
def test_all_kept_in_any_order_change_nothing(kind):
    model = build(kind)
    images, order = made_images() / 127.5 - 1, random_order(IMAGES, PATCHES)
    result = KeptTokens(model, PATCHES).predict_on_batch([images, order])
    np.testing.assert_allclose(result, model.predict_on_batch(images), atol=1e-5)


class Outer(keras.Model):
    def __init__(self, model):
        super().__init__()
        self.inside = model

    def call(self, images):
        return self.inside(images) * 2


def test_a_nested_model_computes_no_more_tokens_than_are_kept(model):
    """Inside a subclassed model, inside a Sequential one; afterwards all is as before."""
    images, kept = made_images() / 127.5 - 1, random_order(IMAGES, PATCHES)[:, :KEPT]
    outer = keras.Sequential([keras.Input((12, 20, 3)), Outer(model)])
    lengths = []

    def count(layer, tokens):
        lengths.append(tokens.shape[1])
        return tokens

    before = outer.predict_on_batch(images)
    with changed(layers_of(model, TransformerBlock), "input", count):
        result = KeptTokens(outer, KEPT).predict_on_batch([images, kept])
    assert set(lengths) == {KEPT + 1}
    np.testing.assert_allclose(result, 2 * KeptTokens(model, KEPT).predict_on_batch([images, kept]), atol=1e-5)
    np.testing.assert_array_equal(outer.predict_on_batch(images), before)
    assert "call" not in vars(layers_of(model, PatchEncoder)[0])


def test_tokens_that_are_laid_out_again_raise(model):
    maps = keras.Model(model.input, TokenMap(GRID)(model.get_layer("norm").output))
    with pytest.raises(ValueError, match="Expected a model that accepts any number of its tokens.*TokenMap"):
        KeptTokens(maps, KEPT)


def test_the_grid_of_a_model(model):
    assert occlusion_grid(Outer(model)) == GRID
    assert occlusion_grid(keras.Sequential([keras.layers.GlobalAveragePooling2D()])) is None


def test_grey_patches_by_hand():
    image = made_images(1)[0]
    result = grey_out_patches(image, [1, 14], GRID)
    expected = image.copy()
    expected[:4, 4:8] = expected[8:, 16:] = _GREY
    np.testing.assert_array_equal(result, expected)


def test_a_grid_that_does_not_divide_the_sides_leaves_no_pixel_over():
    image = np.zeros((11, 7, 3), np.uint8)
    parts = [grey_out_patches(image, [i], (3, 2)) == _GREY for i in range(6)]
    np.testing.assert_array_equal(sum(part.astype(int) for part in parts), 1)
    assert sorted(part[..., 0].sum() for part in parts) == [9, 12, 12, 12, 16, 16]


def test_orders():
    salience = np.array([[[0.1, 0.5, 0.2], [0.9, 0.2, 0.0]]])
    np.testing.assert_array_equal(salient_order(salience), [[3, 1, 2, 4, 0, 5]])
    order = random_order(3, 50, seed=1)
    np.testing.assert_array_equal(np.sort(order), [np.arange(50)] * 3)
    np.testing.assert_array_equal(order, random_order(3, 50, seed=1))
    assert (order[0] != order[1]).any() and (order != random_order(3, 50, seed=2)).any()


@pytest.mark.parametrize("shape, squares", [((12, 20), 4), ((13, 23), 5), ((14, 19), 14), ((5, 7), 1)])
def test_a_shuffle_loses_no_pixel_and_cuts_no_part(shape, squares):
    image = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3)
    result = shuffle_squares(image, squares, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(result, axis=None), np.sort(image, axis=None))
    assert (result == image).all() == (squares == 1)
    edges = [[i * side // squares for i in range(squares + 1)] for side in shape]
    for top, bottom in zip(edges[0], edges[0][1:]):
        for left, right in zip(edges[1], edges[1][1:]):
            part = result[top:bottom, left:right]
            row, column = np.argwhere(image[..., 0] == part[0, 0, 0])[0]
            np.testing.assert_array_equal(part, image[row : row + bottom - top, column : column + right - left])
            assert row in edges[0] and column in edges[1]


def moved(image, down, right):
    """Each pixel reads one so far away, and the nearest where there is none."""
    rows, columns = (np.clip(np.arange(side) + by, 0, side - 1) for side, by in zip(image.shape, (down, right)))
    return image[rows][:, columns]


def test_a_shift_by_hand():
    image = made_images(1)[0]
    seen = set()
    for seed in range(30):
        result = shift_image(image, 3, np.random.default_rng(seed))
        moves = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if (result == moved(image, down, right)).all()
        ]
        assert len(moves) == 1 and 2 < np.hypot(*moves[0]) < 4
        seen |= set(moves)
    assert len(seen) > 6
