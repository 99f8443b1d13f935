"""Recipes from any value and any text: a recipe that holds it, or one error that names the field."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vit.training.recipe import FIELDS, Recipe, change

RECIPE = Recipe(data="digits", variant="ViT-Ti/16", image_size=32)
QUICK = settings(max_examples=400, deadline=None, derandomize=True, database=None)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=2)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=6,
)


def outcome(make):
    """Returns a recipe, or the message of its error."""
    try:
        return make()
    except (ValueError, TypeError) as error:
        return str(error)


@QUICK
@given(st.sampled_from(sorted(FIELDS)), VALUES)
def test_any_value_of_a_field_is_held_or_refused(field, value):
    made = outcome(lambda: dataclasses.replace(RECIPE, **{field: value}))
    if isinstance(made, Recipe):
        held = getattr(made, field)
        assert held == value or list(held) == list(value)
    else:
        assert field in made and len(made) <= 2_000


@QUICK
@given(
    st.sampled_from(sorted(FIELDS)),
    st.text(max_size=40) | VALUES.map(repr) | st.sampled_from("([{-").map(lambda c: 5_000 * c),
)
def test_any_text_of_a_field_is_held_or_refused(field, text):
    made = outcome(lambda: change(RECIPE, [f"{field}={text}"]))
    if not isinstance(made, Recipe):
        assert field in made and len(made) <= 2_000


@QUICK
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), PLAIN | st.lists(PLAIN, max_size=2).map(tuple), max_size=4))
def test_the_settings_of_a_recipe_give_it_back(fields):
    made = outcome(lambda: dataclasses.replace(RECIPE, **fields))
    if not isinstance(made, Recipe):
        return
    texts = {name: value for name, value in fields.items() if not isinstance(value, str)}
    again = change(RECIPE, [f"{name}={value!r}" for name, value in texts.items()])
    assert all(getattr(again, name) == getattr(made, name) for name in texts)


@pytest.mark.parametrize("setting", [f"seed={'(' * 5_000}", "seed={[]: 1}", f"seed={'9' * 5_000}"])
def test_a_text_that_python_cannot_parse_is_refused(setting):
    with pytest.raises(ValueError, match="seed="):
        change(RECIPE, [setting])
