"""Losses of labels and of numbers, by hand, and their place in a training step."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.training.losses import CrossEntropy, LabelsLoss, NumbersLoss
from keras_vit.training.trainer import make_trainer

RANDOM = np.random.default_rng(0)
TARGETS = (RANDOM.random((7, 3)) < 0.4).astype("float32")
LOGITS = RANDOM.normal(0, 3, (7, 3)).astype("float32")


def values(pair):
    return [keras.ops.convert_to_numpy(one) for one in pair]


def test_labels_without_weights_have_the_sigmoid_loss():
    loss, _ = values(LabelsLoss(0.1).loss_and_accuracy(TARGETS, LOGITS))
    np.testing.assert_allclose(loss, keras.ops.convert_to_numpy(CrossEntropy("sigmoid", 0.1)(TARGETS, LOGITS)))


def test_a_positive_weight_counts_the_images_with_the_label():
    weights = (2.0, 0.5, 1.0)
    loss, _ = values(LabelsLoss(0.0, weights).loss_and_accuracy(TARGETS, LOGITS))
    scores = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    expected = -np.where(TARGETS == 1, np.array(weights) * np.log(scores), np.log(1 - scores)).sum(axis=1)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_metric_of_labels_is_the_f1_of_an_image():
    targets = np.float32([[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    logits = np.float32([[5, -5, 5], [-1, -1, -1], [1, -1, -1], [3, -1, -2]])
    _, f1 = values(LabelsLoss().loss_and_accuracy(targets, logits))
    np.testing.assert_allclose(f1, [0.5, 1, 0, 1])


@pytest.mark.parametrize(
    ("kind", "expected"), [("mse", (0.25 + 9) / 2), ("mae", (0.5 + 3) / 2), ("huber", (0.125 + 2.5) / 2)]
)
def test_losses_of_numbers(kind, expected):
    loss, explained = values(NumbersLoss(kind).loss_and_accuracy(np.float32([[0, 1]]), np.float32([[0.5, -2]])))
    assert loss[0] == pytest.approx(expected) and explained[0] == pytest.approx(1 - (0.25 + 9) / 2)


@pytest.mark.parametrize("loss", [LabelsLoss(0.0, (1.0, 3.0, 1.0)), NumbersLoss("huber")], ids=["labels", "numbers"])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(loss):
    images = RANDOM.normal(0, 1, (8, 8, 8, 3)).astype("float32")
    targets, weights = (RANDOM.random((8, 3)) < 0.5).astype("float32"), RANDOM.random(8).astype("float32")
    after = []
    for accumulation in (1, 4):
        keras.utils.set_random_seed(0)
        model = keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 12), input_shape=(8, 8, 3), classes=3)
        trainer = make_trainer(model, loss=loss, clip_norm=0.1, accumulation=accumulation)
        trainer.compile(keras_vit.training.SGD(0.5))
        trainer.fit(images, targets, sample_weight=weights, batch_size=8, epochs=2, shuffle=False, verbose=0)
        after.append(keras.ops.convert_to_numpy(model.get_layer("head").kernel))
    np.testing.assert_allclose(after[0], after[1], atol=1e-6)
