import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit.preprocessing import preprocess_input, rescaling

LEVELS = np.arange(256, dtype=np.uint8)
# float32 rounds a product of up to 2 by up to 6e-8, and the rounding of its factor moves it by up to 1.2e-7 more.
ATOL = 2e-7
EXACT = (LEVELS.astype(np.float64) - 127.5) / 127.5  # as in the official input_pipeline.py
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_every_level(dtype):
    scaled = preprocess_input(LEVELS.astype(dtype))
    assert isinstance(scaled, np.ndarray)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, EXACT, rtol=0, atol=ATOL)
    assert (scaled[0], scaled[255]) == (-1, 1)


@pytest.mark.parametrize("shape", [(256,), (16, 16), (1, 4, 8, 8)])
def test_any_shape_stays(shape):
    np.testing.assert_array_equal(preprocess_input(LEVELS.reshape(shape)).ravel(), preprocess_input(LEVELS))


def test_the_input_stays_as_it_was():
    pixels = LEVELS.astype(np.float32)
    preprocess_input(pixels)
    np.testing.assert_array_equal(pixels, LEVELS)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_tensors(dtype):
    scaled = preprocess_input(tf.constant(LEVELS, dtype))
    assert isinstance(scaled, tf.Tensor)
    assert scaled.dtype == "float32"
    np.testing.assert_array_equal(scaled, preprocess_input(LEVELS))


def test_inside_tf_data():
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).map(preprocess_input).batch(2)
    assert dataset.element_spec == tf.TensorSpec((None, 5, 7, 3), tf.float32)
    (batch,) = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(batch, preprocess_input(IMAGES))


def test_inside_a_model():
    inputs = keras.Input((5, 7, 3), dtype="uint8")
    model = keras.Model(inputs, preprocess_input(inputs))
    assert model.output.dtype == "float32"
    np.testing.assert_array_equal(model(IMAGES), preprocess_input(IMAGES))


def test_the_layer_is_the_function():
    layer = rescaling(name="mine")
    assert layer.name == "mine"
    np.testing.assert_array_equal(layer(IMAGES), preprocess_input(IMAGES))


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def test_pixels_are_scaled_in_float32_under_a_mixed_policy_too(mixed_precision):
    assert rescaling()(IMAGES).dtype == preprocess_input(tf.constant(IMAGES)).dtype == "float32"
