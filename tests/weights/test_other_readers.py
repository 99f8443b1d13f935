"""Files in .safetensors and HDF5 layout that lie, are cut off or hold what is not a plain array."""

import json
import struct

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_vit.weights.readers import H5File, SafetensorsFile, open_arrays


@pytest.fixture
def tensors(tmp_path):
    """Writes {name: (kind, shape, bytes held)} as a .safetensors file."""

    def tensors(entries, data=b"", size=None):
        spec, end = {}, 0
        for name, (kind, shape, held) in entries.items():
            spec[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + held]}
            end += held
        text = json.dumps(spec).encode()
        path = tmp_path / "written.safetensors"
        path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + (data or bytes(end)))
        return path

    return tensors


def test_all_tensors_of_other_kinds_stand_in_one_message(tensors):
    path = tensors(
        {"good": ("F32", [2], 8), "flags": ("BOOL", [3], 3), "F8": ("F8_E4M3", [5], 5), "z": ("C64", [1], 8)}
    )
    with pytest.raises(ValueError, match="not plain arrays") as error:
        SafetensorsFile(path)
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]] == ["flags", "F8", "z"]


@pytest.mark.parametrize(
    "entries, arguments",
    [
        ({"a": ("F32", [3], 8)}, {}),
        ({"a": ("F32", [3], 12)}, {"data": bytes(8)}),
        ({"a": ("F32", [3], 12)}, {"data": bytes(16)}),
        ({"a": ("F32", [2**40, 2**40], 12)}, {}),
        ({"a": ("F31", [3], 12)}, {}),
        ({"a": ("F32", [3], 12)}, {"size": 2**60}),
        ({"a": ("F32", [3], 12)}, {"size": 5}),
    ],
    ids=["misfit", "short", "long", "huge", "unknown", "header too large", "no JSON"],
)
def test_headers_that_lie(tensors, entries, arguments):
    with pytest.raises(ValueError, match=r"a \.safetensors file.*written\.safetensors"):
        SafetensorsFile(tensors(entries, **arguments))


@pytest.fixture
def datasets(tmp_path):
    """Returns an HDF5 file to write to, and its path."""
    with h5py.File(tmp_path / "written.h5", "w") as file:
        yield file, tmp_path / "written.h5"


def test_all_faulty_datasets_stand_in_one_message(every_fault, datasets, tmp_path):
    file, path = datasets
    ones = np.ones((7, 5), np.float32)
    file["good"] = ones
    file["again"] = file["good"]
    file["type"] = np.dtype("f4")
    file["soft"], file["outside"] = h5py.SoftLink("/good"), h5py.ExternalLink("other.h5", "/good")
    file.create_dataset("external", data=ones, external=[(str(tmp_path / "numbers"), 0, ones.nbytes)])
    layout = h5py.VirtualLayout((7, 5), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "good", (7, 5))
    file.create_virtual_dataset("virtual", layout)
    file["words"], file["flags"], file["complex"] = ["a"], [True], [1j]
    file["empty"] = h5py.Empty("f4")
    file.create_dataset("unwritten", (10**9,), "f4")
    file.create_dataset("holes", (10**9,), "f4", chunks=(1000,), compression="gzip")[:1000] = 1
    twice = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    twice.set_deflate(9), twice.set_deflate(9)
    file.create_dataset("bomb", data=np.zeros(10**7, "f4"), chunks=(10**7,), dcpl=twice)
    file.create_dataset("scaled", data=ones, scaleoffset=2)
    file["group/pair"] = np.zeros(3, [("a", "f4"), ("b", "f4")])
    file.close()
    with pytest.raises(ValueError, match="not plain arrays") as error:
        H5File(path)
    result = dict(line.strip().split(": ", 1) for line in str(error.value).splitlines()[1:])
    for name, fault in {
        "soft": "a link",
        "outside": "a link",
        "external": "another file",
        "virtual": "another file",
        "words": "not numbers",
        "flags": "not numbers",
        "complex": "not numbers",
        "group/pair": "not numbers",
        "empty": "is empty",
        "unwritten": "claims 4000000000 bytes and holds 0",
        "holes": "has 1 of 1000000 chunks",
        "bomb": "claims 40000000 bytes",
        "scaled": "filters",
    }.items():
        assert fault in result.pop(name), name
    assert not result


def test_a_dataset_that_was_cut_off(datasets):
    file, path = datasets
    file["a"] = np.ones(10_007, np.float32)
    file.close()
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(ValueError, match=r"an HDF5 file.*written\.h5"):
        H5File(path)


@pytest.fixture
def in_parts(tmp_path):
    """Writes an index of two files and returns its path."""

    def in_parts(change=lambda places: None, text=None):
        names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
        save_file({"a": np.ones(3, np.float32), "b": np.ones(2, np.float32)}, tmp_path / names[0])
        save_file({"c": np.ones(1, np.float32)}, tmp_path / names[1])
        places = dict(zip("abc", (names[0], names[0], names[1])))
        change(places)
        path = tmp_path / "model.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": places}) if text is None else text)
        return path

    return in_parts


def test_an_index_that_names_every_array(in_parts):
    with open_arrays(in_parts()) as file:
        assert file.shapes == {"a": (3,), "b": (2,), "c": (1,)}


@pytest.mark.parametrize("name, fault", [("a", "leaves out a"), ("c", "names 1 of 2 files")])
def test_an_index_that_leaves_out_an_array(in_parts, name, fault):
    with pytest.raises(ValueError, match=rf"index\.json: it {fault}"):
        open_arrays(in_parts(lambda places: places.pop(name)))


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', '{"weight_map": null}']
)
def test_an_index_of_other_types(in_parts, text):
    with pytest.raises(ValueError, match="no index of .safetensors files"):
        open_arrays(in_parts(text=text))
