import keras
import numpy as np
import pytest

from keras_vit.layers import Bottleneck, Stem


def filled(layer, shape):
    keras.utils.set_random_seed(0)
    layer.build(shape)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(0.3, 0.5, weight.shape) for weight in layer.weights])
    return layer


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(2, 7, 9, 64)).astype("float32")


def relu(x):
    return keras.ops.relu(x)


def test_post_activation(x):
    unit = filled(Bottleneck(128, 2), x.shape)
    y = relu(unit.norm1(unit.conv1(x)))
    y = relu(unit.norm2(unit.conv2(y)))
    expected = relu(unit.norm3(unit.conv3(y)) + unit.shortcut_norm(unit.shortcut(x)))
    np.testing.assert_allclose(unit(x), expected, atol=1e-5)
    assert unit(x).shape == (2, 4, 5, 128) and np.asarray(unit(x)).min() == 0


def test_pre_activation(x):
    unit = filled(Bottleneck(128, 2, True), x.shape)
    y = relu(unit.norm1(x))
    shortcut = unit.shortcut(y)
    y = unit.conv2(relu(unit.norm2(unit.conv1(y))))
    expected = unit.conv3(relu(unit.norm3(y))) + shortcut
    np.testing.assert_allclose(unit(x), expected, atol=1e-4)
    assert unit.shortcut_norm is None and np.asarray(unit(x)).min() < 0


@pytest.mark.parametrize("preactivation", [False, True])
def test_the_stride_is_that_of_the_3_by_3(x, preactivation):
    unit = filled(Bottleneck(128, 2, preactivation), x.shape)
    strides = {name: getattr(unit, name).strides for name in ("conv1", "conv2", "conv3", "shortcut")}
    assert strides == {"conv1": (1, 1), "conv2": (2, 2), "conv3": (1, 1), "shortcut": (2, 2)}


@pytest.mark.parametrize("preactivation", [False, True])
def test_the_shortcut_is_the_map_itself_where_nothing_changes(preactivation):
    unit = filled(Bottleneck(128, 1, preactivation), (None, 5, 5, 128))
    assert unit.shortcut is None and unit.shortcut_norm is None
    x = np.random.default_rng(1).uniform(0, 1, (1, 5, 5, 128)).astype("float32")
    unit.conv3.kernel.assign(np.ones(unit.conv3.kernel.shape))  # standardized to 0
    if not preactivation:
        unit.norm3.beta.assign(np.zeros(128))
    np.testing.assert_allclose(unit(x), x, atol=1e-6)


def test_a_new_post_activation_unit_starts_as_its_shortcut():
    unit = Bottleneck(128)
    x = np.random.default_rng(1).uniform(0, 1, (1, 5, 5, 128)).astype("float32")
    np.testing.assert_array_equal(unit(x), x)


def test_the_stems():
    x = np.random.default_rng(1).normal(size=(2, 9, 12, 3)).astype("float32")
    post, pre = filled(Stem(32), x.shape), filled(Stem(32, True), x.shape)
    np.testing.assert_allclose(post(x), relu(post.norm(post.conv(x))), atol=1e-6)
    np.testing.assert_allclose(pre(x), pre.conv(x), atol=1e-6)
    assert pre.norm is None and post(x).shape == pre(x).shape == (2, 5, 6, 32)
    assert pre.conv.margin == 3 and post.conv.margin == 0
