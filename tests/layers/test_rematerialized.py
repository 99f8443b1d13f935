import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit.layers import Bottleneck, TransformerBlock


@pytest.mark.parametrize(
    "make, shape",
    [(lambda: TransformerBlock(2, 11), (2, 5, 8)), (lambda: Bottleneck(128, 2), (2, 7, 9, 64))],
    ids=["transformer", "bottleneck"],
)
def test_inner_values_are_computed_again_with_the_same_gradients(monkeypatch, make, shape):
    layer, x = make(), tf.constant(np.random.default_rng(0).normal(size=shape).astype("float32"))
    layer.build(shape)
    calls = []
    first = layer.attention_norm if isinstance(layer, TransformerBlock) else layer.conv1
    monkeypatch.setattr(first, "call", lambda x, own=first.call: calls.append(1) or own(x))
    results = []
    for layer.rematerialized in (False, True):
        with tf.GradientTape() as tape:
            y = layer(x, training=True) if isinstance(layer, TransformerBlock) else layer(x)
            loss = tf.reduce_sum(y**2)
        gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
        results.append([keras.ops.convert_to_numpy(value) for value in (y, *gradients)])
        calls.append(0)
    assert calls == [1, 0, 1, 1, 0]
    for plain, again in zip(*results):
        np.testing.assert_allclose(again, plain, rtol=1e-4, atol=1e-4)
