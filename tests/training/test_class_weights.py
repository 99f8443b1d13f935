"""Class weights by hand: names with colons and commas, and faults that name the classes."""

import numpy as np
import pytest

from keras_vit.training.class_weights import class_weights_of, named_weights

LABELS = np.array([0, 0, 0, 1, 2, 2])


@pytest.mark.parametrize(
    "text, names, weights",
    [
        ("dark:2,light:1", ["dark", "light"], [2, 1]),
        (" light : 1e-3 , dark:2,", ["dark", "light"], [2, 1e-3]),
        ("a:b:2,b:3", ["a:b", "b"], [2, 3]),
        ("a,b:2,b:3,a:0.5", ["a", "a,b", "b"], [0.5, 2, 3]),
        ("ratio 1:2, wide:3,ratio 1:4", ["ratio 1", "ratio 1:2, wide"], [4, 3]),
        ("0:2,1:7", ["0", "1"], [2, 7]),
        ("a.c:2,abc:1", ["a.c", "abc"], [2, 1]),
        ("two\nlines:2,日本:1", ["two\nlines", "日本"], [2, 1]),
    ],
)
def test_weights_by_name(text, names, weights):
    np.testing.assert_array_equal(class_weights_of(text, LABELS, names), weights)


def test_equal_and_balanced():
    assert class_weights_of("equal", LABELS, ["a", "b", "c"]) is None
    weights = class_weights_of("balanced", LABELS, ["a", "b", "c"])
    np.testing.assert_allclose(weights * [3, 1, 2], [2, 2, 2])


@pytest.mark.parametrize(
    "text, words",
    [
        ("dark:2,light:1,grey:3", "unknown classes: grey"),
        ("dark:2", "missing classes: light"),
        ("dark:2,lihgt:1", "unknown classes: lihgt; missing classes: light"),
        ("dark:two,light:0", "weights that are not numbers from 1e-06 to 1e.06: dark:two, light:0"),
        ("dark:nan,light:inf", "dark:nan, light:inf"),
        ("dark:-1,light", "dark:-1, light:"),
        ("dark:1,dark:2,light:1", "more than once: dark"),
        ("dark:1,", "missing classes: light"),
    ],
)
def test_all_faults_are_in_one_message(text, words):
    with pytest.raises(ValueError, match=f"class_weights=.*{words}.*The classes are: dark, light"):
        class_weights_of(text, LABELS, ["dark", "light"])


def test_many_faults_are_counted():
    names = [f"class {i}" for i in range(30)]
    with pytest.raises(ValueError, match="missing classes: class 1, class 2, class 3, class 4, class 5 and 24 more"):
        class_weights_of("class 0:1", LABELS, names)


@pytest.mark.parametrize("names", [["a", "b"], ["a:1", "b,c", "x y"]])
def test_any_names_come_back(names):
    text = ",".join(f"{name}:{i + 1}" for i, name in enumerate(names))
    assert named_weights(text, names) == [(name, str(i + 1)) for i, name in enumerate(names)]
