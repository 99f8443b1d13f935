"""Files that lie, are cut off or are no weight files at all; for whole ones see test_arrays.py."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

import keras_vit
from keras_vit.weights.formats import open_checkpoint_file
from keras_vit.weights.load import read_weights
from keras_vit.weights.readers import NpzFile, open_arrays


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


class Harmful:
    """Does harm when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("was unpickled",)


def test_all_faulty_members_stand_in_one_message_and_nothing_is_unpickled(every_fault, write):
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
    result = {line.split(":")[0].strip(): line for line in lines[1:]}
    assert set(result) == {
        f"{name}.npy" for name in ("pickled", "words", "flags", "twice", "empty", "magic", "version", "syntax")
    } | {"readme.txt"}
    assert "nothing is unpickled" in result["pickled.npy"]
    assert "twice" in result["twice.npy"].split(":")[1]
    assert "version (7, 0)" in result["version.npy"]


def test_of_many_faulty_members_the_first_five_and_the_number_of_the_rest_stand_in_the_message(write):
    with pytest.raises(ValueError, match="and 395 more") as error:
        NpzFile(write(*((f"{number}{'x' * 300}", b"") for number in range(400))))
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    "place, value",
    [(4, 255), (6, 1), (8, 99)],  # of the directory's entry: version to extract, encryption, compression
    ids=["version", "encryption", "compression"],
)
def test_a_directory_of_another_kind_of_zip(save, place, value):
    path = save({"kernel": np.ones(3, np.float32)})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 2 + place] = value
    path.write_bytes(data)
    with pytest.raises(ValueError, match="checkpoint.npz"):
        NpzFile(path)


def test_a_member_without_a_name(write):
    path = write(("a", b"x"))
    data = path.read_bytes()
    directory = data.rindex(b"PK\x01\x02")
    entry = bytearray(data[directory : directory + 46])
    entry[28] = 0  # the length of the name
    end = bytearray(data[directory + 47 :])
    end[12] -= 1  # the length of the directory
    path.write_bytes(data[:directory] + entry + end)
    with pytest.raises(ValueError, match="not a .npy member"):
        NpzFile(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.npz"):
        NpzFile(tmp_path / "nowhere.npz")


def test_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"an \.npz"):
        NpzFile(tmp_path)


@pytest.mark.parametrize("content", [b"", b"just some words\n", npy(np.ones(3))], ids=["empty", "text", "npy"])
def test_files_that_are_no_npz(tmp_path, content):
    (tmp_path / "file.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"path of an \.npz.*file\.npz"):
        NpzFile(tmp_path / "file.npz")


def test_a_file_that_was_cut_off(tmp_path):
    np.savez(tmp_path / "whole.npz", a=np.ones(1000, np.float32))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.npz"):
        NpzFile(tmp_path / "cut.npz")


@pytest.mark.parametrize("size", [300, 10_007])
@pytest.mark.parametrize("rows", [None, (50, None)])
def test_numbers_that_were_damaged(tmp_path, size, rows):
    """Those of a small member are seen when its header is read, a large one's when its last row is."""
    np.savez(tmp_path / "file.npz", weight=np.ones(size, np.float32))
    damaged = bytearray((tmp_path / "file.npz").read_bytes())
    damaged[1000] ^= 1
    (tmp_path / "file.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match="weight.*Bad CRC-32"), NpzFile(tmp_path / "file.npz") as file:
        file.read("weight", rows and (50, size))


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


@pytest.fixture
def lie(tmp_path):
    """Writes a member weight.npy whose directory entry is then changed."""

    def lie(data, **claims):
        with zipfile.ZipFile(tmp_path / "lie.npz", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("weight.npy", data)
            for name, claim in claims.items():
                setattr(file.getinfo("weight.npy"), name, claim)
        return tmp_path / "lie.npz"

    return lie


@pytest.mark.parametrize("held", [0, 1_000, 399_996, 400_004, 10**6])
@pytest.mark.parametrize("rows", [None, (0, 100_000)])
def test_a_directory_that_lies_about_the_size(lie, held, rows):
    data = np.random.default_rng(0).bytes(held)
    path = lie(
        header((100_000,)) + data, file_size=len(header((100_000,))) + 400_000, compress_type=zipfile.ZIP_DEFLATED
    )
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="weight"), NpzFile(path) as file:
            file.read("weight", rows)
        assert tracemalloc.get_traced_memory()[1] < 2 * MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "claims, fault",
    [
        ({"file_size": 128 + 4 * 10**8}, "claims to unpack to 400000128 bytes"),
        ({"compress_size": 10**9}, "claims to unpack"),
        ({"flag_bits": 1}, "is encrypted"),
        ({"compress_type": zipfile.ZIP_LZMA}, "is compressed, and not with deflate"),
    ],
)
def test_members_that_are_refused_unread(lie, claims, fault):
    with pytest.raises(ValueError, match=f"weight.npy: {fault}"):
        NpzFile(lie(header((10**8,)) + bytes(1000), **claims))


@pytest.mark.parametrize("name", ["../a.npy", "/a.npy", "a/../../b.npy", "C:/a.npy", "..\\a.npy"])
def test_names_that_leave_the_folder(write, name):
    with pytest.raises(ValueError, match="has a name outside the folder"):
        NpzFile(write((name, npy(np.float32([1])))))


@pytest.mark.parametrize("shape", [(-2, -3), (3, -2)])
def test_shapes_below_zero(write, shape):
    with pytest.raises(ValueError, match="its header says"):
        NpzFile(write(("weight.npy", header(shape) + bytes(24))))


def test_a_header_of_gigabytes_is_not_read(write):
    with pytest.raises(ValueError, match="weight"):
        NpzFile(write(("weight.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(20_000))))


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
        with pytest.raises(ValueError, match="pos_embedding"), open_checkpoint_file(path) as file:
            dict(read_weights(file, shapes, variant, grid=(4, 4)))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def torch_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("archive/data.pkl", pickle.dumps({}))
        members.writestr("archive/data/0", bytes(8))
    return file.getvalue()


def keras_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("config.json", "{}")
        members.writestr("model.weights.h5", bytes(8))
    return file.getvalue()


@pytest.mark.parametrize(
    "name, content, advice",
    [
        ("pytorch_model.bin", torch_zip(), r"convert it to \.safetensors"),
        ("model.pth", pickle.dumps(Harmful(), protocol=2), r"convert it to \.safetensors"),
        ("model.ckpt", b"some other layout", r"convert it to \.safetensors"),
        ("model.keras", keras_zip(), "save_weights"),
        ("model.h5", b"no HDF5 at all", "none of these: b'no HDF5"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "none of these: b'version"),
        ("model.npz", b"", "none of these: b''"),
        ("model.npz", npy(np.ones(3)), "none of these"),
    ],
)
def test_files_of_other_kinds_are_refused_with_advice(tmp_path, name, content, advice):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s)Expected the path of.*{name}.*{advice}"):
        open_arrays(tmp_path / name)


def test_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.npz"):
        with pytest.raises(ValueError, match=f"Expected the path of.*{path.name}"):
            open_arrays(path)


def test_an_index_that_lies(tmp_path):
    from safetensors.numpy import save_file

    save_file({"here": np.ones(2, np.float32)}, tmp_path / "part.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps(
            {
                "weight_map": {
                    "here": "part.safetensors",
                    "away": "../part.safetensors",
                    "gone": "other.safetensors",
                    "elsewhere": "part.safetensors",
                }
            }
        )
    )
    with pytest.raises(ValueError, match="members that are not plain arrays") as error:
        open_arrays(index)
    lines = str(error.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["away", "gone", "elsewhere"]
    assert "outside the folder" in lines[0] and "is missing in" in lines[2]
    for text in ('{"weight_map": 3}', "{}", "[]"):
        index.write_text(text)
        with pytest.raises(ValueError, match="no index of .safetensors files"):
            open_arrays(index)
