"""What the readers of all layouts give alike: names, shapes, and numbers as float32, whole or by rows."""

import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_vit.weights.readers import open_arrays

ARRAYS = {
    "cls": np.arange(11).reshape(1, 1, 11),
    "block/kernel": np.arange(3 * 5 * 7 * 2).reshape(3, 5, 7, 2) - 100,
    "scale": np.array(7),
    "none": np.zeros((0, 3)),
}
LAYOUTS = ["npz", "compressed npz", "safetensors", "h5", "chunked h5"]


def bfloat16(array):
    """As NumPy keeps it without a type for it: two bytes of unknown kind."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype("<u2").view("V2").reshape(array.shape)


def write(path, arrays, layout):
    """Writes arrays in a layout, under a name whose ending says nothing, and returns it."""
    if layout == "safetensors":
        import ml_dtypes

        known = {name: a.view(ml_dtypes.bfloat16) if a.dtype == "V2" else a for name, a in arrays.items()}
        save_file({name: np.asarray(array, order="C") for name, array in known.items()}, path)
    elif layout.endswith("npz"):
        with open(path, "wb") as file:
            (np.savez_compressed if "compressed" in layout else np.savez)(file, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                packed = {"compression": "gzip", "chunks": True} if layout != "h5" and array.size > 1 else {}
                file.create_dataset(name, data=array, **packed)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "V2", "i8", "u1", "i2"])
def test_names_shapes_and_numbers(tmp_path, layout, dtype):
    expected = {name: abs(array) for name, array in ARRAYS.items()}
    arrays = {name: bfloat16(array) if dtype == "V2" else array.astype(dtype) for name, array in expected.items()}
    with open_arrays(write(tmp_path / "file", arrays, layout)) as file:
        assert file.path == tmp_path / "file"
        assert file.shapes == {name: array.shape for name, array in ARRAYS.items()}
        for name in file.shapes:
            read = file.read(name)
            assert read.dtype == np.float32 and read.flags.c_contiguous and read.flags.writeable
            np.testing.assert_array_equal(read, expected[name])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_rows(tmp_path, layout, dtype):
    array = np.random.default_rng(0).standard_normal((1009, 211)).astype(dtype)  # more than is read at once
    with open_arrays(write(tmp_path / "file", {"a": array}, layout)) as file:
        for rows in ((0, 1009), (0, 1), (1, 499), (499, 1009), (3, 5), (1008, 1009), (7, 7)):
            read = file.read("a", rows)
            assert read.dtype == np.float32 and read.flags.c_contiguous
            np.testing.assert_array_equal(read, array[slice(*rows)].astype(np.float32))


@pytest.mark.parametrize("shape", [(6,), (5, 3), (523, 211), (3, 5, 7, 11)])
@pytest.mark.parametrize("dtype", [">f4", "<f4", "f2", "V2"])
def test_columns_first(tmp_path, shape, dtype):
    array = np.arange(np.prod(shape)).reshape(shape) % 251
    stored = bfloat16(array) if dtype == "V2" else array.astype(dtype)
    with open_arrays(write(tmp_path / "file", {"a": np.asfortranarray(stored)}, "npz")) as file:
        read = file.read("a")
        np.testing.assert_array_equal(read, array)
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(file.read("a", (1, shape[0] - 1)), array[1:-1])


def test_rows_in_order_unpack_each_member_once(tmp_path, monkeypatch):
    """As they are read where one member has a weight of all blocks."""
    arrays = {name: np.random.default_rng(0).standard_normal((1009, 211)).astype(np.float32) for name in "abc"}
    opened, really = [], zipfile.ZipFile.open
    with open_arrays(write(tmp_path / "file", arrays, "compressed npz")) as file:
        monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args: opened.append(args[1]) or really(*args))
        for start in range(0, 1009, 100):
            for name, array in arrays.items():
                rows = start, min(start + 100, 1009)
                np.testing.assert_array_equal(file.read(name, rows), array[slice(*rows)])
        assert opened == ["a.npy", "b.npy", "c.npy"]
        np.testing.assert_array_equal(file.read("a", (0, 2)), arrays["a"][:2])
        assert opened[3:] == ["a.npy"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [(-1, 2), (2, 1), (0, 4)])
def test_rows_that_are_not_there(tmp_path, layout, rows):
    with open_arrays(write(tmp_path / "file", ARRAYS, layout)) as file:
        with pytest.raises(ValueError, match=r"block/kernel \(3, 5, 7, 2\).*rows="):
            file.read("block/kernel", rows)
        with pytest.raises(ValueError, match=r"scale \(\).*rows="):
            file.read("scale", rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_that_are_not_there(tmp_path, layout):
    with open_arrays(write(tmp_path / "file", ARRAYS, layout)) as file, pytest.raises(ValueError, match="name='head'"):
        file.read("head")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, np.float64(1e39)])
def test_numbers_that_are_none_in_float32(tmp_path, layout, number):
    array = np.zeros(70_001)
    array[-2] = number
    with open_arrays(write(tmp_path / "file", {"a/kernel": array}, layout)) as file:
        with pytest.raises(ValueError, match="a/kernel holds NaN or infinity"):
            file.read("a/kernel")
        assert not file.read("a/kernel", (0, 69_999)).any()


@pytest.mark.parametrize("layout", ["npz", "compressed npz", "safetensors"])  # HDF5's memory is not Python's to trace
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "V2"])
@pytest.mark.parametrize("rows", [None, (1_000, 2_000)])
def test_it_takes_the_memory_of_what_is_read(tmp_path, layout, dtype, rows):
    ones = np.ones((3_001, 1_009), np.float32)  # 12 MB
    stored = bfloat16(ones) if dtype == "V2" else ones.astype(dtype)
    path = write(tmp_path / "file", {"a": stored}, layout)
    tracemalloc.start()
    try:
        with open_arrays(path) as file:
            size = file.read("a", rows).nbytes
        assert tracemalloc.get_traced_memory()[1] < size + 3e6  # a few chunks of 0.5 MB in between
    finally:
        tracemalloc.stop()


def test_the_emptiest_file_that_is_honest(tmp_path):
    """Deflate shrinks zeros nearly as far as it can."""
    with open_arrays(write(tmp_path / "file", {"a": np.zeros((1_009, 1_013))}, "compressed npz")) as file:
        assert file.read("a").shape == (1_009, 1_013)
        assert not file.read("a").any()


def test_the_weights_that_keras_saves(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), keras.layers.LayerNormalization()])
    model.save_weights(tmp_path / "model.weights.h5")
    with open_arrays(tmp_path / "model.weights.h5") as file:
        assert file.shapes["layers/dense/vars/0"] == (5, 3)
        kernel = file.read("layers/dense/vars/0")
        assert len(file.shapes) == 4
    np.testing.assert_array_equal(kernel, model.layers[0].kernel)
