"""Files that lie, are cut off or are no weight files at all."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

import keras_vit
from keras_vit.weights.load import read_weights
from keras_vit.weights.readers import NpzFile


@pytest.fixture
def write(tmp_path):
    """Writes (member, bytes) pairs as a zip file."""

    def write(*members):
        with zipfile.ZipFile(tmp_path / "written.npz", "w") as file:
            for name, data in members:
                file.writestr(name, data)
        return tmp_path / "written.npz"

    return write


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def header(shape, descr="<f4"):
    """The header of an array whose numbers are missing."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_names_shapes_and_numbers(tmp_path, compressed):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write = np.savez_compressed if compressed else np.savez
    write(tmp_path / "file.npz", **{"a/b/kernel": array, "scalar": np.float32(7)})
    with NpzFile(tmp_path / "file.npz") as file:
        assert file.shapes == {"a/b/kernel": (2, 3), "scalar": ()}
        np.testing.assert_array_equal(file.read("a/b/kernel"), array)
        assert file.read("scalar") == 7


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float64).reshape(2, 3),
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    ],
    ids=["float64", "float16", "big-endian", "int64", "columns first"],
)
def test_any_plain_numbers_become_float32(write, array):
    with NpzFile(write(("a.npy", npy(array)))) as file:
        read = file.read("a")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, [[0, 1, 2], [3, 4, 5]])


class Harmful:
    """Does harm when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("was unpickled",)


def test_all_faulty_members_stand_in_one_message_and_nothing_is_unpickled(write):
    good = npy(np.ones(2, np.float32))
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write(
            ("good.npy", good),
            ("pickled.npy", npy(np.array([Harmful()], object))),
            ("words.npy", npy(np.array(["a"]))),
            ("flags.npy", npy(np.array([True]))),
            ("twice.npy", good),
            ("twice.npy", good),
            ("readme.txt", b"text"),
            ("empty.npy", b""),
            ("magic.npy", b"no array at all"),
            ("version.npy", b"\x93NUMPY\x07\x00" + good[8:]),
            ("syntax.npy", b"\x93NUMPY\x01\x00\x06\x00{'a':\n"),
        )
    with pytest.raises(ValueError) as error:
        NpzFile(path)
    lines = str(error.value).splitlines()
    assert str(path) in lines[0]
    found = {line.split(":")[0].strip(): line for line in lines[1:]}
    assert set(found) == {
        f"{name}.npy" for name in ("pickled", "words", "flags", "twice", "empty", "magic", "version", "syntax")
    } | {"readme.txt"}
    assert "nothing is unpickled" in found["pickled.npy"]
    assert "twice" in found["twice.npy"].split(":")[1]
    assert "version (7, 0)" in found["version.npy"]


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.npz"):
        NpzFile(tmp_path / "nowhere.npz")


def test_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"npz layout"):
        NpzFile(tmp_path)


@pytest.mark.parametrize("content", [b"", b"just some words\n", npy(np.ones(3))], ids=["empty", "text", "npy"])
def test_files_that_are_no_npz(tmp_path, content):
    (tmp_path / "file.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"weight file in \.npz layout.*file\.npz"):
        NpzFile(tmp_path / "file.npz")


def test_a_file_that_was_cut_off(tmp_path):
    np.savez(tmp_path / "whole.npz", a=np.ones(1000, np.float32))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.npz"):
        NpzFile(tmp_path / "cut.npz")


def test_numbers_that_were_damaged(tmp_path):
    np.savez(tmp_path / "file.npz", a=np.ones(1000, np.float32))
    damaged = bytearray((tmp_path / "file.npz").read_bytes())
    damaged[2000] ^= 1
    (tmp_path / "file.npz").write_bytes(damaged)
    with NpzFile(tmp_path / "file.npz") as file, pytest.raises(ValueError, match="cannot read a"):
        file.read("a")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(write, number):
    path = write(("a/kernel.npy", npy(np.float32([1, number]))))
    with NpzFile(path) as file, pytest.raises(ValueError, match=r"written\.npz.*a/kernel.*NaN or infinity"):
        file.read("a/kernel")


@pytest.mark.parametrize("data", [b"", bytes(8)])
def test_fewer_numbers_than_the_header_says(write, data):
    path = write(("weight.npy", header((3,)) + data))
    with pytest.raises(ValueError, match="weight"), NpzFile(path) as file:
        file.read("weight")


MOST = 1_000_000  # bytes; the files below are of a few hundred and claim to hold 400 million and more


@pytest.mark.parametrize("shape", [(10**8,), (10**6, 10**6), (1, 10**16 + 1, 32)])
def test_a_claim_of_a_huge_size_costs_no_memory(write, shape):
    path = write(("weight.npy", header(shape)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="weight"), NpzFile(path) as file:
            file.read("weight")
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("side", [4_000, 10**8])
def test_a_huge_table_of_positions_costs_no_memory(oracle, write, side):
    """Of the positions any square number fits, so that only their missing numbers can give them away."""
    positions = "Transformer/posembed_input/pos_embedding"
    members = [(f"{name}.npy", npy(array)) for name, array in oracle.checkpoint().items() if name != positions]
    path = write(*members, (f"{positions}.npy", header((1, side**2 + 1, 32))))
    variant = keras_vit.Variant(*oracle.SIZES)
    model = keras_vit.build(variant, input_shape=(32, 32, 3), classes=10)
    shapes = {weight.path: tuple(weight.shape) for weight in model.weights}
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="pos_embedding"):
            read_weights(path, shapes, variant, grid=(4, 4))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
