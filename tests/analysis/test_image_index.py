"""The index of image embeddings: what stays, what leaves, and what its file holds."""

import json

import numpy as np
import pytest

from keras_vit.analysis.image_index import ImageIndex, read_index, unit_embeddings, write_index

MADE_WITH = {"model": "a.keras", "image_size": [32, 48]}
FILES = {"b/2.png": (20, 200), "a.png": (10, 2**60 + 1), "b/ä \udce9.png": (30, 300)}  # the last one is not UTF-8
VECTORS = np.array([[3.0, 0, 4], [0, 5, 0], [1, 1, 0]], np.float32)


@pytest.fixture
def index():
    return ImageIndex.empty(MADE_WITH).added(FILES, unit_embeddings([*FILES], VECTORS))


def test_images_are_sorted_with_their_stamps_and_embeddings(index):
    assert index.paths == ("a.png", "b/2.png", "b/ä \udce9.png")
    assert index.stamps.tolist() == [[10, 2**60 + 1], [20, 200], [30, 300]]
    np.testing.assert_allclose(index.embeddings, [[0, 1, 0], [0.6, 0, 0.8], [0.5**0.5, 0.5**0.5, 0]], atol=1e-7)
    order, cosines = index.nearest(np.array([[0, 2.0, 0]]), 2)
    assert order.tolist() == [[0, 2]]
    np.testing.assert_allclose(cosines, [[1, 0.5**0.5]], atol=1e-7)


def test_an_image_stays_while_its_size_and_time_are_the_same(index):
    assert index.unchanged(FILES).paths == index.paths
    now = {"b/2.png": (20, 201), "a.png": (10, 2**60 + 1), "b/ä \udce9.png": (31, 300), "c.png": (10, 2**60 + 1)}
    kept = index.unchanged(now)
    assert kept.paths == ("a.png",) and kept.embeddings.tolist() == [[0, 1, 0]] and kept.made_with == MADE_WITH
    assert index.unchanged({}).paths == () and len(index.unchanged({}).added(FILES, VECTORS).paths) == 3


def test_a_file_is_read_as_it_was_written(index, tmp_path):
    path = tmp_path / "new" / "index.npz"
    assert read_index(path) is None
    for each in (index, ImageIndex.empty(MADE_WITH)):
        write_index(path, each)
        read = read_index(path)
        assert read.paths == each.paths and read.made_with == MADE_WITH
        np.testing.assert_array_equal(read.stamps, each.stamps)
        np.testing.assert_array_equal(read.embeddings, each.embeddings)
    assert [file.name for file in path.parent.iterdir()] == ["index.npz"]


def damaged(path, **arrays):
    with np.load(path) as file:
        np.savez(path, **{**{name: file[name] for name in file.files}, **arrays})


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.array(["a.png"], object)},
        {"stamps": np.zeros((3, 3), np.int64)},
        {"stamps": np.zeros((3, 2))},
        {"embeddings": np.zeros((2, 3), np.float32)},
        {"made_with": np.array("[]")},
        {"made_with": np.array("{")},
        {"made_with": np.array(json.dumps({"format": 2}))},
    ],
)
def test_a_file_of_another_kind_is_refused(arrays, index, tmp_path):
    path = tmp_path / "index.npz"
    write_index(path, index)
    damaged(path, **arrays)
    with pytest.raises(ValueError, match="Expected an index of images. Received: .*index.npz"):
        read_index(path)


def test_a_torn_file_is_refused(index, tmp_path):
    path = tmp_path / "index.npz"
    write_index(path, index)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="index.npz, which cannot be read"):
        read_index(path)


def test_embeddings_that_are_not_finite_or_do_not_fit(index):
    with pytest.raises(ValueError, match="NaN or infinity for b.png"):
        unit_embeddings(["a.png", "b.png"], np.array([[1.0, 0], [np.nan, 1]]))
    assert unit_embeddings(["zero"], np.zeros((1, 2))).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="Expected embeddings of 3 numbers.*Received: embeddings of 2"):
        index.added({"c.png": (1, 1)}, np.ones((1, 2), np.float32))
