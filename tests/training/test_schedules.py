import itertools

import keras
import numpy as np
import pytest

from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import Plan, WarmupSchedule, plan_of

STEPS = [0, 1, 10, 49, 50, 51, 100, 250, 499, 500]
# Values of the official create_learning_rate_schedule: total steps, base, decay, warm-up, and the rate at STEPS.
OFFICIAL = [
    (
        *(500, 0.03, "cosine", 50),
        [0.0, 0.0006, 0.006, 0.0294000003, 0.0299999993, 0.0299996343, 0.0290953889, 0.0176047217, 3.65674481e-07, 0.0],
    ),
    (
        *(500, 0.03, "linear", 50),
        [0.0, 0.0006, 0.006, 0.0294000022, 0.03, 0.0299333557, 0.0266677793, 0.0166711137, 7.66449812e-05, 1e-05],
    ),
    (
        *(1000, 0.1, "cosine", 0),
        [0.1, 0.0999997482, 0.0999753252, 0.0994087458, 0.0993844196, 0.0993596017, 0.0975528285, 0.0853553414]
        + [0.0501570776, 0.05],
    ),
]


@pytest.mark.parametrize("total, base, decay, warmup, values", OFFICIAL)
def test_the_official_values(total, base, decay, warmup, values):
    schedule = WarmupSchedule(base, total, decay, warmup)
    rates = np.array([schedule(step) for step in STEPS])
    np.testing.assert_allclose(rates, values, rtol=1e-5, atol=1e-9)


def test_milestones_each_take_a_tenth():
    schedule = WarmupSchedule(0.003, 500, "steps", 100, (200, 300, 400))
    rates = [float(schedule(step)) for step in (0, 50, 100, 199, 200, 299, 300, 400, 499)]
    expected = [0, 0.0015, 0.003, 0.003, 3e-4, 3e-4, 3e-5, 3e-6, 3e-6]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_a_constant_rate_and_one_after_its_end():
    assert float(WarmupSchedule(0.5, 7, "constant")(3)) == 0.5
    assert float(WarmupSchedule(0.5, 7, "cosine")(9)) == 0.0
    assert float(WarmupSchedule(0.5, 7, "linear")(9)) == pytest.approx(1e-5)


def test_it_is_rebuilt_from_its_config_and_refuses_what_it_does_not_know():
    schedule = WarmupSchedule(0.1, 50, "steps", 5, (20, 30))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again.get_config() == schedule.get_config()
    with pytest.raises(ValueError, match="Received: decay='cosin'"):
        WarmupSchedule(0.1, 50, "cosin")


def steps_of(plan, first_step):
    """Returns (epoch, steps) as `fit` would go through them."""
    return [(number, steps) for epoch, epochs, steps in plan.segments(first_step) for number in range(epoch, epochs)]


@pytest.mark.parametrize("steps, per_epoch", [(12, 4), (13, 4), (3, 4), (4, 4), (1, 1), (29, 7)])
def test_wherever_a_run_resumes_the_rest_of_its_epochs_follow(steps, per_epoch):
    plan = Plan(steps, min(per_epoch, steps), 0)
    ends = [*range(plan.steps_per_epoch, steps, plan.steps_per_epoch), steps]
    for first in range(steps):
        rest = steps_of(plan, first)
        reached = list(itertools.accumulate((number for _, number in rest), initial=first))[1:]
        assert reached == [end for end in ends if end > first]
        assert [epoch for epoch, _ in rest] == list(range(first // plan.steps_per_epoch, plan.epochs))
    assert steps_of(plan, steps) == []


def test_a_whole_run_is_one_stretch():
    assert list(Plan(40, 4, 0).segments()) == [(0, 10, 4)]


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"epochs": 5}, Plan(35, 7, 7)),
        ({"epochs": 5, "warmup_epochs": 0}, Plan(35, 7, 0)),
        ({"epochs": 5, "warmup_steps": 3, "steps_per_epoch": 10}, Plan(35, 10, 3)),
        ({"steps": 500, "warmup_steps": 100}, Plan(500, 25, 100)),
        ({"steps": 20}, Plan(20, 7, 7)),
        ({"steps": 4}, Plan(4, 4, 3)),
    ],
)
def test_the_plan_of_a_recipe(settings, expected):
    assert plan_of(Recipe(data="digits", variant="ViT-Ti/16", image_size=32, **settings), 7) == expected
