import re

import keras
import numpy as np
import pytest

from keras_vit import decode_predictions
from keras_vit.imagenet import class_names


def test_the_classes():
    names = class_names()
    assert len(names) == 1000
    assert len({synset for synset, _ in names}) == 1000
    assert all(re.fullmatch(r"n\d{8}", synset) and name for synset, name in names)


def test_they_are_in_the_order_of_the_official_files():
    """Sorted by synset, as everywhere but in the challenge's own development kit."""
    synsets = [synset for synset, _ in class_names()]
    assert synsets == sorted(synsets)


@pytest.mark.parametrize(
    "place, row",
    [
        (0, ("n01440764", "tench")),
        (1, ("n01443537", "goldfish")),
        (207, ("n02099601", "golden_retriever")),
        (281, ("n02123045", "tabby")),
        (999, ("n15075141", "toilet_tissue")),
    ],
)
def test_known_rows(place, row):
    assert class_names()[place] == row


def scores(*best):
    """An image a row, the classes of `best` the best in their order."""
    result = np.zeros((len(best), 1000), np.float32)
    for row, classes in zip(result, best):
        row[list(classes)] = np.linspace(0.5, 0.1, len(classes))
    return result


def test_the_format_of_keras_applications():
    decoded = decode_predictions(scores((207, 0, 999), (1, 2, 3)), top=2)
    assert [[row[:2] for row in image] for image in decoded] == [
        [("n02099601", "golden_retriever"), ("n01440764", "tench")],
        [("n01443537", "goldfish"), ("n01484850", "great_white_shark")],
    ]
    for image in decoded:
        assert all(isinstance(row, tuple) for row in image)
        assert [row[2] for row in image] == pytest.approx([0.5, 0.3])


def test_five_by_default_and_all_if_wanted():
    assert [len(image) for image in decode_predictions(scores((1,), (2,)))] == [5, 5]
    assert len(decode_predictions(scores((1,)), top=1000)[0]) == 1000
    assert decode_predictions(np.zeros((0, 1000))) == []


def test_a_tensor():
    tensor = keras.ops.convert_to_tensor(scores((207,)))
    assert decode_predictions(tensor, top=1)[0][0][1] == "golden_retriever"


@pytest.mark.parametrize("shape", [(1000,), (2, 999), (2, 21843), (2, 3, 1000)])
def test_scores_of_other_classes_raise(shape):
    with pytest.raises(ValueError, match=re.escape(f"Received: preds of shape {shape}")):
        decode_predictions(np.zeros(shape))
    if len(shape) == 2:
        with pytest.raises(ValueError):  # as theirs, which then downloads nothing either
            keras.applications.imagenet_utils.decode_predictions(np.zeros(shape))
