import keras
import numpy as np
import pytest
from sklearn.decomposition import PCA

import keras_vit
from keras_vit.analysis.embeddings import (
    filter_components,
    nearest_neighbours,
    patch_tokens,
    position_similarity,
    token_colours,
)


def test_filters_are_the_principal_components_of_the_patch_embedding(vit, make):
    components, share = filter_components(make.nested(vit, "functional"), 5)
    kernel = np.asarray(vit.get_layer("encoder").projection.kernel)  # (4 * 4 * 3, 8)
    known = PCA(5).fit(kernel.T.astype("float64"))
    assert components.shape == (5, 4, 4, 3)
    for result, expected in zip(components.reshape(5, -1), known.components_):
        np.testing.assert_allclose(abs(result @ expected), 1, atol=1e-5)
    np.testing.assert_allclose(share, known.explained_variance_ratio_, atol=1e-6)
    assert len(filter_components(vit)[0]) == 7  # eight filters, less their mean


def test_filters_of_a_hybrid_are_those_of_its_first_convolution(hybrid):
    components, share = filter_components(hybrid)
    assert components.shape == (28, 7, 7, 3)
    assert (np.diff(share) <= 0).all() and share.sum() <= 1


def test_positions_are_alike_by_their_cosine(vit):
    result = position_similarity(vit)
    table = np.asarray(vit.get_layer("encoder").position_embedding)[0, 1:]  # without the class token's
    one, other = table[1 * 5 + 2], table[2 * 5 + 4]
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert result.shape == (3, 5, 3, 5)
    assert result[1, 2, 2, 4] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(np.einsum("rcrc->rc", result), np.ones((3, 5)), atol=1e-5)


@pytest.mark.parametrize("pooling, extra", [("token", 1), ("gap", 0), ("map", 0)])
def test_tokens_are_those_after_the_last_norm(make, images, pooling, extra):
    model = make.build(pooling)
    expected = keras.Model(model.input, model.get_layer("norm").output).predict(images, verbose=0)
    result = patch_tokens(make.nested(model, "sequential"), 2 * images)
    np.testing.assert_allclose(result.reshape(3, 15, 8), expected[:, extra:], atol=1e-5)


def test_without_a_last_norm_they_are_those_of_the_last_block(make, images):
    """As in EVA-02, BEiT and the Perception Encoder."""
    model = make.build("gap", fields={"class_token": True, "norm_at": "pooled"})
    expected = keras.Model(model.input, model.get_layer("block_01").output).predict(images, verbose=0)
    np.testing.assert_allclose(patch_tokens(model, images).reshape(3, 15, 8), expected[:, 1:], atol=1e-5)


def test_colours_are_the_first_three_components_of_all_images_together():
    tokens = np.random.default_rng(0).normal(size=(2, 11, 13, 5)) * (9, 5, 3, 1, 1)
    colours = token_colours(tokens)
    assert colours.shape == (2, 11, 13, 3)
    assert colours.min() == 0 and colours.max() == 1
    components = PCA(3).fit_transform(tokens.reshape(-1, 5)).reshape(2, 11, 13, 3)
    for colour, component in zip(np.moveaxis(colours, -1, 0), np.moveaxis(components, -1, 0)):
        inside = (colour > 0) & (colour < 1)
        assert inside.mean() > 0.95
        np.testing.assert_allclose(abs(np.corrcoef(colour[inside], component[inside])[0, 1]), 1, atol=1e-6)
    np.testing.assert_array_equal(token_colours(tokens), colours)


def test_colours_need_tokens():
    with pytest.raises(ValueError, match=r"Received: tokens of shape \(1, 1, 3, 8\)"):
        token_colours(np.zeros((1, 1, 3, 8)))


def test_neighbours_by_hand():
    features = np.array([[1, 0], [0, 2], [3, 0.1], [-1, 0]])
    order, cosines = nearest_neighbours(features, count=2)
    np.testing.assert_array_equal(order, [[2, 1], [2, 0], [0, 1], [1, 2]])
    np.testing.assert_allclose(cosines[0], [3 / np.hypot(3, 0.1), 0], atol=1e-6)
    order, cosines = nearest_neighbours(features, [[0, 1]], count=9)
    np.testing.assert_array_equal(order, [[1, 2, 0, 3]])


@pytest.mark.parametrize("features, queries", [(np.zeros((1, 3)), None), (np.zeros((2, 3)), np.zeros((2, 4)))])
def test_neighbours_need_others_of_the_same_width(features, queries):
    with pytest.raises(ValueError, match="Expected features and queries of the same hidden size"):
        nearest_neighbours(features, queries)


def test_without_layers_of_ours():
    flat = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()], name="flat")
    for function in (filter_components, position_similarity):
        with pytest.raises(ValueError, match="Received: 'flat' without"):
            function(flat)
    bit = keras_vit.build(keras_vit.ResNet((1,), (128,), 32), input_shape=(32, 32, 3), classes=2)
    with pytest.raises(ValueError, match="transformer blocks"):
        position_similarity(bit)
