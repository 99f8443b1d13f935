import json

import numpy as np
import pytest

from keras_vit.evaluation.real_labels import read_real_labels, real_accuracy, validation_order


def written(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_prediction_is_right_if_it_is_one_of_the_labels(tmp_path):
    real = read_real_labels(written(tmp_path / "real.json", [[3], [], [1, 7], [0, 2, 999], []]))
    assert real == ((3,), (), (1, 7), (0, 2, 999), ())
    assert real_accuracy(np.array([3, 3, 7, 998, 0]), real) == 2 / 3  # two have no label
    assert real_accuracy(np.array([4, 0, 0, 2, 0]), real) == 1 / 3


@pytest.mark.parametrize(
    "value, words",
    [
        ("[[1], ", "cannot be read"),
        ({"1": [2]}, "list of lists of class numbers"),
        ([[1], 2], "list of lists of class numbers"),
        ([[1], ["2"]], "list of lists of class numbers"),
        ([[1], [2.0]], "list of lists of class numbers"),
        ([[True]], "list of lists of class numbers"),
        ([[5], [4, -1], [10, 5]], r"labels from 0 to 4. Received: .*real.json with -1, 5, 10"),
    ],
)
def test_what_is_no_list_of_labels_raises(tmp_path, value, words):
    with pytest.raises(ValueError, match=words):
        read_real_labels(written(tmp_path / "real.json", value), classes=5)


def test_a_missing_file_raises(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_real_labels(tmp_path / "none.json")


def test_another_length_raises():
    words = "Received: labels for 2, and 3 images"
    with pytest.raises(ValueError, match=words):
        real_accuracy(np.array([0, 1, 2]), [(0,), (1,)])
    with pytest.raises(ValueError, match=words):
        validation_order(["a_1.JPEG", "a_2.JPEG", "a_3.JPEG"], 2)


def test_labels_for_none_raise():
    with pytest.raises(ValueError, match="none for any of 2 images"):
        real_accuracy(np.array([0, 1]), [(), ()])


def test_images_are_ordered_by_their_numbers():
    names = ["n01/ILSVRC2012_val_00000003.JPEG", "n01/ILSVRC2012_val_00000010.JPEG"]
    names += [f"n02/ILSVRC2012_val_{i:08d}.JPEG" for i in (9, 1, 2, 4, 8, 7, 6, 5)]
    order = validation_order(names, 10)
    assert [int(names[i][-13:-5]) for i in order] == list(range(1, 11))


@pytest.mark.parametrize(
    "names, words",
    [
        (["val_1.JPEG", "cat.JPEG", "2.JPEG"], "Received 2 without: cat.JPEG, 2.JPEG"),
        (["val_1.JPEG", "val_1.PNG", "val_2.JPEG"], "numbers 1 to 3. Received: 2 numbers from 1 to 2"),
        (["val_1.JPEG", "val_5.JPEG", "val_2.JPEG"], "Received: 3 numbers from 1 to 5"),
    ],
)
def test_images_of_something_else_raise(names, words):
    with pytest.raises(ValueError, match=words):
        validation_order(names, len(names))
