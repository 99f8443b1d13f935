"""A damaged exported file is refused by one error that names it: bytes, metadata, and what runtimes raise."""

import hashlib
import json
import re

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_vit.export import checksum
from keras_vit.export.tflite import metadata
from keras_vit.export.tflite.conversion import converted
from keras_vit.runtime import integrity
from keras_vit.runtime.files import open_exported

SIZE, CLASSES = (2, 3), ("ash", "elm", "fir")
PIXELS = np.zeros((2, *SIZE, 3), np.uint8)


def refusal(path, file=None, read=lambda opened: opened.predict(PIXELS)):
    """Returns the message with which a file is refused."""
    if file is not None:
        path.write_bytes(file)
    with pytest.raises(ValueError) as caught:
        read(open_exported(path))
    assert str(path) in str(caught.value) and len(str(caught.value)) <= 2000
    return str(caught.value)


def signed(file):
    """Returns a file with the right SHA-256 in the place of its last 64 bytes: one that was made so, not damaged."""
    return file[:-64] + hashlib.sha256(file[:-64]).hexdigest().encode()


@pytest.fixture(scope="module")
def tflite():
    images = keras.Input((*SIZE, 3), name="images")
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(images))
    return described(converted(keras.Model(images, {"probabilities": outputs})))


def described(file):
    facts = dict.fromkeys(("name", "description", "version", "author", "license"), "")
    return metadata.add_metadata(
        file,
        CLASSES,
        image_size=SIZE,
        facts=facts,
        input_type="scaled",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        outputs=("probabilities",),
    )


def changed(file, change):
    """Returns a TFLite file with something else in it, and the right SHA-256."""
    model = schema.ModelT.InitFromPackedBuf(file, 0)
    change(model)
    builder = flatbuffers.Builder(len(file))
    builder.Finish(model.Pack(builder), b"TFL3")
    return signed(bytes(builder.Output()) + file[file.rindex(b"PK\x03\x04") :])


def test_a_file_runs_as_it_was_exported(tflite, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite)
    assert open_exported(path).predict(PIXELS)["probabilities"].shape == (2, 3)
    path.write_bytes(tflite.replace(b"sha256:", b"SHA256:"))  # without a known SHA-256
    assert open_exported(path).class_names == CLASSES


@pytest.mark.parametrize("cut", [1, 63, 64])
def test_a_file_that_lacks_its_end_is_refused(tflite, tmp_path, cut):
    assert "SHA-256" in refusal(tmp_path / "model.tflite", tflite[:-cut])


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_changed_byte_anywhere_is_refused(tflite, tmp_path, at):
    file = bytearray(tflite)
    file[int(at * len(file))] ^= 1
    assert "SHA-256" in refusal(tmp_path / "model.tflite", bytes(file))


def without_data(model):
    tensors = model.subgraphs[0].tensors
    kernel = max(tensors, key=lambda tensor: np.size(model.buffers[tensor.buffer].data))
    model.buffers[kernel.buffer].data = None


def of_huge_shape(model):
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[0].outputs[0]].shape = np.array([1, 2**30], np.int32)


def of_other_input(model):
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = np.array([1, 18], np.int32)


def without_operators(model):
    model.operatorCodes = []


@pytest.mark.parametrize(
    "change, words",
    [
        (without_data, "fails|cannot be used"),
        (of_huge_shape, r"tensor of shape \[1, 1073741824\]"),
        (of_other_input, r"input of shape \[1, 18\]|cannot be used"),
        (without_operators, "cannot be used"),
    ],
)
def test_what_litert_cannot_run_is_refused(tflite, tmp_path, change, words):
    assert re.search(words, refusal(tmp_path / "model.tflite", changed(tflite, change)))


def test_pixels_of_another_size_are_refused(tflite, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite)
    with pytest.raises(ValueError, match=r"\(images, 2, 3, 3\)"):
        open_exported(path).predict(np.zeros((1, 3, 2, 3), np.uint8))


def onnx_file(**changes):
    """Returns a small ONNX file with other properties or parts, signed."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    facts = {
        "labels": json.dumps(CLASSES),
        "input_type": "scaled",
        "mean": "[0.5, 0.5, 0.5]",
        "std": "[0.5, 0.5, 0.5]",
        **{name: value for name, value in changes.items() if name not in ("shape", "kernel")},
    }
    kernel = onnx.numpy_helper.from_array(np.ones((18, 3), np.float32), "kernel")
    if "kernel" in changes:
        kernel.ClearField("raw_data")
        kernel.data_location = onnx.TensorProto.EXTERNAL
        kernel.external_data.add(key="location", value=changes["kernel"])
    nodes = [helper.make_node("Flatten", ["images"], ["flat"])]
    nodes += [helper.make_node("MatMul", ["flat", "kernel"], ["probabilities"])]
    entry = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, changes.get("shape", ["batch", *SIZE, 3]))
    end = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", 3])
    model = helper.make_model(
        helper.make_graph(nodes, "model", [entry], [end], [kernel]), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 9
    helper.set_model_props(model, facts)
    return checksum.with_checksum(model.SerializeToString(), checksum.PROPERTY)


def test_an_onnx_file_runs_as_it_was_exported_and_is_refused_with_a_changed_byte(tmp_path):
    path, file = tmp_path / "model.onnx", onnx_file()
    path.write_bytes(file)
    assert open_exported(path).predict(PIXELS)["probabilities"].shape == (2, 3)
    at = file.index(np.ones(3, np.float32).tobytes())
    assert "SHA-256" in refusal(path, file[:at] + b"\1" + file[at + 1 :])


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "3"},
        {"labels": "[1, 2, 3]"},
        {"labels": '["ash"]'},
        {"labels": "[" * 5000},
        {"mean": '"grey"'},
        {"mean": "[0.5]"},
        {"std": "[0, 0, 0]"},
        {"std": "[NaN, 1, 1]"},
        {"shape": ["batch", 18]},
        {"shape": ["batch", "height", "width", 3]},
        {"kernel": "../kernel.bin"},
        {"kernel": "kernel.bin"},
    ],
    ids=str,
)
def test_other_metadata_of_an_onnx_file_are_refused(tmp_path, changes, capfd):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "kernel.bin").write_bytes(bytes(18 * 3 * 4))
    refusal(folder / "model.onnx", onnx_file(**changes))
    assert "EP Error" not in capfd.readouterr().out


def test_what_onnxruntime_does_not_read_is_refused(tmp_path):
    assert "cannot be used" in refusal(tmp_path / "model.onnx", b"no ONNX file")


def version_folder(tmp_path, files):
    folder = tmp_path / "1"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


FILES = {"saved_model.pb": b"no protobuf", "assets/labels.txt": b"ash\n"}


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda folder: (folder / "assets/labels.txt").write_bytes(b"elm\n"), "another 'assets/labels.txt'"),
        (lambda folder: (folder / "assets/labels.txt").unlink(), "no 'assets/labels.txt'"),
        (lambda folder: (folder / integrity.CHECKSUMS).write_bytes(b"\xff\0\n/etc/passwd\n"), "no ''"),
        (lambda folder: (folder / integrity.CHECKSUMS).write_bytes(b"0  ../model\n" * 100), "95 more"),
        (lambda folder: (folder / integrity.CHECKSUMS).write_bytes(b""), "an empty SHA256SUMS"),
        (lambda folder: (folder / integrity.CHECKSUMS).unlink(), "SavedModel made by this version"),
    ],
)
def test_a_damaged_savedmodel_is_refused(tmp_path, change, words):
    folder = version_folder(tmp_path, FILES)
    checksum.write_checksums(folder)
    integrity.refuse_damaged(folder)
    change(folder)
    assert words in refusal(tmp_path)
