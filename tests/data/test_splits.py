import logging
import re

import pytest

from keras_vit.data.splits import choose_splits

pytestmark = pytest.mark.filterwarnings("error")
NONE = {"train": None, "validation": None, "test": None}


def choose(sizes, unlabelled=(), **wanted):
    """Chooses among splits of so many examples, each in a file of its own."""

    def spans(expression):
        result = []
        for part in expression.split("+"):
            name, start, stop = re.fullmatch(r"(\w+)(?:\[(\d*):(\d*)\])?", part).groups()
            result.append((name, int(start or 0), int(stop or sizes[name])))
        return result

    return choose_splits("flowers", tuple(sizes), NONE | wanted, spans, lambda split: split not in unlabelled)


@pytest.mark.parametrize(
    "sizes, wanted, chosen",
    [
        ({"train": 9}, {}, {"train": [("train", 0, 9)]}),
        (
            {"test": 3, "train": 9, "validation": 5},
            {},
            {"train": [("train", 0, 9)], "validation": [("validation", 0, 5)], "test": [("test", 0, 3)]},
        ),
        ({"train": 9, "valid": 5}, {}, {"train": [("train", 0, 9)], "test": [("valid", 0, 5)]}),
        (
            {"train": 9, "validation": 5},
            {"validation": "validation"},
            {"train": [("train", 0, 9)], "validation": [("validation", 0, 5)]},
        ),
        (
            {"train": 9, "validation": 5, "test": 3},
            {"train": "train+validation[:4]"},
            {"train": [("train", 0, 9), ("validation", 0, 4)], "test": [("test", 0, 3)]},
        ),
        (
            {"train": 9, "test": 3},
            {"train": "train[:7]", "validation": "train[7:]"},
            {"train": [("train", 0, 7)], "validation": [("train", 7, 9)], "test": [("test", 0, 3)]},
        ),
        ({"test": 3}, {"train": "test"}, {"train": [("test", 0, 3)]}),
    ],
)
def test_what_serves_as_what(sizes, wanted, chosen):
    assert choose(sizes, **wanted) == chosen
    assert list(choose(sizes, **wanted)) == list(chosen)  # in this order


def test_a_test_split_without_labels_is_passed_over(caplog):
    with caplog.at_level(logging.INFO, "keras_vit"):
        chosen = choose({"train": 9, "validation": 5, "test": 3}, unlabelled=["test"])
    assert chosen == {"train": [("train", 0, 9)], "test": [("validation", 0, 5)]}
    assert "flowers: the test split has no labels and is not used" in caplog.text
    assert "flowers has no test split to use: the validation split is tested on" in caplog.text


def test_splits_that_share_examples_are_all_named():
    with pytest.raises(ValueError) as caught:
        choose({"train": 9, "test": 3}, train="train[:7]", validation="train[5:]", test="test+train[:1]")
    assert "train_split='train[:7]' and validation_split='train[5:]' share 2 examples" in str(caught.value)
    assert "train_split='train[:7]' and test_split='test+train[:1]' share 1 example" in str(caught.value)


def test_nothing_to_train_on():
    with pytest.raises(ValueError, match="flowers has no split named train. .* It has: test, validation"):
        choose({"test": 3, "validation": 5})
    with pytest.raises(ValueError, match="No example of flowers.*train_split='train\\[4:4\\]'"):
        choose({"train": 9}, train="train[4:4]")
