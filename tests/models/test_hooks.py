import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.layers import Attention, TransformerBlock
from keras_vit.models.hooks import Watch, head_of, layers_of, outer_layers_of, replaced

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 8, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def vit():
    keras.utils.set_random_seed(0)
    return keras_vit.build(keras_vit.Variant(4, 8, 2, 2, 11), input_shape=(8, 12, 3), classes=5)


def test_layers_come_in_the_order_of_the_model_however_deep(vit):
    outer = keras.Sequential([keras.Input((8, 12, 3)), keras.layers.Rescaling(2.0), keras.Sequential([vit])])
    names = [layer.name for layer in layers_of(outer, keras.layers.Dense)]
    inside = ["query", "key", "value", "out", "hidden", "out"]
    assert names == ["projection", *inside, *inside, "head"]
    assert layers_of(outer, TransformerBlock) == layers_of(vit, TransformerBlock)


def test_what_a_layer_computed_is_given_in_order_and_in_parts(vit):
    blocks = layers_of(vit, TransformerBlock)
    first, second = Watch(vit, blocks).predict(IMAGES, batch_size=2, verbose=0)
    expected = keras.Model(vit.input, [block.output for block in blocks]).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(first, expected[0], atol=1e-6)
    np.testing.assert_allclose(second, expected[1], atol=1e-6)


def test_read_is_given_the_layer_its_result_and_what_it_was_called_with(vit):
    block = layers_of(vit, TransformerBlock)[1]
    watch = Watch(vit, [block], read=lambda layer, result, x: result - x if layer is block else None)
    (found,) = watch.predict(IMAGES, verbose=0)
    before, after = keras.Model(vit.input, [block.input, block.output]).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, after - before, atol=1e-5)


def test_the_model_is_left_as_it_was(vit):
    attention = layers_of(vit, Attention)
    before = vit.predict(IMAGES, verbose=0)
    Watch(vit, attention, "probabilities").predict(IMAGES, verbose=0)
    assert not any("probabilities" in vars(layer) for layer in attention)
    np.testing.assert_array_equal(vit.predict(IMAGES, verbose=0), before)


def test_a_method_is_replaced_for_a_while_and_given_back_whatever_happens(vit):
    block = layers_of(vit, TransformerBlock)[0]
    with pytest.raises(RuntimeError, match="inside"), replaced([block], "call", lambda layer, own: lambda x: x):
        assert block.call(IMAGES) is IMAGES
        raise RuntimeError("inside")
    assert "call" not in vars(block)


def test_a_method_that_was_replaced_before_comes_back(vit):
    block = layers_of(vit, TransformerBlock)[0]
    mine = block.call
    with replaced([block], "call", lambda layer, own: lambda x: "outer"):
        with replaced([block], "call", lambda layer, own: lambda x: own(x) + " and inner"):
            assert block.call(IMAGES) == "outer and inner"
        assert block.call(IMAGES) == "outer"
    assert block.call == mine


def test_the_head_is_the_last_dense_layer_that_is_no_part_of_ours(vit):
    assert head_of(vit) is vit.get_layer("head")
    own = keras.Sequential([keras.Input((8, 12, 3)), vit, keras.layers.Dense(2, name="own"), keras.layers.Softmax()])
    assert head_of(own).name == "own"
    shape = {"input_shape": (8, 12, 3), "include_top": False, "pooling": "map"}
    headless = keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 11), representation_size=6, **shape)
    assert headless.output_shape == (None, 6)
    assert head_of(headless) is None
    norms = outer_layers_of(headless, keras.layers.LayerNormalization)
    assert [layer.name for layer in norms] == ["norm"]
