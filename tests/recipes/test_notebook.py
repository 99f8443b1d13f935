"""The notebook: the same as its script and as its recipe, and all of it run."""

import json
import pathlib
import runpy

import numpy as np
import pytest
from PIL import Image

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"
NOTEBOOK = json.loads((RECIPES / "finetune_folder.ipynb").read_text("utf-8"))


def cells_of_notebook():
    """Returns (kind, text) of each cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in NOTEBOOK["cells"]]


def cells_of_script():
    """Returns the same of the script: cells begin with `# %%`, text is commented out."""
    text = (RECIPES / "finetune_folder_notebook.py").read_text("utf-8")
    cells = []
    for cell in text.split("\n# %%")[1:]:
        first, _, rest = cell.partition("\n")
        if "[markdown]" in first:
            lines = (line.removeprefix("#").removeprefix(" ") for line in rest.strip("\n").split("\n"))
            cells.append(("markdown", "\n".join(lines)))
        else:
            cells.append(("code", rest.strip("\n")))
    return cells


def test_notebook_and_script_have_the_same_cells():
    assert len(cells_of_notebook()) > 10
    assert cells_of_notebook() == cells_of_script()


def test_the_notebook_is_as_it_leaves_the_hands():
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]
    assert [cell["metadata"].get("tags") for cell in code[:2]] == [["parameters"], None]


def test_the_notebook_has_the_recipe_of_the_file():
    (cell,) = (text for kind, text in cells_of_notebook() if kind == "code" and "recipe = Recipe(" in text)
    names = {"IMAGES": "images", "SETTINGS": {}}
    exec(cell, names)
    assert names["recipe"] == runpy.run_path(str(RECIPES / "finetune_folder.py"))["RECIPE"]


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
from keras_vit.models.config import Variant
RUN, IMAGES, NEW_IMAGES = {run!r}, {images!r}, [{images!r} + "/above/0.png"]
SETTINGS = dict(variant=Variant(8, 32, 2, 2, 48), weights=None, image_size=32, epochs=2, warmup_epochs=1, batch_size=8)
"""
LAST = """
import json
print(json.dumps([learning_rate, metrics["test_accuracy"], sorted(path.name for path in pathlib.Path(RUN).iterdir())]))
"""


@pytest.mark.soak
def test_the_notebook_runs(images, tmp_path, run_python):
    codes = [text for kind, text in cells_of_notebook() if kind == "code"]
    small = SMALL.format(run=str(tmp_path / "run"), images=str(images))
    program = tmp_path / "program.py"
    program.write_text("\n".join([codes[0], small, *codes[1:], "import pathlib", LAST]), "utf-8")
    learning_rate, accuracy, files = run_python(program)
    assert 0 < learning_rate < 10
    assert 0 <= accuracy <= 1
    assert {"model.keras", "model_int8.tflite", "labels.txt", "report.html"} <= set(files)
    assert (tmp_path / "run-preview.html").exists()
