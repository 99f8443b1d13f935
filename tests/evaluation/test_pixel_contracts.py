"""The check of a pixel contract, on models that classify by brightness alone."""

import keras
import numpy as np
import pytest

from keras_vit.evaluation.pixel_contracts import USUAL, better_contract
from keras_vit.preprocessing import CONTRACTS

LEVELS = (60, 120, 180)


class ByBrightness:
    """Classifies three brightnesses, on pixels of one contract alone."""

    def __init__(self, contract):
        self.edges = [np.mean(level * np.float32(contract.scale) + np.float32(contract.offset)) for level in (90, 150)]

    def predict_on_batch(self, images):
        return np.eye(3)[np.searchsorted(self.edges, np.mean(images, axis=(1, 2, 3)))]


def images(count):
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).normal(0, 12, (count, 6, 4, 3))
    return np.clip(np.array(LEVELS)[labels][:, None, None, None] + noise, 0, 255).astype(np.uint8), labels


def test_the_numbers_are_those_of_the_usual_contracts():
    assert USUAL.keys() == CONTRACTS.keys()
    for name, (factor, term) in USUAL.items():
        np.testing.assert_allclose(np.broadcast_to(factor, 3), np.broadcast_to(CONTRACTS[name].scale, 3), rtol=1e-6)
        np.testing.assert_allclose(np.broadcast_to(term, 3), np.broadcast_to(CONTRACTS[name].offset, 3), atol=1e-6)


@pytest.mark.parametrize("trained", CONTRACTS)
@pytest.mark.parametrize("used", CONTRACTS)
def test_a_wrong_contract_is_found_and_the_right_one_is_not_doubted(trained, used):
    result = better_contract(ByBrightness(CONTRACTS[trained]), *images(30), CONTRACTS[used])
    if trained == used:
        assert result is None
    else:
        own = ByBrightness(CONTRACTS[trained])
        pixels, labels = images(30)
        scaled = pixels * np.float32(CONTRACTS[used].scale) + np.float32(CONTRACTS[used].offset)
        accuracy = (own.predict_on_batch(scaled).argmax(1) == labels).mean()
        if 1 - accuracy >= 0.2:
            assert (result.accuracy, result.images) == (1.0, 30) and result.own == pytest.approx(accuracy)
            assert result.name == trained and f"--pixels {trained}" in result.text


def test_few_images_and_guesses_prove_nothing():
    assert better_contract(ByBrightness(CONTRACTS["raw"]), *images(0), CONTRACTS["-1..1"]) is None
    assert better_contract(ByBrightness(CONTRACTS["raw"]), *images(6), CONTRACTS["-1..1"]) is None
    always = keras.Sequential([keras.Input((6, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    always.set_weights([np.zeros((72, 2)) + [[0.01, -0.01]], np.array([-1.0, 1.0])])
    pixels, labels = images(40)
    # Wrong on all at -1 to 1, right on the 30 of the commonest class for raw pixels: it predicts one class for all.
    assert better_contract(always, pixels, np.where(np.arange(40) < 10, 1, 0), CONTRACTS["0..1"]) is None


def test_no_more_than_64_images_are_scored():
    pixels, labels = images(90)
    assert better_contract(ByBrightness(CONTRACTS["raw"]), pixels, labels, CONTRACTS["-1..1"]).images == 64
