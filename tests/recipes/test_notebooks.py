"""The notebooks: the same as their scripts, with stored outputs of a real run, and each run in a real kernel."""

import ast
import base64
import importlib.util
import io
import json
import pathlib
import re
import runpy
import socket

import nbformat
import numpy as np
import pytest
from PIL import Image

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"
NAMES = ("export_and_run", "finetune_folder", "look_into_checkpoint")
NOTEBOOKS = {name: json.loads((RECIPES / f"{name}.ipynb").read_text("utf-8")) for name in NAMES}
SHOWING = {"print", "draw", "show"}


def run_notebooks():
    """Returns the module that runs notebooks."""
    path = pathlib.Path(__file__).with_name("run_notebooks.py")
    spec = importlib.util.spec_from_file_location("run_notebooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells_of_notebook(name):
    """Returns (kind, text) of each cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in NOTEBOOKS[name]["cells"]]


def code_of(name):
    return [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == "code"]


def cells_of_script(name):
    """Returns the same of the script: cells begin with `# %%`, text is commented out."""
    text = (RECIPES / f"{name}_notebook.py").read_text("utf-8")
    cells = []
    for cell in text.split("\n# %%")[1:]:
        first, _, rest = cell.partition("\n")
        if "[markdown]" in first:
            lines = (line.removeprefix("#").removeprefix(" ") for line in rest.strip("\n").split("\n"))
            cells.append(("markdown", "\n".join(lines)))
        else:
            cells.append(("code", rest.strip("\n")))
    return cells


def shows(source):
    """Returns whether a cell prints or draws, outside of functions that it defines."""
    statements = [each for each in ast.parse(source).body if not isinstance(each, ast.FunctionDef)]
    calls = [node for each in statements for node in ast.walk(each) if isinstance(node, ast.Call)]
    names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
    return bool(names & SHOWING) or (bool(statements) and isinstance(statements[-1], ast.Expr))


def test_all_notebooks_are_tested():
    assert {path.stem for path in RECIPES.glob("*.ipynb")} == set(NAMES)
    assert {path.stem for path in RECIPES.glob("*_notebook.py")} == {f"{name}_notebook" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_notebook_and_script_have_the_same_cells(name):
    assert len(cells_of_notebook(name)) > 10
    assert cells_of_notebook(name) == cells_of_script(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_starts_with_its_parameters_and_the_same_installation(name):
    (_, title), (_, parameters) = cells_of_notebook(name)[:2]
    assert title.startswith("# ")
    assert [cell["metadata"].get("tags") for cell in code_of(name)[:2]] == [["parameters"], None]
    names = {}
    exec(parameters, names)
    assert names["PACKAGE"] == "keras-vit-kit"
    installation = "".join(code_of(name)[1]["source"])
    assert re.sub(r"needed = .+", "", installation) == re.sub(
        r"needed = .+", "", "".join(code_of("finetune_folder")[1]["source"])
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_outputs_are_of_one_run_from_top_to_bottom(name):
    code = code_of(name)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    silent = ["".join(cell["source"]) for cell in code if shows("".join(cell["source"])) and not cell["outputs"]]
    assert not silent
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not ["".join(output["text"]) for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_outputs_name_no_machine(name):
    path = RECIPES / f"{name}.ipynb"
    assert path.stat().st_size < 400_000
    outputs = json.dumps([cell["outputs"] for cell in code_of(name)])
    assert not re.findall(r"(?<![\w.:/<])/(?:tmp|home|root|usr|var|opt|work|content|Users)\b[^\s\"]*", outputs)
    encoded = r"[\w+/=]"  # the name may be short: it is not looked for within an encoded image
    assert not re.search(rf"(?<!{encoded}){re.escape(socket.gethostname())}(?!{encoded})", outputs)
    assert set(NOTEBOOKS[name]["metadata"]) <= {"jupytext", "kernelspec", "language_info"}


def test_the_notebook_has_the_recipe_of_the_file():
    (cell,) = (text for kind, text in cells_of_notebook("finetune_folder") if "recipe = Recipe(" in text)
    names = {"IMAGES": "images", "SETTINGS": {}}
    exec(cell, names)
    assert names["recipe"] == runpy.run_path(str(RECIPES / "finetune_folder.py"))["RECIPE"]


def test_an_overwritten_line_is_stored_as_it_looks():
    assert run_notebooks().as_seen(
        "a\rbc\r  \r\nepoch 1\n\rstep 1 of 3\rstep 2\n"
    ) == "bc\nepoch 1\nstep 2 of 3\n".replace("bc\n", "\n")


def ran(name, folder, parameters):
    """Runs a notebook in a real kernel, and returns (client, notebook without TensorFlow's notes)."""
    module = run_notebooks()
    notebook = module.with_parameters(nbformat.read(RECIPES / f"{name}.ipynb", as_version=4), parameters)
    client = module.Client(notebook, folder)
    client.execute()
    return client, module.tidy(notebook)


def printed(notebook, name="stdout"):
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == name)


def figures(notebook):
    """Returns the images that a notebook shows, (height, width, 3)."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    encoded = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB")) for each in encoded]


@pytest.fixture
def images(tmp_path):
    """A folder of two classes, bright above and bright below."""
    random = np.random.default_rng(0)
    for name, order in (("above", 1), ("below", -1)):
        (tmp_path / "images" / name).mkdir(parents=True)
        slope = np.linspace(230, 20, 29)[::order, None, None]
        for index in range(20):
            pixels = np.clip(slope + random.normal(0, 12, (29, 23, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path / "images"


SMALL = """
from keras_vit import Variant
IMAGES, NEW_IMAGES = "images", ["images/above/0.png"]
SETTINGS = dict(variant=Variant(8, 32, 2, 2, 48), weights=None, image_size=32, epochs=9, warmup_epochs=1, batch_size=8)
"""


@pytest.mark.soak
def test_fine_tuning_shows_its_progress_while_it_runs(images, tmp_path):
    client, notebook = ran("finetune_folder", tmp_path, SMALL)
    (training,) = (i for i, cell in enumerate(notebook.cells) if cell.source.startswith("metrics = fit("))
    streams, ends = [], []
    for time, index, message in client.messages:
        if index == training and message["msg_type"] == "stream":
            streams.append((time, message["content"]))
        if index == training and message["content"].get("execution_state") == "idle":
            ends.append(time)
    (end,) = ends
    arrival = {}
    for time, content in streams:
        for text in ("first step compiles", "\rstep 1 of", "epoch 1/9", "epoch 9/9", "exports run/model_int8.tflite"):
            if text in content["text"]:
                arrival.setdefault(text, time)
    times = list(arrival.values())
    assert len(times) == 5 and times == sorted(times)
    assert arrival["first step compiles"] < arrival["\rstep 1 of"] - 0.5  # while the user waits for the compilation
    assert arrival["epoch 1/9"] < end - 1 and arrival["epoch 9/9"] < end - 0.5
    assert {content["name"] for _, content in streams} == {"stdout"}, [content["text"] for _, content in streams]

    text = printed(notebook)
    assert re.findall(r"^epoch (\d)/9: loss", text, re.M) == [str(epoch) for epoch in range(1, 10)]
    assert "learning_rate=" in text and "test images are classified correctly" in text and "above " in text
    assert text.count("\nstep ") <= 2  # of the learning rates; those of the training are overwritten
    assert not printed(notebook, "stderr")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"model.keras", "model_int8.tflite", "labels.txt", "report.html"} <= files
    shown = [
        output.data["text/html"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    assert [text.count("<iframe srcdoc=") for text in shown] == [1, 1]
    assert "Confusion matrix" in shown[1]


@pytest.mark.soak
def test_the_notebook_looks_into_the_small_model(tmp_path):
    client, notebook = ran("look_into_checkpoint", tmp_path, "EPOCHS = 1")
    drawn = figures(notebook)
    assert len(drawn) == 9
    assert all(len(np.unique(figure.reshape(-1, 3), axis=0)) > 20 for figure in drawn)
    text = printed(notebook)
    assert "4 x 4 patches, 4 blocks, 4 heads each" in text and "10 classes" in text
    assert len(re.findall(r"\d+\.\d%", text)) == 6  # of features and pixels, with 1, 2 and 5 images a class
    assert not printed(notebook, "stderr")


CHECKPOINT = """
import keras_vit
variant = keras_vit.Variant(16, 32, 3, 2, 48)
model = keras_vit.build(variant, input_shape=(48, 64, 3), include_top=False, pooling="token")
keras_vit.save_checkpoint(model, "own.npz")
CHECKPOINT, IMAGE_SIZE = "own.npz", (48, 64)
"""


@pytest.mark.soak
def test_the_notebook_looks_into_a_checkpoint_without_a_head(tmp_path):
    _, notebook = ran("look_into_checkpoint", tmp_path, CHECKPOINT)
    assert len(figures(notebook)) == 9
    text = printed(notebook)
    assert "3 x 4 patches, 3 blocks, 2 heads each" in text and "no head: it returns features" in text
    assert len(re.findall(r"\d+\.\d%", text)) == 6
    assert not printed(notebook, "stderr")


@pytest.mark.soak
def test_the_notebook_exports_a_model_and_runs_the_files(tmp_path):
    _, notebook = ran("export_and_run", tmp_path, "EPOCHS = 4")
    files = ("model_float32.tflite", "model_int8.tflite", "saved_model", "model.onnx")
    assert all((tmp_path / "exports" / file).exists() for file in files)
    text = printed(notebook)
    for file in files:  # in the table, a prediction, a time
        assert len(re.findall(rf"^{re.escape(file)} +[\d\[]", text, re.M)) == 3
    assert "labels.txt ['0', '1', '2'" in text and "input: images [ 1 16 16  3] uint8" in text
    assert "LiteRT and keras_vit.runtime: largest difference 0.0e+00, same class 100%" in text
    assert not printed(notebook, "stderr")
