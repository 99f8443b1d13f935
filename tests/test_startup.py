"""What a new process imports and how much memory it takes: Keras and its backend only where they run the model."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit.commands import cli

DIGITS = f"{keras_vit.__path__[0]}/../savedmodels/digits"
MOST_MEMORY = 200e6
BACKENDS = {"tensorflow", "keras", "jax", "torch"}
# The readers of rare images, which the others need not wait for.
RARE = {"tifffile", "imagecodecs", "pillow_heif", "PIL.AvifImagePlugin", "PIL.ImageCms", "keras_vit.data.array_files"}

COMMAND = """
import contextlib, io, json, sys
from keras_vit_command import main
with contextlib.redirect_stdout(io.StringIO()) as text:
    main(sys.argv[1:], standalone_mode=False)
from keras_vit.runtime.measure import peak_memory
print(json.dumps({"text": text.getvalue(), "modules": sorted(sys.modules), "memory": peak_memory()}))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "noise.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)).save(path)
    return path


def onnx_file(path):
    """Writes an ONNX file of three classes for images of 8 x 8 pixels, as `keras-vit export` describes it."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    kernel = np.random.default_rng(0).normal(0, 1e-3, (192, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "kernel"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    ends = (("images", ["batch", 8, 8, 3]), ("probabilities", ["batch", 3]))
    entry, end = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph(nodes, "graph", [entry], [end], [onnx.numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"labels": json.dumps(["ash", "elm", "fir"]), "input_type": "float32"})
    path.write_bytes(model.SerializeToString())
    return path


def predicted_without_a_backend(run_python, *arguments):
    """Returns what `keras-vit predict` prints in a process of its own, which must stay small."""
    result = run_python("-c", COMMAND, "predict", *arguments, PYTHONPATH=f"{keras_vit.__path__[0]}/..")
    assert (BACKENDS | RARE).isdisjoint(result["modules"])
    assert result["memory"] < MOST_MEMORY
    return result["text"]


def test_predict_runs_a_tflite_file_without_a_backend(run_python, image):
    arguments = [f"{DIGITS}/model_int8.tflite", str(image), "--top", "3"]
    here = CliRunner().invoke(cli.main, ["predict", *arguments])
    assert here.output.count("%") == 3
    assert predicted_without_a_backend(run_python, *arguments) == here.output


def test_predict_runs_an_onnx_file_without_a_backend(run_python, image, tmp_path):
    arguments = [str(onnx_file(tmp_path / "model.onnx")), str(image)]
    here = CliRunner().invoke(cli.main, ["predict", *arguments])
    assert here.output.count("%") == 3
    assert predicted_without_a_backend(run_python, *arguments) == here.output


def test_help_of_a_command_needs_no_backend(run_python):
    result = run_python("-c", COMMAND, "search", "--help", PYTHONPATH=f"{keras_vit.__path__[0]}/..")
    assert "--index FILE" in result["text"] and BACKENDS.isdisjoint(result["modules"])


def test_python_m_imports_what_the_console_script_does():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "keras_vit", "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "keras_vit.commands.cli" in imported and BACKENDS.isdisjoint(imported)
    assert "python -m keras_vit [OPTIONS] COMMAND" in done.stdout
