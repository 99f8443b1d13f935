"""The gradients, and ten steps along them, are those of the official implementation with JAX and optax."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit.models.description import weight_path
from keras_vit.weights.names import format_column

# Relative, of float32 sums in another order; the oracle's own. The hybrid's later steps are sensitive: rounding that
# sends one pixel to the other side of a ReLU moves its losses by 1e-3, as `StdConv` did when it took a mean once.
RTOL = {"token_32": 1e-4, "rep_32": 1e-4, "gap_32": 1e-4, "hybrid_111_64": 1e-3}
# A softmax does not see what moves all its scores alike: the gradient is 0 but for rounding.
UNSEEN = "/key/bias"


def steps(model, images, labels, number):
    """Returns the first gradients, and the losses before so many steps."""
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=False)
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss, gradients

    losses, gradients = zip(*(step() for _ in range(number)))
    return [np.asarray(one) for one in gradients[0]], np.array(losses)


@pytest.fixture(scope="module", params=RTOL)
def case(oracle, request, tmp_path_factory):
    """Returns its name, the first step's {our path: gradient}, and the losses before ten steps."""
    path = oracle.write(request.param, tmp_path_factory.mktemp("checkpoint"))
    model = keras_vit.load(path, classifier_activation=None)
    paths = [weight_path(layer, weight) for layer in model.layers for weight in layer.trainable_weights]
    gradients, losses = steps(model, oracle.images(request.param), np.array(oracle.LABELS), 10)
    return request.param, dict(zip(paths, gradients, strict=True)), losses


def test_every_case_is_tested(oracle):
    assert set(RTOL) == set(oracle.numbers("gradients")) == set(oracle.numbers("losses"))


def test_the_gradient_of_every_weight(oracle, case):
    name, gradients, _ = case
    reference = dict(zip(oracle.file_shapes(name), oracle.numbers("gradients")[name]))
    row = oracle.CASES[name].row
    cells = format_column("npz", row.num_layers, row.stem.units if row.stem else ())
    assert {cells[path].name for path in gradients} == set(reference)
    for path, gradient in gradients.items():
        norm, *first = reference[cells[path].name]
        if path.endswith(UNSEEN):
            assert max(norm, np.linalg.norm(gradient)) < 1e-6, path
            continue
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=RTOL[name]), path
        # In official files the numbers of an array lie in our order.
        np.testing.assert_allclose(gradient.ravel()[:4], first, rtol=0, atol=RTOL[name] * norm, err_msg=path)


def test_ten_steps(oracle, case):
    name, _, losses = case
    reference = oracle.numbers("losses")[name]
    assert len(reference) == 10
    np.testing.assert_allclose(losses, reference, rtol=RTOL[name])
