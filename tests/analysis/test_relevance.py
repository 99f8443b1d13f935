import keras
import numpy as np
import pytest

from keras_vit.analysis.relevance import attention_relevance, relevance
from keras_vit.layers import TransformerBlock
from keras_vit.models.hooks import changed, layers_of

CLASS = slice(0, 1)  # what the head reads


def test_by_hand():
    """Two patches and a class token, one block, one head: it counts weight times slope, above 0."""
    attention = np.full((1, 1, 3, 3), 1 / 3)
    slopes = np.zeros((1, 1, 3, 3))
    slopes[0, 0, 0] = 0.3, 0.6, -0.9
    np.testing.assert_allclose(relevance([attention], [slopes], (1, 2), CLASS), [[[0.2, 0]]], atol=1e-7)


def test_two_blocks_by_hand():
    """The first block brings patch 2 to patch 1, half; the second patch 1 to the class token, 0.4: 0.4 and 0.4 / 2."""
    first, second = np.zeros((2, 1, 1, 3, 3))
    first[0, 0, 1, 2], second[0, 0, 0, 1] = 0.5, 0.4
    ones = np.ones((1, 1, 3, 3))
    np.testing.assert_allclose(relevance([first, second], [ones, ones], (1, 2), CLASS), [[[0.4, 0.2]]], atol=1e-7)


def test_heads_are_averaged_after_the_negative_is_dropped():
    attention = np.ones((1, 2, 3, 3))
    slopes = np.zeros((1, 2, 3, 3))
    slopes[0, 0, 0, 1], slopes[0, 1, 0, 1] = 1, -1
    np.testing.assert_allclose(relevance([attention], [slopes], (1, 2), CLASS), [[[0.5, 0]]], atol=1e-7)


def test_the_slopes_are_those_of_the_score(vit, make):
    """Against differences of the class's logit: each entry of a block's attention is nudged in an image of its own."""
    image, chosen, step = make.made_images(12, 20, 1), 4, 1e-2
    logits = keras.Model(vit.input, vit.get_layer("head").output)
    attention, slopes = [], []
    for block in layers_of(vit, TransformerBlock):
        weights = np.asarray(block.attention_probabilities(keras.Model(vit.input, block.input)(image)))
        nudges = step * np.eye(weights.size, dtype=np.float32).reshape(-1, *weights.shape[1:])
        nudges = np.concatenate([nudges, -nudges])
        with changed([block.attention], "probabilities", lambda layer, weights, add=nudges: weights + add):
            up, down = np.split(np.asarray(logits(np.repeat(image, len(nudges), axis=0)))[:, chosen], 2)
        attention.append(weights)
        slopes.append(((up - down) / (2 * step)).reshape(weights.shape))
    expected = relevance(attention, slopes, (3, 5), CLASS)
    np.testing.assert_allclose(attention_relevance(vit, image, [chosen]), expected, rtol=0.02, atol=0.002)


def test_the_class_is_the_models_own_where_none_is_asked_for(vit, images):
    best = vit.predict(images, verbose=0).argmax(axis=1)
    np.testing.assert_allclose(attention_relevance(vit, images), attention_relevance(vit, images, best), atol=1e-6)
    other = attention_relevance(vit, images, (best + 1) % 7)
    assert np.abs(other - attention_relevance(vit, images)).max() > 1e-3


@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed"])
def test_inside_a_model_of_the_users_own(vit, images, kind, make):
    result = attention_relevance(make.nested(vit, kind), images, [0, 1, 2])
    assert result.shape == (3, 3, 5)
    assert (result >= 0).all() and result.max() > 0


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("pooling", ["gap", "map"])
def test_of_a_head_that_reads_other_tokens_than_the_class_token(images, pooling, class_token, make):
    assert attention_relevance(make.build(pooling, fields={"class_token": class_token}), images).max() > 0


def test_the_rows_of_the_patches_by_hand():
    """Of two patches, the first looks at the second, 0.4; the class token looks at it, too, but nothing reads that."""
    attention = np.zeros((1, 1, 3, 3))
    attention[0, 0, :2, 2] = 0.8, 0.4
    result = relevance([attention], [np.ones((1, 1, 3, 3))], (1, 2), slice(1, None))
    np.testing.assert_allclose(result, [[[0, 0.2]]], atol=1e-7)


def test_what_is_wrong_is_told(vit, images, make):
    with pytest.raises(ValueError, match=r"Expected classes from 0 to 6.*from 0 to 7"):
        attention_relevance(vit, images, [0, 1, 7])
    with pytest.raises(ValueError, match=r"3 integers. Received: classes of shape \(2,\)"):
        attention_relevance(vit, images, [0, 1])
    with pytest.raises(ValueError, match="Expected a classifier"):
        attention_relevance(make.build(include_top=False, pooling="none"), images)
    with pytest.raises(ValueError, match=r"\(12, 20, 3\)"):
        attention_relevance(vit, images[:, :8])
