import math

import numpy as np
import pytest

from keras_vit.training.early_stopping import EarlyStopping, standard_error


def ends_at(accuracies, steps_per_epoch=10, **settings):
    """Returns the epoch after which a run ends, or None."""
    early_stopping = EarlyStopping(**{"epochs": 3, "steps": 0, "images": 100} | settings)
    for epoch, accuracy in enumerate(accuracies, 1):
        early_stopping.update(accuracy, epoch, epoch * steps_per_epoch)
        if early_stopping.should_stop(epoch, epoch * steps_per_epoch):
            return epoch
    return None


def test_the_standard_error_is_the_binomial_one():
    assert standard_error(0.5, 10_000) == pytest.approx(0.005, rel=1e-4)
    assert standard_error(0.3, 400) == pytest.approx(math.sqrt(0.3 * 0.7 / 400), rel=1e-2)
    assert [standard_error(accuracy, 60) for accuracy in (0.0, 1.0)] == pytest.approx([math.sqrt(61 / 60) / 62] * 2)
    assert standard_error(-3.0, 60) == standard_error(0.0, 60)  # an explained variance can be below 0


def test_a_gain_within_the_noise_is_not_an_improvement():
    assert ends_at([0.5, 0.54, 0.53, 0.54, 0.9]) == 4  # the standard error is 0.05
    assert ends_at([0.5, 0.54, 0.56, 0.57, 0.57, 0.57, 0.9]) == 6
    assert ends_at([0.5, 0.54, 0.53, 0.54], images=10_000) is None


def test_small_gains_add_up():
    assert ends_at(np.linspace(0.5, 0.9, 21)) is None  # 0.02 an epoch, 0.06 in three


def test_it_waits_for_epochs_and_for_steps():
    flat = [0.5] * 60
    assert ends_at(flat) == 4
    assert ends_at(flat, steps=200) == 21
    assert ends_at(flat, steps=200, steps_per_epoch=1000) == 4
    assert ends_at(flat, steps=1000) is None


def test_the_noise_of_60_images_does_not_end_a_run_that_learns():
    """Of 200 runs that rise from 0.3 to 0.7 in 40 epochs of 5 steps, validated on 60 images."""
    random = np.random.default_rng(0)
    true = np.linspace(0.3, 0.7, 40)
    seen = random.binomial(60, true, (200, 40)) / 60
    patient = [ends_at(run, 5, epochs=8, steps=500, images=60) for run in seen]
    assert patient == [None] * 200
    assert sum(ends_at(run, 5, epochs=8, steps=0, images=60) is not None for run in seen) > 20
