import itertools

import pytest

from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import Plan, plan_of


def steps_of(plan, first_step):
    """Returns (epoch, steps) as `fit` would go through them."""
    return [(number, steps) for epoch, epochs, steps in plan.segments(first_step) for number in range(epoch, epochs)]


@pytest.mark.parametrize("steps, per_epoch", [(12, 4), (13, 4), (3, 4), (4, 4), (1, 1), (29, 7)])
def test_wherever_a_run_is_taken_up_the_rest_of_its_epochs_follow(steps, per_epoch):
    plan = Plan(steps, min(per_epoch, steps), 0)
    ends = [*range(plan.steps_per_epoch, steps, plan.steps_per_epoch), steps]
    for first in range(steps):
        found = steps_of(plan, first)
        reached = list(itertools.accumulate((number for _, number in found), initial=first))[1:]
        assert reached == [end for end in ends if end > first]
        assert [epoch for epoch, _ in found] == list(range(first // plan.steps_per_epoch, plan.epochs))
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
